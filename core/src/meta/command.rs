//! The commands of the state machine and what they answer.
//!
//! These are records of the log: their encoding is a format (see
//! `docs/format.md`). New fields and variants go to the end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Ino, NameTag, Timestamp},
    meta::inode::{Extent, Inode, Kind},
};

/// An inode to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewInode {
    /// Its number, given out by the volume and never used before.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Permission bits after umask (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, for device nodes.
    pub rdev: u32,
    /// Sealed symlink target and its length in plaintext.
    pub target: Option<(Arc<[u8]>, u32)>,
    /// Sealed extended attributes it is born with (inherited ACLs).
    pub xattrs: Vec<(NameTag, Arc<[u8]>)>,
}

/// Attributes to change; `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttrChange {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length. Cutting drops extents behind it and lowers `inline`.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<Timestamp>,
    /// Last change of contents.
    pub mtime: Option<Timestamp>,
    /// Last change of the inode.
    pub ctime: Option<Timestamp>,
}

/// New contents of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Extents that replace whatever their ranges held. Inline contents, if
    /// any, are dropped: the extents must cover what is to be kept of them.
    Extents(Vec<Extent>),
    /// Sealed contents (and their plain length) that replace everything.
    Inline(#[serde(with = "whole_bytes")] Arc<[u8]>, u32),
}

/// Shares extents of one file with another (or the same).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneRange {
    /// Source.
    pub from: Ino,
    /// First byte in the source.
    pub from_offset: u64,
    /// Target; holes of the source become holes.
    pub to: Ino,
    /// First byte in the target.
    pub to_offset: u64,
    /// Bytes.
    pub len: u64,
    /// `mtime` and `ctime` of the target.
    pub time: Timestamp,
}

/// A change of the metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Makes the root directory; the first record of a volume.
    Format {
        /// Owner of the root.
        uid: u32,
        /// Group of the root.
        gid: u32,
        /// Permission bits.
        mode: u32,
        /// All times.
        time: Timestamp,
    },
    /// Makes an inode and its first name.
    Create {
        /// The directory.
        parent: Ino,
        /// Tag of the name.
        tag: NameTag,
        /// The sealed name.
        #[serde(with = "whole_bytes")]
        name: Arc<[u8]>,
        /// The inode.
        inode: NewInode,
        /// All times of the inode, and mtime and ctime of the directory.
        time: Timestamp,
    },
    /// Adds a name to an inode that is no directory.
    Link {
        /// The inode.
        ino: Ino,
        /// The directory.
        parent: Ino,
        /// Tag of the name.
        tag: NameTag,
        /// The sealed name.
        #[serde(with = "whole_bytes")]
        name: Arc<[u8]>,
        /// `ctime` of the inode, mtime and ctime of the directory.
        time: Timestamp,
    },
    /// Removes a name of an inode that is no directory. Without a name left
    /// the inode becomes an orphan, to be reaped.
    Unlink {
        /// The directory.
        parent: Ino,
        /// Tag of the name.
        tag: NameTag,
        /// `ctime` of the inode, mtime and ctime of the directory.
        time: Timestamp,
    },
    /// Removes an empty directory; its inode becomes an orphan.
    Rmdir {
        /// The directory that holds it.
        parent: Ino,
        /// Tag of the name.
        tag: NameTag,
        /// mtime and ctime of the parent.
        time: Timestamp,
    },
    /// Moves a name.
    Rename {
        /// Where it is.
        parent: Ino,
        /// Its tag there.
        tag: NameTag,
        /// Where it goes.
        new_parent: Ino,
        /// Its tag there.
        new_tag: NameTag,
        /// The name sealed to its new place.
        #[serde(with = "whole_bytes")]
        new_name: Arc<[u8]>,
        /// What to do when the new name exists.
        mode: RenameMode,
        /// For [`RenameMode::Exchange`]: the other name sealed to the old place.
        old_name: Option<Arc<[u8]>>,
        /// mtime and ctime of the directories, `ctime` of the inodes.
        time: Timestamp,
    },
    /// Changes attributes.
    SetAttr {
        /// The inode.
        ino: Ino,
        /// What to change.
        change: AttrChange,
    },
    /// New contents of a file, with the attributes that go with them.
    Write {
        /// The file.
        ino: Ino,
        /// The contents.
        body: Body,
        /// Length, times and mode after it. `size` here may exceed what `body` covers
        /// and never cuts.
        change: AttrChange,
    },
    /// Turns a range into a hole, without changing the length.
    Punch {
        /// The file.
        ino: Ino,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// mtime and ctime.
        time: Timestamp,
    },
    /// Removes a range and moves what follows to the front (`collapse`), or
    /// opens a hole and moves what follows to the back (`insert`).
    Shift {
        /// The file.
        ino: Ino,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Insert instead of collapse.
        insert: bool,
        /// mtime and ctime.
        time: Timestamp,
    },
    /// Shares extents.
    Clone(CloneRange),
    /// Sets an extended attribute.
    SetXattr {
        /// The inode.
        ino: Ino,
        /// Tag of the name.
        tag: NameTag,
        /// Sealed name and value.
        #[serde(with = "whole_bytes")]
        value: Arc<[u8]>,
        /// Whether it must or must not exist already.
        mode: XattrMode,
        /// Permission bits that change with it (an access ACL).
        file_mode: Option<u32>,
        /// `ctime`.
        time: Timestamp,
    },
    /// Removes an extended attribute.
    RemoveXattr {
        /// The inode.
        ino: Ino,
        /// Tag of the name.
        tag: NameTag,
        /// `ctime`.
        time: Timestamp,
    },
    /// Deletes orphans and drops their references; inodes that are no orphans
    /// are passed over.
    Reap {
        /// Which.
        inos: Vec<Ino>,
    },
    /// Sets records of the tables, as a repair found that they have to be.
    Amend {
        /// Keys and their new values; `None` removes the record.
        records: Vec<Record>,
    },
}

