//! Counts and latencies of the operations of front ends, always on.
//!
//! Every thread records into a slot of its own, so that counting moves no
//! cache line between cores; [`Stats::snapshot`] merges the slots.
//!
//! A front end names its operations with [`operations!`], keeps a [`Stats`] of
//! them, and hands that to whoever shows it as a [`Counted`].

use std::{
    cell::RefCell,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// The kinds of operations of one front end; made by [`operations!`].
pub trait Operation: Copy + Send + Sync + 'static {
    /// The front end's name in listings.
    const FRONT: &'static str;
    /// Every kind, as listings name it.
    const NAMES: &'static [&'static str];

    /// Where its name is in `NAMES`.
    fn index(self) -> usize;
}

/// Declares an enumeration of operations: its front end, then a name for
/// listings with each.
macro_rules! operations {
    ($(#[$about:meta])* $visible:vis enum $of:ident of $front:literal {
        $($name:ident $text:literal,)*
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        $visible enum $of { $($name),* }

        impl $of {
            /// Its name in listings.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $($of::$name => $text),* }
            }
        }

        impl $crate::stats::Operation for $of {
            const FRONT: &'static str = $front;
            const NAMES: &'static [&'static str] = &[$($text),*];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use operations;

/// What a front end shows of its operations.
pub trait Counted: Send + Sync {
    /// The front end's name.
    fn front(&self) -> &'static str;

    /// Every kind of operation that occurred.
    fn snapshot(&self) -> Vec<OpStats>;
}

/// What one kind of operation cost since its front end began. Times count from
/// the arrival of the request to its reply.
#[derive(Clone, Debug, PartialEq)]
pub struct OpStats {
    /// The kind.
    pub name: &'static str,
    /// How many were answered.
    pub count: u64,
    /// How many had to wait for something, and so left the thread that read
    /// the request.
    pub pending: u64,
    /// Bytes they read or wrote.
    pub bytes: u64,
    /// The time of all together.
    pub total: Duration,
    /// Half of them were at most this slow.
    pub p50: Duration,
    /// 99 of 100 were.
    pub p99: Duration,
    /// 999 of 1,000 were.
    pub p999: Duration,
    /// The slowest.
    pub max: Duration,
    /// How many were at most as slow as each of [`BOUNDS_NANOS`] and slower
    /// than the one before it; at the end, those slower than all.
    pub buckets: [u64; BOUNDS_NANOS.len() + 1],
}

/// Bounds of the buckets of [`OpStats`], in nanoseconds.
pub const BOUNDS_NANOS: [u64; 22] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    60_000_000_000,
];

/// One kind of operation on one thread.
struct Tally {
    pending: u64,
    bytes: u64,
    nanos: u64,
    /// Nanoseconds, to two digits.
    latency: Histogram<u32>,
}

impl Tally {
    fn new() -> Option<Box<Tally>> {
        Some(Box::new(Tally {
            pending: 0,
            bytes: 0,
            nanos: 0,
            latency: Histogram::new_with_max(SLOWEST_NANOS, 2).ok()?,
        }))
    }
}

/// A thread's tallies, by operation. Only `snapshot` ever contends for the
/// lock. Aligned so that two threads share no pair of cache lines, which is
/// what processors prefetch.
#[repr(align(128))]
#[derive(Default)]
struct Slot(Mutex<Vec<Option<Box<Tally>>>>);

/// An hour; slower operations count as this slow.
const SLOWEST_NANOS: u64 = 3_600_000_000_000;

/// Statistics of one front end.
pub struct Stats<O> {
    id: u64,
    slots: Mutex<Vec<Arc<Slot>>>,
    of: PhantomData<O>,
}

thread_local! {
    /// The slots of this thread, and which front end's they are.
    static MINE: RefCell<Vec<(u64, Arc<Slot>)>> = const { RefCell::new(Vec::new()) };
}

impl<O: Operation> Stats<O> {
    pub(crate) fn new() -> Arc<Stats<O>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Stats {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            slots: Mutex::new(Vec::new()),
            of: PhantomData,
        })
    }

    /// Counts an answered operation. Nothing is counted when there is no
    /// memory for a histogram, or while the thread ends.
    pub(crate) fn record(&self, op: O, took: Duration, pending: bool, bytes: u64) {
        self.with(op, |tally| {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            tally.pending += u64::from(pending);
            tally.bytes += bytes;
            tally.nanos = tally.nanos.saturating_add(nanos);
            tally.latency.saturating_record(nanos);
        });
    }

    /// Counts bytes that go along with an operation which is counted by itself.
    pub(crate) fn moved(&self, op: O, bytes: u64) {
        self.with(op, |tally| tally.bytes += bytes);
    }

    fn with(&self, op: O, change: impl FnOnce(&mut Tally)) {
        let _ = MINE.try_with(|mine| {
            let mut mine = mine.borrow_mut();
            let slot = match mine.iter().position(|(id, _)| *id == self.id) {
                Some(found) => &mine[found].1,
                None => {
                    // Slots of front ends that ended are ours alone.
                    mine.retain(|(_, slot)| Arc::strong_count(slot) > 1);
                    let slot = Arc::new(Slot::default());
                    self.slots.lock().push(Arc::clone(&slot));
                    let last = mine.len();
                    mine.push((self.id, slot));
                    &mine[last].1
                }
            };
            let mut tallies = slot.0.lock();
            if tallies.is_empty() {
                tallies.resize_with(O::NAMES.len(), || None);
            }
            let tally = &mut tallies[op.index()];
            if tally.is_none() {
                *tally = Tally::new();
            }
            tally.as_deref_mut().map(change);
        });
    }
}

