//! Group commit: what appenders and the writing thread share.
//!
//! Appenders copy records into the active batch under a short lock. One thread
//! takes the whole batch, writes and syncs it without the lock, and wakes who
//! waited; meanwhile the next batch gathers.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::{Error, Result, ids::Revision};

use super::{
    SyncPolicy,
    format::{BATCH_HEADER, Chain, RECORD_HEADER},
    writer::{Batch, Trouble, Writer},
};

/// How long after finding the disk full the next try is made when nobody asks.
const RETRY: Duration = Duration::from_secs(1);

/// Somebody who waits for a revision to be durable.
struct Waiter {
    revision: u64,
    done: Box<dyn FnOnce(Result<()>) + Send>,
}

/// What both sides see, under one lock.
pub struct State {
    active: Batch,
    /// A batch the disk had no room for; goes before the active one.
    held: Option<Batch>,
    head: u64,
    durable: u64,
    durable_chain: Chain,
    /// Batches committed.
    batches: u64,
    /// When the committer must write even if nobody asks.
    due: Option<Instant>,
    /// Somebody waits for room in the active batch.
    pressed: bool,
    waiters: Vec<Waiter>,
    /// Why the last try found no room, until one succeeds.
    refused: Option<Error>,
    failed: Option<Arc<str>>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// No appends; what there is gets written.
    Closing,
    /// The thread ends at once.
    Stopping,
    /// The thread has ended.
    Stopped,
}

/// The meeting point of appenders and the writing thread.
pub struct Shared {
    state: Mutex<State>,
    /// The committer has work.
    work: Condvar,
    /// The active batch was taken.
    room: Condvar,
    policy: SyncPolicy,
    /// Most bytes of the active batch.
    bound: usize,
}

impl State {
    /// Whether appends are possible.
    fn open(&self) -> Result<()> {
        match (&self.failed, self.phase) {
            (Some(why), _) => Err(Error::ReadOnly(why.clone())),
            (None, Phase::Open) => Ok(()),
            (None, _) => Err(Error::Closed),
        }
    }

    fn has_records(&self) -> bool {
        self.held.is_some() || !self.active.is_empty()
    }

    /// Those who wait for revisions up to `revision`, no longer waiting.
    fn waiters_to(&mut self, revision: u64) -> Vec<Waiter> {
        let ready = self.waiters.extract_if(.., |w| w.revision <= revision);
        ready.collect()
    }
}

/// Tells waiters how it went. Called without the lock: what they do then is
/// not known here.
fn tell(waiters: Vec<Waiter>, result: &Result<()>) {
    for waiter in waiters {
        (waiter.done)(result.clone());
    }
}

impl Shared {
    pub fn new(policy: SyncPolicy, bound: usize, head: u64, chain: Chain) -> Shared {
        Shared {
            state: Mutex::new(State {
                active: Batch::new(),
                held: None,
                head,
                durable: head,
                durable_chain: chain,
                batches: 0,
                due: None,
                pressed: false,
                waiters: Vec::new(),
                refused: None,
                failed: None,
                phase: Phase::Open,
            }),
            work: Condvar::new(),
            room: Condvar::new(),
            policy,
            bound,
        }
    }

    /// Copies a record into the active batch; waits when that is full.
    pub fn append(&self, record: &[u8]) -> Result<Revision> {
        let mut state = self.state.lock();
        let needed = RECORD_HEADER + record.len();
        loop {
            state.open()?;
            let len = state.active.len() - BATCH_HEADER;
            if state.active.is_empty() || len + needed <= self.bound {
                break;
            }
            if let Some(refused) = &state.refused {
                return Err(refused.clone());
            }
            state.pressed = true;
            self.work.notify_one();
            self.room.wait(&mut state);
        }
        let revision = state.head + 1;
        let before = state.active.len();
        state.head = revision;
        state.active.push(revision, record);
        // Half full: time to start writing, so that nobody has to wait.
        let half = self.bound / 2;
        let crossed = before < half && state.active.len() >= half;
        if state.active.count == 1 {
            let delay = match self.policy {
                SyncPolicy::Group(delay) => delay,
                _ => Duration::ZERO,
            };
            state.due.get_or_insert(Instant::now() + delay);
            self.work.notify_one();
        } else if crossed {
            state.pressed = true;
            self.work.notify_one();
        }
        Ok(Revision(revision))
    }

    /// Has `done` called once `revision` is durable or cannot be: the result
    /// itself when that is known now.
    pub fn when_durable(
        &self,
        revision: Revision,
        done: impl FnOnce() -> Box<dyn FnOnce(Result<()>) + Send>,
    ) -> Option<Result<()>> {
        let mut state = self.state.lock();
        if revision.0 <= state.durable {
            return Some(Ok(()));
        }
        if let Some(why) = &state.failed {
            return Some(Err(Error::ReadOnly(why.clone())));
        }
        if matches!(state.phase, Phase::Stopping | Phase::Stopped) {
            return Some(Err(Error::Closed));
        }
        if revision.0 > state.head {
            return Some(Err(Error::Invalid("a revision that was never appended")));
        }
        state.waiters.push(Waiter {
            revision: revision.0,
            done: done(),
        });
        self.work.notify_one();
        None
    }

