//! What goes on without being asked: sealing what is old, reaping orphans,
//! watching the room on the disk.

use std::{
    sync::{Arc, Weak},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::{
    Error, Result,
    engine::{Inner, buffer, node::Node, seal::Take},
    ids::Ino,
    meta::{Command, MetaService},
};

/// How often the thread looks around.
const TICK: Duration = Duration::from_millis(100);

/// Orphans deleted by one record of the log.
const REAP_MAX: usize = 256;

/// Closed files are sealed after this, so that temporary files mostly never are.
const CLOSED_AGE: Duration = Duration::from_millis(500);

/// The background thread of a volume.
#[derive(Default)]
pub(super) struct Background {
    thread: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl Background {
    /// Starts the thread; it ends with the volume.
    pub fn start(&self, volume: &Arc<Inner>) -> Result<()> {
        let (stop, stopped) = bounded(1);
        let volume = Arc::downgrade(volume);
        let thread = std::thread::Builder::new()
            .name("kiseki-tend".into())
            .spawn(move || {
                while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    let Some(volume) = Weak::upgrade(&volume) else {
                        return;
                    };
                    volume.tend();
                }
            })
            .map_err(|error| Error::io("start the background thread", error))?;
        *self.thread.lock() = Some((stop, thread));
        Ok(())
    }

    /// Ends the thread, after the round it is in.
    pub fn stop(&self) {
        if let Some((stop, thread)) = self.thread.lock().take() {
            drop(stop);
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Inner {
    fn tend(self: &Arc<Self>) {
        self.look_at_disk();
        self.reap();
        self.seal_old();
        self.nodes.sweep();
        self.collect_when_worth_it();
        buffer::trim();
        if let Some(journal) = &self.journal {
            journal.trim();
        }
    }

    pub(super) fn look_at_disk(&self) {
        if let Ok(space) = self.disk.space() {
            self.budget.set_disk(space.total, space.available);
        }
    }

    /// Deletes the orphans that nobody uses. Those that another thread is
    /// deleting are gone as well when it returns.
    pub(super) fn reap(&self) {
        let _alone = self.orphans.reaping.lock();
        let inos: Vec<Ino> = std::mem::take(&mut *self.orphans.to_reap.lock());
        if self.options.read_only || self.meta.failed().is_some() {
            return;
        }
        for part in inos.chunks(REAP_MAX) {
            let command = Command::Reap {
                inos: part.to_vec(),
            };
            if let Err(error) = self.meta.apply(command).wait() {
                // They stay orphans, which the next mount reaps.
                tracing::warn!(%error, "cannot delete {} unlinked files now", part.len());
            }
        }
    }

    fn seal_old(self: &Arc<Self>) {
        let tight = self.budget.is_tight() || self.journal_is_full();
        let limit = self.options.sync_delay / 2;
        for node in self.nodes.all() {
            if !self.is_due(&node, tight, limit) {
                continue;
            }
            let take = if tight { Take::Finished } else { Take::All };
            if let Err(error) = self.seal(&node, take) {
                tracing::warn!(ino = node.ino.0, %error, "sealing failed; the bytes stay in memory");
                // Damage is of one file; the others must not wait for it.
                if !matches!(error, Error::Damaged { .. } | Error::MissingChunk(_)) {
                    return;
                }
            }
        }
    }

    fn is_due(&self, node: &Node, tight: bool, limit: Duration) -> bool {
        let state = node.state.lock();
        let Some(since) = state.since else {
            return false;
        };
        if state.dead || state.sealing.is_some() || !state.has_changes() {
            return false;
        }
        let age = Instant::now().saturating_duration_since(since);
        tight || age >= limit || (state.opens == 0 && age >= CLOSED_AGE.min(limit))
    }
}
