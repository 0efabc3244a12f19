//! Listening, and what all connections share.
//!
//! - [`connection`]: one connection
//! - [`register`]: which there are, and which have to go

mod connection;
mod register;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use connection::Connection;
pub use connection::Peer;
use register::Register;

use super::{
    Nfs,
    rpc::{Call, Outcome},
};

/// How often connections are looked over.
const LOOK: Duration = Duration::from_secs(1);

/// How long to wait when the machine takes no more connections.
const BREATH: Duration = Duration::from_millis(100);

/// What answers calls.
pub trait Programs: Send + Sync + 'static {
    /// Answers one call.
    fn call(
        self: Arc<Self>,
        peer: Arc<Peer>,
        call: Call,
    ) -> impl Future<Output = Outcome> + Send + 'static;
}

/// A listener and its connections.
pub struct Listener {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Listener {
    /// Listens and serves until [`Listener::stop`]. All connections together
    /// hold about `memory` bytes of messages.
    ///
    /// # Errors
    /// The address is taken, or not of this machine.
    pub async fn start(
        address: SocketAddr,
        programs: Arc<Nfs>,
        memory: u64,
    ) -> io::Result<Listener> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let register = Arc::new(Register::new(memory));
        let accepting = tokio::spawn(accept(listener, programs, register, stopped));
        Ok(Listener {
            address,
            stop,
            accepting: Mutex::new(Some(accepting)),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more calls, and waits for those under way, for a while.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let accepting = self.accepting.lock().take();
        if let Some(accepting) = accepting {
            // A task that panicked has stopped as well.
            let _ = accepting.await;
        }
    }
}

async fn accept<P: Programs>(
    listener: TcpListener,
    programs: Arc<P>,
    register: Arc<Register>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut look = tokio::time::interval(LOOK);
    let until = stopped.clone();
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            _ = look.tick() => {
                register.look_over();
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let stopped = until.clone();
                serve(stream, address, &programs, &register, stopped);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    drop(listener);
    register.all_gone().await;
}

fn serve<P: Programs>(
    stream: TcpStream,
    address: SocketAddr,
    programs: &Arc<P>,
    register: &Arc<Register>,
    stopped: watch::Receiver<bool>,
) {
    // Replies come in pieces, none of which is to wait for an acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let server = match stream.local_addr() {
        Ok(server) => server.ip(),
        // It is gone already.
        Err(_) => return,
    };
    let entry = register.enter();
    let peer = Peer::new(entry.id(), address, server);
    let connection = Connection::new(stream, peer, entry, programs.clone());
    tokio::spawn(connection.run(stopped));
}
