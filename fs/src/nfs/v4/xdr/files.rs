//! Files, names and data.

use super::{Attributes, Bitmap, Data, StateId, Text, XdrCodec};

/// Arguments of COMMIT.
#[derive(Clone, Copy, Debug, XdrCodec)]
pub struct Commit {
    pub offset: u64,
    pub count: u32,
}

/// What CREATE makes.
#[derive(Clone, Debug, XdrCodec)]
pub enum CreateKind {
    #[xdr(1)]
    File,
    #[xdr(2)]
    Directory,
    #[xdr(3)]
    Block(Device),
    #[xdr(4)]
    Character(Device),
    #[xdr(5)]
    Link(Text),
    #[xdr(6)]
    Socket,
    #[xdr(7)]
    Fifo,
    #[xdr(8)]
    AttributeDirectory,
    #[xdr(9)]
    NamedAttribute,
}

/// `specdata4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, XdrCodec)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

/// Arguments of CREATE.
#[derive(Clone, Debug, XdrCodec)]
pub struct Create {
    pub kind: CreateKind,
    pub name: Text,
    pub attributes: Attributes,
}

/// Results of CREATE.
#[derive(Clone, Debug, XdrCodec)]
pub struct Created {
    pub change: super::ChangeInfo,
    pub attributes: Bitmap,
}

/// Arguments of READ.
#[derive(Clone, Copy, Debug, XdrCodec)]
pub struct Read {
    pub stateid: StateId,
    pub offset: u64,
    pub count: u32,
}

/// Results of READ.
#[derive(Clone, Debug, XdrCodec)]
pub struct DataRead {
    pub eof: bool,
    pub data: Data,
}

/// Arguments of READDIR.
#[derive(Clone, Debug, XdrCodec)]
pub struct ReadDir {
    pub cookie: u64,
    pub verifier: [u8; 8],
    pub names_max: u32,
    pub max: u32,
    pub attributes: Bitmap,
}

/// An entry of a READDIR, behind the bool that says there is one.
#[derive(Clone, Debug, XdrCodec)]
pub struct DirEntry {
    pub cookie: u64,
    pub name: Text,
    pub attributes: Attributes,
}

/// Arguments of RENAME.
#[derive(Clone, Debug, XdrCodec)]
pub struct Rename {
    pub from: Text,
    pub to: Text,
}

/// Arguments of SETATTR.
#[derive(Clone, Debug, XdrCodec)]
pub struct SetAttributes {
    pub stateid: StateId,
    pub attributes: Attributes,
}

/// Where the bytes of a WRITE are when it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, XdrCodec)]
#[repr(u32)]
pub enum Stability {
    Unstable = 0,
    Data = 1,
    File = 2,
}

/// Arguments of WRITE.
#[derive(Clone, Debug, XdrCodec)]
pub struct Write {
    pub stateid: StateId,
    pub offset: u64,
    pub stability: Stability,
    pub data: Data,
}

/// Results of WRITE.
#[derive(Clone, Copy, Debug, XdrCodec)]
pub struct Written {
    pub count: u32,
    pub stability: Stability,
    pub verifier: [u8; 8],
}

/// A way to identify oneself, as SECINFO answers it.
#[derive(Clone, Copy, Debug, XdrCodec)]
pub enum Flavor {
    #[xdr(0)]
    None,
    #[xdr(1)]
    Unix,
}

/// Arguments of GETDEVICEINFO.
#[derive(Clone, Debug, XdrCodec)]
pub struct GetDeviceInfo {
    pub device: [u8; 16],
    pub layout: u32,
    pub max: u32,
    pub notify: Bitmap,
}
