//! Group commit: who waits, for how long, and how many share a sync.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use super::*;

#[test]
fn many_who_sync_at_once_share_syncs() {
    let disk = MemoryDisk::new();
    let syncs = Arc::new(AtomicU64::new(0));
    let counted = syncs.clone();
    let options = LogOptions {
        // Slow like a disk.
        barrier: Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(2));
            Ok(())
        }),
        ..when_asked()
    };
    let (log, _) = open(&disk, options).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let revision = log.append(b"record").unwrap();
                    log.sync_blocking(revision).unwrap();
                    assert!(log.durable() >= revision);
                }
            });
        }
    });
    let syncs = syncs.load(Ordering::Relaxed);
    assert!(syncs <= 100, "{syncs} syncs for 200 callers");
    log.close().unwrap();
    assert_eq!(open(&disk, when_asked()).unwrap().1.len(), 200);
}

#[test]
fn records_become_durable_within_the_delay_unasked() {
    for policy in [
        SyncPolicy::EveryBatch,
        SyncPolicy::Group(Duration::from_millis(20)),
        SyncPolicy::Os,
    ] {
        let options = LogOptions {
            policy,
            ..LogOptions::default()
        };
        let disk = MemoryDisk::new();
        let (log, _) = open(&disk, options).unwrap();
        for n in 1..4 {
            let begun = Instant::now();
            log.append(b"record").unwrap();
            while log.durable().0 < n {
                assert!(begun.elapsed() < Duration::from_secs(10), "{policy:?}");
                thread::sleep(Duration::from_millis(1));
            }
            if let SyncPolicy::Group(delay) = policy {
                assert!(begun.elapsed() >= delay, "gathers until the delay is over");
            }
        }
    }
}

#[test]
fn a_full_buffer_is_written_without_asking() {
    let disk = MemoryDisk::new();
    let options = LogOptions {
        max_unwritten: 10_000,
        ..when_asked()
    };
    let (log, _) = open(&disk, options).unwrap();
    for _ in 0..1000 {
        log.append(&[1; 100]).unwrap();
    }
    assert!(log.durable().0 > 800);
    log.close().unwrap();
    let report = check(&disk);
    assert_eq!(report.records, 1000);
    assert!(report.batches >= 10, "no batch is larger than the buffer");
}

#[test]
fn answers_are_ready_or_woken() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, when_asked()).unwrap();
    assert!(matches!(log.sync(Revision(0)), Answer::Ready(Ok(()))));
    let beyond = log.sync(Revision(1));
    assert!(matches!(beyond, Answer::Ready(Err(Error::Invalid(_)))));
    let revision = log.append(b"a").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    let answer = log.sync(revision);
    runtime.block_on(answer.get()).unwrap();
    assert_eq!(log.durable_point().0, revision);
    assert!(matches!(log.sync(revision), Answer::Ready(Ok(()))));
    // An answer nobody waits for does no harm.
    let revision = log.append(b"b").unwrap();
    drop(log.sync(revision));
    log.sync_blocking(revision).unwrap();
}

#[test]
fn dropping_an_open_log_loses_what_was_not_durable() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, when_asked()).unwrap();
    fill(&log, 3, 3);
    log.append(b"lost").unwrap();
    drop(log);
    assert_eq!(open(&disk, when_asked()).unwrap().1.len(), 3);
}

#[test]
fn closing_makes_everything_durable() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, when_asked()).unwrap();
    for _ in 0..10 {
        log.append(b"record").unwrap();
    }
    log.close().unwrap();
    assert!(matches!(log.append(b"x"), Err(Error::Closed)));
    assert_eq!(open(&disk.crash(0), when_asked()).unwrap().1.len(), 10);
}

#[test]
#[ignore = "prints times and checks nothing; docs/testing.md, Measures"]
fn log_speed() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(OsDisk::open(dir.path().to_owned()).unwrap());
    let (log, _) = open_on(disk, LogOptions::default()).unwrap();
    const COUNT: u64 = 4_000_000;
    let record = [7; 160];
    let begun = Instant::now();
    for _ in 0..COUNT {
        log.append(&record).unwrap();
    }
    let appended = begun.elapsed();
    log.sync_blocking(log.head()).unwrap();
    let durable = begun.elapsed();
    let rate = COUNT as f64 / durable.as_secs_f64();
    println!(
        "append {} ns, {rate:.0} records/s durable",
        appended.as_nanos() as u64 / COUNT
    );
    const ALONE: u64 = 100_000;
    let mut spent = Duration::ZERO;
    for _ in 0..20 {
        let begun = Instant::now();
        for _ in 0..ALONE / 20 {
            log.append(&record).unwrap();
        }
        spent += begun.elapsed();
        log.sync_blocking(log.head()).unwrap();
    }
    println!(
        "append while the disk rests {} ns",
        spent.as_nanos() as u64 / ALONE
    );
    let begun = Instant::now();
    for _ in 0..1000 {
        let revision = log.append(&record).unwrap();
        log.sync_blocking(revision).unwrap();
    }
    println!("append and sync {} us", begun.elapsed().as_micros() / 1000);
}
