//! Attributes of version 4: what they are called, and how they are told and set.

mod decode;

use kiseki_core::{
    engine::{Attr, NAME_MAX, SIZE_MAX, Statfs},
    ids::Timestamp,
    meta::Kind,
};

pub use decode::{Settings, decode};

use super::xdr::{
    Array, Attributes, Bitmap, Blob, Device, FsId, OwnerText, Status, Time, attribute as number,
    put,
};
use crate::nfs::{TRANSFER_MAX, device};

/// Most names of a file.
const LINKS_MAX: u32 = i32::MAX as u32;

/// What READDIR and GETATTR can tell.
const READABLE: &[u32] = &[
    number::SUPPORTED_ATTRS,
    number::TYPE,
    number::FH_EXPIRE_TYPE,
    number::CHANGE,
    number::SIZE,
    number::LINK_SUPPORT,
    number::SYMLINK_SUPPORT,
    number::NAMED_ATTR,
    number::FSID,
    number::UNIQUE_HANDLES,
    number::LEASE_TIME,
    number::RDATTR_ERROR,
    number::ACLSUPPORT,
    number::CANSETTIME,
    number::CASE_INSENSITIVE,
    number::CASE_PRESERVING,
    number::CHOWN_RESTRICTED,
    number::FILEHANDLE,
    number::FILEID,
    number::FILES_AVAIL,
    number::FILES_FREE,
    number::FILES_TOTAL,
    number::HOMOGENEOUS,
    number::MAXFILESIZE,
    number::MAXLINK,
    number::MAXNAME,
    number::MAXREAD,
    number::MAXWRITE,
    number::MODE,
    number::NO_TRUNC,
    number::NUMLINKS,
    number::OWNER,
    number::OWNER_GROUP,
    number::RAWDEV,
    number::SPACE_AVAIL,
    number::SPACE_FREE,
    number::SPACE_TOTAL,
    number::SPACE_USED,
    number::TIME_ACCESS,
    number::TIME_CREATE,
    number::TIME_DELTA,
    number::TIME_METADATA,
    number::TIME_MODIFY,
    number::MOUNTED_ON_FILEID,
    number::FS_LAYOUT_TYPE,
    number::SUPPATTR_EXCLCREAT,
    number::FS_CHARSET_CAP,
    number::XATTR_SUPPORT,
];

/// What can be set and not told.
const WRITE_ONLY: &[u32] = &[
    number::TIME_ACCESS_SET,
    number::TIME_MODIFY_SET,
    number::MODE_SET_MASKED,
];

/// What an exclusive create can set. The verifier is kept in the times until
/// the client sets them, so they are not among these.
const EXCLUSIVE: &[u32] = &[
    number::SIZE,
    number::MODE,
    number::OWNER,
    number::OWNER_GROUP,
    number::MODE_SET_MASKED,
];

/// Names may be no UTF-8, because other front ends make such; this one does not.
const CONTAINS_NON_UTF8: u32 = 1;

/// What attributes are made of.
pub struct Subject<'a> {
    /// Of the file.
    pub attr: &'a Attr,
    /// Its handle.
    pub handle: &'a [u8],
    /// Of the volume; asked for when [`needs_statfs`] says so.
    pub statfs: Option<Statfs>,
    /// Of the server.
    pub server: &'a Server,
}

/// What is the same for all files.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Seconds a lease lasts.
    pub lease: u32,
    /// Which filesystem this is.
    pub fsid: FsId,
}

/// Whether some of these tell about the volume.
pub fn needs_statfs(wanted: &Bitmap) -> bool {
    const OF_VOLUME: &[u32] = &[
        number::FILES_AVAIL,
        number::FILES_FREE,
        number::FILES_TOTAL,
        number::SPACE_AVAIL,
        number::SPACE_FREE,
        number::SPACE_TOTAL,
    ];
    OF_VOLUME.iter().any(|number| wanted.has(*number))
}

