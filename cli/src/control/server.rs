//! The answering side, in the daemon.

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{Semaphore, mpsc},
    time::timeout,
};

use zeroize::Zeroizing;

use super::{LONGEST_LINE, Line, Request, remove_stale, short_path, understand};
use crate::failure::Result;

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request with a final line, or with a failure, which the
    /// client is told; what it sends to `progress` goes to the client first. A
    /// full channel means the client is slow: progress may then be dropped.
    fn answer(
        &self,
        request: Request,
        progress: mpsc::Sender<(u64, u64)>,
    ) -> impl Future<Output = Result<Line>> + Send;
}

/// Connections served at a time. Requests are short but for `gc` and `sync`,
/// and people type them.
const CONNECTIONS: usize = 16;

/// How long a client may take to send its request or take an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Listens in the store directory until the task is aborted. The caller holds
/// the lock of the store, so a socket that is there already is stale.
///
/// # Errors
/// The socket cannot be made, for example on a read-only filesystem.
pub fn serve<H: Handler>(store: &Path, handler: Arc<H>) -> io::Result<tokio::task::JoinHandle<()>> {
    let (dir, path) = short_path(store)?;
    remove_stale(&path)?;
    // The umask of the daemon (077) gives the socket its mode from birth on.
    let listener = UnixListener::bind(&path)?;
    drop(dir);
    Ok(tokio::spawn(accept(listener, handler)))
}

async fn accept<H: Handler>(listener: UnixListener, handler: Arc<H>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // Never closed, so it always gives a permit.
        let Ok(permit) = free.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let handler = handler.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &*handler).await {
                        tracing::debug!(%error, "a control connection broke");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a control connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse<H: Handler>(stream: UnixStream, handler: &H) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut text = Vec::new();
    let mut reader = BufReader::new(reader.take(LONGEST_LINE));
    timeout(PATIENCE, reader.read_until(b'\n', &mut text)).await??;
    let request = match understand(&text) {
        Ok(request) => request,
        Err(error) => {
            let message = format!("the daemon does not understand the request: {error}");
            return send(
                &mut writer,
                &Line::Failed {
                    message,
                    damage: false,
                },
            )
            .await;
        }
    };
    let (progress, mut steps) = mpsc::channel(4);
    let answering = handler.answer(request, progress);
    tokio::pin!(answering);
    let mut reporting = true;
    let answer = loop {
        tokio::select! {
            answer = &mut answering => break answer,
            step = steps.recv(), if reporting => match step {
                // A client that went away does not stop the work.
                Some((done, total)) => {
                    reporting = send(&mut writer, &Line::Progress(done, total)).await.is_ok();
                }
                None => reporting = false,
            },
        }
    };
    let line = answer.unwrap_or_else(|failure| (&failure).into());
    send(&mut writer, &line).await
}

async fn send(writer: &mut OwnedWriteHalf, line: &Line) -> io::Result<()> {
    // It may hold the secret of a new key.
    let mut text = Zeroizing::new(serde_json::to_vec(line)?);
    text.push(b'\n');
    timeout(PATIENCE, writer.write_all(&text)).await?
}
