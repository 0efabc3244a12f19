//! What callers see of an inode, and what they ask to change.

use bytes::Bytes;

use crate::{
    ids::{Ino, RequestId, Timestamp},
    meta::{Inode, Kind},
};

/// Who asks, and through which front end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// File mode creation mask.
    pub umask: u32,
    /// May keep set-user-id and set-group-id bits on a write (`CAP_FSETID`).
    pub privileged: bool,
    /// The front end, which is not told of its own changes.
    pub front: FrontId,
    /// The request, where it may be sent again.
    pub request: RequestId,
}

/// A front end instance, see [`crate::engine::Volume::watch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrontId(pub u32);

/// Attributes of an inode, including changes that are still in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Names that refer to it.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u32,
    /// Length in bytes.
    pub size: u64,
    /// Space used, in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of contents.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
}

impl From<&Inode> for Attr {
    fn from(inode: &Inode) -> Attr {
        let directory = inode.kind == Kind::Directory;
        Attr {
            ino: inode.ino,
            kind: inode.kind,
            mode: inode.mode,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            rdev: inode.rdev,
            // A directory's size counts entries in the tables; callers expect bytes.
            size: if directory { 4096 } else { inode.size },
            blocks: if directory {
                8
            } else {
                inode.allocated.div_ceil(512)
            },
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
            btime: inode.btime,
        }
    }
}

/// Attributes to change; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of contents.
    pub mtime: Option<SetTime>,
    /// Last change of the inode; now when `None`.
    pub ctime: Option<Timestamp>,
}

/// A time to set.
#[derive(Clone, Copy, Debug)]
pub enum SetTime {
    /// When the engine handles the request.
    Now,
    /// This one.
    At(Timestamp),
}

impl SetTime {
    pub(super) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            SetTime::Now => now,
            SetTime::At(time) => time,
        }
    }
}

/// A name in a directory listing.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it names.
    pub ino: Ino,
    /// What that is.
    pub kind: Kind,
    /// Position; listing goes on behind it when this is passed back.
    pub cookie: u64,
    /// The name.
    pub name: Bytes,
}

/// What a rename does when the new name exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameFlags {
    /// Replaces it.
    Replace,
    /// Fails.
    NoReplace,
    /// Swaps the two.
    Exchange,
}

/// What `fallocate` is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Reserve without changing the length.
    Keep,
    /// Reserve, and extend the file to the end of the range.
    Extend,
    /// Turn the range into a hole.
    Punch,
    /// The same, and extend the file to the end of the range.
    Zero,
    /// The same as `Punch`, by another name.
    ZeroKeep,
    /// Remove the range; what follows moves to the front.
    Collapse,
    /// Open a hole; what follows moves to the back.
    Insert,
}

/// What `lseek` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next byte that is stored.
    Data,
    /// The next byte that is not.
    Hole,
}

/// Whether an extended attribute may exist when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrSet {
    /// Either.
    Any,
    /// Must not.
    Create,
    /// Must.
    Replace,
}

/// Room in the volume.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statfs {
    /// Bytes per block.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks for callers that are not root.
    pub blocks_available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Inodes that can still be made.
    pub files_free: u64,
    /// Longest name in bytes.
    pub name_max: u32,
}

/// A change that a front end must drop from its caches.
#[derive(Clone, Debug)]
pub enum Change {
    /// Attributes or contents of an inode.
    Inode(Ino),
    /// A name of a directory came, went, or names something else.
    Entry(Ino, Bytes),
}

/// How a file is stored.
#[derive(Clone, Debug, Default)]
pub struct FileInfo {
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Whether the contents lie in the metadata.
    pub inline: bool,
    /// Extents.
    pub extents: u64,
    /// Different chunks.
    pub chunks: u64,
    /// Chunks that more than this file's one extent refers to.
    pub shared_chunks: u64,
    /// Sealed bytes of its chunks, or of its inline contents.
    pub stored_bytes: u64,
}
