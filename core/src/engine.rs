//! Volumes: names, files, write buffers, caches and sealing.
//!
//! [`Volume`] is the one interface that FUSE, NFS, S3 and native clients call:
//! POSIX-shaped operations on inode numbers. It is the trust boundary of the
//! system: above it plaintext, below it only sealed bytes. Every operation is
//! a future that is ready at its first poll unless it has to wait for a disk
//! or for room, so that a front end can answer on the thread that asked.

mod acl;
mod attr;
mod attributes;
mod background;
mod budget;
mod buffer;
mod changes;
mod dirty;
mod files;
mod frames;
mod garbage;
mod kept;
mod listing;
mod maintenance;
mod names;
mod node;
mod notes;
mod open;
mod ranges;
mod read;
mod runs;
mod seal;
#[cfg(test)]
mod tests;
mod warm;
mod workers;
mod xattrs;

#[cfg(any(test, fuzzing))]
pub(crate) use acl::decoder as acl_decoder;
pub use attr::{
    Allocate, Attr, Caller, Change, Entry, FileInfo, FrontId, RenameFlags, Seek, SetAttr, SetTime,
    Statfs, XattrSet,
};
pub use changes::{Missed, Pace, Watch};
pub use maintenance::VolumeStatus;
pub use open::{AtimePolicy, Tuning, VolumeOptions, open_volume};

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    Error, Result,
    chunk::{ChunkService, CutPolicy},
    crypto::VolumeKeys,
    host::{Clock, Disk},
    ids::{Ino, Timestamp},
    journal::Journal,
    meta::LocalMeta,
};

/// Longest name, in bytes.
pub const NAME_MAX: usize = 255;

/// Longest symlink target, in bytes.
pub const TARGET_MAX: usize = 4095;

/// Largest file, in bytes: what `off_t` can address.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// An open volume. Clones share it.
#[derive(Clone)]
pub struct Volume {
    inner: Arc<Inner>,
}

/// What the parts of the engine share.
struct Inner {
    name: String,
    options: VolumeOptions,
    policy: CutPolicy,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    keys: Arc<VolumeKeys>,
    meta: Arc<LocalMeta>,
    chunks: Arc<dyn ChunkService>,
    nodes: node::Nodes,
    lookups: node::Lookups,
    journal: Option<Arc<Journal>>,
    orphans: Orphans,
    frames: frames::FrameCache,
    budget: budget::Budget,
    sealers: workers::Workers,
    readers: workers::Workers,
    background: background::Background,
    garbage: garbage::Garbage,
    cores: usize,
    changes: changes::Changes,
    closed: AtomicBool,
}

/// Inodes without a name that somebody still uses, and those nobody does.
#[derive(Default)]
struct Orphans {
    used: Mutex<HashSet<Ino>>,
    /// Length of `used`, to look at without its lock.
    count: AtomicUsize,
    to_reap: Mutex<Vec<Ino>>,
    /// Held while what was in `to_reap` is deleted.
    reaping: Mutex<()>,
}

impl Orphans {
    fn add(&self, ino: Ino) {
        if self.used.lock().insert(ino) {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn take(&self, ino: Ino) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let taken = self.used.lock().remove(&ino);
        if taken {
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
        taken
    }

    fn holds(&self, ino: Ino) -> bool {
        self.count.load(Ordering::SeqCst) > 0 && self.used.lock().contains(&ino)
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Tells other front ends of a change.
    fn changed(&self, who: FrontId, change: impl FnOnce() -> Change) {
        self.changes.tell(who, change);
    }

    /// Notes that an inode lost its last name.
    fn orphaned(&self, ino: Ino) {
        self.orphans.add(ino);
        self.reap_if_unused(ino);
    }

    /// Queues an orphan for deletion once nobody has it open or knows it.
    fn reap_if_unused(&self, ino: Ino) {
        if !self.orphans.holds(ino) || self.lookups.knows(ino) {
            return;
        }
        if let Some(node) = self.nodes.get(ino) {
            let mut state = node.state.lock();
            if state.opens > 0 {
                return;
            }
            state.dead = true;
            let dropped = std::mem::take(&mut state.dirty).bytes() as u64;
            self.let_go(&mut state.kept);
            drop(state);
            self.budget.free(dropped);
        }
        if self.orphans.take(ino) {
            self.nodes.release(ino);
            self.orphans.to_reap.lock().push(ino);
        }
    }

    fn check_writable(&self) -> Result<()> {
        self.broken().map_or(Ok(()), Err)
    }
}

/// Whether something can get this name in this directory.
fn check_name(parent: Ino, name: &[u8]) -> Result<()> {
    if Inner::is_hidden(parent, name) {
        return Err(Error::NotPermitted);
    }
    check_form(name)
}

fn check_form(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX {
        return Err(Error::NameTooLong);
    }
    if name.is_empty()
        || name == b"."
        || name == b".."
        || name.iter().any(|b| matches!(b, 0 | b'/'))
    {
        return Err(Error::Invalid("this cannot be a name"));
    }
    Ok(())
}

fn set_time(time: Option<SetTime>, now: Timestamp) -> Option<Timestamp> {
    time.map(|time| time.resolve(now))
}
