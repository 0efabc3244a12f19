//! The volume as a whole: state, watching, collection, closing.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    Error, Result,
    chunk::ChunkUsage,
    crypto::Secret,
    engine::{FrontId, Inner, Pace, Volume, Watch},
    ids::{Revision, VolumeId},
    meta::{MetaService, Usage},
};

/// The state of a volume.
#[derive(Clone, Debug)]
pub struct VolumeStatus {
    /// Its name.
    pub name: String,
    /// Totals of the metadata.
    pub usage: Usage,
    /// Totals of the chunk store.
    pub chunks: ChunkUsage,
    /// Newest revision.
    pub revision: Revision,
    /// Newest revision that survives power loss.
    pub durable_revision: Revision,
    /// Bytes written and not sealed yet.
    pub dirty_bytes: u64,
    /// Bytes of decrypted contents in the cache, as of a moment ago.
    pub cache_bytes: u64,
    /// Batches that the log made durable since it was opened, with one sync
    /// each.
    pub log_batches: u64,
    /// Why it takes no writes, if so.
    pub read_only: Option<String>,
}

impl Volume {
    /// Its identity.
    #[must_use]
    pub fn id(&self) -> VolumeId {
        self.inner.keys.volume()
    }

    /// A key for what a front end hands out and wants to recognize, also after
    /// a restart; distinct for each `purpose`.
    #[must_use]
    pub fn front_key(&self, purpose: &[u8]) -> Secret {
        self.inner.keys.front_key(purpose)
    }

    /// Changes made through other front ends than `front`, from now on.
    #[must_use]
    pub fn watch(&self, front: FrontId, pace: Pace) -> Watch {
        self.inner.changes.watch(front, pace)
    }

    /// Waits until all others that act at once have acted on what `front` changed so far, so
    /// that its client finds them up to date. Gives up on one that hangs.
    pub async fn told(&self, front: FrontId) {
        self.inner.changes.told(front).await;
    }

    /// Drops decrypted contents from memory.
    pub fn wipe_caches(&self) {
        self.inner.frames.wipe();
    }

    /// The state of the volume.
    ///
    /// # Errors
    /// None now.
    pub async fn status(&self) -> Result<VolumeStatus> {
        let inner = &self.inner;
        Ok(VolumeStatus {
            name: inner.name.clone(),
            usage: inner.meta.usage(),
            chunks: inner.chunks.usage(),
            revision: inner.meta.revision(),
            durable_revision: inner.meta.durable(),
            dirty_bytes: inner.budget.used(),
            cache_bytes: inner.frames.bytes(),
            log_batches: inner.meta.log_batches(),
            read_only: inner.broken().map(|error| error.to_string()),
        })
    }

    /// Brings the tables and the chunk index durably to the newest revision and
    /// cuts the log behind them, so that the next open is quick. Bytes that are
    /// not sealed stay so.
    ///
    /// # Errors
    /// What writing or syncing met; the log holds everything even so.
    pub async fn checkpoint(&self) -> Result<()> {
        let inner = self.inner.clone();
        self.inner
            .readers
            .run(move || {
                inner.meta.checkpoint()?;
                inner.chunks.checkpoint()
            })
            .await
    }

    /// Seals and syncs everything, and closes the volume; later calls answer
    /// `Closed`.
    ///
    /// # Errors
    /// What kept something from being stored. The volume is closed even so.
    pub async fn close(&self) -> Result<()> {
        let inner = self.inner.clone();
        let writable = inner.broken().is_none();
        // First, so that nothing is acknowledged that is not sealed below.
        if inner.closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        inner.background.stop();
        let synced = if writable {
            inner.reap();
            self.sync().await
        } else {
            Ok(())
        };
        inner.frames.wipe();
        let closing = inner.clone();
        // On a thread of its own: it joins the workers.
        let closed = tokio::task::spawn_blocking(move || closing.shut()).await;
        synced.and(closed.unwrap_or(Err(Error::Closed)))
    }
}

impl Inner {
    fn shut(self: &Arc<Self>) -> Result<()> {
        self.sealers.stop();
        self.readers.stop();
        let closed = self.meta.close();
        closed.and(match self.chunks.checkpoint() {
            // Only the index could not be written; the next open scans for it.
            Err(Error::NoSpace) => Ok(()),
            other => other,
        })
    }
}
