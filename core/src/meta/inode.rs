//! What the metadata tables hold.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{ChunkId, Ino, NameTag, Timestamp};

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
}

/// An inode. Symlink targets are inline contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    /// Its number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-user-id, set-group-id and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that refer to it; a directory counts itself and its subdirectories.
    pub nlink: u32,
    /// Device number of a device node, as Linux encodes it for user space.
    pub rdev: u32,
    /// Length in bytes; for a directory the number of entries.
    pub size: u64,
    /// Bytes that extents or inline contents cover.
    pub allocated: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the contents.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Creation.
    pub btime: Timestamp,
    /// For a directory, the directory that holds it.
    pub parent: Ino,
    /// How many leading bytes of the inline contents count; the file reads as
    /// zeros from here to `size`. `None`: no inline contents. Truncation
    /// lowers it, so that bytes cut off never come back.
    pub inline: Option<u32>,
    /// How many extended attributes there are.
    pub xattrs: u32,
    /// How many extents there are.
    pub extents: u64,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dentry {
    /// Keyed hash of the name.
    pub tag: NameTag,
    /// What it names.
    pub ino: Ino,
    /// What that is.
    pub kind: Kind,
    /// The name, sealed to (directory, tag).
    pub sealed_name: Arc<[u8]>,
}

/// A run of a file that lies in one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes; never 0.
    pub len: u32,
    /// The chunk.
    pub chunk: ChunkId,
    /// First byte in the chunk's plaintext.
    pub chunk_offset: u32,
}

impl Extent {
    /// The first byte of the file behind the extent.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.len)
    }
}

/// Totals over a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Inodes of every kind.
    pub inodes: u64,
    /// Regular files.
    pub files: u64,
    /// Sum of the sizes of regular files.
    pub logical_bytes: u64,
    /// Chunks that something refers to.
    pub chunks: u64,
    /// Extents of all files.
    pub extents: u64,
    /// Bytes of sealed inline contents.
    pub inline_bytes: u64,
}
