//! All connections: what they hold, how long they have been at it, and which
//! of them have to go.
//!
//! Connections have no timers of their own. One look each second finds those
//! that are overdue; when messages hold more memory than they may, those that
//! stand still go first, so that nobody can keep the others out by sending
//! half a message or by not reading.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Connections at a time; one that is idle costs some 3 KiB.
const CONNECTIONS: usize = 16_384;

/// How long half a message may lie, and how long a reply may not be read.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same while others wait for memory.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// How long a connection may be idle. Clients connect again when they need to.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// How long calls under way have to end when the server does.
const LAST_CALLS: Duration = Duration::from_secs(10);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// Nothing.
    Idle = 0,
    /// Carrying out calls.
    Working = 1,
    /// Waiting for the rest of a message.
    Receiving = 2,
    /// Waiting for the client to read.
    Sending = 3,
}

impl Phase {
    fn patience(self, short: bool) -> Duration {
        match self {
            Phase::Idle => IDLE,
            Phase::Working => Duration::MAX,
            Phase::Receiving | Phase::Sending if short => SHORT_PATIENCE,
            Phase::Receiving | Phase::Sending => PATIENCE,
        }
    }
}

/// All connections.
pub(super) struct Register {
    began: Instant,
    /// Bytes that messages of all connections may hold.
    memory: usize,
    held: AtomicUsize,
    connections: Mutex<HashMap<u64, Arc<State>>>,
    next: AtomicU64,
    /// Memory was given back.
    room: Notify,
    /// A connection is gone.
    left: Notify,
}

struct State {
    phase: AtomicU8,
    /// Since when, in milliseconds from the beginning.
    since: AtomicU64,
    held: AtomicUsize,
    /// It has to go.
    leave: Notify,
}

impl State {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Idle,
            2 => Phase::Receiving,
            3 => Phase::Sending,
            _ => Phase::Working,
        }
    }
}

/// The place of one connection among them.
pub(super) struct Entry {
    id: u64,
    register: Arc<Register>,
    state: Arc<State>,
}

impl Register {
    pub fn new(memory: u64) -> Register {
        Register {
            began: Instant::now(),
            memory: usize::try_from(memory).unwrap_or(usize::MAX),
            held: AtomicUsize::new(0),
            connections: Mutex::default(),
            next: AtomicU64::new(1),
            room: Notify::new(),
            left: Notify::new(),
        }
    }

    fn now(&self) -> u64 {
        // Milliseconds of half a billion years.
        self.began.elapsed().as_millis() as u64
    }

    /// Takes a connection in. When there are too many, the one that has been
    /// idle for longest goes, or the new one if none is idle.
    pub fn enter(self: &Arc<Self>) -> Entry {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let state = Arc::new(State {
            phase: AtomicU8::new(Phase::Idle as u8),
            since: AtomicU64::new(self.now()),
            held: AtomicUsize::new(0),
            leave: Notify::new(),
        });
        let mut connections = self.connections.lock();
        if connections.len() >= CONNECTIONS {
            let idle = connections
                .values()
                .filter(|state| state.phase() == Phase::Idle);
            let longest = idle.min_by_key(|state| state.since.load(Ordering::Relaxed));
            longest.unwrap_or(&state).leave.notify_one();
        }
        connections.insert(id, state.clone());
        Entry {
            id,
            register: self.clone(),
            state,
        }
    }

    /// Sends those away that are overdue.
    pub fn look_over(&self) {
        let (now, short) = (self.now(), !self.has_room());
        for state in self.connections.lock().values() {
            let waited = now.saturating_sub(state.since.load(Ordering::Relaxed));
            let holds = state.held.load(Ordering::Relaxed) > 0;
            let patience = state.phase().patience(short && holds);
            if Duration::from_millis(waited) > patience {
                state.leave.notify_one();
            }
        }
    }

    fn has_room(&self) -> bool {
        self.held.load(Ordering::Relaxed) < self.memory
    }

