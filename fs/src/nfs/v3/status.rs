//! Failures in the words of version 3 (RFC 1813, section 2.6).

use kiseki_core::Error;
use nfs3_types::nfs3::nfsstat3;

use crate::nfs::fail::Fail;

/// What is answered.
pub(super) fn status(fail: &Fail) -> nfsstat3 {
    match fail {
        Fail::Engine(error) => of_engine(error),
        Fail::Access => nfsstat3::NFS3ERR_ACCES,
        Fail::NotOwner => nfsstat3::NFS3ERR_PERM,
        Fail::ReadOnly => nfsstat3::NFS3ERR_ROFS,
        Fail::Stale => nfsstat3::NFS3ERR_STALE,
        Fail::BadHandle => nfsstat3::NFS3ERR_BADHANDLE,
        Fail::OtherExport => nfsstat3::NFS3ERR_XDEV,
        Fail::WrongKind => nfsstat3::NFS3ERR_BADTYPE,
        Fail::Invalid => nfsstat3::NFS3ERR_INVAL,
        Fail::NotSync => nfsstat3::NFS3ERR_NOT_SYNC,
        Fail::BadCookie => nfsstat3::NFS3ERR_BAD_COOKIE,
        Fail::TooSmall => nfsstat3::NFS3ERR_TOOSMALL,
    }
}

fn of_engine(error: &Error) -> nfsstat3 {
    match error {
        Error::NotFound => nfsstat3::NFS3ERR_NOENT,
        Error::Exists => nfsstat3::NFS3ERR_EXIST,
        Error::NotADirectory => nfsstat3::NFS3ERR_NOTDIR,
        Error::IsADirectory => nfsstat3::NFS3ERR_ISDIR,
        Error::NotEmpty => nfsstat3::NFS3ERR_NOTEMPTY,
        Error::NameTooLong => nfsstat3::NFS3ERR_NAMETOOLONG,
        Error::TooManyLinks => nfsstat3::NFS3ERR_MLINK,
        Error::FileTooLarge => nfsstat3::NFS3ERR_FBIG,
        Error::Invalid(_) | Error::OutOfRange | Error::NoAttribute => nfsstat3::NFS3ERR_INVAL,
        Error::NotPermitted => nfsstat3::NFS3ERR_PERM,
        Error::NoSuchRegion => nfsstat3::NFS3ERR_NXIO,
        Error::Unsupported(_) => nfsstat3::NFS3ERR_NOTSUPP,
        Error::NoSpace => nfsstat3::NFS3ERR_NOSPC,
        Error::ReadOnly(_) => nfsstat3::NFS3ERR_ROFS,
        // The server is about to end; the client asks the next one.
        Error::Closed => nfsstat3::NFS3ERR_JUKEBOX,
        other => {
            // The client sees a number; the text with the way out has only
            // the log to go to.
            tracing::error!("answering NFS3ERR_IO: {other}");
            nfsstat3::NFS3ERR_IO
        }
    }
}
