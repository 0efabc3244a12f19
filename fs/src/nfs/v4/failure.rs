//! How operations fail, decided in one place.

use kiseki_core::Error;

use super::xdr::{Denied, Status};
use crate::nfs::fail::Fail;

/// Result of an operation.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why an operation failed.
#[derive(Clone, Debug)]
pub enum Failure {
    /// With this status.
    Status(Status),
    /// Somebody else has a lock.
    Denied(Box<Denied>),
}

impl Failure {
    /// An operation on a handle found its file gone.
    pub fn of_file(error: Error) -> Failure {
        Fail::of_inode(error).into()
    }

    /// The status for the client.
    pub fn status(&self) -> Status {
        match self {
            Failure::Status(status) => *status,
            Failure::Denied(_) => Status::Denied,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::Status(status)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match &error {
            Error::NotFound => Status::NoEnt,
            Error::Exists => Status::Exist,
            Error::NotADirectory => Status::NotDir,
            Error::IsADirectory => Status::IsDir,
            Error::NotEmpty => Status::NotEmpty,
            Error::NameTooLong => Status::NameTooLong,
            Error::TooManyLinks => Status::MLink,
            Error::FileTooLarge => Status::FBig,
            Error::Invalid(_) => Status::Inval,
            Error::NotPermitted => Status::Perm,
            Error::NoSpace => Status::NoSpc,
            Error::ReadOnly(_) => Status::RoFs,
            Error::Unsupported(_) => Status::NotSupp,
            Error::NoSuchRegion => Status::NxIo,
            Error::NoAttribute => Status::NoXattr,
            Error::OutOfRange => Status::XattrTooBig,
            // Soon there is another server to ask.
            Error::Closed => Status::Delay,
            _ => Status::Io,
        };
        // The client sees a number; the text with the way out has only the log
        // to go to.
        if status == Status::Io {
            tracing::error!("answering NFS4ERR_IO: {error}");
        }
        Failure::Status(status)
    }
}

impl From<Fail> for Failure {
    fn from(fail: Fail) -> Failure {
        let status = match fail {
            Fail::Engine(error) => return error.into(),
            Fail::Access => Status::Access,
            Fail::NotOwner => Status::Perm,
            Fail::ReadOnly => Status::RoFs,
            Fail::Stale => Status::Stale,
            Fail::BadHandle => Status::BadHandle,
            Fail::OtherExport => Status::XDev,
            Fail::WrongKind => Status::WrongType,
            Fail::Invalid => Status::Inval,
            Fail::NotSync => Status::NotSame,
            Fail::BadCookie => Status::BadCookie,
            Fail::TooSmall => Status::TooSmall,
        };
        Failure::Status(status)
    }
}
