//! Arguments of the procedures (RFC 1813, section 3.3), where those of
//! `nfs3_types` have no limits.

use bytes::Bytes;
use nfs3_types::{
    nfs3::{NFS3_FHSIZE, cookieverf3, createhow3, mknoddata3, sattr3, sattrguard3, stable_how},
    xdr_codec::{Result, XdrCodec},
};

use crate::nfs::xdr::{self, Blob};

/// Longest name or path that is decoded; what is too long for the engine is
/// answered as such.
const TEXT_MAX: usize = 8192;

pub(super) type FileHandle = Blob<NFS3_FHSIZE>;
pub(super) type Text = Blob<TEXT_MAX>;

/// A handle and nothing else: GETATTR, READLINK, FSSTAT, FSINFO, PATHCONF.
#[derive(XdrCodec)]
pub(super) struct Object {
    pub object: FileHandle,
}

/// LOOKUP, REMOVE, RMDIR, and in others.
#[derive(XdrCodec)]
pub(super) struct Place {
    pub directory: FileHandle,
    pub name: Text,
}

#[derive(XdrCodec)]
pub(super) struct SetAttributes {
    pub object: FileHandle,
    pub attributes: sattr3,
    pub guard: sattrguard3,
}

#[derive(XdrCodec)]
pub(super) struct Access {
    pub object: FileHandle,
    pub access: u32,
}

#[derive(XdrCodec)]
pub(super) struct Read {
    pub file: FileHandle,
    pub offset: u64,
    pub count: u32,
}

/// WRITE without the data, which stay where they are.
#[derive(XdrCodec)]
struct WriteHead {
    file: FileHandle,
    offset: u64,
    count: u32,
    stable: stable_how,
}

pub(super) struct Write {
    pub file: FileHandle,
    pub offset: u64,
    pub count: u32,
    pub stable: stable_how,
    pub data: Bytes,
}

impl Write {
    pub fn decode(mut arguments: Bytes) -> Result<Write> {
        let head: WriteHead = xdr::take(&mut arguments)?;
        let data = xdr::take_bytes(&mut arguments)?;
        xdr::nothing_more(&arguments)?;
        Ok(Write {
            file: head.file,
            offset: head.offset,
            count: head.count,
            stable: head.stable,
            data,
        })
    }
}

#[derive(XdrCodec)]
pub(super) struct Create {
    pub place: Place,
    pub how: createhow3,
}

#[derive(XdrCodec)]
pub(super) struct MakeDirectory {
    pub place: Place,
    pub attributes: sattr3,
}

#[derive(XdrCodec)]
pub(super) struct MakeLink {
    pub place: Place,
    pub attributes: sattr3,
    pub target: Text,
}

#[derive(XdrCodec)]
pub(super) struct MakeNode {
    pub place: Place,
    pub what: mknoddata3,
}

#[derive(XdrCodec)]
pub(super) struct Rename {
    pub from: Place,
    pub to: Place,
}

#[derive(XdrCodec)]
pub(super) struct Link {
    pub file: FileHandle,
    pub link: Place,
}

#[derive(XdrCodec)]
pub(super) struct List {
    pub directory: FileHandle,
    pub cookie: u64,
    pub verifier: cookieverf3,
    pub count: u32,
}

#[derive(XdrCodec)]
pub(super) struct ListPlus {
    pub directory: FileHandle,
    pub cookie: u64,
    pub verifier: cookieverf3,
    pub directory_count: u32,
    pub count: u32,
}

#[derive(XdrCodec)]
pub(super) struct Commit {
    pub file: FileHandle,
    pub offset: u64,
    pub count: u32,
}
