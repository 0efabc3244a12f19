//! Counts and latencies of operations.
//!
//! Every thread records into a slot of its own, so that counting moves no
//! cache line between cores; [`Stats::snapshot`] merges the slots.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

macro_rules! operations {
    ($($name:ident $text:literal,)*) => {
        /// A kind of request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Op { $($name),* }

        impl Op {
            /// Every kind.
            pub const ALL: &[Op] = &[$(Op::$name),*];

            /// Its name in listings.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Op::$name => $text),* }
            }
        }
    };
}

operations! {
    Lookup "lookup", Forget "forget", Getattr "getattr", Setattr "setattr",
    Readlink "readlink", Mknod "mknod", Mkdir "mkdir", Symlink "symlink",
    Unlink "unlink", Rmdir "rmdir", Rename "rename", Link "link",
    Create "create", Open "open", Read "read", Write "write",
    Fsync "fsync", Release "release", Opendir "opendir", Readdir "readdir",
    Readdirplus "readdirplus", Releasedir "releasedir", Fsyncdir "fsyncdir",
    Statfs "statfs", Getxattr "getxattr", Setxattr "setxattr",
    Listxattr "listxattr", Removexattr "removexattr", Fallocate "fallocate",
    Lseek "lseek", CopyFileRange "copy_file_range",
}

/// What one kind of operation cost since the mount began. Times count from the
/// arrival of the request to its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpStats {
    /// The kind.
    pub op: Op,
    /// How many were answered.
    pub count: u64,
    /// How many had to wait for something, and so left the session thread.
    pub pending: u64,
    /// Bytes they read or wrote.
    pub bytes: u64,
    /// Half of them were at most this slow.
    pub p50: Duration,
    /// 99 of 100 were.
    pub p99: Duration,
    /// 999 of 1,000 were.
    pub p999: Duration,
    /// The slowest.
    pub max: Duration,
}

/// One kind of operation on one thread.
struct Tally {
    pending: u64,
    bytes: u64,
    /// Nanoseconds, to two digits.
    latency: Histogram<u32>,
}

/// A thread's tallies, by `Op`. Only `snapshot` ever contends for the lock.
type Slot = Mutex<Vec<Option<Box<Tally>>>>;

/// An hour; slower operations count as this slow.
const SLOWEST_NANOS: u64 = 3_600_000_000_000;

/// Statistics of one mount.
pub struct Stats {
    id: u64,
    slots: Mutex<Vec<Arc<Slot>>>,
}

thread_local! {
    /// The slot of this thread, and which mount's it is. Session threads serve
    /// one mount; a runtime's worker may alternate and then gets a new slot.
    static MINE: RefCell<Vec<(u64, Arc<Slot>)>> = const { RefCell::new(Vec::new()) };
}

impl Stats {
    pub(super) fn new() -> Arc<Stats> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Stats {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            slots: Mutex::new(Vec::new()),
        })
    }

    /// Counts an answered operation. Nothing is counted when there is no
    /// memory for a histogram, or while the thread ends.
    pub(super) fn record(&self, op: Op, took: Duration, pending: bool, bytes: u64) {
        let _ = MINE.try_with(|mine| {
            let mut mine = mine.borrow_mut();
            let slot = match mine.iter().position(|(id, _)| *id == self.id) {
                Some(found) => &mine[found].1,
                None => {
                    // Slots of mounts that ended are ours alone.
                    mine.retain(|(_, slot)| Arc::strong_count(slot) > 1);
                    let slot = Arc::new(Mutex::new(Vec::new()));
                    self.slots.lock().push(Arc::clone(&slot));
                    let last = mine.len();
                    mine.push((self.id, slot));
                    &mine[last].1
                }
            };
            add(&mut slot.lock(), op, took, pending, bytes);
        });
    }

    /// Every kind of operation that occurred.
    #[must_use]
    pub fn snapshot(&self) -> Vec<OpStats> {
        let slots = self.slots.lock().clone();
        Op::ALL
            .iter()
            .filter_map(|&op| {
                let (mut pending, mut bytes) = (0, 0);
                let mut merged: Option<Histogram<u64>> = None;
                for slot in &slots {
                    let slot = slot.lock();
                    let Some(Some(tally)) = slot.get(op as usize) else {
                        continue;
                    };
                    pending += tally.pending;
                    bytes += tally.bytes;
                    let total = match &mut merged {
                        Some(total) => total,
                        None => merged.insert(Histogram::new_with_max(SLOWEST_NANOS, 2).ok()?),
                    };
                    for value in tally.latency.iter_recorded() {
                        total.saturating_record_n(
                            value.value_iterated_to(),
                            u64::from(value.count_at_value()),
                        );
                    }
                }
                merged.map(|latency| summary(op, pending, bytes, &latency))
            })
            .collect()
    }
}

fn add(slot: &mut Vec<Option<Box<Tally>>>, op: Op, took: Duration, pending: bool, bytes: u64) {
    if slot.is_empty() {
        slot.resize_with(Op::ALL.len(), || None);
    }
    let tally = match &mut slot[op as usize] {
        Some(tally) => tally,
        empty => {
            let Ok(latency) = Histogram::new_with_max(SLOWEST_NANOS, 2) else {
                return;
            };
            empty.insert(Box::new(Tally {
                pending: 0,
                bytes: 0,
                latency,
            }))
        }
    };
    tally.pending += u64::from(pending);
    tally.bytes += bytes;
    tally
        .latency
        .saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

fn summary(op: Op, pending: u64, bytes: u64, latency: &Histogram<u64>) -> OpStats {
    let at = |quantile| Duration::from_nanos(latency.value_at_quantile(quantile));
    OpStats {
        op,
        count: latency.len(),
        pending,
        bytes,
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        max: Duration::from_nanos(latency.max()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn threads_are_merged() {
        let stats = Stats::new();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let stats = &stats;
                scope.spawn(move || {
                    for _ in 0..100 {
                        stats.record(Op::Read, Duration::from_micros(10), thread == 0, 512);
                    }
                });
            }
        });
        stats.record(Op::Write, Duration::from_secs(1), false, 0);
        let snapshot = stats.snapshot();
        assert_eq!(snapshot.len(), 2);
        let read = snapshot.iter().find(|s| s.op == Op::Read).unwrap();
        assert_eq!(
            (read.count, read.pending, read.bytes),
            (400, 100, 400 * 512)
        );
        assert!(read.p50 >= Duration::from_micros(10) && read.p50 < Duration::from_micros(11));
        let write = snapshot.iter().find(|s| s.op == Op::Write).unwrap();
        assert!(write.max >= Duration::from_millis(990));
    }

    #[test]
    fn two_mounts_do_not_mix() {
        let (one, two) = (Stats::new(), Stats::new());
        one.record(Op::Read, Duration::ZERO, false, 0);
        two.record(Op::Write, Duration::ZERO, false, 0);
        one.record(Op::Read, Duration::ZERO, false, 0);
        assert_eq!(one.snapshot().len(), 1);
        assert_eq!(one.snapshot()[0].count, 2);
        assert_eq!(two.snapshot()[0].op, Op::Write);
    }

    #[test]
    fn slower_than_an_hour_is_an_hour() {
        let stats = Stats::new();
        stats.record(Op::Fsync, Duration::from_secs(100_000), true, 0);
        assert_eq!(stats.snapshot()[0].count, 1);
    }
}
