//! What an operation answers when it fails: an errno, decided in one place.

use kiseki_core::Error;
use nix::errno::Errno;

/// Result of an operation of this front end.
pub(super) type Outcome<T> = Result<T, Fail>;

/// The errno for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fail(pub Errno);

impl Fail {
    /// An operation that names an inode, not a path, found it gone. ESTALE
    /// makes the kernel walk the path again, where ENOENT would reach a caller
    /// whose file exists under a new inode.
    pub(super) fn of_inode(error: Error) -> Fail {
        match error {
            Error::NotFound => Fail(Errno::ESTALE),
            other => Fail::from(other),
        }
    }
}

impl From<Errno> for Fail {
    fn from(errno: Errno) -> Fail {
        Fail(errno)
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Fail {
        let errno = error.errno();
        // The caller sees two letters and a number; the text with the way out
        // has only the log to go to.
        if errno == Errno::EIO {
            tracing::error!("answering EIO: {error}");
        }
        Fail(errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vanished_inode_is_stale_and_a_missing_name_is_not() {
        assert_eq!(Fail::of_inode(Error::NotFound), Fail(Errno::ESTALE));
        assert_eq!(Fail::from(Error::NotFound), Fail(Errno::ENOENT));
        assert_eq!(Fail::of_inode(Error::NoSpace), Fail(Errno::ENOSPC));
    }
}
