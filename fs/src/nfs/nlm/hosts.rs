//! The machines that may have locks. Each is on record in the volume before it
//! gets one, so that it is told when the server has started again.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::nfs::locks::Host;

/// Most machines; further ones get no locks.
const MOST: usize = 4096;

/// Most at one address, which may say any names.
const OF_ADDRESS: usize = 256;

/// How long one is remembered that has no locks.
const IDLE: Duration = Duration::from_secs(60 * 60);

/// What is known of a machine.
#[derive(Clone, Debug)]
struct Known {
    /// The address of this machine that it calls.
    server: IpAddr,
    used: Instant,
    /// It may have locks of before the last start, and not know that it has
    /// to take them back.
    untold: bool,
    /// Its record is being removed.
    leaves: bool,
}

/// Whether a machine may have locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is on record, and this is what all its locks refer to.
    Known(Arc<Host>),
    /// When it is.
    New,
    /// Not at this moment.
    Later,
    /// No: there are too many.
    Full,
}

/// All machines on record.
#[derive(Debug, Default)]
pub struct Hosts {
    known: HashMap<Arc<Host>, Known>,
}

impl Hosts {
    /// Those of before the start; they have to be told.
    pub fn of_before(records: impl IntoIterator<Item = (Host, IpAddr)>, now: Instant) -> Hosts {
        let known = |(host, server)| {
            let known = Known {
                server,
                used: now,
                untold: true,
                leaves: false,
            };
            (Arc::new(host), known)
        };
        Hosts {
            known: records.into_iter().map(known).collect(),
        }
    }

    /// Whether a machine may have locks now.
    pub fn admit(&mut self, host: &Host, now: Instant) -> Admission {
        let Some((same, known)) = self.known.get_key_value(host) else {
            return match self.is_full_for(host) {
                true => Admission::Full,
                false => Admission::New,
            };
        };
        if known.leaves {
            return Admission::Later;
        }
        let same = same.clone();
        if let Some(known) = self.known.get_mut(host) {
            known.used = now;
        }
        Admission::Known(same)
    }

    fn is_full_for(&self, host: &Host) -> bool {
        let here = self
            .known
            .keys()
            .filter(|known| known.address == host.address);
        self.known.len() >= MOST || here.count() >= OF_ADDRESS
    }

    /// Whether a machine is on record.
    pub fn knows(&self, host: &Host) -> bool {
        self.known.get(host).is_some_and(|known| !known.leaves)
    }

    /// Notes one that is on record from now on.
    pub fn add(&mut self, host: Arc<Host>, server: IpAddr, now: Instant) {
        let known = Known {
            server,
            used: now,
            untold: false,
            leaves: false,
        };
        self.known.entry(host).or_insert(known);
    }

    /// Those that have to be told that the server has started, and the address
    /// that they know it by.
    pub fn untold(&self) -> Vec<(Arc<Host>, IpAddr)> {
        let untold = self.known.iter().filter(|(_, known)| known.untold);
        untold
            .map(|(host, known)| (host.clone(), known.server))
            .collect()
    }

    /// One was told, or nobody is there who could be.
    pub fn told(&mut self, host: &Host) {
        if let Some(known) = self.known.get_mut(host) {
            known.untold = false;
        }
    }

    /// Those at an address that may be meant by a name. Some say it with their
    /// domain and some without.
    pub fn named(&self, address: IpAddr, name: &[u8]) -> HashSet<Arc<Host>> {
        let here = self.known.keys().filter(|host| host.address == address);
        here.filter(|host| same_machine(&host.name, name))
            .cloned()
            .collect()
    }

    /// Those that had no locks for long; they get none until they are `gone`.
    /// `busy` have locks.
    pub fn idle(&mut self, busy: &HashSet<Arc<Host>>, now: Instant) -> Vec<Arc<Host>> {
        self.leaving(busy, |known| now.duration_since(known.used) >= IDLE)
    }

    /// The same at the end of the server: all that have no locks.
    pub fn without_locks(&mut self, busy: &HashSet<Arc<Host>>) -> Vec<Arc<Host>> {
        self.leaving(busy, |_| true)
    }

    fn leaving(
        &mut self,
        busy: &HashSet<Arc<Host>>,
        which: impl Fn(&Known) -> bool,
    ) -> Vec<Arc<Host>> {
        let leaving = self
            .known
            .iter_mut()
            .filter(|(host, known)| !known.untold && which(known) && !busy.contains(*host));
        leaving
            .map(|(host, known)| {
                known.leaves = true;
                host.clone()
            })
            .collect()
    }