/// Moves with every change of data or metadata: each sets the time of the last
/// change of the inode, to the nanosecond.
pub fn change(attr: &Attr) -> u64 {
    let at = attr.ctime;
    (at.secs as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(u64::from(at.nanos))
}

/// Whether GETATTR may ask for these.
///
/// # Errors
/// `Inval` for what can only be set.
pub fn check_readable(wanted: &Bitmap) -> Result<(), Status> {
    match WRITE_ONLY.iter().any(|number| wanted.has(*number)) {
        true => Err(Status::Inval),
        false => Ok(()),
    }
}

/// Whether VERIFY may compare these.
///
/// # Errors
/// `Inval` for what can only be set, `AttrNotSupp`.
pub fn check_comparable(wanted: &Bitmap) -> Result<(), Status> {
    check_readable(wanted)?;
    if wanted.has(number::RDATTR_ERROR) {
        return Err(Status::Inval);
    }
    match wanted.numbers().all(|number| READABLE.contains(&number)) {
        true => Ok(()),
        false => Err(Status::AttrNotSupp),
    }
}

/// Those of the wanted attributes that there are.
///
/// # Errors
/// `ServerFault`, which does not happen.
pub fn encode(wanted: &Bitmap, subject: &Subject<'_>) -> Result<Attributes, Status> {
    let told = wanted.numbers().filter(|number| READABLE.contains(number));
    let mask = Bitmap::of(told);
    let mut values = Vec::with_capacity(256);
    for number in mask.numbers() {
        subject.put(number, &mut values)?;
    }
    Ok(Attributes {
        mask,
        values: Blob(values),
    })
}

/// The attributes of an entry that could not be looked at.
///
/// # Errors
/// `ServerFault`, which does not happen.
pub fn error_only(error: Status) -> Result<Attributes, Status> {
    let mut values = Vec::new();
    put(&mut values, &error)?;
    Ok(Attributes {
        mask: Bitmap::of([number::RDATTR_ERROR]),
        values: Blob(values),
    })
}

impl Subject<'_> {
    fn put(&self, number: u32, out: &mut Vec<u8>) -> Result<(), Status> {
        let attr = self.attr;
        match number {
            number::SUPPORTED_ATTRS => {
                let all = READABLE.iter().chain(WRITE_ONLY).copied();
                put(out, &Bitmap::of(all))
            }
            number::SUPPATTR_EXCLCREAT => put(out, &Bitmap::of(EXCLUSIVE.iter().copied())),
            number::TYPE => put(out, &kind(attr.kind)),
            // Handles are good for as long as their files.
            number::FH_EXPIRE_TYPE | number::ACLSUPPORT => put(out, &0u32),
            number::CHANGE => put(out, &change(attr)),
            number::SIZE => put(out, &attr.size),
            number::NAMED_ATTR | number::CASE_INSENSITIVE => put(out, &false),
            number::LINK_SUPPORT
            | number::SYMLINK_SUPPORT
            | number::UNIQUE_HANDLES
            | number::CANSETTIME
            | number::CASE_PRESERVING
            | number::CHOWN_RESTRICTED
            | number::HOMOGENEOUS
            | number::NO_TRUNC
            | number::XATTR_SUPPORT => put(out, &true),
            number::FSID => put(out, &self.server.fsid),
            number::LEASE_TIME => put(out, &self.server.lease),
            number::RDATTR_ERROR => put(out, &Status::Ok),
            number::FILEHANDLE => put(out, &super::xdr::Handle::from(self.handle)),
            number::FILEID | number::MOUNTED_ON_FILEID => put(out, &attr.ino.0),
            number::MAXFILESIZE => put(out, &SIZE_MAX),
            number::MAXLINK => put(out, &LINKS_MAX),
            number::MAXNAME => put(out, &(NAME_MAX as u32)),
            number::MAXREAD | number::MAXWRITE => put(out, &u64::from(TRANSFER_MAX)),
            number::MODE => put(out, &(attr.mode & 0o7777)),
            number::NUMLINKS => put(out, &attr.nlink),
            number::OWNER => put(out, &digits(attr.uid)),
            number::OWNER_GROUP => put(out, &digits(attr.gid)),
            number::RAWDEV => put(out, &device(attr.rdev)),
            number::SPACE_USED => put(out, &(attr.blocks * 512)),
            number::TIME_ACCESS => put(out, &time(attr.atime)),
            number::TIME_CREATE => put(out, &time(attr.btime)),
            number::TIME_METADATA => put(out, &time(attr.ctime)),
            number::TIME_MODIFY => put(out, &time(attr.mtime)),
            number::TIME_DELTA => put(out, &NANOSECOND),
            number::FS_LAYOUT_TYPE => put(out, &Array::<u32, 0>(vec![])),
            number::FS_CHARSET_CAP => put(out, &CONTAINS_NON_UTF8),
            _ => self.put_of_volume(number, out),
        }
    }

    fn put_of_volume(&self, number: u32, out: &mut Vec<u8>) -> Result<(), Status> {
        let statfs = self.statfs.unwrap_or_default();
        let bytes = |blocks: u64| blocks.saturating_mul(u64::from(statfs.block_size));
        let value = match number {
            number::FILES_AVAIL | number::FILES_FREE => statfs.files_free,
            number::FILES_TOTAL => statfs.files,
            number::SPACE_AVAIL => bytes(statfs.blocks_available),
            number::SPACE_FREE => bytes(statfs.blocks_free),
            number::SPACE_TOTAL => bytes(statfs.blocks),
            _ => return Err(Status::ServerFault),
        };
        put(out, &value)
    }
}

const NANOSECOND: Time = Time {
    seconds: 0,
    nanoseconds: 1,
};

fn time(at: Timestamp) -> Time {
    Time {
        seconds: at.secs as u64,
        nanoseconds: at.nanos,
    }
}

fn digits(id: u32) -> OwnerText {
    Blob(id.to_string().into_bytes())
}

/// `nfs_ftype4`.
fn kind(kind: Kind) -> u32 {
    match kind {
        Kind::File => 1,
        Kind::Directory => 2,
        Kind::BlockDevice => 3,
        Kind::CharDevice => 4,
        Kind::Symlink => 5,
        Kind::Socket => 6,
        Kind::Fifo => 7,
    }
}

fn device(rdev: u32) -> Device {
    let (major, minor) = device::split(rdev);
    Device { major, minor }
}

#[cfg(test)]
mod tests;
