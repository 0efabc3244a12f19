//! Readers while maps move between the layers.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use super::*;

fn number(value: &[u8]) -> u64 {
    u64::from_le_bytes(value.try_into().unwrap())
}

/// All keys are written by every revision; a reader must never miss one, see
/// it go back, or see two revisions in a scan that promises one.
fn nothing_vanishes(backend: Arc<dyn Backend>) {
    const KEYS: u8 = 40;
    const REVISIONS: u64 = 3000;
    let projection = Projection::open(backend, restless()).unwrap();
    let write = |revision: u64| {
        let mut batch = Batch::default();
        for key in 0..KEYS {
            batch.put([key], revision.to_le_bytes().to_vec());
        }
        // One that comes and goes, to be hidden in every layer.
        if revision.is_multiple_of(2) {
            batch.put([7, 0], revision.to_le_bytes().to_vec());
        } else {
            batch.delete([7, 0]);
        }
        projection.apply(Revision(revision), &mut batch);
    };
    write(1);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut seen = [0; KEYS as usize];
            let mut key = 0;
            while !done.load(Ordering::Relaxed) {
                key = (key + 1) % KEYS;
                let value = projection.get(&[key]).unwrap().expect("a key vanished");
                let seen = &mut seen[usize::from(key)];
                assert!(number(&value) >= *seen);
                *seen = number(&value);
            }
        });
        scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let found = collect(&projection, &[], &[255], usize::MAX);
                let revision: u64 = number(&found[0].1);
                assert!(revision >= last);
                last = revision;
                assert!(found.iter().all(|(_, value)| number(value) == revision));
                let extra = usize::from(revision.is_multiple_of(2));
                assert_eq!(found.len(), usize::from(KEYS) + extra);
                assert!(found.is_sorted_by(|a, b| a.0 < b.0));
            }
        });
        for revision in 2..=REVISIONS {
            write(revision);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn nothing_vanishes_from_memory() {
    nothing_vanishes(Arc::new(MemoryBackend::new()));
}

#[test]
fn nothing_vanishes_from_redb() {
    nothing_vanishes(Arc::new(super::redb(&TestDisk::default()).unwrap()));
}

#[test]
fn a_long_scan_visits_what_stays_exactly_once() {
    const KEYS: u32 = 6000;
    let projection = Projection::open(Arc::new(MemoryBackend::new()), restless()).unwrap();
    let mut batch = Batch::default();
    for key in (0..KEYS).step_by(2) {
        batch.put(key.to_be_bytes(), &b"stays"[..]);
    }
    projection.apply(Revision(1), &mut batch);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut revision = 1_u64;
            while !done.load(Ordering::Relaxed) {
                revision += 1;
                let mut batch = Batch::default();
                for n in 0..50 {
                    let key = (revision as u32 * 7919 + n * 104_729) % (KEYS / 2) * 2;
                    batch.put(key.to_be_bytes(), &b"stays"[..]);
                    if revision.is_multiple_of(2) {
                        batch.put((key + 1).to_be_bytes(), &b"comes"[..]);
                    } else {
                        batch.delete((key + 1).to_be_bytes());
                    }
                }
                projection.apply(Revision(revision), &mut batch);
            }
        });
        for _ in 0..100 {
            let found = collect(&projection, &[], &[255; 5], usize::MAX);
            assert!(found.is_sorted_by(|a, b| a.0 < b.0));
            let stays = found.iter().filter(|(_, value)| value == b"stays");
            assert_eq!(stays.count(), KEYS as usize / 2);
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// A backend that waits for permission to write.
struct Gate {
    inner: MemoryBackend,
    open: parking_lot::Mutex<bool>,
    opened: parking_lot::Condvar,
}

impl Backend for Gate {
    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.inner.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<Revision> {
        self.inner.scan(from, to, visit)
    }

    fn write<'a>(
        &self,
        changes: &mut (dyn Iterator<Item = Change<'a>> + 'a),
        revision: Revision,
        durable: bool,
    ) -> Result<()> {
        let mut open = self.open.lock();
        while !*open {
            self.opened.wait(&mut open);
        }
        self.inner.write(changes, revision, durable)
    }

    fn applied(&self) -> Result<Revision> {
        self.inner.applied()
    }
}

#[test]
fn a_slow_backend_holds_the_caller_back_and_lets_it_go() {
    let gate = Arc::new(Gate {
        inner: MemoryBackend::new(),
        open: parking_lot::Mutex::new(false),
        opened: parking_lot::Condvar::new(),
    });
    let options = ProjectionOptions {
        max_entries: 20,
        ..resting()
    };
    let projection = Projection::open(gate.clone(), options).unwrap();
    let applied = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for revision in 1..=1000_u64 {
                put(&projection, revision, &revision.to_be_bytes(), b"v");
                applied.store(revision, Ordering::SeqCst);
            }
        });
        while applied.load(Ordering::SeqCst) < 20 {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(20));
        assert_eq!(applied.load(Ordering::SeqCst), 20);
        // Readers are not held back.
        assert!(projection.get(&20_u64.to_be_bytes()).unwrap().is_some());
        *gate.open.lock() = true;
        gate.opened.notify_all();
    });
    projection.close().unwrap();
    assert_eq!(gate.applied().unwrap(), Revision(1000));
}

#[test]
fn a_revision_without_changes_counts() {
    let projection = Projection::open(Arc::new(MemoryBackend::new()), resting()).unwrap();
    projection.apply(Revision(4), &mut Batch::default());
    assert_eq!(projection.applied(), Revision(4));
    assert_eq!(projection.checkpoint().unwrap(), Revision(4));
}

#[test]
fn time_alone_moves_and_checkpoints() {
    let backend = Arc::new(MemoryBackend::new());
    let projection = Projection::open(backend.clone(), restless()).unwrap();
    put(&projection, 1, b"k", b"v");
    while projection.checkpointed() < Revision(1) {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(backend.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
}
