//! Operations on names.

use std::borrow::Borrow;

use kiseki_core::{
    Error,
    engine::{Attr, Caller, RenameFlags, Volume},
    ids::Ino,
    meta::Kind,
};
use nix::{errno::Errno, libc};

use super::Name;
use crate::fuse::fail::{Fail, Outcome};

/// What a name stands for; `None` when there is no such name, which the kernel
/// may remember like any other answer. `.` and `..` come from those who hold
/// inode numbers instead of paths.
pub(in crate::fuse) async fn lookup(
    volume: impl Borrow<Volume>,
    parent: Ino,
    name: impl AsRef<[u8]>,
) -> Outcome<Option<Attr>> {
    let volume = volume.borrow();
    let found = match name.as_ref() {
        b"." => volume.getattr(parent).await,
        b".." => match volume.parent(parent).await {
            Ok(above) => volume.getattr(above).await,
            Err(error) => Err(error),
        },
        name => volume.lookup(parent, name).await,
    };
    match found {
        Ok(attr) => Ok(Some(attr)),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a file, pipe, socket or device node. `mode` carries the type.
pub(in crate::fuse) async fn mknod(
    volume: Volume,
    who: Caller,
    parent: Ino,
    name: Name,
    mode: u32,
    rdev: u32,
) -> Outcome<Attr> {
    let kind = kind_of_mode(mode).ok_or(Fail(Errno::EINVAL))?;
    Ok(volume
        .mknod(&who, parent, &name, kind, mode & 0o7777, rdev)
        .await?)
}

/// The kind that `mknod(2)` can be asked for; no type at all means a file.
fn kind_of_mode(mode: u32) -> Option<Kind> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Some(Kind::File),
        libc::S_IFIFO => Some(Kind::Fifo),
        libc::S_IFSOCK => Some(Kind::Socket),
        libc::S_IFCHR => Some(Kind::CharDevice),
        libc::S_IFBLK => Some(Kind::BlockDevice),
        _ => None,
    }
}

pub(in crate::fuse) async fn mkdir(
    volume: Volume,
    who: Caller,
    parent: Ino,
    name: Name,
    mode: u32,
) -> Outcome<Attr> {
    Ok(volume.mkdir(&who, parent, &name, mode & 0o7777).await?)
}

pub(in crate::fuse) async fn symlink(
    volume: Volume,
    who: Caller,
    parent: Ino,
    name: Name,
    target: Box<[u8]>,
) -> Outcome<Attr> {
    Ok(volume.symlink(&who, parent, &name, &target).await?)
}

pub(in crate::fuse) async fn link(
    volume: Volume,
    who: Caller,
    ino: Ino,
    parent: Ino,
    name: Name,
) -> Outcome<Attr> {
    Ok(volume.link(&who, ino, parent, &name).await?)
}

pub(in crate::fuse) async fn unlink(
    volume: Volume,
    who: Caller,
    parent: Ino,
    name: Name,
) -> Outcome<()> {
    Ok(volume.unlink(&who, parent, &name).await?)
}

pub(in crate::fuse) async fn rmdir(
    volume: Volume,
    who: Caller,
    parent: Ino,
    name: Name,
) -> Outcome<()> {
    Ok(volume.rmdir(&who, parent, &name).await?)
}

/// `flags` as `renameat2(2)` has them.
pub(in crate::fuse) async fn rename(
    volume: Volume,
    who: Caller,
    (parent, name): (Ino, Name),
    (new_parent, new_name): (Ino, Name),
    flags: u32,
) -> Outcome<()> {
    let flags = rename_flags(flags).ok_or(Fail(Errno::EINVAL))?;
    Ok(volume
        .rename(&who, parent, &name, new_parent, &new_name, flags)
        .await?)
}

/// `None` for whiteouts, for combinations and for what is not known yet.
fn rename_flags(flags: u32) -> Option<RenameFlags> {
    match flags {
        0 => Some(RenameFlags::Replace),
        libc::RENAME_NOREPLACE => Some(RenameFlags::NoReplace),
        libc::RENAME_EXCHANGE => Some(RenameFlags::Exchange),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rename_takes_three_forms_and_no_other() {
        assert_eq!(rename_flags(0), Some(RenameFlags::Replace));
        assert_eq!(rename_flags(1), Some(RenameFlags::NoReplace));
        assert_eq!(rename_flags(2), Some(RenameFlags::Exchange));
        for refused in [3, libc::RENAME_WHITEOUT, 5, 8] {
            assert_eq!(rename_flags(refused), None);
        }
    }

    #[test]
    fn directories_and_symlinks_are_not_made_by_mknod() {
        assert_eq!(kind_of_mode(0o644), Some(Kind::File));
        assert_eq!(kind_of_mode(libc::S_IFIFO | 0o600), Some(Kind::Fifo));
        assert_eq!(kind_of_mode(libc::S_IFDIR), None);
        assert_eq!(kind_of_mode(libc::S_IFLNK), None);
    }
}
