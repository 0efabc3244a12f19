//! The one error type of the engine, and its mapping to errno.
//!
//! Every variant says what went wrong; the text adds the way out where there
//! is one. Front ends map to NFS status and S3 codes in one place of their own.

use std::{io, sync::Arc};

use nix::errno::Errno;

/// Result of an engine operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in the engine.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such file, directory or inode.
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken.
    #[error("the name exists already")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotADirectory,
    /// The operation does not work on directories.
    #[error("is a directory")]
    IsADirectory,
    /// The directory still has entries.
    #[error("directory not empty")]
    NotEmpty,
    /// A name is longer than 255 bytes, or a symlink target than 4,095.
    #[error("name too long")]
    NameTooLong,
    /// The inode has as many links as it can have.
    #[error("too many links")]
    TooManyLinks,
    /// The offset or size is beyond what a file can have.
    #[error("file too large")]
    FileTooLarge,
    /// An argument makes no sense.
    #[error("invalid argument: {0}")]
    Invalid(&'static str),
    /// The caller may not do this.
    #[error("operation not permitted")]
    NotPermitted,
    /// The extended attribute does not exist.
    #[error("no such attribute")]
    NoAttribute,
    /// The buffer of the caller is too small for the value.
    #[error("the value is larger than the buffer")]
    OutOfRange,
    /// `lseek` found no data or hole behind the offset.
    #[error("no data or hole behind this offset")]
    NoSuchRegion,
    /// The operation is not supported, on purpose.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
    /// The disk, or a quota, is full.
    #[error("no space left in the store; delete files and run `kiseki gc`, or add disk space")]
    NoSpace,
    /// The store takes no writes: it was opened so, or an I/O error put its
    /// log in doubt.
    #[error("the store is read-only: {0}")]
    ReadOnly(Arc<str>),
    /// Stored bytes are not what was written.
    #[error(
        "damaged data in {place}: {what}; run `kiseki fsck --store DIR` for the files it touches"
    )]
    Damaged {
        /// File and offset, or record, that is damaged.
        place: Arc<str>,
        /// What does not hold.
        what: Arc<str>,
    },
    /// A chunk that metadata refers to is not in the store.
    #[error("chunk {0} is missing; run `kiseki fsck --store DIR` for the files it touches")]
    MissingChunk(crate::ids::ChunkId),
    /// The machine failed to read, write or sync.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was attempted, on which file.
        what: Arc<str>,
        /// What the machine said.
        source: Arc<io::Error>,
    },
    /// The key does not open this store.
    #[error(
        "wrong key: this {0} does not open the store; nothing was changed. Give the one it was created with"
    )]
    WrongKey(&'static str),
    /// A key is needed and none was found.
    #[error("no key: {0}")]
    NoKey(Arc<str>),
    /// Another process has the store open.
    #[error("the store {path} is in use by process {pid}; unmount it first, or use another store")]
    StoreInUse {
        /// Directory of the store.
        path: Arc<str>,
        /// Who holds the lock; 0 when unknown.
        pid: u32,
    },
    /// The directory is no store, or no volume has that name.
    #[error("{0}")]
    NoSuchStore(Arc<str>),
    /// The store was written by a version this one cannot read.
    #[error(
        "the store has format version {found}, this kiseki reads up to {supported}; use a newer kiseki"
    )]
    FormatVersion {
        /// What the store says.
        found: u32,
        /// The newest this program reads.
        supported: u32,
    },
    /// The volume is being closed.
    #[error("the volume is closed")]
    Closed,
}

/// Whether the machine says that there is no room for more.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENOSPC | Errno::EDQUOT)
    )
}

impl Error {
    /// An I/O failure, with what was attempted and on which file. A full disk
    /// becomes [`Error::NoSpace`].
    pub fn io(what: impl Into<Arc<str>>, source: io::Error) -> Error {
        if is_full(&source) {
            return Error::NoSpace;
        }
        Error::Io {
            what: what.into(),
            source: Arc::new(source),
        }
    }

    /// Damage at a place.
    pub fn damaged(place: impl Into<Arc<str>>, what: impl Into<Arc<str>>) -> Error {
        Error::Damaged {
            place: place.into(),
            what: what.into(),
        }
    }

    /// The errno a POSIX caller gets.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Error::NotFound | Error::NoSuchStore(_) => Errno::ENOENT,
            Error::Exists => Errno::EEXIST,
            Error::NotADirectory => Errno::ENOTDIR,
            Error::IsADirectory => Errno::EISDIR,
            Error::NotEmpty => Errno::ENOTEMPTY,
            Error::NameTooLong => Errno::ENAMETOOLONG,
            Error::TooManyLinks => Errno::EMLINK,
            Error::FileTooLarge => Errno::EFBIG,
            Error::Invalid(_) => Errno::EINVAL,
            Error::NotPermitted => Errno::EPERM,
            Error::NoAttribute => Errno::ENODATA,
            Error::OutOfRange => Errno::ERANGE,
            Error::NoSuchRegion => Errno::ENXIO,
            Error::Unsupported(_) => Errno::EOPNOTSUPP,
            Error::NoSpace => Errno::ENOSPC,
            Error::ReadOnly(_) => Errno::EROFS,
            Error::WrongKey(_) | Error::NoKey(_) => Errno::EACCES,
            Error::StoreInUse { .. } => Errno::EBUSY,
            Error::Damaged { .. }
            | Error::MissingChunk(_)
            | Error::Io { .. }
            | Error::FormatVersion { .. }
            | Error::Closed => Errno::EIO,
        }
    }
}
