//! The disk fails while the log is open.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::host::Fault;

use super::*;

fn assert_failed(log: &Log) {
    let why = log.failed().unwrap();
    assert!(why.contains("log/0000000000000001.log"), "{why}");
    assert!(matches!(log.append(b"x"), Err(Error::ReadOnly(_))));
    assert!(matches!(
        log.sync_blocking(log.head()),
        Err(Error::ReadOnly(_))
    ));
    let answer = log.sync(log.head());
    assert!(matches!(answer, Answer::Ready(Err(Error::ReadOnly(_)))));
    assert!(matches!(log.close(), Err(Error::ReadOnly(_))));
}

#[test]
fn after_a_failed_sync_nothing_ever_succeeds() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, when_asked()).unwrap();
    fill(&log, 5, 5);
    log.append(b"doubtful").unwrap();
    disk.fail_after(0, Fault::Sync);
    let failed = log.sync_blocking(log.head());
    assert!(matches!(failed, Err(Error::ReadOnly(_))));
    let operations = disk.operations();
    assert_failed(&log);
    assert_eq!(disk.operations(), operations, "nothing is tried again");
    assert_eq!(log.durable(), Revision(5));
    log.sync_blocking(Revision(5)).unwrap();
    for seed in 0..20 {
        let (_, records) = open(&disk.crash(seed), when_asked()).unwrap();
        assert_eq!(records.len(), 5);
    }
}

#[test]
fn after_a_failed_write_nothing_ever_succeeds() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, when_asked()).unwrap();
    fill(&log, 5, 5);
    log.append(&[1; 2000]).unwrap();
    disk.fail_after(0, Fault::Write);
    log.sync_blocking(log.head()).unwrap_err();
    assert_failed(&log);
    for seed in 0..20 {
        let (_, records) = open(&disk.crash(seed), when_asked()).unwrap();
        assert_eq!(records.len(), 5);
    }
}

#[test]
fn a_full_disk_is_found_before_writing_and_survived() {
    let disk = MemoryDisk::new();
    let options = LogOptions {
        max_unwritten: 1000,
        ..short_files()
    };
    let (log, _) = open(&disk, options).unwrap();
    fill(&log, 5, 5);
    disk.fail_after(0, Fault::Enospc);
    // More than is set aside, so that room has to be found.
    let big = vec![1; 5000];
    log.append(&big).unwrap();
    let full = log.sync_blocking(log.head());
    assert!(matches!(full, Err(Error::NoSpace)));
    assert_eq!(log.failed(), None);
    // The buffer still takes records until it is full: one can delete files.
    log.append(&[2; 900]).unwrap();
    assert!(matches!(log.append(&[3; 900]), Err(Error::NoSpace)));
    assert!(matches!(log.close(), Err(Error::NoSpace)));
    let image = disk.crash(0);
    assert_eq!(check(&image).problems, []);

    disk.clear_faults();
    log.append(b"x").unwrap();
    log.sync_blocking(log.head()).unwrap();
    log.close().unwrap();
    let (_, records) = open(&disk, when_asked()).unwrap();
    assert_eq!(records.len(), 8);
    assert_eq!(records[5], big);
}

#[test]
fn a_full_disk_at_the_start_of_a_file_is_survived() {
    for passes in 0..3 {
        let disk = MemoryDisk::new();
        let (log, _) = open(&disk, short_files()).unwrap();
        while written(&disk, &disk.paths()[0]) < 400 {
            fill(&log, log.head().0 + 1, 1);
        }
        let durable = log.head();
        disk.fail_after(passes, Fault::Enospc);
        log.append(b"next").unwrap();
        let full = log.sync_blocking(log.head());
        if log.failed().is_some() {
            // Only bytes of the new file's header were in doubt.
            let (_, records) = open(&disk.crash(passes), when_asked()).unwrap();
            assert_eq!(records.len() as u64, durable.0);
            continue;
        }
        assert!(matches!(full, Err(Error::NoSpace)), "{passes}");
        disk.clear_faults();
        log.sync_blocking(log.head()).unwrap();
        log.close().unwrap();
        let (_, records) = open(&disk.crash(1), when_asked()).unwrap();
        assert_eq!(records.len() as u64, durable.0 + 1);
    }
}

