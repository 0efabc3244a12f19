//! Power loss, damage and failing disks.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::Error;

const FILE: &str = "meta/projection";

/// A small generator; the same numbers every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

const KEYS: u64 = 200;

/// Every revision writes itself to keys that follow from it and deletes one.
fn changes(revision: u64) -> (Vec<u64>, u64) {
    let mut random = Random(revision * 0x9E37_79B9 + 1);
    let written = (0..8).map(|_| random.next() % KEYS).collect();
    (written, random.next() % KEYS)
}

fn apply(projection: &Projection, revision: u64) {
    let (written, deleted) = changes(revision);
    let mut batch = Batch::default();
    for key in written {
        batch.put(key.to_be_bytes(), vec![revision as u8; 100 + key as usize]);
    }
    batch.delete(deleted.to_be_bytes());
    projection.apply(Revision(revision), &mut batch);
}

fn expected(revision: u64) -> Pairs {
    let mut model = std::collections::BTreeMap::new();
    for revision in 1..=revision {
        let (written, deleted) = changes(revision);
        for key in written {
            let value = vec![revision as u8; 100 + key as usize];
            model.insert(key.to_be_bytes().to_vec(), value);
        }
        model.remove(&deleted.to_be_bytes()[..]);
    }
    model.into_iter().collect()
}

#[test]
fn power_loss_leaves_a_prefix_not_ahead_of_the_log() {
    let mut random = Random(7);
    let disk = TestDisk::default();
    let log_durable = Arc::new(AtomicU64::new(0));
    let options = ProjectionOptions {
        before_checkpoint: {
            let log_durable = log_durable.clone();
            Arc::new(move |revision| {
                log_durable.fetch_max(revision.0, Ordering::SeqCst);
                Ok(())
            })
        },
        ..restless()
    };
    // A small cache, so that pages reach the file before their commit.
    let as_disk: Arc<dyn crate::host::Disk> = Arc::new(disk.clone());
    let backend = RedbBackend::open(&as_disk, FILE, OWNER, 0).unwrap();
    let projection = Projection::open(Arc::new(backend), options).unwrap();
    let mut reached = std::collections::BTreeSet::new();
    for revision in 1..=1500 {
        apply(&projection, revision);
        if revision % 5 != 0 {
            continue;
        }
        let least = projection.checkpointed();
        let probability = random.next() % 5;
        let image = disk.image(|| random.next() % 4 < probability);
        let most = log_durable.load(Ordering::SeqCst);
        let backend = super::redb(&image).unwrap();
        let survivor = Projection::open(Arc::new(backend), resting()).unwrap();
        let applied = survivor.applied();
        assert!(least <= applied && applied.0 <= most);
        let content = collect(&survivor, &[], &[255; 9], usize::MAX);
        assert_eq!(content, expected(applied.0), "at {applied:?}");
        reached.insert(applied);
    }
    assert!(reached.len() > 5, "the images should differ: {reached:?}");
}

#[test]
fn dropping_makes_nothing_durable() {
    let disk = TestDisk::default();
    let backend = Arc::new(super::redb(&disk).unwrap());
    let projection = Projection::open(backend.clone(), resting()).unwrap();
    apply(&projection, 1);
    projection.checkpoint().unwrap();
    apply(&projection, 2);
    drop(projection);
    // What the thread of a projection moves between checkpoints.
    backend
        .write(
            &mut [(&b"k"[..], Some(&b"v"[..]))].into_iter(),
            Revision(2),
            false,
        )
        .unwrap();
    assert_eq!(backend.applied().unwrap(), Revision(2));
    drop(backend);

    let projection = Projection::open(Arc::new(super::redb(&disk).unwrap()), resting()).unwrap();
    assert_eq!(projection.applied(), Revision(1));
    assert_eq!(
        collect(&projection, &[], &[255; 9], usize::MAX),
        expected(1)
    );
}

