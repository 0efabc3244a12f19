//! Byte-range locks of all versions of NFS, in one table, so that a lock taken
//! through one is seen through the other.
//!
//! They are those of POSIX: an owner's locks in a file never overlap, setting
//! one replaces what the owner had there, and clearing a part splits it. The
//! table is bounded. It is pure: who waits, and for how long, is decided by
//! whoever asks.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use kiseki_core::ids::Ino;
use tokio::sync::Notify;

/// Most locks in one file; each operation looks at all of them.
const FILE_MAX: usize = 8192;

/// Most locks in all.
const TOTAL_MAX: usize = 262_144;

/// A machine that is a client of version 3. It says its name itself, so that is
/// worth something only together with the address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Where it calls from.
    pub address: IpAddr,
    /// Its name for itself.
    pub name: Arc<[u8]>,
}

/// Whose a lock is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A lock owner of a version 4 client.
    V4 {
        /// The client.
        client: u64,
        /// Its name for the owner.
        name: Arc<[u8]>,
    },
    /// A process of a version 3 client.
    Nlm {
        /// The client.
        host: Arc<Host>,
        /// The process.
        process: i32,
        /// Its name for the owner.
        handle: Arc<[u8]>,
    },
}

impl Owner {
    /// Whether an equal owner is of the same start of its machine: what a
    /// version 3 client had before it started again is to go by itself.
    fn is_of_start_of(&self, equal: &Owner) -> bool {
        match (self, equal) {
            (Owner::Nlm { host, .. }, Owner::Nlm { host: other, .. }) => Arc::ptr_eq(host, other),
            _ => true,
        }
    }
}

/// Bytes from `start` to `last`, both included; `u64::MAX` is the end of any file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub last: u64,
}

impl Range {
    /// A whole file.
    pub const ALL: Range = Range {
        start: 0,
        last: u64::MAX,
    };

    /// From an offset and a length as NFS has them: a length of all ones means
    /// up to the end. `None` for an empty range, or one that goes past the end.
    #[must_use]
    pub fn new(offset: u64, length: u64) -> Option<Range> {
        let last = match length {
            0 => return None,
            u64::MAX => u64::MAX,
            _ => offset.checked_add(length - 1)?,
        };
        Some(Range {
            start: offset,
            last,
        })
    }

    /// The length as NFS has it.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self.last {
            u64::MAX => u64::MAX,
            last => last - self.start + 1,
        }
    }

    /// Whether the two have a byte in common.
    #[must_use]
    pub fn overlaps(&self, other: &Range) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    /// Whether the two are one range without a gap.
    fn touches(&self, other: &Range) -> bool {
        self.overlaps(other)
            || self.last.checked_add(1) == Some(other.start)
            || other.last.checked_add(1) == Some(self.start)
    }
}

/// A lock that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose.
    pub owner: Owner,
    /// Where.
    pub range: Range,
    /// Whether no other may overlap it.
    pub exclusive: bool,
}

/// Why there is no lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Somebody else has this one.
    Conflict(Held),
    /// There are as many as there can be.
    Full,
}

/// All locks of a volume.
#[derive(Debug, Default)]
pub struct Locks {
    /// By file; of each owner sorted, without overlap.
    files: HashMap<Ino, Vec<Held>>,
    total: usize,
    /// Told whenever somebody may get what he could not.
    freed: Arc<Notify>,
}

impl Locks {
    /// The first lock that would be in the way of one like this.
    #[must_use]
    pub fn conflict(
        &self,
        file: Ino,
        owner: &Owner,
        range: Range,
        exclusive: bool,
    ) -> Option<&Held> {
        let mut held = self.files.get(&file)?.iter();
        held.find(|held| {
            held.owner != *owner && (held.exclusive || exclusive) && held.range.overlaps(&range)
        })
    }

