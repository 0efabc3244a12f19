//! Connections: accepting, TLS, limits, and the end.

mod tls;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use kiseki_core::engine::Volume;
use s3s::{
    config::{S3Config, StaticConfigProvider},
    service::{S3Service, S3ServiceBuilder},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Gateway,
    auth::{Keys, Signed},
    credentials,
};
use crate::stats::Counted;

/// Connections at a time; one that is idle costs some 20 KiB.
const CONNECTIONS: usize = 16_384;

/// How long a client may take for a handshake or the head of a request, and
/// how long a connection may be idle.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long requests under way have to end when the server does.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// The largest body that is taken into memory: lists in XML, and forms.
const IN_MEMORY: usize = 8 << 20;

/// Bytes of a request that are read ahead.
const READ_AHEAD: usize = 128 << 10;

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen; port 0 takes one that is free.
    pub address: SocketAddr,
    /// Certificate chain and private key, as PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Memory of the volume, a part of which listings may use.
    pub memory: u64,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not of this machine.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Other machines can reach the address, and nobody could sign.
    #[error(
        "cannot serve S3 on {0}: other machines can reach it and the volume has no key; make one with `kiseki s3 key create` first"
    )]
    NoKey(SocketAddr),
    /// Certificate or key cannot be used.
    #[error(
        "cannot use the certificate {path}: {what}; give --tls-cert and --tls-key as PEM files"
    )]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The volume cannot hold what the front end keeps.
    #[error(transparent)]
    Volume(#[from] kiseki_core::Error),
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    secure: bool,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    stats: Arc<dyn Counted>,
}

impl Server {
    /// Listens and serves until [`Server::stop`].
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn start(volume: &Volume, options: ServerOptions) -> Result<Server, ServerError> {
        let wanted = options.address;
        let tls = match &options.tls {
            Some((certificate, key)) => Some(tls::acceptor(certificate, key)?),
            None => None,
        };
        let gateway = Gateway::open(volume.clone(), options.memory).await?;
        let no_keys = credentials::list(volume).await?.is_empty();
        if no_keys && !wanted.ip().is_loopback() {
            return Err(ServerError::NoKey(wanted));
        }
        if no_keys {
            tracing::warn!("the volume has no S3 key yet: `kiseki s3 key create` makes one");
        }
        if tls.is_none() && !wanted.ip().is_loopback() {
            tracing::warn!("S3 is served without TLS: the network sees what is read and written");
        }
        let failed = |source| ServerError::Listen {
            address: wanted,
            source,
        };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        let stats = Arc::clone(&gateway.stats);
        let secure = tls.is_some();
        let connections = Connections {
            service: service(gateway),
            tls,
            free: Arc::new(Semaphore::new(CONNECTIONS)),
        };
        let accepting = tokio::spawn(connections.accept(listener, stopped));
        Ok(Server {
            address,
            secure,
            stop,
            accepting,
            stats,
        })
    }

    /// What operations cost: to the head of the answer, whose body follows.
    #[must_use]
    pub fn statistics(&self) -> Arc<dyn Counted> {
        Arc::clone(&self.stats)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same for clients.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Takes no more requests, and waits for those under way, for a while.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // A task that panicked has stopped as well.
        let _ = self.accepting.await;
    }
}

fn service(gateway: Gateway) -> S3Service {
    let mut config = S3Config::default();
    config.xml_max_body_size = IN_MEMORY;
    config.post_object_max_file_size = IN_MEMORY as u64;
    let volume = gateway.volume.clone();
    let mut builder = S3ServiceBuilder::new(gateway);
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_auth(Keys { volume });
    builder.set_access(Signed);
    builder.build()
}

struct Connections {
    service: S3Service,
    tls: Option<TlsAcceptor>,
    free: Arc<Semaphore>,
}

impl Connections {
    async fn accept(self, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
        let under_way = GracefulShutdown::new();
        loop {
            let next = async {
                let permit = self.free.clone().acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => break,
                next = next => next,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (service, tls) = (self.service.clone(), self.tls.clone());
                    let watcher = under_way.watcher();
                    tokio::spawn(async move {
                        converse(stream, service, tls, watcher).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely; some are closed soon.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        if timeout(LAST_REQUESTS, under_way.shutdown()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
    }
}

async fn converse(
    stream: TcpStream,
    service: S3Service,
    tls: Option<TlsAcceptor>,
    watcher: Watcher,
) {
    // Answers come in pieces, none of which is to wait for an acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    match tls {
        None => answer(stream, service, watcher).await,
        Some(tls) => match timeout(PATIENCE, tls.accept(stream)).await {
            Ok(Ok(stream)) => answer(stream, service, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: S3Service,
    watcher: Watcher,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(READ_AHEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection broke");
    }
}