    /// Whether each append is to wait until it is durable.
    pub fn every_record(&self) -> bool {
        self.policy == SyncPolicy::EveryRecord
    }

    pub fn head(&self) -> Revision {
        Revision(self.state.lock().head)
    }

    /// The last durable revision, the end of a batch, and the chain with it.
    pub fn durable_point(&self) -> (Revision, Chain) {
        let state = self.state.lock();
        (Revision(state.durable), state.durable_chain)
    }

    pub fn batches(&self) -> u64 {
        self.state.lock().batches
    }

    pub fn failed(&self) -> Option<Arc<str>> {
        self.state.lock().failed.clone()
    }

    /// Refuses appends from here on, or allows them again.
    pub fn set_closing(&self, closing: bool) {
        let mut state = self.state.lock();
        match (state.phase, closing) {
            (Phase::Open, true) => state.phase = Phase::Closing,
            (Phase::Closing, false) => state.phase = Phase::Open,
            _ => {}
        }
        // Appenders that wait for room must see it.
        self.room.notify_all();
    }

    /// Tells the writing thread to end, with whatever is not written lost.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        if state.phase != Phase::Stopped {
            state.phase = Phase::Stopping;
        }
        self.work.notify_one();
        self.room.notify_all();
    }

    /// The writing thread: commits batches until it is stopped or fails.
    pub fn run(&self, mut writer: Writer) {
        let ended = Ended(self);
        let mut batch = Batch::new();
        while self.take(&mut batch) {
            let outcome = writer.commit(&mut batch);
            if !self.finish(&mut batch, outcome, &writer.chain) {
                break;
            }
        }
        if self.failed().is_none() {
            writer.trim();
        }
        drop(ended);
    }

    /// Waits for work and swaps the oldest unwritten batch into `batch`, which
    /// is empty; false when the thread is to end.
    fn take(&self, batch: &mut Batch) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.phase == Phase::Stopping {
                return false;
            }
            if state.has_records() {
                if self.is_due(&state) {
                    break;
                }
                match state.due {
                    Some(due) => drop(self.work.wait_until(&mut state, due)),
                    None => self.work.wait(&mut state),
                }
            } else {
                self.work.wait(&mut state);
            }
        }
        match state.held.take() {
            Some(held) => *batch = held,
            None => {
                mem::swap(&mut state.active, batch);
                state.due = None;
                state.pressed = false;
                self.room.notify_all();
            }
        }
        true
    }

    fn is_due(&self, state: &MutexGuard<'_, State>) -> bool {
        let pressed = state.pressed && state.refused.is_none();
        !state.waiters.is_empty() || pressed || state.due.is_some_and(|due| due <= Instant::now())
    }

    /// Records how a commit went and wakes who waited for it; false when the
    /// thread is to end.
    fn finish(&self, batch: &mut Batch, outcome: Result<(), Trouble>, chain: &Chain) -> bool {
        let mut state = self.state.lock();
        let (told, result, goes_on) = match outcome {
            Ok(()) => {
                state.durable = batch.last();
                state.durable_chain = *chain;
                state.batches += 1;
                state.refused = None;
                batch.clear();
                (state.durable, Ok(()), true)
            }
            // Its caller takes an error of append as "not appended".
            Err(Trouble::Refused(error)) if self.policy != SyncPolicy::EveryRecord => {
                state.held = Some(mem::replace(batch, Batch::new()));
                state.due = Some(Instant::now() + RETRY);
                state.refused = Some(error.clone());
                self.room.notify_all();
                (u64::MAX, Err(error), true)
            }
            Err(trouble) => {
                let error = trouble.into_error();
                tracing::error!(%error, "the log failed; the volume is read-only from here on");
                let why: Arc<str> = format!("its log failed: {error}").into();
                state.failed = Some(why.clone());
                (u64::MAX, Err(Error::ReadOnly(why)), false)
            }
        };
        let waiters = state.waiters_to(told);
        drop(state);
        tell(waiters, &result);
        goes_on
    }
}

/// Ends all waiting when the writing thread ends, however it does.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.phase = Phase::Stopped;
        if std::thread::panicking() {
            state.failed = Some("its log writer stopped at an internal error".into());
        }
        let error = match &state.failed {
            Some(why) => Error::ReadOnly(why.clone()),
            None => Error::Closed,
        };
        let waiters = state.waiters_to(u64::MAX);
        drop(state);
        tell(waiters, &Err(error));
        self.0.room.notify_all();
    }
}
