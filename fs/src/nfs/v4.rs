//! NFS version 4.1 (RFC 8881).
//!
//! It promises its caller an answer to every COMPOUND, done exactly once
//! for as long as the client's session lives. What the parts do:
//!
//! - [`xdr`]: the types of RFC 5662
//! - `clients`, `sessions`, `opens`, `grace`: the state of clients, as
//!   machines that neither wait nor know the time; `state` holds them together
//! - `records`: which clients may have state after a restart
//! - `attributes`: what attributes are called, told and set
//! - `compound`, `ops`: the operations
//! - `counted`: what is counted of them
//! - `pseudo`: what is above the exports of a client
//! - `tend`: the ends of leases and of the grace period
//!
//! Delegations and layouts are not given out.

mod attributes;
mod clients;
mod compound;
mod counted;
mod failure;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod grace;
mod opens;
mod ops;
mod pseudo;
mod records;
mod sessions;
mod state;
mod tend;
// The names are those of RFC 5662, and mean what they mean there.
#[allow(missing_docs)]
pub mod xdr;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kiseki_core::{
    Result,
    engine::{FrontId, Volume},
};
use parking_lot::Mutex;

use crate::stats::Stats;

use super::{
    Nfs, TRANSFER_MAX, durable,
    locks::Owner,
    rpc::{Call, Failure, Outcome},
    server::Peer,
};
use attributes::Server;
use counted::Op;
use grace::Grace;
use opens::Closed;
use records::Records;
use state::State;
use xdr::FsId;

pub(super) use tend::tend;

/// Number of the program.
pub const PROGRAM: u32 = 100_003;
/// Its version; the minor one is in each COMPOUND.
pub const VERSION: u32 = 4;

/// How long a client is believed to live without a word, and how long clients
/// have to come back after a restart.
pub const LEASE: Duration = Duration::from_secs(60);

/// Bytes of a request or reply around data.
const OVERHEAD: u32 = 4096;

const NULL: u32 = 0;
const COMPOUND: u32 = 1;

/// What version 4 keeps between calls.
pub struct Service {
    state: Mutex<State>,
    records: Records,
    /// Number of this start of the server.
    pub(super) boot: u32,
    /// Tells this server from others, also after a restart.
    identity: [u8; 16],
    server: Server,
    pub(super) stats: Arc<Stats<Op>>,
    /// Longest message.
    largest: u32,
}

impl Service {
    /// Reads who had state before. `fsid` is what tells the volume from others;
    /// `silent` says whether clients of version 3 had locks.
    ///
    /// # Errors
    /// The volume is damaged, or takes no writes and has no place yet.
    pub async fn open(
        volume: &Volume,
        front: FrontId,
        fsid: u64,
        lease: Duration,
        silent: bool,
    ) -> Result<Service> {
        let records = Records::open(volume, front).await?;
        let known = records.load().await?;
        let boot = durable::next_boot(volume, front).await?;
        if !known.is_empty() {
            tracing::info!(
                clients = known.len(),
                "NFSv4 clients may take back what they had"
            );
        }
        let grace = Grace::new(known, silent, Instant::now(), lease);
        Ok(Service {
            state: Mutex::new(State::new(grace, boot, lease)),
            records,
            boot,
            identity: volume.id().0,
            server: Server {
                lease: u32::try_from(lease.as_secs()).unwrap_or(u32::MAX).max(1),
                fsid: FsId {
                    major: fsid,
                    minor: 0,
                },
            },
            stats: Stats::new(),
            largest: TRANSFER_MAX + OVERHEAD,
        })
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Whether clients of any version take back what they had, and nobody
    /// gets anything new.
    pub(super) fn in_grace(&self) -> bool {
        self.state.lock().grace.lasts(self.now())
    }
}

/// Answers a call.
pub(super) async fn call(nfs: &Nfs, peer: &Peer, call: Call) -> Outcome {
    match call.procedure {
        NULL => Outcome::Done(Vec::new()),
        COMPOUND => {
            let credentials = match &call.credentials {
                Ok(credentials) => credentials,
                Err(error) => return Outcome::Denied(*error),
            };
            let began = Instant::now();
            let answer = compound::compound(nfs, peer, credentials, &call.arguments).await;
            let stats = &nfs.v4.stats;
            stats.record(Op::COMPOUND, began.elapsed(), false, 0);
            match answer {
                Ok(reply) => Outcome::Done(vec![reply.into()]),
                Err(compound::Garbage) => Outcome::Failed(Failure::Garbage),
            }
        }
        _ => Outcome::Failed(Failure::NoProcedure),
    }
}

impl Nfs {
    /// Ends what clients had open and locked.
    async fn let_go(&self, closed: Vec<Closed>) {
        for closed in closed {
            {
                let mut locks = self.locks.lock();
                for name in closed.lockers {
                    let client = closed.client;
                    locks.release(closed.file, &Owner::V4 { client, name });
                }
            }
            if let Err(error) = self.volume.release(closed.file).await {
                tracing::error!(%error, "a file cannot be closed");
            }
        }
    }
}
