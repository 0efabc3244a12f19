//! Giving back the space of chunks that nothing refers to: when asked, and by
//! itself when enough has gathered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    Error, Result,
    chunk::Collected,
    engine::{Inner, Volume},
    ids::ChunkId,
    meta::MetaService,
};

/// Fewer dead chunks than this, about 64 MiB, are not worth a pass.
const DEAD_MIN: u64 = 1024;

/// A pass reads the whole index; this is the least time from one to the next.
const PAUSE: Duration = Duration::from_secs(30);

/// The same after a pass that found nothing to give back.
const LONG_PAUSE: Duration = Duration::from_secs(600);

/// When a volume collects by itself.
#[derive(Default)]
pub(super) struct Garbage {
    running: AtomicBool,
    not_before: Mutex<Option<Instant>>,
}

impl Volume {
    /// Gives the space of chunks back that nothing refers to.
    ///
    /// # Errors
    /// What reading, writing or syncing met; nothing that is referred to is
    /// lost then.
    pub async fn collect(
        &self,
        mut progress: Box<dyn FnMut(u64, u64) + Send>,
    ) -> Result<Collected> {
        match self.sync().await {
            // Bytes that found no room yet wait for what is freed here.
            Err(Error::NoSpace) => tracing::info!("collecting on a full disk"),
            other => other?,
        }
        let inner = self.inner.clone();
        let collect = move || {
            inner.reap();
            inner.collect(&mut *progress)
        };
        self.inner.readers.run(collect).await
    }
}

impl Inner {
    fn collect(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Collected> {
        let live = |id: &ChunkId| {
            // A pass of minutes must not keep a volume from closing.
            if self.closed.load(Ordering::Relaxed) {
                return Err(Error::Closed);
            }
            Ok(self.meta.references(*id).wait()? > 0)
        };
        let settle = || self.meta.sync(self.meta.revision()).wait();
        let collected = self.chunks.collect(&live, &settle, progress);
        self.look_at_disk();
        collected
    }

    /// Starts a pass on a worker when dead chunks are many.
    pub(super) fn collect_when_worth_it(self: &Arc<Self>) {
        let dead = self.dead_chunks();
        let too_early = self
            .garbage
            .not_before
            .lock()
            .is_some_and(|at| Instant::now() < at);
        if too_early || !is_worth_it(dead, self.meta.usage().chunks) || self.broken().is_some() {
            return;
        }
        if self.garbage.running.swap(true, Ordering::SeqCst) {
            return;
        }
        let inner = self.clone();
        let offered = self.readers.offer(move || inner.collect_by_itself());
        if !offered {
            self.garbage.running.store(false, Ordering::SeqCst);
        }
    }

    /// Chunks without a reference, counting some that are just being written.
    fn dead_chunks(&self) -> u64 {
        let stored = self.chunks.usage().chunks;
        stored.saturating_sub(self.meta.usage().chunks)
    }

    fn collect_by_itself(&self) {
        let pause = match self.collect(&mut |_, _| {}) {
            Ok(collected) if collected.freed_bytes > 0 => {
                tracing::info!(
                    chunks = collected.chunks,
                    freed_bytes = collected.freed_bytes,
                    "collected what nothing refers to"
                );
                PAUSE
            }
            Ok(_) => LONG_PAUSE,
            Err(Error::Closed) => LONG_PAUSE,
            Err(error) => {
                tracing::warn!(%error, "collection stopped; it will be tried again");
                LONG_PAUSE
            }
        };
        *self.garbage.not_before.lock() = Some(Instant::now() + pause);
        self.garbage.running.store(false, Ordering::SeqCst);
    }
}

/// Whether a third of what is stored is dead, so that passes cost little
/// against what was written since the last.
fn is_worth_it(dead: u64, live: u64) -> bool {
    dead >= DEAD_MIN && dead >= live / 2
}
