//! Who waits for a lock, and whom the server is calling because it took one
//! for him.
//!
//! A client that is refused keeps asking, every 30 seconds or so: to be called
//! only makes it quicker. So whoever does not fit in here misses nothing.

use std::{net::IpAddr, sync::Arc};

use kiseki_core::ids::Ino;

use super::xdr::Lock;
use crate::nfs::locks::{Host, Locks, Owner, Range};

/// Most that wait.
const MOST: usize = 1024;

/// Most of one machine.
const OF_HOST: usize = 128;

/// A lock that somebody waits for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Of what.
    pub file: Ino,
    /// Who waits.
    pub owner: Owner,
    /// Where.
    pub range: Range,
    /// Of which kind.
    pub exclusive: bool,
    /// The words in which the client asked.
    pub asked: Lock,
    /// The address of this machine that it asked.
    pub server: IpAddr,
}

impl Wanted {
    /// The machine that waits.
    pub fn host(&self) -> Option<&Arc<Host>> {
        match &self.owner {
            Owner::Nlm { host, .. } => Some(host),
            Owner::V4 { .. } => None,
        }
    }

    fn meets(&self, file: Ino, owner: &Owner, range: Range) -> bool {
        self.file == file && self.owner == *owner && self.range.overlaps(&range)
    }
}

#[derive(Debug)]
struct Entry {
    id: u64,
    wanted: Wanted,
    /// It has the lock, and the client may not know.
    called: bool,
}

/// All who wait, the first one first.
#[derive(Debug, Default)]
pub struct Waiting {
    entries: Vec<Entry>,
    next: u64,
}

impl Waiting {
    /// Takes one in, if there is room. One that has a part of the range already
    /// is left out: should its client not want the whole, nobody could tell
    /// what the owner had before.
    pub fn add(&mut self, wanted: Wanted, locks: &Locks) {
        let host = wanted.host();
        let of_host = self
            .entries
            .iter()
            .filter(|entry| entry.wanted.host() == host);
        if self.entries.len() >= MOST
            || of_host.count() >= OF_HOST
            || locks.holds(wanted.file, &wanted.owner, wanted.range)
        {
            return;
        }
        let id = self.next;
        self.next += 1;
        self.entries.push(Entry {
            id,
            wanted,
            called: false,
        });
    }

    /// Takes a lock for the first one who can have it. From then on it is being
    /// called.
    pub fn grant(&mut self, locks: &mut Locks) -> Option<(u64, Wanted)> {
        let granted = self.entries.iter_mut().find(|entry| {
            let Wanted {
                file,
                owner,
                range,
                exclusive,
                ..
            } = &entry.wanted;
            !entry.called
                && !locks.holds(*file, owner, *range)
                && locks.lock(*file, owner, *range, *exclusive).is_ok()
        })?;
        granted.called = true;
        Some((granted.id, granted.wanted.clone()))
    }

    /// Machines that wait.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.entries.iter().filter_map(|entry| entry.wanted.host())
    }

    /// The client has the lock.
    pub fn taken(&mut self, id: u64) {
        self.entries.retain(|entry| entry.id != id);
    }

    /// The client does not want the lock, or was not reached. If it has said
    /// something about these bytes since, that counts and not this.
    pub fn give_back(&mut self, id: u64, locks: &mut Locks) {
        let at = self.entries.iter().position(|entry| entry.id == id);
        if let Some(at) = at {
            let Wanted {
                file, owner, range, ..
            } = self.entries.remove(at).wanted;
            locks.unlock(file, &owner, range);
        }
    }

    /// An owner asks for these bytes, or gives them up: it waits no more, and
    /// knows what it has.
    pub fn heard(&mut self, file: Ino, owner: &Owner, range: Range) {
        self.entries
            .retain(|entry| !entry.wanted.meets(file, owner, range));
    }

    /// An owner does not want to wait any more; whether it did. What was taken
    /// for it meanwhile is given up.
    pub fn cancel(&mut self, file: Ino, owner: &Owner, range: Range, locks: &mut Locks) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| {
            let meets = entry.wanted.meets(file, owner, range);
            if meets && entry.called {
                locks.unlock(file, owner, entry.wanted.range);
            }
            !meets
        });
        self.entries.len() < before
    }

    /// Machines that are gone, or have started again, wait for nothing.
    pub fn release(&mut self, gone: impl Fn(&Arc<Host>) -> bool) {
        self.entries
            .retain(|entry| !entry.wanted.host().is_some_and(&gone));
    }
}

#[cfg(test)]
mod tests;
