//! The types of NLM version 4 (RFC 1813, appendix II), under shorter names,
//! and with bounds: they come from the network.

pub use nfs3_types::xdr_codec::XdrCodec;

use crate::nfs::{locks::Range, xdr::Blob};

/// Longest name of a machine (`LM_MAXSTRLEN`).
const NAME_MAX: usize = 1024;

/// Longest opaque object (`MAXNETOBJ_SZ`).
const OBJECT_MAX: usize = 1024;

/// A machine's name for itself.
pub type Name = Blob<NAME_MAX>;
/// Bytes that mean something to one side only: `netobj`.
pub type Object = Blob<OBJECT_MAX>;

/// How a procedure ended: `nlm4_stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, XdrCodec)]
#[repr(u32)]
pub enum Status {
    Granted = 0,
    Denied = 1,
    /// There is no room for more.
    DeniedNoLocks = 2,
    /// The client will be called.
    Blocked = 3,
    /// Only what was held before may be had now.
    DeniedGracePeriod = 4,
    Deadlock = 5,
    ReadOnly = 6,
    StaleHandle = 7,
    /// The range goes beyond what files can have.
    TooBig = 8,
    Failed = 9,
}

/// What is to be locked, and by whom: `nlm4_lock`.
#[derive(Clone, Debug, PartialEq, Eq, XdrCodec)]
pub struct Lock {
    pub host: Name,
    pub file: Object,
    pub owner: Object,
    pub process: u32,
    pub offset: u64,
    /// 0 means up to the end.
    pub length: u64,
}

impl Lock {
    /// Its bytes; `None` when they go beyond the end of any file.
    #[must_use]
    pub fn range(&self) -> Option<Range> {
        match self.length {
            0 => Range::new(self.offset, u64::MAX),
            length => Range::new(self.offset, length),
        }
    }
}

/// Arguments of LOCK and NM_LOCK.
#[derive(Clone, Debug, XdrCodec)]
pub struct LockArgs {
    pub cookie: Object,
    /// The client wants to be called when it can have the lock.
    pub block: bool,
    pub exclusive: bool,
    pub lock: Lock,
    /// The client had it before the server started.
    pub reclaim: bool,
    /// How often the client has started.
    pub state: u32,
}

/// Arguments of CANCEL.
#[derive(Clone, Debug, XdrCodec)]
pub struct CancelArgs {
    pub cookie: Object,
    pub block: bool,
    pub exclusive: bool,
    pub lock: Lock,
}

/// Arguments of TEST and GRANTED.
#[derive(Clone, Debug, XdrCodec)]
pub struct TestArgs {
    pub cookie: Object,
    pub exclusive: bool,
    pub lock: Lock,
}

/// Arguments of UNLOCK.
#[derive(Clone, Debug, XdrCodec)]
pub struct UnlockArgs {
    pub cookie: Object,
    pub lock: Lock,
}

/// Results of all but TEST, SHARE and UNSHARE.
#[derive(Clone, Debug, PartialEq, Eq, XdrCodec)]
pub struct Reply {
    pub cookie: Object,
    pub status: Status,
}

/// Results of TEST.
#[derive(Clone, Debug, PartialEq, Eq, XdrCodec)]
pub struct TestReply {
    pub cookie: Object,
    pub status: Tested,
}

/// `nlm4_testrply`: a status, and for one of them more.
#[derive(Clone, Debug, PartialEq, Eq, XdrCodec)]
pub enum Tested {
    #[xdr(0)]
    Granted,
    #[xdr(1)]
    Denied(Holder),
    #[xdr(2)]
    DeniedNoLocks,
    #[xdr(4)]
    DeniedGracePeriod,
    #[xdr(7)]
    StaleHandle,
    #[xdr(8)]
    TooBig,
    #[xdr(9)]
    Failed,
}

/// Who is in the way, and where.
#[derive(Clone, Debug, PartialEq, Eq, XdrCodec)]
pub struct Holder {
    pub exclusive: bool,
    pub process: u32,
    pub owner: Object,
    pub offset: u64,
    pub length: u64,
}

/// Arguments of SHARE and UNSHARE.
#[derive(Clone, Debug, XdrCodec)]
pub struct ShareArgs {
    pub cookie: Object,
    pub host: Name,
    pub file: Object,
    pub owner: Object,
    /// What others may not do: bits 1 to read, 2 to write.
    pub deny: Mode,
    /// What the owner wants to do.
    pub access: Mode,
    pub reclaim: bool,
}

/// `fsh4_mode` and `fsh4_access`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, XdrCodec)]
#[repr(u32)]
pub enum Mode {
    None = 0,
    Read = 1,
    Write = 2,
    Both = 3,
}

/// Results of SHARE and UNSHARE.
#[derive(Clone, Debug, PartialEq, Eq, XdrCodec)]
pub struct ShareReply {
    pub cookie: Object,
    pub status: Status,
    /// Means nothing any more.
    pub sequence: u32,
}

/// Arguments of FREE_ALL, and of NSM's NOTIFY: a machine has started.
#[derive(Clone, Debug, PartialEq, Eq, XdrCodec)]
pub struct Started {
    pub host: Name,
    /// How often.
    pub state: u32,
}
