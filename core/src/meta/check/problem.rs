//! What can be wrong between the tables.

use std::fmt;

use crate::{
    ids::{ChunkId, Ino},
    meta::value::Totals,
};

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub subject: Subject,
    /// What does not hold.
    pub fault: Fault,
}

/// What a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An inode.
    Inode(Ino),
    /// A chunk.
    Chunk(ChunkId),
    /// The volume.
    Volume,
}

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A record that cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// There is no root directory.
    #[error("there is no root directory")]
    NoRoot,
    /// The inode itself is missing; something belongs to it or names it.
    #[error("the inode is missing, but there is {0}")]
    NoInode(&'static str),
    /// The link count is not the number of names.
    #[error("link count {recorded}, but {counted} names lead to it")]
    Links {
        /// What the inode says.
        recorded: u32,
        /// What the directories say.
        counted: u32,
    },
    /// Its name says another kind.
    #[error("an entry of directory {} gives it another kind", directory.0)]
    Kind {
        /// Where the name stands.
        directory: Ino,
    },
    /// A name stands in something that is no directory.
    #[error("it holds names but is no directory")]
    NotADirectory,
    /// A directory stands in another directory than it says.
    #[error("its parent is said to be {}, but its name stands in {}", recorded.0, found.0)]
    Parent {
        /// What the inode says.
        recorded: Ino,
        /// Where the name is.
        found: Ino,
    },
    /// A directory from which no way leads to the root.
    #[error("no way leads from it to the root")]
    Unreachable,
    /// A number an inode keeps of its records is wrong.
    #[error("{what} is said to be {recorded}, but is {counted}")]
    Count {
        /// Which.
        what: &'static str,
        /// What the inode says.
        recorded: u64,
        /// What the tables hold.
        counted: u64,
    },
    /// Two extents overlap.
    #[error("its extents overlap at byte {0}")]
    Overlap(u64),
    /// An extent reaches behind the end of the file.
    #[error("an extent reaches to byte {end}, behind the size {size}")]
    BehindEnd {
        /// Where the extent ends.
        end: u64,
        /// The size of the file.
        size: u64,
    },
    /// Extents and inline contents at once.
    #[error("it has both extents and inline contents")]
    TwoBodies,
    /// Inline contents are said to exist and do not, or the other way round.
    #[error("inline contents: said to exist: {recorded}, exist: {found}")]
    Inline {
        /// What the inode says.
        recorded: bool,
        /// What the tables hold.
        found: bool,
    },
    /// Without a name but not on the list of orphans, or the other way round.
    #[error("it has {links} links, and stands on the list of orphans: {listed}")]
    Orphan {
        /// Its link count.
        links: u32,
        /// Whether the list has it.
        listed: bool,
    },
    /// The count of a chunk is not the number of extents that refer to it.
    #[error("{recorded} references recorded, {counted} extents refer to it")]
    References {
        /// What the count says.
        recorded: u64,
        /// How many extents there are.
        counted: u64,
    },
    /// The totals are not those of the tables.
    #[error("the totals are {recorded:?}, but the tables make {counted:?}")]
    Totals {
        /// What the record says.
        recorded: Totals,
        /// What the tables make.
        counted: Totals,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subject {
            Subject::Inode(ino) => write!(f, "inode {}: {}", ino.0, self.fault),
            Subject::Chunk(chunk) => write!(f, "chunk {chunk}: {}", self.fault),
            Subject::Volume => write!(f, "volume: {}", self.fault),
        }
    }
}
