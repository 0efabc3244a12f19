//! The thread that moves changes from memory to the backend.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::projection::Shared;
use crate::{Error, Result, ids::Revision};

/// How long a durable commit waits for room on a full disk before the next try.
const RETRY: Duration = Duration::from_millis(500);

/// What callers ask of the thread.
#[derive(Default)]
pub(super) struct Control {
    /// A revision that shall become durable now.
    pub(super) checkpoint_to: u64,
    /// How often a durable commit found the disk full.
    pub(super) refusals: u64,
    /// Make everything durable and end.
    pub(super) finish: bool,
    /// End at once.
    pub(super) abandon: bool,
}

enum Task {
    Move,
    Checkpoint,
    Finish,
    End,
}

/// What the thread alone knows.
struct Progress {
    /// The newest revision in the backend.
    moved: Revision,
    /// When the oldest change without a durable commit was moved.
    moved_since: Option<Instant>,
    /// When a durable commit is tried again that found the disk full.
    retry_at: Option<Instant>,
}

/// Runs until the projection is closed, dropped or has failed.
pub(super) fn run(shared: &Shared) {
    let mut progress = Progress {
        moved: Revision(shared.checkpointed.load(Ordering::Acquire)),
        moved_since: None,
        retry_at: None,
    };
    loop {
        let task = next_task(shared, &progress);
        if matches!(task, Task::End) {
            break;
        }
        // A panic would leave callers waiting for a thread that is gone.
        let result = catch_unwind(AssertUnwindSafe(|| perform(shared, &mut progress, &task)));
        let failure = match result {
            Ok(Ok(())) => None,
            Ok(Err(Error::NoSpace)) if !matches!(task, Task::Finish) => {
                progress.retry_at = Some(Instant::now() + RETRY);
                let mut control = shared.control.lock();
                control.checkpoint_to = 0;
                control.refusals += 1;
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the thread of the projection panicked".to_owned()),
        };
        let over = failure.is_some() || matches!(task, Task::Finish);
        if let Some(failure) = failure {
            tracing::error!(%failure, "the projection moves no more changes");
            // Set here only and once: the thread ends with it.
            let _ = shared.failure.set(failure.into());
        }
        if over {
            break;
        }
        let _control = shared.control.lock();
        shared.progress.notify_all();
    }
    let _control = shared.control.lock();
    shared.ended.store(true, Ordering::Release);
    shared.progress.notify_all();
}

fn next_task(shared: &Shared, progress: &Progress) -> Task {
    let options = &shared.options;
    let mut control = shared.control.lock();
    loop {
        let (dirty_since, enough) = {
            let layers = shared.layers.read();
            // The second counts when the bound is the lower one: callers wait.
            let enough = layers.active_over(options.move_entries, options.move_bytes)
                || layers.over(options.max_entries, options.max_bytes);
            (layers.dirty_since(), enough)
        };
        if control.abandon {
            return Task::End;
        }
        if control.finish {
            return Task::Finish;
        }
        let checkpointed = shared.checkpointed.load(Ordering::Acquire);
        let checkpoint_at = progress.moved_since.map(|at| {
            let at = at + options.checkpoint_every;
            progress.retry_at.map_or(at, |retry| at.max(retry))
        });
        let move_at = dirty_since.map(|at| at + options.move_after);
        let now = Instant::now();
        if control.checkpoint_to > checkpointed || checkpoint_at.is_some_and(|at| at <= now) {
            return Task::Checkpoint;
        }
        if enough || move_at.is_some_and(|at| at <= now) {
            return Task::Move;
        }
        match checkpoint_at.into_iter().chain(move_at).min() {
            Some(at) => {
                shared.wake.wait_until(&mut control, at);
            }
            None => shared.wake.wait(&mut control),
        }
    }
}

fn perform(shared: &Shared, progress: &mut Progress, task: &Task) -> Result<()> {
    match task {
        Task::Move => move_changes(shared, progress),
        Task::Checkpoint | Task::Finish => {
            move_changes(shared, progress)?;
            checkpoint(shared, progress)
        }
        Task::End => Ok(()),
    }
}

fn move_changes(shared: &Shared, progress: &mut Progress) -> Result<()> {
    let frozen = {
        let mut layers = shared.layers.write();
        let Some(frozen) = layers.freeze() else {
            return Ok(());
        };
        // Before the write begins, for scans to tell what their snapshot of
        // the backend can hold.
        shared.moving.store(frozen.revision.0, Ordering::Release);
        frozen
    };
    let mut changes = frozen
        .map
        .iter()
        .map(|(key, value)| (&key[..], value.as_deref()));
    let written = shared.backend.write(&mut changes, frozen.revision, false);
    written.map_err(final_error)?;
    progress.moved = frozen.revision;
    progress.moved_since.get_or_insert_with(Instant::now);
    // Only now, after the write returned: readers that find the map gone find
    // its changes in the backend.
    shared.layers.write().drop_frozen();
    Ok(())
}

fn checkpoint(shared: &Shared, progress: &mut Progress) -> Result<()> {
    if progress.moved.0 <= shared.checkpointed.load(Ordering::Acquire) {
        return Ok(());
    }
    // The log first: content that is durably ahead of it would hold revisions
    // that a crash takes from the log, and others take their numbers.
    (shared.options.before_checkpoint)(progress.moved)?;
    shared.backend.make_room()?;
    shared
        .backend
        .write(&mut std::iter::empty(), progress.moved, true)
        .map_err(final_error)?;
    progress.moved_since = None;
    progress.retry_at = None;
    shared
        .checkpointed
        .store(progress.moved.0, Ordering::Release);
    Ok(())
}

/// A write that failed leaves a backend that takes no more, a full disk or not.
fn final_error(error: Error) -> Error {
    match error {
        Error::NoSpace => Error::ReadOnly(error.to_string().into()),
        error => error,
    }
}
