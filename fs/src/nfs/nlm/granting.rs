//! Calls clients that can have what they wait for.
//!
//! The lock is taken first: when the client hears of it, it has it. If the
//! client says that it does not want it, or could not be reached, the lock is
//! given back. If it may have heard, and has not answered, it keeps the lock:
//! its next word about it, or that it has started again, tells the rest.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet, time::timeout};

use super::{
    PROGRAM, VERSION,
    waiting::Wanted,
    xdr::{Reply, Status, TestArgs},
};
use crate::nfs::{
    Nfs,
    locks::Host,
    rpc::client::{self, CallError, Procedure},
    rpcbind,
    xdr::Blob,
};

const GRANTED: Procedure = Procedure {
    program: PROGRAM,
    version: VERSION,
    number: 5,
};

/// Clients that are called at a time.
const CALLS: usize = 32;

/// How long a client may take to be reached, and how long to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait between two looks at all who wait.
const BREATH: Duration = Duration::from_millis(5);

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// The client has the lock.
    Taken,
    /// It does not want it, or does not know of it.
    No,
    /// Nobody knows.
    Silence,
}

/// Calls clients for as long as the server runs.
pub(in crate::nfs) async fn grant(nfs: Arc<Nfs>) {
    let freed = nfs.locks.lock().freed();
    let calls = Arc::new(Semaphore::new(CALLS));
    let mut running = JoinSet::new();
    loop {
        freed.notified().await;
        while running.try_join_next().is_some() {}
        loop {
            let Ok(permit) = calls.clone().acquire_owned().await else {
                return;
            };
            let Some((id, wanted)) = nfs.grant_one() else {
                break;
            };
            let nfs = nfs.clone();
            running.spawn(async move {
                let heard = call(id, &wanted).await;
                nfs.has_heard(id, heard);
                drop(permit);
            });
        }
        tokio::time::sleep(BREATH).await;
    }
}

impl Nfs {
    fn grant_one(&self) -> Option<(u64, Wanted)> {
        let mut waiting = self.nlm.waiting.lock();
        waiting.grant(&mut self.locks.lock())
    }

    fn has_heard(&self, id: u64, heard: Heard) {
        let mut waiting = self.nlm.waiting.lock();
        match heard {
            Heard::Taken => waiting.taken(id),
            Heard::No => waiting.give_back(id, &mut self.locks.lock()),
            Heard::Silence => {}
        }
    }
}

async fn call(id: u64, wanted: &Wanted) -> Heard {
    let Some(host) = wanted.host() else {
        return Heard::No;
    };
    let mut stream = match timeout(PATIENCE, reach(host, wanted)).await {
        Ok(Ok(Some(stream))) => stream,
        _ => {
            tracing::debug!(client = %host.address, "a client that waits cannot be called");
            return Heard::No;
        }
    };
    let question = TestArgs {
        cookie: Blob(id.to_be_bytes().to_vec()),
        exclusive: wanted.exclusive,
        lock: wanted.asked.clone(),
    };
    match timeout(
        PATIENCE,
        client::call::<Reply>(&mut stream, GRANTED, &question),
    )
    .await
    {
        Ok(Ok(reply)) if reply.status == Status::Granted => Heard::Taken,
        // A client without this procedure is refused the call, not the lock.
        Ok(Ok(_) | Err(CallError::Refused)) => Heard::No,
        Ok(Err(CallError::Io(_))) | Err(_) => Heard::Silence,
    }
}

/// A connection to the client's lock manager.
async fn reach(host: &Host, wanted: &Wanted) -> Result<Option<TcpStream>, CallError> {
    let (here, there) = (wanted.server, host.address);
    let port = rpcbind::port_of(here, there, PROGRAM, VERSION).await?;
    let Some(port) = port else {
        return Ok(None);
    };
    let stream = client::connect(here, SocketAddr::new(there, port)).await?;
    Ok(Some(stream))
}
