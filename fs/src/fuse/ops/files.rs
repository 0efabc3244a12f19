//! Operations on open files.

use bytes::Bytes;
use kiseki_core::{
    Error,
    engine::{Allocate, Attr, Caller, Seek, Volume},
    ids::Ino,
};
use nix::{errno::Errno, libc};

use super::Name;
use crate::fuse::fail::{Fail, Outcome};

/// The longest copy in one request: a longer one comes back for the rest, and
/// the length must fit the 32 bits of the reply.
const LONGEST_COPY: u64 = 1 << 30;

/// Opens. Truncation comes as a request of its own, see `negotiate`.
pub(in crate::fuse) async fn open(volume: Volume, ino: Ino) -> Outcome<()> {
    volume.open(ino).await.map_err(Fail::of_inode)
}

/// Makes a file and opens it. The kernel asks only when it believes the name
/// to be free; when it is wrong and the caller would take an existing file,
/// ESTALE makes the kernel look again and check permissions, which have not
/// been checked for that file.
pub(in crate::fuse) async fn create(
    volume: Volume,
    who: Caller,
    parent: Ino,
    name: Name,
    mode: u32,
    flags: i32,
) -> Outcome<Attr> {
    match volume.create(&who, parent, &name, mode & 0o7777).await {
        Err(Error::Exists) if flags & libc::O_EXCL == 0 => Err(Fail(Errno::ESTALE)),
        other => Ok(other?),
    }
}

pub(in crate::fuse) async fn read(
    volume: Volume,
    ino: Ino,
    offset: u64,
    len: u32,
) -> Outcome<Bytes> {
    Ok(volume.read(ino, offset, len).await?)
}

/// Whether writes through a descriptor with these flags go to the disk.
pub(in crate::fuse) fn is_synchronous(flags: i32) -> bool {
    flags & libc::O_DSYNC != 0
}

/// Writes; through to the disk when the file was opened for that. Newer
/// kernels then send an fsync as well, which finds nothing to do.
pub(in crate::fuse) async fn write(
    volume: Volume,
    who: Caller,
    ino: Ino,
    offset: u64,
    data: Bytes,
    flags: i32,
) -> Outcome<u32> {
    let written = volume.write(&who, ino, offset, data).await?;
    if is_synchronous(flags) {
        // O_SYNC is O_DSYNC with one more bit.
        let data_only = flags & libc::O_SYNC != libc::O_SYNC;
        volume.fsync(ino, data_only).await?;
    }
    Ok(written)
}

pub(in crate::fuse) async fn release(volume: Volume, ino: Ino) -> Outcome<()> {
    Ok(volume.release(ino).await?)
}

pub(in crate::fuse) async fn fsync(volume: Volume, ino: Ino, data_only: bool) -> Outcome<()> {
    Ok(volume.fsync(ino, data_only).await?)
}

/// `mode` as `fallocate(2)` has it.
pub(in crate::fuse) async fn allocate(
    volume: Volume,
    who: Caller,
    ino: Ino,
    mode: i32,
    offset: u64,
    len: u64,
) -> Outcome<()> {
    let how = allocation(mode).ok_or(Fail(Errno::EOPNOTSUPP))?;
    Ok(volume.allocate(&who, ino, how, offset, len).await?)
}

fn allocation(mode: i32) -> Option<Allocate> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
    const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
    const ZERO_KEEP: i32 = ZERO | KEEP;
    match mode {
        0 => Some(Allocate::Extend),
        KEEP => Some(Allocate::Keep),
        PUNCH => Some(Allocate::Punch),
        ZERO => Some(Allocate::Zero),
        ZERO_KEEP => Some(Allocate::ZeroKeep),
        libc::FALLOC_FL_COLLAPSE_RANGE => Some(Allocate::Collapse),
        libc::FALLOC_FL_INSERT_RANGE => Some(Allocate::Insert),
        _ => None,
    }
}

/// Data or hole from `offset` on. Other forms of `lseek(2)` never leave the
/// kernel. An offset before the file is one without data, as on other
/// filesystems.
pub(in crate::fuse) async fn seek(
    volume: Volume,
    ino: Ino,
    offset: i64,
    whence: i32,
) -> Outcome<i64> {
    let what = match whence {
        libc::SEEK_DATA => Seek::Data,
        libc::SEEK_HOLE => Seek::Hole,
        _ => return Err(Fail(Errno::EINVAL)),
    };
    let offset = u64::try_from(offset).map_err(|_| Fail(Errno::ENXIO))?;
    let found = volume.seek(ino, offset, what).await?;
    i64::try_from(found).map_err(|_| Fail(Errno::EOVERFLOW))
}

/// How much was copied, at most [`LONGEST_COPY`].
pub(in crate::fuse) async fn copy(
    volume: Volume,
    who: Caller,
    (from, from_offset): (Ino, u64),
    (to, to_offset): (Ino, u64),
    len: u64,
) -> Outcome<u32> {
    let len = len.min(LONGEST_COPY);
    let copied = volume
        .copy_range(&who, from, from_offset, to, to_offset, len)
        .await?;
    u32::try_from(copied).map_err(|_| Fail(Errno::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fallocate_modes() {
        let cases = [
            (0, Some(Allocate::Extend)),
            (1, Some(Allocate::Keep)),
            (3, Some(Allocate::Punch)),
            (2, None),
            (16, Some(Allocate::Zero)),
            (17, Some(Allocate::ZeroKeep)),
            (8, Some(Allocate::Collapse)),
            (9, None),
            (32, Some(Allocate::Insert)),
            (64, None),
        ];
        for (mode, how) in cases {
            assert_eq!(allocation(mode), how, "mode {mode}");
        }
    }
}
