//! Extended attributes: those of the engine, and two that we make up. The made
//! up ones can be read and nothing else, and no listing shows them, so that
//! copying a tree with its attributes does not try to store them elsewhere.

use bytes::Bytes;
use kiseki_core::{
    engine::{Caller, FileInfo, Volume, XattrSet},
    ids::Ino,
};
use nix::{errno::Errno, libc};

use super::Name;
use crate::fuse::{
    fail::{Fail, Outcome},
    options::StatusProvider,
};

/// State of the mount, as JSON, on the root directory.
const STATUS: &[u8] = b"user.kiseki.status";
/// How a file is stored, as JSON, on any inode.
const INFO: &[u8] = b"user.kiseki.info";

/// An attribute's value, whole.
pub(in crate::fuse) async fn get(
    volume: Volume,
    ino: Ino,
    name: Name,
    status: Option<StatusProvider>,
) -> Outcome<Bytes> {
    match &*name {
        STATUS => match status {
            Some(status) if ino == Ino::ROOT => Ok(Bytes::from(status())),
            _ => Err(Fail(Errno::ENODATA)),
        },
        INFO => Ok(Bytes::from(json(&volume.info(ino).await?))),
        name => Ok(volume.getxattr(ino, name).await?),
    }
}

/// `flags` as `setxattr(2)` has them.
pub(in crate::fuse) async fn set(
    volume: Volume,
    who: Caller,
    ino: Ino,
    name: Name,
    value: Box<[u8]>,
    flags: i32,
) -> Outcome<()> {
    refuse_made_up(&name)?;
    let how = match flags {
        0 => XattrSet::Any,
        libc::XATTR_CREATE => XattrSet::Create,
        libc::XATTR_REPLACE => XattrSet::Replace,
        _ => return Err(Fail(Errno::EINVAL)),
    };
    Ok(volume.setxattr(&who, ino, &name, &value, how).await?)
}

/// All names, each with a NUL behind it, as `listxattr(2)` wants them.
pub(in crate::fuse) async fn list(volume: Volume, ino: Ino) -> Outcome<Bytes> {
    let names = volume.listxattr(ino).await?;
    let mut joined = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum());
    for name in &names {
        joined.extend_from_slice(name);
        joined.push(0);
    }
    Ok(Bytes::from(joined))
}

pub(in crate::fuse) async fn remove(
    volume: Volume,
    who: Caller,
    ino: Ino,
    name: Name,
) -> Outcome<()> {
    refuse_made_up(&name)?;
    Ok(volume.removexattr(&who, ino, &name).await?)
}

/// What to answer for a value when the caller has room for `room` bytes.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::fuse) enum Room<'a> {
    /// It asked for the length only.
    Length(u32),
    /// It fits.
    Value(&'a [u8]),
}

/// See [`Room`]. ERANGE when there is too little room, E2BIG when the kernel
/// could not take the value either.
pub(in crate::fuse) fn fit(value: &[u8], room: u32) -> Outcome<Room<'_>> {
    let length = u32::try_from(value.len()).map_err(|_| Fail(Errno::E2BIG))?;
    match room {
        0 => Ok(Room::Length(length)),
        room if length > room => Err(Fail(Errno::ERANGE)),
        _ => Ok(Room::Value(value)),
    }
}

fn refuse_made_up(name: &[u8]) -> Outcome<()> {
    match name {
        STATUS | INFO => Err(Fail(Errno::EPERM)),
        _ => Ok(()),
    }
}

/// Numbers and a truth value need no escaping, hence no JSON library.
fn json(info: &FileInfo) -> String {
    format!(
        "{{\"ino\":{},\"size\":{},\"inline\":{},\"extents\":{},\"chunks\":{},\
         \"shared_chunks\":{},\"stored_bytes\":{}}}",
        info.ino,
        info.size,
        info.inline,
        info.extents,
        info.chunks,
        info.shared_chunks,
        info.stored_bytes
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_value_is_probed_fits_or_does_not() {
        assert_eq!(fit(b"abc", 0), Ok(Room::Length(3)));
        assert_eq!(fit(b"abc", 3), Ok(Room::Value(b"abc")));
        assert_eq!(fit(b"abc", 2), Err(Fail(Errno::ERANGE)));
        assert_eq!(fit(b"", 5), Ok(Room::Value(b"")));
    }

    #[test]
    fn made_up_attributes_cannot_be_changed() {
        assert_eq!(
            refuse_made_up(b"user.kiseki.status"),
            Err(Fail(Errno::EPERM))
        );
        assert!(refuse_made_up(b"user.kiseki").is_ok());
    }
}
