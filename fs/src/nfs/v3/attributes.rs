//! Attributes as version 3 has them (RFC 1813, section 2.6).

use kiseki_core::{
    engine::{Attr, SetAttr, SetTime},
    ids::Timestamp,
    meta::Kind,
};
use nfs3_types::nfs3::{
    Nfs3Option, fattr3, ftype3, nfstime3, post_op_attr, sattr3, set_atime, set_mtime, specdata3,
    wcc_attr,
};

use crate::nfs::device;

/// Attributes of an inode of the volume with this identity.
pub(super) fn attributes(volume: u64, attr: &Attr) -> fattr3 {
    fattr3 {
        type_: kind(attr.kind),
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        size: attr.size,
        used: attr.blocks.saturating_mul(512),
        rdev: device(attr.rdev),
        fsid: volume,
        fileid: attr.ino.0,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
    }
}

/// The same where they may be missing.
pub(super) fn known(volume: u64, attr: Option<&Attr>) -> post_op_attr {
    match attr {
        Some(attr) => Nfs3Option::Some(attributes(volume, attr)),
        None => Nfs3Option::None,
    }
}

/// Those that tell whether somebody else changed an inode.
pub(super) fn before(attr: &Attr) -> wcc_attr {
    wcc_attr {
        size: attr.size,
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
    }
}

fn kind(kind: Kind) -> ftype3 {
    match kind {
        Kind::File => ftype3::NF3REG,
        Kind::Directory => ftype3::NF3DIR,
        Kind::Symlink => ftype3::NF3LNK,
        Kind::Fifo => ftype3::NF3FIFO,
        Kind::Socket => ftype3::NF3SOCK,
        Kind::CharDevice => ftype3::NF3CHR,
        Kind::BlockDevice => ftype3::NF3BLK,
    }
}

fn device(rdev: u32) -> specdata3 {
    let (specdata1, specdata2) = device::split(rdev);
    specdata3 {
        specdata1,
        specdata2,
    }
}

/// A time of the protocol goes from 1970 to 2106; one outside is moved to the
/// nearer end.
pub(super) fn time(time: Timestamp) -> nfstime3 {
    match u32::try_from(time.secs) {
        Ok(seconds) => nfstime3 {
            seconds,
            nseconds: time.nanos,
        },
        Err(_) if time.secs < 0 => nfstime3::default(),
        Err(_) => nfstime3 {
            seconds: u32::MAX,
            nseconds: 999_999_999,
        },
    }
}

fn timestamp(time: nfstime3) -> Timestamp {
    Timestamp {
        secs: i64::from(time.seconds),
        nanos: time.nseconds,
    }
}

/// What a client asks to change; `None` when a time is none.
pub(super) fn change(wanted: &sattr3) -> Option<SetAttr> {
    let atime = match wanted.atime {
        set_atime::DONT_CHANGE => None,
        set_atime::SET_TO_SERVER_TIME => Some(SetTime::Now),
        set_atime::SET_TO_CLIENT_TIME(time) => Some(SetTime::At(timestamp(time))),
    };
    let mtime = match wanted.mtime {
        set_mtime::DONT_CHANGE => None,
        set_mtime::SET_TO_SERVER_TIME => Some(SetTime::Now),
        set_mtime::SET_TO_CLIENT_TIME(time) => Some(SetTime::At(timestamp(time))),
    };
    let is_time = |time: &SetTime| match time {
        SetTime::Now => true,
        SetTime::At(time) => time.nanos < 1_000_000_000,
    };
    let change = SetAttr {
        mode: given(&wanted.mode).map(|mode| mode & 0o7777),
        uid: given(&wanted.uid),
        gid: given(&wanted.gid),
        size: given(&wanted.size),
        atime,
        mtime,
        ctime: None,
    };
    [atime, mtime]
        .iter()
        .flatten()
        .all(is_time)
        .then_some(change)
}

fn given<T: Copy + nfs3_types::xdr_codec::Pack + nfs3_types::xdr_codec::Unpack>(
    option: &Nfs3Option<T>,
) -> Option<T> {
    match option {
        Nfs3Option::Some(value) => Some(*value),
        Nfs3Option::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_outside_the_protocol_are_moved_to_its_ends() {
        let of = |secs| time(Timestamp { secs, nanos: 5 }).seconds;
        assert_eq!((of(-1), of(7), of(1 << 40)), (0, 7, u32::MAX));
    }

    #[test]
    fn a_time_with_too_many_nanoseconds_is_none() {
        let mut wanted = sattr3 {
            atime: set_atime::SET_TO_CLIENT_TIME(nfstime3 {
                seconds: 1,
                nseconds: 999_999_999,
            }),
            ..sattr3::default()
        };
        assert!(change(&wanted).is_some());
        wanted.mtime = set_mtime::SET_TO_CLIENT_TIME(nfstime3 {
            seconds: 1,
            nseconds: 1_000_000_000,
        });
        assert!(change(&wanted).is_none());
    }
}
