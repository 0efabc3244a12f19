//! The Network Status Monitor (XNFS, chapter 11), as far as NLM needs it: who has
//! started again says so, and loses its locks; and when this server has
//! started, those that had locks are told to take them back.
//!
//! - [`telling`]: tells them
//! - [`datagrams`]: hears those that say it by UDP, as `sm-notify` does
//!
//! Programs of this machine cannot have others watched.

mod datagrams;
mod telling;

use super::{
    Nfs,
    nlm::xdr::Started,
    rpc::{Call, Failure, Outcome},
    server::Peer,
    xdr,
};

pub(super) use datagrams::Datagrams;
pub(super) use telling::tell;

/// Number of the program.
pub const PROGRAM: u32 = 100_024;
/// Its version.
pub const VERSION: u32 = 1;

const NULL: u32 = 0;
const NOTIFY: u32 = 6;

/// Answers a call.
pub(super) fn call(nfs: &Nfs, peer: &Peer, call: Call) -> Outcome {
    match call.procedure {
        NULL => Outcome::Done(Vec::new()),
        NOTIFY => match xdr::all::<Started>(call.arguments) {
            Ok(started) => {
                let Started { host, state } = started;
                nfs.host_started(peer.address.ip(), &host.0, Some(state));
                Outcome::Done(Vec::new())
            }
            Err(_) => Outcome::Failed(Failure::Garbage),
        },
        _ => Outcome::Failed(Failure::NoProcedure),
    }
}