impl<O: Operation> Counted for Stats<O> {
    fn front(&self) -> &'static str {
        O::FRONT
    }

    fn snapshot(&self) -> Vec<OpStats> {
        let slots = self.slots.lock().clone();
        let kinds = O::NAMES.iter().enumerate();
        kinds
            .filter_map(|(index, name)| merged(name, index, &slots))
            .collect()
    }
}

/// One kind over all threads; `None` when it never occurred.
fn merged(name: &'static str, index: usize, slots: &[Arc<Slot>]) -> Option<OpStats> {
    let (mut pending, mut bytes, mut nanos) = (0, 0, 0u64);
    let mut latency: Option<Histogram<u64>> = None;
    for slot in slots {
        let slot = slot.0.lock();
        let Some(Some(tally)) = slot.get(index) else {
            continue;
        };
        pending += tally.pending;
        bytes += tally.bytes;
        nanos = nanos.saturating_add(tally.nanos);
        let total = match &mut latency {
            Some(total) => total,
            None => latency.insert(Histogram::new_with_max(SLOWEST_NANOS, 2).ok()?),
        };
        for value in tally.latency.iter_recorded() {
            total.saturating_record_n(value.value_iterated_to(), u64::from(value.count_at_value()));
        }
    }
    let latency = latency?;
    let at = |quantile| Duration::from_nanos(latency.value_at_quantile(quantile));
    Some(OpStats {
        name,
        count: latency.len(),
        pending,
        bytes,
        total: Duration::from_nanos(nanos),
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        max: Duration::from_nanos(latency.max()),
        buckets: buckets(&latency),
    })
}

fn buckets(latency: &Histogram<u64>) -> [u64; BOUNDS_NANOS.len() + 1] {
    let mut buckets = [0; BOUNDS_NANOS.len() + 1];
    for value in latency.iter_recorded() {
        let nanos = value.value_iterated_to();
        buckets[BOUNDS_NANOS.partition_point(|bound| *bound < nanos)] += value.count_at_value();
    }
    buckets
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    operations! {
        /// For these tests.
        enum Op of "test" { Read "read", Write "write", Sync "sync", }
    }

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
        let read = &snapshot[0];
        assert_eq!(
            (read.name, read.count, read.pending, read.bytes),
            (Op::Read.name(), 400, 100, 400 * 512)
        );
        assert!(read.p50 >= Duration::from_micros(10) && read.p50 < Duration::from_micros(11));
        assert_eq!(read.total, Duration::from_millis(4));
        let write = &snapshot[1];
        assert_eq!(write.name, Op::Write.name());
        assert!(write.max >= Duration::from_millis(990));
    }

    #[test]
    fn every_operation_is_in_one_bucket() {
        let stats = Stats::new();
        let times = [1, 700, 30_000, 2_000_000, 999_000_000_000];
        for nanos in times {
            stats.record(Op::Sync, Duration::from_nanos(nanos), false, 0);
        }
        let sync = &stats.snapshot()[0];
        assert_eq!(sync.buckets.iter().sum::<u64>(), times.len() as u64);
        assert_eq!((sync.buckets[0], sync.buckets[5]), (2, 1));
        assert_eq!(sync.buckets.last(), Some(&1));
    }

    #[test]
    fn two_front_ends_do_not_mix() {
        let (one, two) = (Stats::new(), Stats::new());
        one.record(Op::Read, Duration::ZERO, false, 0);
        two.record(Op::Write, Duration::ZERO, false, 0);
        one.record(Op::Read, Duration::ZERO, false, 0);
        assert_eq!(one.snapshot().len(), 1);
        assert_eq!(one.snapshot()[0].count, 2);
        assert_eq!(two.snapshot()[0].name, "write");
        assert_eq!(two.front(), "test");
    }

    #[test]
    fn slower_than_an_hour_is_an_hour() {
        let stats = Stats::new();
        stats.record(Op::Sync, Duration::from_secs(100_000), true, 0);
        assert_eq!(stats.snapshot()[0].count, 1);
    }
}
