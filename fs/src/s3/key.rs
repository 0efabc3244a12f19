//! A key as a path.

use s3s::{S3Error, s3_error};

/// The longest name of a file.
const NAME_MAX: usize = 255;

/// A key that names a file, or with a slash at its end a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Directories in the bucket that lead to it.
    pub directories: Vec<String>,
    /// The file; `None` for a directory, which is then the last of those.
    pub file: Option<String>,
}

/// Why a key is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPath {
    /// Two slashes in a row, or one at the start.
    Empty,
    /// A part is `.` or `..`.
    Dots,
    /// A part is too long for a name.
    Long,
    /// A part has a NUL.
    Nul,
}

impl Key {
    pub(super) fn parse(key: &str) -> Result<Key, NoPath> {
        let (path, directory) = match key.strip_suffix('/') {
            Some(path) => (path, true),
            None => (key, false),
        };
        let mut directories = Vec::new();
        for part in path.split('/') {
            match part {
                "" => return Err(NoPath::Empty),
                "." | ".." => return Err(NoPath::Dots),
                _ if part.len() > NAME_MAX => return Err(NoPath::Long),
                _ if part.contains('\0') => return Err(NoPath::Nul),
                _ => directories.push(part.to_owned()),
            }
        }
        let file = if directory { None } else { directories.pop() };
        Ok(Key { directories, file })
    }
}

impl From<NoPath> for S3Error {
    fn from(why: NoPath) -> S3Error {
        match why {
            NoPath::Empty => s3_error!(
                InvalidArgument,
                "a key is a path: it has no slash at its start and no two in a row"
            ),
            NoPath::Dots => s3_error!(
                InvalidArgument,
                "a key is a path: no part of it is `.` or `..`"
            ),
            NoPath::Long => s3_error!(
                KeyTooLongError,
                "no part of a key between two slashes can be longer than 255 bytes"
            ),
            NoPath::Nul => s3_error!(InvalidArgument, "a key has no NUL"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_is_directories_and_a_file() {
        let key = Key::parse("a/b/c").unwrap();
        assert_eq!(key.directories, ["a", "b"]);
        assert_eq!(key.file.as_deref(), Some("c"));
        let marker = Key::parse("a/b/").unwrap();
        assert_eq!(marker.directories, ["a", "b"]);
        assert_eq!(marker.file, None);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for key in ["", "/", "/a", "a//b", "a//", "//"] {
            assert_eq!(Key::parse(key), Err(NoPath::Empty), "{key}");
        }
        for key in [".", "..", "a/../b", "a/.", "./"] {
            assert_eq!(Key::parse(key), Err(NoPath::Dots), "{key}");
        }
        assert_eq!(Key::parse(&"x".repeat(256)), Err(NoPath::Long));
        assert!(Key::parse(&"x".repeat(255)).is_ok());
        assert_eq!(Key::parse("a\0"), Err(NoPath::Nul));
    }
}
