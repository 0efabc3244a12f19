//! Files in use: what is known of them beyond the metadata.
//!
//! A node exists while its file is open or has unsealed bytes. What a reader
//! sees of a file is, from the top: `dirty`, `sealing`, the committed extents.
//! A reader takes the upper two under the state lock *before* it asks for the
//! extents, so that bytes that are committed in between are seen in one place
//! or the other, never in neither.

use std::{collections::HashMap, sync::Arc, time::Instant};

use parking_lot::Mutex;

use crate::{
    engine::{
        attr::Attr,
        attributes::without_privileges,
        dirty::{DirtyMap, FrozenMap},
    },
    ids::{Ino, Timestamp},
    journal::{FileChange, Journal, Ticket},
    meta::{AttrChange, Extent, Inode},
};

/// Attribute changes that are not in the metadata yet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pending {
    /// The file reaches at least to here.
    pub end: u64,
    pub atime: Option<Timestamp>,
    pub mtime: Option<Timestamp>,
    pub ctime: Option<Timestamp>,
    /// A write takes away set-user-id and set-group-id.
    pub strip: bool,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.end == 0
            && self.atime.is_none()
            && self.mtime.is_none()
            && self.ctime.is_none()
            && !self.strip
    }

    /// What the journal keeps of them. `keeps_mode`: they no longer strip,
    /// because the mode was set.
    pub fn kept(&self, ino: Ino, keeps_mode: bool) -> FileChange {
        FileChange {
            ino,
            end: self.end,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            strip: self.strip,
            keeps_mode,
        }
    }

    /// Puts what the journal kept over these.
    pub fn merge_kept(&mut self, kept: &FileChange) {
        self.strip &= !kept.keeps_mode;
        let newer = Pending {
            end: kept.end,
            atime: kept.atime,
            mtime: kept.mtime,
            ctime: kept.ctime,
            strip: kept.strip,
        };
        let older = std::mem::replace(self, newer);
        self.merge_under(older);
    }

    /// Shows the changes on top of committed attributes.
    pub fn overlay(&self, attr: &mut Attr) {
        attr.size = attr.size.max(self.end);
        attr.atime = self.atime.unwrap_or(attr.atime);
        attr.mtime = self.mtime.unwrap_or(attr.mtime);
        attr.ctime = self.ctime.unwrap_or(attr.ctime);
        if self.strip {
            attr.mode = without_privileges(attr.mode).unwrap_or(attr.mode);
        }
    }

    /// What to tell the metadata, given what it has.
    pub fn change(&self, inode: &Inode) -> AttrChange {
        AttrChange {
            mode: self.strip.then(|| without_privileges(inode.mode)).flatten(),
            size: (self.end > inode.size).then_some(self.end),
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            ..AttrChange::default()
        }
    }

    /// Puts older changes under these, after a sealing pass failed.
    pub fn merge_under(&mut self, older: Pending) {
        self.end = self.end.max(older.end);
        self.atime = self.atime.or(older.atime);
        self.mtime = self.mtime.or(older.mtime);
        self.ctime = self.ctime.or(older.ctime);
        self.strip |= older.strip;
    }
}

/// Bytes and attributes on their way into the metadata.
pub(super) struct Sealing {
    pub data: FrozenMap,
    pub pending: Pending,
    /// What the journal keeps of both.
    pub kept: Vec<Ticket>,
}

#[derive(Default)]
pub(super) struct NodeState {
    pub opens: u32,
    pub dirty: DirtyMap,
    pub pending: Pending,
    /// What the journal keeps of `dirty` and `pending`.
    pub kept: Vec<Ticket>,
    pub sealing: Option<Arc<Sealing>>,
    /// When the oldest unsealed change came.
    pub since: Option<Instant>,
    /// All extents, when they were few enough to keep.
    pub map: Option<Arc<[Extent]>>,
    /// Grows whenever committed contents change; a map loaded under an older
    /// version is not kept.
    pub version: u64,
    /// Deleted: unsealed bytes are worth nothing any more.
    pub dead: bool,
    /// A background sealing pass is queued.
    pub queued: bool,
}

impl NodeState {
    pub fn has_changes(&self) -> bool {
        !self.dirty.is_empty() || !self.pending.is_empty()
    }

    /// Whether the metadata describe older contents.
    pub fn has_new_contents(&self) -> bool {
        let sealing = self.sealing.as_ref();
        !self.dirty.is_empty() || sealing.is_some_and(|sealing| !sealing.data.is_empty())
    }

    /// All changes that are not in the metadata yet.
    pub fn all_pending(&self) -> Pending {
        let mut pending = self.pending;
        if let Some(sealing) = &self.sealing {
            pending.merge_under(sealing.pending);
        }
        pending
    }

