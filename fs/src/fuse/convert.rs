//! Between the engine's types and those of the `fuser` crate.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use kiseki_core::{
    engine::{Attr, SetTime},
    ids::{Ino, Timestamp},
    meta::Kind,
};
use nix::errno::Errno;

/// What `stat` recommends as I/O size: large requests cross the kernel least.
const BLOCK_SIZE: u32 = 128 << 10;

pub(super) fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

pub(super) fn attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: system_time(attr.btime),
        kind: kind(attr.kind),
        // 12 bits: the mask makes the cast lossless.
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// The attributes of "there is no such name", which the kernel remembers for
/// as long as the reply says: inode number 0.
pub(super) fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

pub(super) fn ino(ino: INodeNo) -> Ino {
    Ino(ino.0)
}

pub(super) fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno as i32)
}

/// `SystemTime` spans the whole range of a timestamp on Linux; a time it could
/// not hold becomes the epoch.
pub(super) fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let second = if time.secs >= 0 {
        UNIX_EPOCH.checked_add(whole)
    } else {
        UNIX_EPOCH.checked_sub(whole)
    };
    second
        .and_then(|second| second.checked_add(Duration::from_nanos(u64::from(time.nanos))))
        .unwrap_or(UNIX_EPOCH)
}

/// A time out of a request. From before the epoch `fuser` 0.18 makes of
/// (-6 s, +0.9 s) the time 6.9 s before it, where 5.1 s was meant; the seconds
/// and nanoseconds of the distance are those of the request all the same.
pub(super) fn requested_time(time: SystemTime) -> Timestamp {
    let (distance, sign) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (after, 1),
        Err(error) => (error.duration(), -1),
    };
    Timestamp {
        secs: sign * i64::try_from(distance.as_secs()).unwrap_or(i64::MAX),
        nanos: distance.subsec_nanos(),
    }
}

pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(requested_time(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_count_nanoseconds_forward() {
        let time = Timestamp {
            secs: -6,
            nanos: 999_999_999,
        };
        assert_eq!(system_time(time), UNIX_EPOCH - Duration::new(5, 1));
        let late = Timestamp {
            secs: 253_402_300_799,
            nanos: 7,
        };
        assert_eq!(
            system_time(late),
            UNIX_EPOCH + Duration::new(253_402_300_799, 7)
        );
    }

    #[test]
    fn requested_times_are_what_the_kernel_sent() {
        let as_fuser_has_it = UNIX_EPOCH - Duration::new(6, 999_999_999);
        assert_eq!(
            requested_time(as_fuser_has_it),
            Timestamp {
                secs: -6,
                nanos: 999_999_999
            }
        );
        let time = Timestamp { secs: 1, nanos: 2 };
        assert_eq!(requested_time(system_time(time)), time);
    }
}
