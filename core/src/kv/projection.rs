//! The projection as its user sees it.

use std::{
    ops::ControlFlow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Condvar, Mutex, RwLock};

use super::{
    Backend, Batch, NEVER, Value, Visit,
    applier::{self, Control},
    overlay::Layers,
    scan::Merge,
};
use crate::{Error, Result, ids::Revision};

/// Called with a revision before the backend durably reaches it; makes the log
/// durable up to that revision. Runs on the thread of the projection, so it
/// must not wait for one that is inside [`Projection::apply`].
pub type BeforeCheckpoint = Arc<dyn Fn(Revision) -> Result<()> + Send + Sync>;

/// How a projection moves changes to its backend.
#[derive(Clone)]
pub struct ProjectionOptions {
    /// Changes in memory that are moved without waiting for more.
    pub move_entries: usize,
    /// Bytes of keys and values that are moved without waiting for more.
    pub move_bytes: usize,
    /// How long fewer changes wait for company.
    pub move_after: Duration,
    /// Changes in memory from which [`Projection::apply`] blocks.
    pub max_entries: usize,
    /// Bytes of keys and values in memory from which [`Projection::apply`] blocks.
    pub max_bytes: usize,
    /// How long moved changes wait for a durable commit.
    pub checkpoint_every: Duration,
    /// Keeps the durable content from overtaking the durable log.
    pub before_checkpoint: BeforeCheckpoint,
}

impl ProjectionOptions {
    /// The defaults, for a log that `before_checkpoint` makes durable.
    #[must_use]
    pub fn new(before_checkpoint: BeforeCheckpoint) -> ProjectionOptions {
        ProjectionOptions {
            move_entries: 4096,
            move_bytes: 4 << 20,
            move_after: Duration::from_millis(100),
            max_entries: 1 << 16,
            max_bytes: 64 << 20,
            checkpoint_every: Duration::from_secs(5),
            before_checkpoint,
        }
    }

    /// Nothing is moved or made durable before somebody asks, or memory is
    /// full.
    #[must_use]
    pub fn only_when_asked(self) -> ProjectionOptions {
        ProjectionOptions {
            move_after: NEVER,
            checkpoint_every: NEVER,
            ..self
        }
    }
}

/// For content without a log to stay behind of: nothing is called before a
/// checkpoint.
impl Default for ProjectionOptions {
    fn default() -> Self {
        ProjectionOptions::new(Arc::new(|_| Ok(())))
    }
}

/// What the projection and its thread share.
///
/// Locks are taken in the order `control`, `layers`; neither is held across
/// I/O or a call out.
pub(super) struct Shared {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) options: ProjectionOptions,
    pub(super) layers: RwLock<Layers>,
    /// The newest revision the backend may hold: raised before a write begins.
    pub(super) moving: AtomicU64,
    /// The newest revision the backend holds durably.
    pub(super) checkpointed: AtomicU64,
    pub(super) control: Mutex<Control>,
    /// Tells the thread that there is work.
    pub(super) wake: Condvar,
    /// Tells callers that the thread got somewhere.
    pub(super) progress: Condvar,
    /// Why the thread moves nothing any more.
    pub(super) failure: OnceLock<Arc<str>>,
    /// Whether the thread is gone.
    pub(super) ended: AtomicBool,
}

impl Shared {
    pub(super) fn full(&self) -> bool {
        let ProjectionOptions {
            max_entries,
            max_bytes,
            ..
        } = self.options;
        self.layers.read().over(max_entries, max_bytes)
    }
}