    /// Bytes that are not in the metadata yet; those written over again while
    /// they are being sealed count twice.
    pub fn unsealed(&self) -> u64 {
        let sealing = self.sealing.as_ref().map_or(0, |s| s.data.bytes());
        (self.dirty.bytes() + sealing) as u64
    }

    /// Forgets what was cached of committed contents.
    pub fn contents_changed(&mut self) {
        self.version += 1;
        self.map = None;
    }
}

pub(super) struct Node {
    pub ino: Ino,
    pub state: Mutex<NodeState>,
    /// Taken by whoever changes committed contents: sealing passes, truncation,
    /// cloning. Never taken while `state` is held.
    pub body: Mutex<()>,
}

const SHARDS: usize = 64;

/// The nodes of a volume, by inode number.
pub(super) struct Nodes {
    shards: Vec<Mutex<HashMap<u64, Arc<Node>>>>,
}

impl Nodes {
    pub fn new() -> Nodes {
        Nodes {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    fn shard(&self, ino: Ino) -> &Mutex<HashMap<u64, Arc<Node>>> {
        &self.shards[ino.0 as usize % SHARDS]
    }

    pub fn get(&self, ino: Ino) -> Option<Arc<Node>> {
        self.shard(ino).lock().get(&ino.0).cloned()
    }

    /// The node, made if there is none; `with` runs while no one can remove it.
    pub fn with<T>(&self, ino: Ino, with: impl FnOnce(&Arc<Node>, &mut NodeState) -> T) -> T {
        let mut shard = self.shard(ino).lock();
        let node = shard.entry(ino.0).or_insert_with(|| {
            Arc::new(Node {
                ino,
                state: Mutex::default(),
                body: Mutex::new(()),
            })
        });
        let mut state = node.state.lock();
        with(node, &mut state)
    }

    /// Removes the node when nothing keeps it. Callers drop theirs first; what
    /// stays because somebody holds it goes with the next [`Nodes::sweep`].
    pub fn release(&self, ino: Ino) {
        let mut shard = self.shard(ino).lock();
        if shard.get(&ino.0).is_some_and(is_idle) {
            shard.remove(&ino.0);
        }
    }

    /// Removes all nodes that nothing keeps.
    pub fn sweep(&self) {
        for shard in &self.shards {
            shard.lock().retain(|_, node| !is_idle(node));
        }
    }

    /// All nodes there are now.
    pub fn all(&self) -> Vec<Arc<Node>> {
        let mut nodes = Vec::new();
        for shard in &self.shards {
            nodes.extend(shard.lock().values().cloned());
        }
        nodes.sort_unstable_by_key(|node| node.ino);
        nodes
    }
}

/// Whether the table alone holds a node, and it says nothing that the metadata
/// does not. One that somebody works on stays: a second node of the same file
/// would have a body lock and a map of its own.
fn is_idle(node: &Arc<Node>) -> bool {
    // New holders come through the shard, which the caller has locked.
    if Arc::strong_count(node) > 1 {
        return false;
    }
    let state = node.state.lock();
    state.opens == 0 && (state.dead || !state.has_changes()) && state.sealing.is_none()
}

/// How often clients know an inode; it must not be reaped while they do.
pub(super) enum Lookups {
    /// Until this process ends.
    Here(Vec<Mutex<HashMap<u64, u64>>>),
    /// Beyond.
    Kept(Arc<Journal>),
}

impl Lookups {
    pub fn new(journal: Option<Arc<Journal>>) -> Lookups {
        let here = || Lookups::Here((0..SHARDS).map(|_| Mutex::default()).collect());
        journal.map_or_else(here, Lookups::Kept)
    }

    pub fn add(&self, ino: Ino) {
        match self {
            Lookups::Here(shards) => {
                let mut shard = shards[ino.0 as usize % SHARDS].lock();
                *shard.entry(ino.0).or_insert(0) += 1;
            }
            Lookups::Kept(journal) => journal.remember(ino),
        }
    }

    /// Takes `count` away; whether nobody knows the inode any more.
    pub fn remove(&self, ino: Ino, count: u64) -> bool {
        let shards = match self {
            Lookups::Here(shards) => shards,
            Lookups::Kept(journal) => return journal.forget(ino, count),
        };
        let mut shard = shards[ino.0 as usize % SHARDS].lock();
        let Some(left) = shard.get_mut(&ino.0) else {
            return true;
        };
        *left = left.saturating_sub(count);
        if *left > 0 {
            return false;
        }
        shard.remove(&ino.0);
        if shard.capacity() > 1024 && shard.len() * 4 < shard.capacity() {
            let room = shard.len() * 2;
            shard.shrink_to(room);
        }
        true
    }

    pub fn knows(&self, ino: Ino) -> bool {
        match self {
            Lookups::Here(shards) => shards[ino.0 as usize % SHARDS].lock().contains_key(&ino.0),
            Lookups::Kept(journal) => journal.knows(ino),
        }
    }
}
