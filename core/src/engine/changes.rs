//! Telling front ends what others changed.
//!
//! Each watcher has a bounded queue of its own. One that falls behind loses
//! what it has not taken and is told that it missed something. A change that
//! nobody else watches for costs one atomic load.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::engine::{Change, FrontId};

/// Changes a watcher may be behind.
const BEHIND_MAX: usize = 4096;

/// How long [`Changes::told`] waits for a watcher that does nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Stands in [`Changes::lone`] for no watcher, and for more than one.
const NONE: u64 = u64::MAX;
const SEVERAL: u64 = u64::MAX - 1;

/// The watchers of a volume.
pub(super) struct Changes {
    watchers: RwLock<Vec<Arc<Queue>>>,
    /// The front end that alone watches; it does not hear of its own changes.
    lone: AtomicU64,
}

/// When a watcher acts on what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At once; [`crate::engine::Volume::told`] waits for it.
    AtOnce,
    /// Before it uses what it keeps.
    WhenUsed,
}

struct Queue {
    front: FrontId,
    pace: Pace,
    state: Mutex<State>,
    /// Something was queued.
    filled: Notify,
    /// Something was acted on.
    acted: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Change>,
    missed: bool,
    /// Changes told so far, and how many of them were acted on.
    told: u64,
    taken: u64,
    done: u64,
}

/// Changes came faster than they were taken; whatever was cached may be old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed;

/// What a front end is told.
pub struct Watch {
    queue: Arc<Queue>,
}

impl Default for Changes {
    fn default() -> Changes {
        Changes {
            watchers: RwLock::default(),
            lone: AtomicU64::new(NONE),
        }
    }
}

impl Changes {
    pub(super) fn watch(&self, front: FrontId, pace: Pace) -> Watch {
        let queue = Arc::new(Queue {
            front,
            pace,
            state: Mutex::default(),
            filled: Notify::new(),
            acted: Notify::new(),
        });
        let mut watchers = self.watchers.write();
        watchers.retain(|queue| Arc::strong_count(queue) > 1);
        watchers.push(queue.clone());
        let lone = match watchers.as_slice() {
            [only] => u64::from(only.front.0),
            _ => SEVERAL,
        };
        self.lone.store(lone, Ordering::SeqCst);
        Watch { queue }
    }

    /// Tells all watchers but the front end that made the change.
    pub(super) fn tell(&self, who: FrontId, change: impl FnOnce() -> Change) {
        let lone = self.lone.load(Ordering::SeqCst);
        if lone == NONE || lone == u64::from(who.0) {
            return;
        }
        let change = change();
        for queue in self.watchers.read().iter() {
            // The table's is the only one left of a watcher that is gone.
            if queue.front != who && Arc::strong_count(queue) > 1 {
                queue.put(change.clone());
            }
        }
    }

    /// Waits until the others have acted on everything told so far.
    pub(super) async fn told(&self, who: FrontId) {
        let lone = self.lone.load(Ordering::SeqCst);
        if lone == NONE || lone == u64::from(who.0) {
            return;
        }
        let others: Vec<_> = {
            let watchers = self.watchers.read();
            let others = watchers.iter().filter(|queue| queue.front != who);
            others
                .filter(|queue| queue.pace == Pace::AtOnce)
                .map(|queue| (queue.clone(), queue.state.lock().told))
                .collect()
        };
        for (queue, told) in others {
            let acted = queue.acted_on(told);
            if tokio::time::timeout(PATIENCE, acted).await.is_err() {
                tracing::warn!("a front end is slow to act on changes of others");
            }
        }
    }
}

impl Queue {
    fn put(&self, change: Change) {
        let mut state = self.state.lock();
        state.told += 1;
        if state.waiting.len() >= BEHIND_MAX {
            state.waiting.clear();
            state.missed = true;
        }
        if !state.missed {
            state.waiting.push_back(change);
        }
        drop(state);
        self.filled.notify_one();
    }

