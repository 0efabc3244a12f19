//! Opens and locks: RFC 8881, 18.2, 18.10 to 18.12, 18.16, 18.18, 18.38 and 18.48.

use super::{Array, Attributes, Bitmap, ChangeInfo, OwnerName, StateId, Text, XdrCodec};

/// Who opens or locks: a client and its name for one of its processes.
#[derive(Clone, Debug, PartialEq, Eq, XdrCodec)]
pub struct StateOwner {
    /// Of the time before sessions; the session tells the client.
    pub client: u64,
    pub name: OwnerName,
}

/// Arguments of OPEN.
#[derive(Clone, Debug, XdrCodec)]
pub struct Open {
    pub sequence: u32,
    pub access: u32,
    pub deny: u32,
    pub owner: StateOwner,
    pub how: OpenHow,
    pub claim: Claim,
}

/// What is asked about delegations, in `Open::access`.
pub mod want {
    pub const MASK: u32 = 0xff00;
    pub const NO_DELEGATION: u32 = 0x0400;
    pub const CANCEL: u32 = 0x0500;
    /// All bits that an OPEN may have besides reading and writing.
    pub const ALL: u32 = MASK | 0x3_0000;
}

/// Whether OPEN may make the file.
#[derive(Clone, Debug, XdrCodec)]
pub enum OpenHow {
    #[xdr(0)]
    NoCreate,
    #[xdr(1)]
    Create(CreateHow),
}

/// What OPEN does with a file that is there.
#[derive(Clone, Debug, XdrCodec)]
pub enum CreateHow {
    /// Opens it.
    #[xdr(0)]
    Unchecked(Attributes),
    /// Fails.
    #[xdr(1)]
    Guarded(Attributes),
    /// Opens it if the same request made it.
    #[xdr(2)]
    Exclusive([u8; 8]),
    /// The same, with attributes.
    #[xdr(3)]
    Exclusive41(ExclusiveCreate),
}

/// `creatverfattr`.
#[derive(Clone, Debug, XdrCodec)]
pub struct ExclusiveCreate {
    pub verifier: [u8; 8],
    pub attributes: Attributes,
}

/// What OPEN opens.
#[derive(Clone, Debug, XdrCodec)]
pub enum Claim {
    /// A name in the current directory.
    #[xdr(0)]
    Null(Text),
    /// The current file, again after a restart of the server.
    #[xdr(1)]
    Previous(u32),
    #[xdr(2)]
    DelegateCurrent(DelegatedName),
    #[xdr(3)]
    DelegatePrevious(Text),
    /// The current file.
    #[xdr(4)]
    Handle,
    #[xdr(5)]
    DelegateCurrentHandle(StateId),
    #[xdr(6)]
    DelegatePreviousHandle,
}

/// `open_claim_delegate_cur4`.
#[derive(Clone, Debug, XdrCodec)]
pub struct DelegatedName {
    pub stateid: StateId,
    pub name: Text,
}

/// Results of OPEN.
#[derive(Clone, Debug, XdrCodec)]
pub struct Opened {
    pub stateid: StateId,
    pub change: ChangeInfo,
    pub flags: u32,
    pub attributes: Bitmap,
    pub delegation: Delegation,
}

/// Locks follow POSIX: they are split and joined.
pub const OPEN_LOCKTYPE_POSIX: u32 = 0x4;

/// The delegation of an OPEN: none, and why.
#[derive(Clone, Debug, XdrCodec)]
pub enum Delegation {
    #[xdr(0)]
    None,
    #[xdr(3)]
    NoneBecause(WhyNone),
}

/// `why_no_delegation4`, with what else it says.
#[derive(Clone, Debug, XdrCodec)]
pub enum WhyNone {
    #[xdr(0)]
    NotWanted,
    /// `false`: nobody will be told when there are some.
    #[xdr(2)]
    Resource(bool),
    #[xdr(7)]
    Cancelled,
}

/// Arguments of OPEN_DOWNGRADE.
#[derive(Clone, Debug, XdrCodec)]
pub struct OpenDowngrade {
    pub stateid: StateId,
    pub sequence: u32,
    pub access: u32,
    pub deny: u32,
}

/// Arguments of CLOSE.
#[derive(Clone, Debug, XdrCodec)]
pub struct Close {
    pub sequence: u32,
    pub stateid: StateId,
}

/// `nfs_lock_type4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, XdrCodec)]
#[repr(u32)]
pub enum LockKind {
    Read = 1,
    Write = 2,
    /// The client will ask again.
    ReadWait = 3,
    WriteWait = 4,
}

impl LockKind {
    /// Whether no other lock may overlap.
    pub fn exclusive(self) -> bool {
        matches!(self, LockKind::Write | LockKind::WriteWait)
    }
}

/// Arguments of LOCK.
#[derive(Clone, Debug, XdrCodec)]
pub struct Lock {
    pub kind: LockKind,
    pub reclaim: bool,
    pub offset: u64,
    pub length: u64,
    pub locker: Locker,
}

/// Who locks.
#[derive(Clone, Debug, XdrCodec)]
pub enum Locker {
    #[xdr(1)]
    New(NewLocker),
    #[xdr(0)]
    Known(KnownLocker),
}

/// `open_to_lock_owner4`: the first lock of an owner in a file.
#[derive(Clone, Debug, XdrCodec)]
pub struct NewLocker {
    pub open_sequence: u32,
    pub open: StateId,
    pub lock_sequence: u32,
    pub owner: StateOwner,
}

/// `exist_lock_owner4`.
#[derive(Clone, Debug, XdrCodec)]
pub struct KnownLocker {
    pub stateid: StateId,
    pub sequence: u32,
}

/// Arguments of LOCKT.
#[derive(Clone, Debug, XdrCodec)]
pub struct LockTest {
    pub kind: LockKind,
    pub offset: u64,
    pub length: u64,
    pub owner: StateOwner,
}

/// Arguments of LOCKU.
#[derive(Clone, Debug, XdrCodec)]
pub struct Unlock {
    pub kind: LockKind,
    pub sequence: u32,
    pub stateid: StateId,
    pub offset: u64,
    pub length: u64,
}

/// The lock in the way.
#[derive(Clone, Debug, XdrCodec)]
pub struct Denied {
    pub offset: u64,
    pub length: u64,
    pub kind: LockKind,
    pub owner: StateOwner,
}

/// Arguments of TEST_STATEID.
pub type StateIds = Array<StateId, 1024>;
