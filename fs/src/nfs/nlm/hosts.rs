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
    /// What locks refer to that it took since it started. Equal to what older
    /// ones refer to, and another one: pointers tell them apart.
    present: Arc<Host>,
    /// How often it has started, as it says; 0 before it said anything.
    state: u32,
    /// The address of this machine that it calls.
    server: IpAddr,
    used: Instant,
    /// It may have locks of before the last start, and not know that it has
    /// to take them back.
    untold: bool,
    on_record: bool,
    /// Requests that are putting it on record. It counts from the first one on,
    /// so that no more can come than there is room for.
    coming: u32,
    /// Its record is being removed.
    leaves: bool,
}

impl Known {
    fn new(host: Arc<Host>, server: IpAddr, now: Instant) -> Known {
        Known {
            present: host,
            state: 0,
            server,
            used: now,
            untold: false,
            on_record: false,
            coming: 0,
            leaves: false,
        }
    }

    /// It says which start this is. 0 says nothing.
    fn says(&mut self, state: u32) {
        if state != 0 && state != self.state {
            self.state = state;
            self.starts();
        }
    }

    fn starts(&mut self) {
        self.present = Arc::new(Host::clone(&self.present));
    }
}

/// What machines that have started again take locks by since; all else that is
/// theirs is of before.
#[derive(Debug)]
pub struct Started(HashMap<Arc<Host>, Arc<Host>>);

impl Started {
    /// Whether locks that refer to this are of before a start.
    pub fn lost(&self, host: &Arc<Host>) -> bool {
        let present = self.0.get(host);
        present.is_some_and(|present| !Arc::ptr_eq(present, host))
    }

    /// How many machines they are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Whether a machine may have locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is on record, and this is what all its locks refer to.
    Known(Arc<Host>),
    /// When it is: whoever is told this has to say how that `came` out.
    New(Arc<Host>),
    /// Not at this moment.
    Later,
    /// No: there are too many.
    Full,
}

/// All machines on record, and those that are about to be.
#[derive(Debug, Default)]
pub struct Hosts {
    known: HashMap<Arc<Host>, Known>,
}

impl Hosts {
    /// Those of before the start; they have to be told.
    pub fn of_before(records: impl IntoIterator<Item = (Host, IpAddr)>, now: Instant) -> Hosts {
        let known = |(host, server): (Host, IpAddr)| {
            let host = Arc::new(host);
            let known = Known {
                untold: true,
                on_record: true,
                ..Known::new(host.clone(), server, now)
            };
            (host, known)
        };
        Hosts {
            known: records.into_iter().map(known).collect(),
        }
    }

    /// Whether a machine may have locks now. It calls `server`, and says that it
    /// is in this state.
    pub fn admit(
        &mut self,
        host: &Arc<Host>,
        server: IpAddr,
        state: u32,
        now: Instant,
    ) -> Admission {
        if !self.known.contains_key(host) && self.is_full_for(host) {
            return Admission::Full;
        }
        let known = self.known.entry(host.clone());
        let known = known.or_insert_with(|| Known::new(host.clone(), server, now));
        if known.leaves {
            return Admission::Later;
        }
        known.used = now;
        known.says(state);
        let present = known.present.clone();
        if known.on_record {
            return Admission::Known(present);
        }
        known.coming += 1;
        Admission::New(present)
    }

    /// A machine that was `New` is on record, or with `kept` false may not be:
    /// then its place is free again, unless another request goes on.
    pub fn came(&mut self, host: &Host, kept: bool) {
        let Some(known) = self.known.get_mut(host) else {
            return;
        };
        known.coming = known.coming.saturating_sub(1);
        known.on_record |= kept;
        if !known.on_record && known.coming == 0 {
            self.known.remove(host);
        }
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
        let known = self.known.get(host);
        known.is_some_and(|known| known.on_record && !known.leaves)
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

    /// Those at an address that may be meant by a name say that they have started
    /// and are in this state. Some say their name with their domain and some
    /// without; many say it several times, so that one which is in this state
    /// already has not started again. Without a state, it has in any case.
    pub fn started(&mut self, address: IpAddr, name: &[u8], state: Option<u32>) -> Started {
        let meant = self
            .known
            .iter_mut()
            .filter(|(host, _)| host.address == address && same_machine(&host.name, name));
        let started = meant.map(|(host, known)| {
            match state {
                None | Some(0) => known.starts(),
                Some(state) => known.says(state),
            }
            (host.clone(), known.present.clone())
        });
        Started(started.collect())
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
        let leaving = self.known.iter_mut().filter(|(host, known)| {
            let stays = known.untold || known.coming > 0 || busy.contains(*host);
            !stays && which(known)
        });
        leaving
            .map(|(host, known)| {
                known.leaves = true;
                host.clone()
            })
            .collect()
    }

    /// Forgets those whose records are gone, or may be.
    pub fn gone(&mut self, hosts: &[Arc<Host>]) {
        for host in hosts {
            self.known.remove(host);
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
mod tests;
