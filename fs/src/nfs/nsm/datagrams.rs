//! NSM by UDP: what clients say when they have started again comes so.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::net::UdpSocket;

use crate::nfs::{
    Nfs,
    rpc::{Call, Failure, Outcome},
    server::Peer,
};

/// Longest message: a name with its length, and the head of a call.
const LONGEST: usize = 2048;

/// How long to wait when the system gives none.
const BREATH: Duration = Duration::from_millis(100);

/// A socket that is not answered yet.
pub struct Datagrams(UdpSocket);

impl Datagrams {
    /// Takes a port that is free.
    ///
    /// # Errors
    /// There is none.
    pub async fn bind(address: IpAddr) -> io::Result<Datagrams> {
        let socket = UdpSocket::bind(SocketAddr::new(address, 0)).await?;
        Ok(Datagrams(socket))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers for as long as the server runs.
    pub async fn serve(self, nfs: Arc<Nfs>) {
        let mut message = vec![0; LONGEST];
        loop {
            let (length, from) = match self.0.recv_from(&mut message).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "no datagram");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            let Ok(call) = Call::decode(Bytes::copy_from_slice(&message[..length])) else {
                continue;
            };
            let xid = call.xid;
            if let Some(reply) = answer(&nfs, from, call).reply(xid)
                && let Err(error) = self.0.send_to(&reply.concat(), from).await
            {
                tracing::debug!(%error, "an answer cannot be sent");
            }
        }
    }
}

fn answer(nfs: &Nfs, from: SocketAddr, call: Call) -> Outcome {
    // It has no connection; nothing that is done here asks for one.
    let peer = Peer::new(0, from, from.ip());
    match (call.program, call.version) {
        (super::PROGRAM, super::VERSION) => super::call(nfs, &peer, call),
        (super::PROGRAM, _) => Outcome::Failed(Failure::NoVersion(1..=1)),
        _ => Outcome::Failed(Failure::NoProgram),
    }
}
