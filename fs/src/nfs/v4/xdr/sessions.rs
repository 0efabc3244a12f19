//! Clients and sessions: RFC 8881, 18.33 to 18.37, 18.46, 18.50 and 18.51.

use super::{Array, Blob, OwnerName, Time, XdrCodec};

/// Names a session.
pub type SessionId = [u8; 16];

/// What a client is by its own words, and which start of it this is.
#[derive(Clone, Debug, XdrCodec)]
pub struct ClientOwner {
    pub verifier: [u8; 8],
    pub name: OwnerName,
}

/// `state_protect4_a`: what protects a client's state from others.
#[derive(Clone, Debug, XdrCodec)]
pub enum Protection {
    #[xdr(0)]
    None,
    #[xdr(1)]
    MachineCredential(ProtectedOperations),
    #[xdr(2)]
    Secret(SecretParameters),
}

/// Which operations need the client's own credential.
#[derive(Clone, Debug, XdrCodec)]
pub struct ProtectedOperations {
    pub must_enforce: super::Bitmap,
    pub must_allow: super::Bitmap,
}

/// `ssv_sp_parms4`.
#[derive(Clone, Debug, XdrCodec)]
pub struct SecretParameters {
    pub operations: ProtectedOperations,
    pub hashes: Array<Blob<256>, 64>,
    pub ciphers: Array<Blob<256>, 64>,
    pub window: u32,
    pub handles: u32,
}

/// Which program speaks.
#[derive(Clone, Debug, XdrCodec)]
pub struct Implementation {
    pub domain: Blob<1024>,
    pub name: Blob<1024>,
    pub date: Time,
}

/// Arguments of EXCHANGE_ID.
#[derive(Clone, Debug, XdrCodec)]
pub struct ExchangeId {
    pub owner: ClientOwner,
    pub flags: u32,
    pub protection: Protection,
    pub implementation: Array<Implementation, 1>,
}

/// Results of EXCHANGE_ID, without protection of state.
#[derive(Clone, Debug, XdrCodec)]
pub struct Exchanged {
    pub client: u64,
    pub sequence: u32,
    pub flags: u32,
    pub protection: Protection,
    pub server: ServerOwner,
    pub scope: Blob<1024>,
    pub implementation: Array<Implementation, 1>,
}

/// Which server this is.
#[derive(Clone, Debug, XdrCodec)]
pub struct ServerOwner {
    pub minor: u64,
    pub major: Blob<1024>,
}

/// Flags of EXCHANGE_ID.
pub mod exchange {
    pub const SUPP_MOVED_REFER: u32 = 0x1;
    pub const SUPP_MOVED_MIGR: u32 = 0x2;
    pub const BIND_PRINC_STATEID: u32 = 0x100;
    pub const USE_NON_PNFS: u32 = 0x1_0000;
    pub const USE_PNFS_MDS: u32 = 0x2_0000;
    pub const USE_PNFS_DS: u32 = 0x4_0000;
    pub const UPD_CONFIRMED_REC_A: u32 = 0x4000_0000;
    pub const CONFIRMED_R: u32 = 0x8000_0000;
    /// What a client may set.
    pub const ARGUMENTS: u32 = SUPP_MOVED_REFER
        | SUPP_MOVED_MIGR
        | BIND_PRINC_STATEID
        | USE_NON_PNFS
        | USE_PNFS_MDS
        | USE_PNFS_DS
        | UPD_CONFIRMED_REC_A;
}

/// What one direction of a session can carry.
#[derive(Clone, Debug, PartialEq, Eq, XdrCodec)]
pub struct Channel {
    pub header_pad: u32,
    pub max_request: u32,
    pub max_response: u32,
    pub max_cached: u32,
    pub max_operations: u32,
    pub max_requests: u32,
    pub rdma_ird: Array<u32, 1>,
}

/// How callbacks would identify themselves.
#[derive(Clone, Debug, XdrCodec)]
pub enum CallbackSecurity {
    #[xdr(0)]
    None,
    #[xdr(1)]
    Unix(UnixCredential),
    #[xdr(6)]
    Gss(GssHandles),
}

/// `authsys_parms`.
#[derive(Clone, Debug, XdrCodec)]
pub struct UnixCredential {
    pub stamp: u32,
    pub machine: Blob<255>,
    pub uid: u32,
    pub gid: u32,
    pub groups: Array<u32, 16>,
}

/// `gss_cb_handles4`.
#[derive(Clone, Debug, XdrCodec)]
pub struct GssHandles {
    pub service: u32,
    pub from_server: Blob<1024>,
    pub from_client: Blob<1024>,
}

/// Arguments of CREATE_SESSION.
#[derive(Clone, Debug, XdrCodec)]
pub struct CreateSession {
    pub client: u64,
    pub sequence: u32,
    pub flags: u32,
    pub fore: Channel,
    pub back: Channel,
    pub callback_program: u32,
    pub callback_security: Array<CallbackSecurity, 16>,
}

/// The one flag of CREATE_SESSION that is granted: callbacks could come on the
/// connection that asked.
pub const CONN_BACK_CHAN: u32 = 0x2;
/// All flags of CREATE_SESSION.
pub const CREATE_SESSION_FLAGS: u32 = 0x7;

/// Results of CREATE_SESSION.
#[derive(Clone, Debug, PartialEq, Eq, XdrCodec)]
pub struct CreatedSession {
    pub session: SessionId,
    pub sequence: u32,
    pub flags: u32,
    pub fore: Channel,
    pub back: Channel,
}

/// Arguments of BACKCHANNEL_CTL.
#[derive(Clone, Debug, XdrCodec)]
pub struct BackchannelCtl {
    pub program: u32,
    pub security: Array<CallbackSecurity, 16>,
}

/// Arguments and results of BIND_CONN_TO_SESSION.
#[derive(Clone, Debug, XdrCodec)]
pub struct BindConn {
    pub session: SessionId,
    /// Fore 1, back 2, fore or both 3, back or both 7; in results both is 3.
    pub direction: u32,
    pub rdma: bool,
}

/// Arguments of SEQUENCE.
#[derive(Clone, Debug, XdrCodec)]
pub struct Sequence {
    pub session: SessionId,
    pub sequence: u32,
    pub slot: u32,
    pub highest_slot: u32,
    pub cache_this: bool,
}

/// Results of SEQUENCE.
#[derive(Clone, Debug, XdrCodec)]
pub struct Sequenced {
    pub session: SessionId,
    pub sequence: u32,
    pub slot: u32,
    pub highest_slot: u32,
    pub target_highest_slot: u32,
    pub status_flags: u32,
}
