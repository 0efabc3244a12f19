//! What version 4.2 adds: RFC 7862, 15, and attributes in RFC 8276.

use super::{Array, Blob, Stability, StateId, TEXT_MAX, Text, XdrCodec};

/// Arguments of ALLOCATE and DEALLOCATE.
#[derive(Clone, Copy, Debug, XdrCodec)]
pub struct Space {
    pub stateid: StateId,
    pub offset: u64,
    pub length: u64,
}

/// Arguments of SEEK.
#[derive(Clone, Copy, Debug, XdrCodec)]
pub struct Seek {
    pub stateid: StateId,
    pub offset: u64,
    pub what: Content,
}

/// `data_content4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, XdrCodec)]
#[repr(u32)]
pub enum Content {
    Data = 0,
    Hole = 1,
}

/// Results of SEEK.
#[derive(Clone, Copy, Debug, XdrCodec)]
pub struct Sought {
    pub eof: bool,
    pub offset: u64,
}

/// Arguments of CLONE, and the first of COPY.
#[derive(Clone, Copy, Debug, XdrCodec)]
pub struct CloneRange {
    pub source: StateId,
    pub target: StateId,
    pub source_offset: u64,
    pub target_offset: u64,
    /// 0: up to the end of the source.
    pub count: u64,
}

/// Arguments of COPY.
#[derive(Clone, Debug, XdrCodec)]
pub struct CopyRange {
    pub what: CloneRange,
    pub consecutive: bool,
    pub synchronous: bool,
    pub servers: Array<Place, 16>,
}

/// `netloc4`: where another server is.
#[derive(Clone, Debug, XdrCodec)]
pub enum Place {
    #[xdr(1)]
    Name(Text),
    #[xdr(2)]
    Url(Text),
    #[xdr(3)]
    Address(NetAddress),
}

/// `netaddr4`.
#[derive(Clone, Debug, XdrCodec)]
pub struct NetAddress {
    pub network: Blob<64>,
    pub address: Blob<256>,
}

/// Results of COPY.
#[derive(Clone, Debug, XdrCodec)]
pub struct Copied {
    /// One for a copy that goes on behind the answer.
    pub callback: Array<StateId, 1>,
    pub count: u64,
    pub stability: Stability,
    pub verifier: [u8; 8],
    pub consecutive: bool,
    pub synchronous: bool,
}

/// Arguments of SETXATTR.
#[derive(Clone, Debug, XdrCodec)]
pub struct SetXattr {
    pub how: XattrHow,
    pub name: Text,
    pub value: Blob<TEXT_MAX>,
}

/// `setxattr_option4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, XdrCodec)]
#[repr(u32)]
pub enum XattrHow {
    Either = 0,
    Create = 1,
    Replace = 2,
}

/// Arguments of LISTXATTRS.
#[derive(Clone, Copy, Debug, XdrCodec)]
pub struct ListXattrs {
    pub cookie: u64,
    pub max: u32,
}

/// Results of LISTXATTRS.
#[derive(Clone, Debug, XdrCodec)]
pub struct ListedXattrs {
    pub cookie: u64,
    pub names: Array<Text, 65_536>,
    pub eof: bool,
}
