//! ONC RPC over TCP (RFC 5531): records, calls, replies.
//!
//! - [`record`]: messages out of a stream, and into one
//! - [`message`]: the head of a call, and what can be answered
//! - [`client`]: calls to others

pub mod client;
pub mod message;
pub mod record;

pub use message::{AuthError, Call, Credentials, Failure, Outcome, Rejected};
