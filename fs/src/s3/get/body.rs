//! The bytes of an object on their way out. A task reads ahead by one piece,
//! and waits for the client: memory does not grow with the object or with the
//! patience of who reads it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, Stream};
use kiseki_core::{engine::Volume, ids::Ino};
use s3s::{
    S3Result,
    dto::StreamingBlob,
    stream::{ByteStream, RemainingLength},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::{
    s3::{Gateway, Op, failure::failed},
    stats::Stats,
};

const PIECE: u64 = 256 << 10;

/// How long a client may take nothing.
const PATIENCE: Duration = Duration::from_secs(60);

type StdError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps a file that is being read, also when it loses its name.
struct Open {
    volume: Volume,
    ino: Ino,
}

impl Drop for Open {
    fn drop(&mut self) {
        // Answers at once: it counts down.
        let _ = self.volume.release(self.ino).now_or_never();
    }
}

struct Body {
    pieces: mpsc::Receiver<Result<Bytes, StdError>>,
    left: u64,
    stats: Arc<Stats<Op>>,
}

impl Stream for Body {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let next = match self.pieces.poll_recv(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(piece))) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                self.stats.moved(Op::GetObject, piece.len() as u64);
                Ok(piece)
            }
            Poll::Ready(Some(Err(error))) => Err(error),
            // A body that just ended would look whole to some clients.
            Poll::Ready(None) => Err("the object could not be read to its end".into()),
        };
        Poll::Ready(Some(next))
    }
}

impl ByteStream for Body {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(usize::try_from(self.left).unwrap_or(usize::MAX))
    }
}

impl Gateway {
    /// The bytes of a file from `start` to `end`.
    pub(super) async fn body(&self, ino: Ino, start: u64, end: u64) -> S3Result<StreamingBlob> {
        let (sender, pieces) = mpsc::channel(1);
        let body = Body {
            pieces,
            left: end - start,
            stats: Arc::clone(&self.stats),
        };
        if body.left > 0 {
            let permit = self.transfer().await?;
            self.volume.open(ino).await.map_err(failed)?;
            let open = Open {
                volume: self.volume.clone(),
                ino,
            };
            tokio::spawn(send(open, start, end, sender, permit));
        }
        Ok(StreamingBlob::new(body))
    }
}

async fn send(
    file: Open,
    mut at: u64,
    end: u64,
    to: mpsc::Sender<Result<Bytes, StdError>>,
    _permit: OwnedSemaphorePermit,
) {
    while at < end {
        // At most a piece, so it fits.
        let len = (end - at).min(PIECE) as u32;
        let piece = match file.volume.read(file.ino, at, len).await {
            Ok(piece) if piece.is_empty() => Err("the object was cut while it was read".into()),
            Ok(piece) => Ok(piece),
            Err(error) => {
                tracing::error!(ino = file.ino.0, %error, "an object cannot be read");
                Err(error.into())
            }
        };
        at += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        let failed = piece.is_err();
        let sent = tokio::time::timeout(PATIENCE, to.send(piece)).await;
        if failed || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}