    /// Waits until all connections are gone, for a while.
    pub async fn all_gone(&self) {
        let gone = async {
            loop {
                let left = self.left.notified();
                if self.connections.lock().is_empty() {
                    return;
                }
                left.await;
            }
        };
        if tokio::time::timeout(LAST_CALLS, gone).await.is_err() {
            tracing::warn!("calls under way took too long to end");
        }
    }
}

impl Entry {
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Says what the connection does from now on.
    pub fn set(&self, phase: Phase) {
        if self.state.phase.swap(phase as u8, Ordering::Relaxed) != phase as u8 {
            self.progress();
        }
    }

    /// Says that it came on.
    pub fn progress(&self) {
        let now = self.register.now();
        self.state.since.store(now, Ordering::Relaxed);
    }

    /// Says how many bytes it holds.
    pub fn hold(&self, bytes: usize) {
        let before = self.state.held.swap(bytes, Ordering::Relaxed);
        let all = &self.register.held;
        if bytes >= before {
            all.fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            all.fetch_sub(before - bytes, Ordering::Relaxed);
            self.register.room.notify_waiters();
        }
    }

    /// Whether it may hold more.
    pub fn has_room(&self) -> bool {
        self.register.has_room()
    }

    /// Waits until it may.
    pub async fn room(&self) {
        loop {
            let room = self.register.room.notified();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }

    /// Waits until it has to go.
    pub async fn leave(&self) {
        self.state.leave.notified().await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.hold(0);
        self.register.connections.lock().remove(&self.id);
        self.register.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn leaves(entry: &Entry) -> bool {
        tokio::time::timeout(Duration::from_millis(1), entry.leave())
            .await
            .is_ok()
    }

    fn long_ago(entry: &Entry, for_long: Duration) {
        // The register began just now: its clock is moved instead.
        let since = entry
            .register
            .now()
            .wrapping_sub(for_long.as_millis() as u64);
        entry.state.since.store(since, Ordering::Relaxed);
    }

    fn register(memory: u64) -> Arc<Register> {
        let mut register = Register::new(memory);
        register.began = Instant::now()
            .checked_sub(IDLE * 2)
            .unwrap_or(register.began);
        Arc::new(register)
    }

    #[tokio::test]
    async fn who_is_overdue_has_to_go() {
        let register = register(1 << 20);
        let entry = register.enter();
        for (phase, for_long, goes) in [
            (Phase::Idle, PATIENCE * 2, false),
            (Phase::Idle, IDLE * 3 / 2, true),
            (Phase::Working, IDLE * 3 / 2, false),
            (Phase::Receiving, PATIENCE / 2, false),
            (Phase::Receiving, PATIENCE * 2, true),
            (Phase::Sending, PATIENCE * 2, true),
        ] {
            entry.set(phase);
            long_ago(&entry, for_long);
            register.look_over();
            assert_eq!(leaves(&entry).await, goes, "{phase:?} for {for_long:?}");
        }
    }

    #[tokio::test]
    async fn without_room_those_go_that_hold_memory_and_stand_still() {
        let register = register(1000);
        let (still, quick, idle) = (register.enter(), register.enter(), register.enter());
        still.set(Phase::Receiving);
        still.hold(900);
        long_ago(&still, SHORT_PATIENCE * 2);
        register.look_over();
        assert!(!leaves(&still).await, "there is room");
        quick.set(Phase::Sending);
        quick.hold(100);
        long_ago(&idle, SHORT_PATIENCE * 2);
        register.look_over();
        assert!(leaves(&still).await && !leaves(&quick).await && !leaves(&idle).await);
        assert!(!quick.has_room());
        drop(still);
        assert!(quick.has_room());
        quick.room().await;
    }

    #[tokio::test]
    async fn the_longest_idle_makes_way() {
        let register = register(1000);
        let entries: Vec<_> = (0..CONNECTIONS).map(|_| register.enter()).collect();
        long_ago(&entries[7], PATIENCE);
        let new = register.enter();
        assert!(leaves(&entries[7]).await && !leaves(&new).await);
        for entry in &entries {
            entry.set(Phase::Working);
        }
        new.set(Phase::Working);
        assert!(leaves(&register.enter()).await);
    }
}
