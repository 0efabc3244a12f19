//! The identifiers that every layer shares.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of an inode; never reused within a volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory of every volume.
    pub const ROOT: Ino = Ino(1);
}

/// Sequence number of a record in a volume's log; the first record is 1, and
/// 0 stands for the state before it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision that follows this one.
    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

/// Keyed hash of a chunk's plaintext under the id key of its dedup domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkId(pub [u8; 32]);

/// Keyed hash of a name within its parent (a directory entry in a directory,
/// an extended attribute on an inode). Two different names of one parent are
/// taken to have different tags: 128 bits make a collision less likely than
/// any hardware fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NameTag(pub [u8; 16]);

impl NameTag {
    /// The attribute that describes the contents of a file, and goes with the
    /// first change of them. No keyed hash is all zeros.
    pub const CONTENTS: NameTag = NameTag([0; 16]);

    /// The position of an entry in its directory's listing: the first 63 bits
    /// of the tag, so that it fits the signed offset of `readdir`. Stable for
    /// as long as the entry exists. Never 0, 1 or 2, which stand for the start
    /// of the listing, `.` and `..`.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        (u64::from_be_bytes(first) >> 1).max(3)
    }
}

/// Random identity of a volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeId(pub [u8; 16]);

/// Number of a sealing key of a volume; the newest seals, all open.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u32);

/// Identity of a request that a front end may be sent again, because whoever
/// sent it never saw the answer; unique for the life of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

impl RequestId {
    /// A request that is never sent again.
    pub const NONE: RequestId = RequestId(0);
}

/// A point in time: seconds and nanoseconds since 1970, before it negative.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Whole seconds since the Unix epoch.
    pub secs: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanos: u32,
}

impl fmt::Debug for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ino {}", self.0)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}", self.0)
    }
}

macro_rules! hex_debug {
    ($($id:ty),*) => {$(
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
    )*};
}
hex_debug!(ChunkId, NameTag, VolumeId);