/// An ordered map from keys to values whose newest part is in memory and whose
/// bulk is in a [`Backend`]; see the module for what it promises.
///
/// Dropped without [`Projection::close`] it loses what no checkpoint has made
/// durable, as in a crash.
pub struct Projection {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Projection {
    /// Takes the content of a backend. Replay the log from
    /// [`Projection::applied`] next.
    ///
    /// # Errors
    /// What the backend says about its content; `Io` when no thread can start.
    pub fn open(backend: Arc<dyn Backend>, options: ProjectionOptions) -> Result<Projection> {
        let revision = backend.applied()?;
        let shared = Arc::new(Shared {
            backend,
            options,
            layers: RwLock::new(Layers::new(revision)),
            moving: AtomicU64::new(revision.0),
            checkpointed: AtomicU64::new(revision.0),
            control: Mutex::new(Control::default()),
            wake: Condvar::new(),
            progress: Condvar::new(),
            failure: OnceLock::new(),
            ended: AtomicBool::new(false),
        });
        let thread = std::thread::Builder::new()
            .name("kv-applier".into())
            .spawn({
                let shared = shared.clone();
                move || applier::run(&shared)
            })
            .map_err(|error| Error::io("start a thread for the projection", error))?;
        Ok(Projection {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// The value of a key after everything applied.
    ///
    /// # Errors
    /// What the backend says.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        // Nothing is missed while a map moves. The lock shows the active and
        // the frozen map of one moment. A change that was made before it is in
        // one of them, or it was in a frozen map that has been dropped by then;
        // that happens only after the backend's write returned, and the read
        // below, which begins later, sees that write. A newer value that
        // reached the backend since is as good an answer.
        if let Some(change) = self.shared.layers.read().get(key) {
            return Ok(change);
        }
        self.shared.backend.get(key)
    }

    /// Visits the keys in `from..to` in order until the visitor breaks. Runs
    /// along with changes: a key that exists throughout is visited exactly
    /// once, one that comes or goes meanwhile may be. All visits show one
    /// revision as long as the range holds fewer than 64 keys changed lately
    /// (still in the active map); a longer scan goes on in parts, each of them
    /// at one revision.
    ///
    /// # Errors
    /// What the backend says; keys may have been visited by then.
    pub fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        const FIRST_PAGE: usize = 64;
        const LAST_PAGE: usize = 4096;

        let mut cursor: Box<[u8]>;
        let mut from = from;
        let mut limit = FIRST_PAGE;
        while from < to {
            match self.scan_part(from, to, limit, visit)? {
                Part::Ended => break,
                Part::Until(end) => {
                    cursor = end;
                    from = &cursor;
                    limit = (limit * 2).min(LAST_PAGE);
                }
                Part::Overtaken => {}
            }
        }
        Ok(())
    }

    /// Visits all keys of one state, which is returned: the newest that has
    /// left the memory. Changes go on meanwhile.
    ///
    /// # Errors
    /// What the backend says; keys may have been visited by then.
    pub fn scan_moved(&self, visit: &mut Visit<'_>) -> Result<Revision> {
        self.shared.backend.scan(&[], &[u8::MAX], visit)
    }

    /// Visits the keys from `from` up to the `limit`-th of the active map, at
    /// one revision.
    fn scan_part(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        visit: &mut Visit<'_>,
    ) -> Result<Part> {
        let (page, frozen, revision) = {
            let layers = self.shared.layers.read();
            (
                layers.page(from, to, limit),
                layers.frozen(),
                layers.applied,
            )
        };
        let end: Option<Box<[u8]>> = (page.len() == limit)
            .then(|| page.last())
            .flatten()
            .map(|(last, _)| last.iter().copied().chain([0]).collect());
        let part_to = end.as_deref().unwrap_or(to);
        let mut merge = Merge::new(&page, frozen.as_ref().map(|f| &f.map), from, part_to);

        // The part is the state at `revision` when the backend's snapshot holds
        // nothing newer: what it lacks is in the maps above, what it shares
        // with them is the same. `moving` is raised before such a write begins,
        // so seeing it low after the snapshot was taken proves that.
        let overtaken = || self.shared.moving.load(Ordering::Acquire) > revision.0;
        let mut fresh = None;
        let mut flow = ControlFlow::Continue(());
        self.shared.backend.scan(from, part_to, &mut |key, value| {
            if !*fresh.get_or_insert_with(|| !overtaken()) {
                return ControlFlow::Break(());
            }
            flow = merge.below(key, value, visit);
            flow
        })?;
        if !fresh.unwrap_or_else(|| !overtaken()) {
            return Ok(Part::Overtaken);
        }
        if flow.is_break() || merge.rest(visit).is_break() {
            return Ok(Part::Ended);
        }
        Ok(end.map_or(Part::Ended, Part::Until))
    }

    /// Takes the changes of a revision and leaves the batch empty. Reads see
    /// all of them at once, when this returns at the latest. A revision that
    /// is not above [`Projection::applied`] is in the content already and
    /// changes nothing, so a replay may begin early.
    ///
    /// Blocks while the changes in memory are over their bound; not after a
    /// failure or a close, when they are kept in memory and go nowhere. A
    /// caller whose changes are logged has to bring them here all the same for
    /// reads to be right; it looks at [`Projection::failed`] before it takes
    /// on new ones.
    pub fn apply(&self, revision: Revision, batch: &mut Batch) {
        let shared = &*self.shared;
        let options = &shared.options;
        loop {
            let mut layers = shared.layers.write();
            if revision <= layers.applied {
                batch.clear();
                return;
            }
            let full = layers.over(options.max_entries, options.max_bytes);
            if !full || shared.failure.get().is_some() || shared.ended.load(Ordering::Acquire) {
                let over =
                    |layers: &Layers| layers.active_over(options.move_entries, options.move_bytes);
                let before = (layers.dirty_since().is_some(), over(&layers));
                layers.insert(revision, batch);
                let after = (true, over(&layers));
                drop(layers);
                if before != after {
                    // Under the lock, so that the thread is either before its
                    // look at the layers or already waiting.
                    let _control = shared.control.lock();
                    shared.wake.notify_one();
                }
                return;
            }
            drop(layers);
            self.wait_for_room();
        }
    }
    fn wait_for_room(&self) {
        let shared = &*self.shared;
        let mut control = shared.control.lock();
        while shared.full()
            && shared.failure.get().is_none()
            && !shared.ended.load(Ordering::Acquire)
        {
            shared.wake.notify_one();
            shared.progress.wait(&mut control);
        }
    }

    /// The newest revision applied, in memory or not.
    #[must_use]
    pub fn applied(&self) -> Revision {
        self.shared.layers.read().applied
    }

    /// The newest revision that survives power loss here; the log is needed
    /// from the next one on.
    #[must_use]
    pub fn checkpointed(&self) -> Revision {
        Revision(self.shared.checkpointed.load(Ordering::Acquire))
    }

    /// Makes everything applied so far survive power loss and returns the
    /// revision that does. Blocks.
    ///
    /// # Errors
    /// `NoSpace` when the disk is full: nothing is lost, and it is tried again
    /// in the background. `ReadOnly` after a failure, `Closed` after a close.
    pub fn checkpoint(&self) -> Result<Revision> {
        let shared = &*self.shared;
        let target = self.applied().0;
        let mut control = shared.control.lock();
        control.checkpoint_to = control.checkpoint_to.max(target);
        let refusals = control.refusals;
        shared.wake.notify_one();
        while shared.checkpointed.load(Ordering::Acquire) < target {
            self.check_running()?;
            if control.refusals > refusals {
                return Err(Error::NoSpace);
            }
            shared.progress.wait(&mut control);
        }
        Ok(self.checkpointed())
    }

    fn check_running(&self) -> Result<()> {
        if let Some(reason) = self.shared.failure.get() {
            return Err(Error::ReadOnly(reason.clone()));
        }
        if self.shared.ended.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// Why changes no longer reach the backend, once they do not. What was
    /// applied can still be read; reopen to go on from the last checkpoint.
    #[must_use]
    pub fn failed(&self) -> Option<Arc<str>> {
        self.shared.failure.get().cloned()
    }

    /// Makes everything applied durable and ends the thread. Reads go on
    /// working. Closing twice is fine.
    ///
    /// # Errors
    /// `ReadOnly` after a failure: what [`Projection::checkpointed`] does not
    /// cover has to come from the log again.
    pub fn close(&self) -> Result<()> {
        self.stop(|control| control.finish = true);
        match self.shared.failure.get() {
            Some(reason) => Err(Error::ReadOnly(reason.clone())),
            None => Ok(()),
        }
    }

    fn stop(&self, ask: impl FnOnce(&mut Control)) {
        let mut thread = self.thread.lock();
        ask(&mut self.shared.control.lock());
        self.shared.wake.notify_one();
        if let Some(thread) = thread.take() {
            // It catches its panics, so there is no news in the result.
            let _ = thread.join();
        }
    }
}

impl Drop for Projection {
    fn drop(&mut self) {
        self.stop(|control| control.abandon = true);
    }
}

enum Part {
    /// The scan is over.
    Ended,
    /// The scan goes on from this key.
    Until(Box<[u8]>),
    /// A newer state reached the backend before its snapshot was taken;
    /// nothing was visited.
    Overtaken,
}
