//! The time behind a start of the server in which clients take back what they
//! had, and nobody gets anything new: RFC 8881, 8.4.2.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

/// Clients that may still come back, and until when.
#[derive(Debug)]
pub struct Grace {
    ends: Instant,
    /// All that had state, by their names for themselves.
    known: HashSet<Arc<[u8]>>,
    /// Those of them that have not said that they are done.
    awaited: HashSet<Arc<[u8]>>,
    /// Clients of version 3 had locks. They never say that they are done.
    silent: bool,
}

impl Grace {
    /// Begins; is over at once when nobody is known. `silent` says whether
    /// clients of version 3 had locks.
    pub fn new(
        known: impl IntoIterator<Item = Arc<[u8]>>,
        silent: bool,
        now: Instant,
        length: Duration,
    ) -> Grace {
        let known: HashSet<_> = known.into_iter().collect();
        Grace {
            ends: now + length,
            awaited: known.clone(),
            known,
            silent,
        }
    }

    /// Whether it goes on.
    pub fn lasts(&self, now: Instant) -> bool {
        self.awaits_any() && now < self.ends
    }

    /// Whether a client had state before.
    pub fn knows(&self, owner: &[u8]) -> bool {
        self.known.contains(owner)
    }

    /// A client is done, or is gone for good.
    pub fn done(&mut self, owner: &[u8]) {
        self.awaited.remove(owner);
    }

    /// Clients that did not come in time. Told once.
    pub fn missed(&mut self, now: Instant) -> Vec<Arc<[u8]>> {
        if now < self.ends {
            return Vec::new();
        }
        self.silent = false;
        self.awaited.drain().collect()
    }

    /// When it ends, if it goes on.
    pub fn deadline(&self) -> Option<Instant> {
        self.awaits_any().then_some(self.ends)
    }

    fn awaits_any(&self) -> bool {
        self.silent || !self.awaited.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(60);

    fn name(name: &str) -> Arc<[u8]> {
        name.as_bytes().into()
    }

    #[test]
    fn without_records_there_is_none() {
        let now = Instant::now();
        let grace = Grace::new([], false, now, LENGTH);
        assert!(!grace.lasts(now) && grace.deadline().is_none());
    }

    #[test]
    fn it_ends_when_all_are_done() {
        let now = Instant::now();
        let mut grace = Grace::new([name("a"), name("b")], false, now, LENGTH);
        grace.done(b"a");
        grace.done(b"a");
        grace.done(b"stranger");
        assert!(grace.lasts(now));
        grace.done(b"b");
        assert!(!grace.lasts(now));
        assert!(grace.knows(b"a") && !grace.knows(b"stranger"));
        assert_eq!(grace.missed(now + LENGTH), []);
    }

    #[test]
    fn clients_that_say_nothing_have_all_the_time() {
        let now = Instant::now();
        let mut grace = Grace::new([name("a")], true, now, LENGTH);
        grace.done(b"a");
        assert!(grace.lasts(now) && grace.deadline() == Some(now + LENGTH));
        assert!(!grace.lasts(now + LENGTH));
        assert_eq!(grace.missed(now + LENGTH), []);
        assert_eq!(grace.deadline(), None);
    }

    #[test]
    fn who_does_not_come_in_time_is_forgotten() {
        let now = Instant::now();
        let mut grace = Grace::new([name("a"), name("b")], false, now, LENGTH);
        grace.done(b"b");
        assert_eq!(grace.missed(now), []);
        assert!(!grace.lasts(now + LENGTH));
        assert_eq!(grace.missed(now + LENGTH), [name("a")]);
        assert_eq!(grace.missed(now + LENGTH), []);
    }
}
