//! What can go wrong with a request, whatever the version: each version has
//! its own words for these, in one place.

use kiseki_core::Error;

use super::handle::Unknown;

/// Why a request fails.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fail {
    /// The engine said so.
    #[error(transparent)]
    Engine(#[from] Error),
    /// Permission bits or ACL do not grant it.
    #[error("permission denied")]
    Access,
    /// Only the owner, or root, may.
    #[error("not the owner")]
    NotOwner,
    /// The export may only be read.
    #[error("the export is read-only")]
    ReadOnly,
    /// What the handle meant is gone, or is exported no more.
    #[error("stale file handle")]
    Stale,
    /// The handle is none of ours.
    #[error("no file handle of this server")]
    BadHandle,
    /// The two handles belong to different exports.
    #[error("not within one export")]
    OtherExport,
    /// An inode of another kind is needed.
    #[error("wrong kind of file")]
    WrongKind,
    /// The inode was changed since the client looked at it.
    #[error("it was changed meanwhile")]
    NotSync,
    /// A listing cannot go on from there.
    #[error("no position in this listing")]
    BadCookie,
    /// Not even one entry fits into the answer.
    #[error("the buffer is too small")]
    TooSmall,
    /// An argument makes no sense.
    #[error("invalid argument")]
    Invalid,
}

impl From<Unknown> for Fail {
    fn from(unknown: Unknown) -> Fail {
        match unknown {
            Unknown::Bad => Fail::BadHandle,
            Unknown::Stale => Fail::Stale,
        }
    }
}

impl Fail {
    /// An operation that names an inode, not a name, found it gone.
    #[must_use]
    pub fn of_inode(error: Error) -> Fail {
        match error {
            Error::NotFound => Fail::Stale,
            other => Fail::Engine(other),
        }
    }
}
