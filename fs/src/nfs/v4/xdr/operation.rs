//! The operations of a COMPOUND.

use super::{
    BackchannelCtl, BindConn, Bitmap, CloneRange, Close, Commit, CopyRange, Create, CreateSession,
    ExchangeId, GetDeviceInfo, Handle, ListXattrs, Lock, LockTest, Open, OpenDowngrade, Read,
    ReadDir, Rename, Seek, Sequence, SessionId, SetAttributes, SetXattr, Space, StateId, StateIds,
    Text, Unlock, Write, XdrCodec,
};

/// Operation numbers that are named outside of [`Operation`].
pub mod number {
    pub const READ: u32 = 25;
    pub const SETATTR: u32 = 34;
    pub const WRITE: u32 = 38;
    pub const BIND_CONN_TO_SESSION: u32 = 41;
    pub const EXCHANGE_ID: u32 = 42;
    pub const CREATE_SESSION: u32 = 43;
    pub const DESTROY_SESSION: u32 = 44;
    pub const SEQUENCE: u32 = 53;
    pub const DESTROY_CLIENTID: u32 = 57;
    pub const ILLEGAL: u32 = 10044;
    /// First and last of version 4.1.
    pub const FIRST: u32 = 3;
    pub const LAST: u32 = 58;
    /// Last of version 4.2.
    pub const LAST_OF_2: u32 = 75;
}

/// An operation with its arguments. Those that are not served are known by
/// their numbers only: nothing behind them is looked at.
#[derive(Clone, Debug, XdrCodec)]
pub enum Operation {
    #[xdr(3)]
    Access(u32),
    #[xdr(4)]
    Close(Close),
    #[xdr(5)]
    Commit(Commit),
    #[xdr(6)]
    Create(Create),
    #[xdr(9)]
    GetAttr(Bitmap),
    #[xdr(10)]
    GetHandle,
    #[xdr(11)]
    Link(Text),
    #[xdr(12)]
    Lock(Lock),
    #[xdr(13)]
    LockTest(LockTest),
    #[xdr(14)]
    Unlock(Unlock),
    #[xdr(15)]
    Lookup(Text),
    #[xdr(16)]
    LookupParent,
    #[xdr(17)]
    DifferFrom(super::Attributes),
    #[xdr(18)]
    Open(Open),
    #[xdr(21)]
    OpenDowngrade(OpenDowngrade),
    #[xdr(22)]
    PutHandle(Handle),
    #[xdr(23)]
    PutPublicHandle,
    #[xdr(24)]
    PutRootHandle,
    #[xdr(25)]
    Read(Read),
    #[xdr(26)]
    ReadDir(ReadDir),
    #[xdr(27)]
    ReadLink,
    #[xdr(28)]
    Remove(Text),
    #[xdr(29)]
    Rename(Rename),
    #[xdr(31)]
    RestoreHandle,
    #[xdr(32)]
    SaveHandle,
    #[xdr(33)]
    SecInfo(Text),
    #[xdr(34)]
    SetAttr(SetAttributes),
    #[xdr(37)]
    Verify(super::Attributes),
    #[xdr(38)]
    Write(Write),
    #[xdr(40)]
    BackchannelCtl(BackchannelCtl),
    #[xdr(41)]
    BindConn(BindConn),
    #[xdr(42)]
    ExchangeId(ExchangeId),
    #[xdr(43)]
    CreateSession(CreateSession),
    #[xdr(44)]
    DestroySession(SessionId),
    #[xdr(45)]
    FreeStateId(StateId),
    #[xdr(47)]
    GetDeviceInfo(GetDeviceInfo),
    #[xdr(52)]
    SecInfoNoName(u32),
    #[xdr(53)]
    Sequence(Sequence),
    #[xdr(55)]
    TestStateIds(StateIds),
    #[xdr(57)]
    DestroyClient(u64),
    #[xdr(58)]
    ReclaimComplete(bool),
    #[xdr(59)]
    Allocate(Space),
    #[xdr(60)]
    Copy(CopyRange),
    #[xdr(62)]
    Deallocate(Space),
    #[xdr(69)]
    Seek(Seek),
    #[xdr(71)]
    Clone(CloneRange),
    #[xdr(72)]
    GetXattr(Text),
    #[xdr(73)]
    SetXattr(SetXattr),
    #[xdr(74)]
    ListXattrs(ListXattrs),
    #[xdr(75)]
    RemoveXattr(Text),
}