    fn take(&self) -> Option<Result<Change, Missed>> {
        let mut state = self.state.lock();
        state.done = state.taken;
        let next = if state.missed {
            state.missed = false;
            state.taken = state.told;
            Some(Err(Missed))
        } else {
            let next = state.waiting.pop_front();
            state.taken += u64::from(next.is_some());
            next.map(Ok)
        };
        drop(state);
        self.acted.notify_waiters();
        next
    }

    async fn acted_on(self: &Arc<Self>, told: u64) {
        loop {
            let acted = self.acted.notified();
            // Two are the table's and the caller's: the watcher is gone.
            if self.state.lock().done >= told || Arc::strong_count(self) <= 2 {
                return;
            }
            acted.await;
        }
    }
}

impl Watch {
    /// The next change, once there is one. Asking for it says that those
    /// before have been acted on.
    ///
    /// # Errors
    /// [`Missed`] when some were dropped.
    pub async fn next(&mut self) -> Result<Change, Missed> {
        loop {
            let filled = self.queue.filled.notified();
            if let Some(next) = self.queue.take() {
                return next;
            }
            filled.await;
        }
    }

    /// The next change if there is one now.
    pub fn try_next(&mut self) -> Option<Result<Change, Missed>> {
        self.queue.take()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.queue.acted.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ids::Ino;

    const HERE: FrontId = FrontId(1);
    const THERE: FrontId = FrontId(2);

    fn number(change: Option<Result<Change, Missed>>) -> Option<u64> {
        match change?.unwrap() {
            Change::Inode(ino) => Some(ino.0),
            Change::Entry(..) => None,
        }
    }

    #[test]
    fn others_are_told_and_nobody_of_his_own() {
        let changes = Changes::default();
        changes.tell(HERE, || unreachable!("nobody watches"));
        let mut here = changes.watch(HERE, Pace::AtOnce);
        changes.tell(HERE, || unreachable!("nobody else watches"));
        let mut there = changes.watch(THERE, Pace::AtOnce);
        changes.tell(HERE, || Change::Inode(Ino(7)));
        assert_eq!(number(there.try_next()), Some(7));
        assert!(here.try_next().is_none() && there.try_next().is_none());
    }

    #[test]
    fn who_falls_behind_is_told_once() {
        let changes = Changes::default();
        let mut watch = changes.watch(HERE, Pace::AtOnce);
        for n in 0..=BEHIND_MAX as u64 {
            changes.tell(THERE, || Change::Inode(Ino(n)));
        }
        assert_eq!(watch.try_next().unwrap().unwrap_err(), Missed);
        assert!(watch.try_next().is_none());
        changes.tell(THERE, || Change::Inode(Ino(3)));
        assert_eq!(number(watch.try_next()), Some(3));
    }

    #[tokio::test]
    async fn nobody_waits_for_those_who_act_when_they_like() {
        let changes = Changes::default();
        let _watch = changes.watch(HERE, Pace::WhenUsed);
        changes.tell(THERE, || Change::Inode(Ino(1)));
        let told = changes.told(THERE);
        assert!(tokio::time::timeout(PATIENCE / 2, told).await.is_ok());
    }

    #[tokio::test]
    async fn told_waits_for_the_one_who_acts() {
        let changes = Arc::new(Changes::default());
        let mut watch = changes.watch(HERE, Pace::AtOnce);
        changes.tell(THERE, || Change::Inode(Ino(1)));
        let waiting = changes.clone();
        let told = tokio::spawn(async move { waiting.told(THERE).await });
        watch.next().await.unwrap();
        tokio::task::yield_now().await;
        assert!(!told.is_finished(), "the change is taken, not acted on");
        assert!(watch.try_next().is_none());
        told.await.unwrap();
        drop(watch);
        changes.tell(THERE, || Change::Inode(Ino(2)));
        changes.told(THERE).await;
    }
}
