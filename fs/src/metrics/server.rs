//! The listener that Prometheus asks.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::Metrics;

/// What the text is, in the words of OpenMetrics.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Connections at a time: those who collect figures are few.
const CONNECTIONS: usize = 16;

/// How long a connection may last.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long and how often an address is tried that another process has.
const TRIES: u32 = 100;
const BETWEEN_TRIES: Duration = Duration::from_millis(300);

/// Why figures cannot be asked for.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for metrics: {source}")]
pub struct MetricsError {
    /// The address.
    address: SocketAddr,
    /// Why not.
    source: io::Error,
}

/// A listener; ends when dropped.
pub struct Server {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Listens at `address`, where port 0 takes one that is free. Whoever
    /// reaches it can ask: it tells sizes, counts and times, no names and no
    /// contents.
    ///
    /// # Errors
    /// The address is taken, or not of this machine.
    pub async fn start(address: SocketAddr, metrics: Metrics) -> Result<Server, MetricsError> {
        let failed = |source| MetricsError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Server {
            address,
            accepting: tokio::spawn(accept(listener, metrics)),
        })
    }

    /// The same for a process that follows another one, which may hold the
    /// address for a while longer: then it is tried again in the background,
    /// and given up with a line in the log.
    pub async fn follow(address: SocketAddr, metrics: Metrics) -> Server {
        let listener = TcpListener::bind(address).await;
        let found = listener.as_ref().ok().and_then(|l| l.local_addr().ok());
        let accepting = tokio::spawn(async move {
            let mut next = listener;
            for _ in 0..TRIES {
                match next {
                    Ok(listener) => return accept(listener, metrics).await,
                    Err(_) => sleep(BETWEEN_TRIES).await,
                }
                next = TcpListener::bind(address).await;
            }
            tracing::warn!(%address, "another process has this address; no metrics are served");
        });
        Server {
            address: found.unwrap_or(address),
            accepting,
        }
    }

    /// What clients ask.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, metrics: Metrics) {
    let metrics = Arc::new(metrics);
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = free.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = metrics.clone();
                tokio::spawn(async move {
                    converse(stream, metrics).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, metrics: Arc<Metrics>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(move |request| {
        let metrics = metrics.clone();
        async move { Ok::<_, Infallible>(answer(&request, &metrics).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    if !matches!(timeout(PATIENCE, connection).await, Ok(Ok(()))) {
        tracing::debug!("a connection for metrics broke or took too long");
    }
}

async fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<String> {
    let plain = |status, text: &str| {
        let mut response = Response::new(text.to_owned());
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "ask for /metrics\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match metrics.text().await {
        Ok(text) => {
            let mut response = Response::new(text);
            response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
            response
        }
        Err(error) => plain(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}\n")),
    }
}