    /// Takes a lock, or changes what the owner has in this range into it.
    ///
    /// # Errors
    /// [`Refused`]; then nothing has changed.
    pub fn lock(
        &mut self,
        file: Ino,
        owner: &Owner,
        range: Range,
        exclusive: bool,
    ) -> Result<(), Refused> {
        if let Some(held) = self.conflict(file, owner, range, exclusive) {
            return Err(Refused::Conflict(held.clone()));
        }
        // Splitting makes at most two more.
        let here = self.files.get(&file).map_or(0, Vec::len);
        if here + 2 > FILE_MAX || self.total + 2 > TOTAL_MAX {
            return Err(Refused::Full);
        }
        let mut wanted = Held {
            owner: owner.clone(),
            range,
            exclusive,
        };
        self.replace(file, owner, range, |held| {
            let one = held.exclusive == exclusive && held.owner.is_of_start_of(owner);
            if one && held.range.touches(&wanted.range) {
                wanted.range.start = wanted.range.start.min(held.range.start);
                wanted.range.last = wanted.range.last.max(held.range.last);
                return false;
            }
            true
        });
        self.files.entry(file).or_default().push(wanted);
        self.total += 1;
        Ok(())
    }

    /// Gives up what the owner has in this range.
    pub fn unlock(&mut self, file: Ino, owner: &Owner, range: Range) {
        self.replace(file, owner, range, |_| true);
    }

    /// Gives up all that an owner has in a file.
    pub fn release(&mut self, file: Ino, owner: &Owner) {
        self.retain(file, |held| held.owner != *owner);
    }

    /// Gives up all locks of owners that `gone` names: for a client that lost
    /// its state or restarted.
    pub fn release_all(&mut self, gone: impl Fn(&Owner) -> bool) {
        let files: Vec<Ino> = self.files.keys().copied().collect();
        for file in files {
            self.retain(file, |held| !gone(&held.owner));
        }
    }

    /// Whether an owner has locks in a part of a file.
    #[must_use]
    pub fn holds(&self, file: Ino, owner: &Owner, range: Range) -> bool {
        let mut held = self.files.get(&file).into_iter().flatten();
        held.any(|held| held.owner == *owner && held.range.overlaps(&range))
    }

    /// Everybody who has a lock.
    pub fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.files.values().flatten().map(|held| &held.owner)
    }

    /// What is told whenever a lock was given up, or a part of one.
    #[must_use]
    pub fn freed(&self) -> Arc<Notify> {
        self.freed.clone()
    }

    /// How many locks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.total
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Cuts `range` out of what the owner has. `keep` sees every lock of the
    /// owner before, and what it refuses goes as a whole.
    fn replace(
        &mut self,
        file: Ino,
        owner: &Owner,
        range: Range,
        mut keep: impl FnMut(&Held) -> bool,
    ) {
        let Some(held) = self.files.get_mut(&file) else {
            return;
        };
        let before = held.len();
        let mut kept = Vec::with_capacity(before + 1);
        for lock in held.drain(..) {
            if lock.owner != *owner {
                kept.push(lock);
            } else if keep(&lock) {
                outside(lock, range, &mut kept);
            }
        }
        self.total = self.total + kept.len() - before;
        *held = kept;
        if held.is_empty() {
            self.files.remove(&file);
        }
        self.freed.notify_one();
    }

    fn retain(&mut self, file: Ino, keep: impl Fn(&Held) -> bool) {
        let Some(held) = self.files.get_mut(&file) else {
            return;
        };
        let before = held.len();
        held.retain(keep);
        self.total -= before - held.len();
        if held.is_empty() {
            self.files.remove(&file);
        }
        self.freed.notify_one();
    }
}

/// The parts of a lock that lie outside a range.
fn outside(lock: Held, range: Range, into: &mut Vec<Held>) {
    if !lock.range.overlaps(&range) {
        into.push(lock);
        return;
    }
    if lock.range.start < range.start {
        let range = Range {
            start: lock.range.start,
            last: range.start - 1,
        };
        into.push(Held {
            range,
            ..lock.clone()
        });
    }
    if lock.range.last > range.last {
        let range = Range {
            start: range.last + 1,
            last: lock.range.last,
        };
        into.push(Held { range, ..lock });
    }
}

#[cfg(test)]
mod tests;