impl Command {
    /// The inode that the command makes, or gives another name.
    #[must_use]
    pub fn subject(&self) -> Option<Ino> {
        match self {
            Command::Create { inode, .. } => Some(inode.ino),
            Command::Link { ino, .. } => Some(*ino),
            _ => None,
        }
    }
}

/// A key of the tables and its new value.
pub type Record = (Vec<u8>, Option<Vec<u8>>);

/// What a rename does when the new name exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenameMode {
    /// Replaces it, as `rename(2)` does.
    Replace,
    /// Fails with `Exists`.
    NoReplace,
    /// Swaps the two; both must exist.
    Exchange,
}

/// Whether an attribute may exist when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XattrMode {
    /// Either.
    Any,
    /// Must not exist.
    Create,
    /// Must exist.
    Replace,
}

/// What a command answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// The inode as it is now (`Create`, `Link`, `SetAttr`, `Write`, `Punch`,
    /// `Shift`, `Clone`, `SetXattr`, `RemoveXattr`).
    Inode(Arc<Inode>),
    /// A name went away (`Unlink`, `Rmdir`): the inode as it is now; an orphan
    /// when `nlink` is 0.
    Removed(Arc<Inode>),
    /// A name moved (`Rename`): what moved, and what it replaced or was
    /// exchanged with.
    Renamed {
        /// What moved.
        moved: Ino,
        /// What stood at the new name, as it is now.
        replaced: Option<Arc<Inode>>,
    },
}

/// Bytes in one piece: the encoding is that of a sequence of bytes, without a
/// call for each of them.
mod whole_bytes {
    use std::{fmt, sync::Arc};

    use serde::{Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(bytes: &Arc<[u8]>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[u8]>, D::Error> {
        struct Bytes;

        impl de::Visitor<'_> for Bytes {
            type Value = Arc<[u8]>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Arc<[u8]>, E> {
                Ok(bytes.into())
            }
        }

        from.deserialize_bytes(Bytes)
    }
}