    /// Forgets those whose records are gone; with `kept`, nothing came of it.
    pub fn gone(&mut self, hosts: &[Arc<Host>], kept: bool) {
        for host in hosts {
            match self.known.get_mut(host) {
                Some(known) if kept => known.leaves = false,
                _ => drop(self.known.remove(host)),
            }
        }
    }
}

/// Whether two names are of one machine: the same, or one is the first part of
/// the other.
fn same_machine(a: &[u8], b: &[u8]) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let (front, rest) = long.split_at(short.len());
    front.eq_ignore_ascii_case(short)
        && !short.is_empty()
        && matches!(rest.first(), None | Some(b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn host(last: u8, name: &str) -> Host {
        Host {
            address: IpAddr::from([10, 0, 0, last]),
            name: name.as_bytes().into(),
        }
    }

    fn arc(last: u8, name: &str) -> Arc<Host> {
        Arc::new(host(last, name))
    }

    fn busy(hosts: &[Host]) -> HashSet<Arc<Host>> {
        hosts.iter().cloned().map(Arc::new).collect()
    }

    #[test]
    fn one_is_known_by_address_and_name() {
        let (mut hosts, now) = (Hosts::default(), Instant::now());
        assert_eq!(hosts.admit(&host(1, "a"), now), Admission::New);
        hosts.add(arc(1, "a"), HERE, now);
        assert_eq!(
            hosts.admit(&host(1, "a"), now),
            Admission::Known(arc(1, "a"))
        );
        assert_eq!(hosts.admit(&host(2, "a"), now), Admission::New);
        assert_eq!(hosts.admit(&host(1, "b"), now), Admission::New);
        assert!(hosts.untold().is_empty());
    }

    #[test]
    fn a_name_has_a_domain_or_none() {
        for (a, b, same) in [
            ("a", "a", true),
            ("a", "A.example.org", true),
            ("a.example.org", "a", true),
            ("a", "ab", false),
            ("a.example.org", "a.example.com", false),
            ("", "a", false),
            ("", "", false),
        ] {
            assert_eq!(same_machine(a.as_bytes(), b.as_bytes()), same, "{a} {b}");
        }
        let (mut hosts, now) = (Hosts::default(), Instant::now());
        hosts.add(arc(1, "a.example.org"), HERE, now);
        hosts.add(arc(2, "a"), HERE, now);
        let found = hosts.named(host(1, "").address, b"a");
        assert_eq!(found, HashSet::from([arc(1, "a.example.org")]));
    }

    #[test]
    fn who_has_locks_or_was_not_told_stays() {
        let now = Instant::now();
        let before = [(host(1, "untold"), HERE), (host(2, "told"), HERE)];
        let mut hosts = Hosts::of_before(before, now);
        hosts.add(arc(3, "busy"), HERE, now);
        hosts.told(&host(2, "told"));
        assert_eq!(hosts.untold(), [(arc(1, "untold"), HERE)]);
        let busy = busy(&[host(3, "busy")]);
        assert!(hosts.idle(&busy, now).is_empty());
        let idle = hosts.idle(&busy, now + IDLE);
        assert_eq!(idle, [arc(2, "told")]);
        assert_eq!(hosts.admit(&host(2, "told"), now), Admission::Later);
        assert!(!hosts.knows(&host(2, "told")));
        hosts.gone(&idle, true);
        assert_eq!(
            hosts.admit(&host(2, "told"), now),
            Admission::Known(arc(2, "told"))
        );
        hosts.gone(&idle, false);
        assert_eq!(hosts.admit(&host(2, "told"), now), Admission::New);
    }

    #[test]
    fn there_is_an_end_to_them() {
        let (mut hosts, now) = (Hosts::default(), Instant::now());
        for n in 0..MOST {
            let last = u8::try_from(n / OF_ADDRESS).unwrap_or(u8::MAX);
            if n == OF_ADDRESS {
                assert_eq!(hosts.admit(&host(0, "more"), now), Admission::Full);
                assert_eq!(hosts.admit(&host(1, "more"), now), Admission::New);
            }
            hosts.add(arc(last, &n.to_string()), HERE, now);
        }
        assert_eq!(hosts.admit(&host(99, "more"), now), Admission::Full);
        assert_eq!(
            hosts.admit(&host(0, "7"), now),
            Admission::Known(arc(0, "7"))
        );
    }
}