#[test]
fn closing_keeps_all() {
    let disk = TestDisk::default();
    let projection = Projection::open(Arc::new(super::redb(&disk).unwrap()), resting()).unwrap();
    for revision in 1..=20 {
        apply(&projection, revision);
    }
    projection.close().unwrap();
    projection.close().unwrap();
    assert!(matches!(projection.checkpoint(), Ok(Revision(20))));
    drop(projection);

    let image = disk.image(|| false);
    let projection = Projection::open(Arc::new(super::redb(&image).unwrap()), resting()).unwrap();
    assert_eq!(projection.applied(), Revision(20));
    assert_eq!(
        collect(&projection, &[], &[255; 9], usize::MAX),
        expected(20)
    );
}

#[test]
fn a_replay_may_begin_early() {
    let projection = Projection::open(Arc::new(MemoryBackend::new()), restless()).unwrap();
    for revision in (1..=20).chain(5..=30) {
        apply(&projection, revision);
    }
    assert_eq!(
        collect(&projection, &[], &[255; 9], usize::MAX),
        expected(30)
    );
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    let disk = TestDisk::default();
    let projection = Projection::open(Arc::new(super::redb(&disk).unwrap()), resting()).unwrap();
    for revision in 1..=50 {
        apply(&projection, revision);
    }
    projection.close().unwrap();
    drop(projection);
    let intact = disk.bytes(FILE);
    let as_disk: Arc<dyn crate::host::Disk> = Arc::new(disk.clone());
    RedbBackend::verify(&as_disk, FILE, 0).unwrap();

    let mut random = Random(3);
    let mut refused = 0;
    let mut try_open = |bytes: Vec<u8>| {
        let damaged = TestDisk::default();
        damaged.put(FILE, bytes);
        let outcome = super::redb(&damaged).and_then(|backend| {
            backend.applied()?;
            backend.scan(&[], &[255; 9], &mut |_, _| ControlFlow::Continue(()))?;
            backend.write(&mut std::iter::empty(), Revision(99), true)
        });
        match outcome {
            Ok(()) => false,
            Err(Error::Damaged { place, .. }) => {
                assert_eq!(&*place, FILE);
                refused += 1;
                true
            }
            // A newer format is what a changed number looks like.
            Err(Error::FormatVersion { .. }) => true,
            Err(error) => panic!("{error}"),
        }
    };
    for (at, len) in [(0, 9), (0, 4096), (16, 300)] {
        let mut bytes = intact.clone();
        bytes[at..at + len].fill(0xA5);
        assert!(try_open(bytes));
    }
    assert!(try_open(intact[..100].to_vec()));
    assert!(try_open(b"something else".to_vec()));
    for _ in 0..200 {
        let mut bytes = intact.clone();
        let at = random.next() as usize % (bytes.len() / 64) * 64;
        bytes[at..at + 64].fill(random.next() as u8);
        try_open(bytes);
    }
    assert!(refused > 5);
}

#[test]
fn a_failing_disk_stops_the_moving_and_nothing_else() {
    let disk = TestDisk::default();
    let options = ProjectionOptions {
        max_entries: 10,
        ..restless()
    };
    let projection = Projection::open(Arc::new(super::redb(&disk).unwrap()), options).unwrap();
    apply(&projection, 1);
    projection.checkpoint().unwrap();
    disk.fail();
    apply(&projection, 2);
    assert!(matches!(projection.checkpoint(), Err(Error::ReadOnly(_))));
    let reason = projection.failed().unwrap();
    assert!(reason.contains(FILE), "{reason}");
    // Far over the bound, and still neither blocked nor lost.
    for revision in 3..=50 {
        apply(&projection, revision);
    }
    assert_eq!(projection.checkpointed(), Revision(1));
    assert_eq!(
        collect(&projection, &[], &[255; 9], usize::MAX),
        expected(50)
    );
    assert!(matches!(projection.close(), Err(Error::ReadOnly(_))));
}

#[test]
fn a_log_that_fails_stops_the_checkpoint() {
    let disk = TestDisk::default();
    let options = ProjectionOptions {
        before_checkpoint: Arc::new(|_| Err(Error::NoSpace)),
        ..resting()
    };
    let projection = Projection::open(Arc::new(super::redb(&disk).unwrap()), options).unwrap();
    apply(&projection, 1);
    assert!(projection.checkpoint().is_err());
    assert_eq!(projection.checkpointed(), Revision(0));
    drop(projection);
    assert_eq!(super::redb(&disk).unwrap().applied().unwrap(), Revision(0));
}