#[test]
fn a_full_disk_that_reserves_nothing_is_survived_at_the_start_of_a_file() {
    for passes in 0..2 {
        let disk = MemoryDisk::new();
        disk.reserve_nothing();
        let (log, _) = open(&disk, short_files()).unwrap();
        while written(&disk, &disk.paths()[0]) < 400 {
            fill(&log, log.head().0 + 1, 1);
        }
        let durable = log.head();
        disk.fail_after(passes, Fault::Enospc);
        log.append(b"next").unwrap();
        let full = log.sync_blocking(log.head());
        assert!(matches!(full, Err(Error::NoSpace)), "{passes}: {full:?}");
        assert_eq!(log.failed(), None);
        for seed in 0..5 {
            let (_, records) = open(&disk.crash(seed), when_asked()).unwrap();
            assert_eq!(records.len() as u64, durable.0);
        }
        disk.clear_faults();
        log.sync_blocking(log.head()).unwrap();
        log.close().unwrap();
        let (_, records) = open(&disk.crash(1), when_asked()).unwrap();
        assert_eq!(records.len() as u64, durable.0 + 1);
    }
}

fn with_barrier(barrier: impl Fn() -> Result<()> + Send + Sync + 'static) -> LogOptions {
    LogOptions {
        barrier: Arc::new(barrier),
        ..when_asked()
    }
}

#[test]
fn the_barrier_comes_before_each_write() {
    let disk = MemoryDisk::new();
    let calls = Arc::new(AtomicU64::new(0));
    let (counted, seen) = (calls.clone(), disk.clone());
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let noted = sizes.clone();
    let options = with_barrier(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        noted.lock().push(written(&seen, &seen.paths()[0]));
        Ok(())
    });
    let (log, _) = open(&disk, options).unwrap();
    let mut expected = Vec::new();
    for _ in 0..3 {
        expected.push(written(&disk, &disk.paths()[0]));
        log.append(b"refers to data").unwrap();
        log.sync_blocking(log.head()).unwrap();
    }
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    assert_eq!(*sizes.lock(), expected, "not a byte before the barrier");
}

#[test]
fn a_barrier_without_room_is_survived_and_any_other_error_is_not() {
    let disk = MemoryDisk::new();
    let full = Arc::new(AtomicBool::new(true));
    let seen = full.clone();
    let (log, _) = open(
        &disk,
        with_barrier(move || match seen.load(Ordering::Relaxed) {
            true => Err(Error::NoSpace),
            false => Ok(()),
        }),
    )
    .unwrap();
    log.append(b"a").unwrap();
    assert!(matches!(
        log.sync_blocking(Revision(1)),
        Err(Error::NoSpace)
    ));
    log.append(b"b").unwrap();
    full.store(false, Ordering::Relaxed);
    log.sync_blocking(Revision(2)).unwrap();
    drop(log);
    assert_eq!(open(&disk.crash(0), when_asked()).unwrap().1, [b"a", b"b"]);

    let barrier = || Err(Error::damaged("log/0000000000000001.log", "no sync"));
    let (log, _) = open(&disk, with_barrier(barrier)).unwrap();
    log.append(b"c").unwrap();
    log.sync_blocking(Revision(3)).unwrap_err();
    assert_failed(&log);
    assert_eq!(open(&disk, when_asked()).unwrap().1.len(), 2);
}

#[test]
fn a_barrier_that_panics_leaves_nobody_waiting() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, with_barrier(|| panic!("on purpose"))).unwrap();
    log.append(b"a").unwrap();
    assert!(matches!(
        log.sync_blocking(Revision(1)),
        Err(Error::ReadOnly(_))
    ));
    assert!(matches!(log.append(b"b"), Err(Error::ReadOnly(_))));
}

#[test]
fn with_every_record_synced_a_full_disk_ends_the_log() {
    let disk = MemoryDisk::new();
    let options = LogOptions {
        policy: SyncPolicy::EveryRecord,
        ..LogOptions::default()
    };
    let (log, _) = open(&disk, options).unwrap();
    assert_eq!(log.append(b"a").unwrap(), log.durable());
    disk.fail_after(0, Fault::Enospc);
    let refused = log.append(&vec![0; 2 << 20]);
    assert!(matches!(refused, Err(Error::ReadOnly(_))));
    assert!(log.failed().is_some());
    assert_eq!(log.durable(), Revision(1));
}
