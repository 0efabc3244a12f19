//! Metadata: a deterministic state machine over an ordered key-value store.
//!
//! [`MetaService`] is one of the two seams of the system: a command goes in, a
//! reply comes out, and every applied command is one record of the log.
//! Nothing in the state machine reads a clock, a random number or the order of
//! the disk; times, sealed names and sealed contents arrive in the command.
//! It holds no key and sees no name.

pub mod check;
pub mod command;
pub mod image;
pub mod inode;
pub mod key;
pub mod local;
pub mod machine;
pub mod mend;
pub mod transaction;
pub mod value;

pub use command::{AttrChange, Body, CloneRange, Command, NewInode, RenameMode, Reply, XattrMode};
pub use inode::{Dentry, Extent, Inode, Kind, Usage};
pub use local::{LocalMeta, MetaOptions};

pub use crate::answer::Answer;

use std::sync::Arc;

use crate::ids::{ChunkId, Ino, NameTag, RequestId, Revision};

/// What holds the metadata of one volume.
pub trait MetaService: Send + Sync + 'static {
    /// Applies a command and appends it to the log. A refused command (an
    /// error such as `Exists`) changes nothing and is not logged. Durable only
    /// after [`MetaService::sync`] to the revision returned.
    fn apply(&self, command: Command) -> Answer<(Revision, Reply)> {
        self.apply_once(command, RequestId::NONE)
    }

    /// The same for a request that may be sent again. That it was done is
    /// remembered together with the command.
    fn apply_once(&self, command: Command, request: RequestId) -> Answer<(Revision, Reply)>;

    /// Waits until everything up to `revision` survives power loss.
    fn sync(&self, revision: Revision) -> Answer<()>;

    /// The newest revision.
    fn revision(&self) -> Revision;

    /// An inode; `NotFound` when there is none.
    fn inode(&self, ino: Ino) -> Answer<Arc<Inode>>;

    /// The entry of `parent` with this tag; `NotFound` when there is none.
    fn lookup(&self, parent: Ino, tag: NameTag) -> Answer<Dentry>;

    /// Entries of a directory in tag order, beginning behind `after` (from the
    /// first when `None`), at most `limit`.
    fn entries(&self, parent: Ino, after: Option<NameTag>, limit: usize) -> Answer<Vec<Dentry>>;

    /// Extents that overlap `from..to` of a file, in offset order, whole (not
    /// trimmed to the range).
    fn extents(&self, ino: Ino, from: u64, to: u64) -> Answer<Vec<Extent>>;

    /// The sealed inline contents of a small file, if it has such.
    fn inline(&self, ino: Ino) -> Answer<Option<Arc<[u8]>>>;

    /// The sealed value of an extended attribute.
    fn xattr(&self, ino: Ino, tag: NameTag) -> Answer<Option<Arc<[u8]>>>;

    /// Tags and sealed values of all extended attributes of an inode.
    fn xattrs(&self, ino: Ino) -> Answer<Vec<(NameTag, Arc<[u8]>)>>;

    /// How many extents refer to a chunk.
    fn references(&self, chunk: ChunkId) -> Answer<u64>;

    /// Inodes without a name that wait for [`Command::Reap`].
    fn orphans(&self) -> Answer<Vec<Ino>>;

    /// Totals over the volume.
    fn usage(&self) -> Usage;

    /// A number for a new inode, never given out before. One that is not used
    /// is lost, or given out again after a restart.
    fn allocate_ino(&self) -> Ino;
}
