#![allow(clippy::unwrap_used)]

mod crash;
mod damage;
mod failure;
mod group;
mod pinned;
mod repair;

use crate::host::{DiskFile, MemoryDisk, OpenMode, OsDisk};

use super::*;

const VOLUME: VolumeId = VolumeId([7; 16]);

/// Writes only when asked to.
const WHEN_ASKED: SyncPolicy = SyncPolicy::Group(Duration::from_secs(3600));

fn when_asked() -> LogOptions {
    LogOptions {
        policy: WHEN_ASKED,
        set_aside: 2048,
        ..LogOptions::default()
    }
}

/// A log in memory that begins a new file at every few batches.
fn short_files() -> LogOptions {
    LogOptions {
        rotate_at: 400,
        ..when_asked()
    }
}

fn open_on(disk: Arc<dyn Disk>, options: LogOptions) -> Result<(Log, Vec<Vec<u8>>)> {
    let mut records = Vec::new();
    let mut replay = |revision: Revision, record: &[u8]| {
        records.push(record.to_vec());
        assert_eq!(revision.0, records.len() as u64);
        Ok(())
    };
    let log = Log::open(disk, "log", VOLUME, options, Revision(0), &mut replay)?;
    Ok((log, records))
}

fn open(disk: &MemoryDisk, options: LogOptions) -> Result<(Log, Vec<Vec<u8>>)> {
    open_on(Arc::new(disk.clone()), options)
}

fn check(disk: &MemoryDisk) -> VerifyReport {
    verify(disk, "log", VOLUME, None, &mut |_, _| {}).unwrap()
}

/// The bytes of every file.
fn snapshot(disk: &MemoryDisk) -> Vec<(String, Vec<u8>)> {
    let paths = disk.paths().into_iter();
    paths
        .map(|path| (path.clone(), bytes(disk, &path)))
        .collect()
}

fn bytes(disk: &MemoryDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Length of a file without the zeros at its end.
fn written(disk: &MemoryDisk, path: &str) -> usize {
    let bytes = bytes(disk, path);
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

/// A file for tampering.
fn edit(disk: &MemoryDisk, path: &str) -> Arc<dyn DiskFile> {
    disk.open(path, OpenMode::Write).unwrap()
}

/// A record whose length and bytes depend on its revision.
fn record(revision: u64) -> Vec<u8> {
    vec![revision as u8; (revision * 37 % 61) as usize]
}

/// Appends up to revision `to`, each batch of `per_batch` synced.
fn fill(log: &Log, to: u64, per_batch: u64) {
    while log.head().0 < to {
        let revision = log.append(&record(log.head().0 + 1)).unwrap();
        if revision.0.is_multiple_of(per_batch) || revision.0 == to {
            log.sync_blocking(revision).unwrap();
        }
    }
}

fn place_of(error: Error) -> String {
    match error {
        Error::Damaged { place, .. } => place.to_string(),
        other => panic!("not damage: {other}"),
    }
}

#[test]
fn records_come_back_in_order_through_many_files() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(dir.path().to_owned()).unwrap());
    let options = LogOptions {
        rotate_at: 1000,
        ..LogOptions::default()
    };
    let mut written: Vec<Vec<u8>> = Vec::new();
    for round in 0..5_u8 {
        let (log, records) = open_on(disk.clone(), options.clone()).unwrap();
        assert_eq!(records, written);
        assert_eq!(log.head().0, written.len() as u64);
        assert_eq!(log.durable(), log.head());
        for n in 0..40_u8 {
            let record = vec![round; n as usize];
            let revision = log.append(&record).unwrap();
            written.push(record);
            assert_eq!(revision.0, written.len() as u64);
            if n % 7 == 0 {
                log.sync_blocking(revision).unwrap();
                assert!(log.durable() >= revision);
            }
        }
        log.close().unwrap();
        log.close().unwrap();
        assert!(matches!(log.append(b"x"), Err(Error::Closed)));
    }
    assert!(disk.list("log").unwrap().len() > 3);
    let mut last = (0, 0);
    let report = verify(&*disk, "log", VOLUME, None, &mut |done, all| {
        last = (done, all)
    })
    .unwrap();
    assert_eq!((report.records, &report.problems[..]), (200, &[][..]));
    assert_eq!(report.span, Some((Revision(1), Revision(200))));
    assert_eq!(report.torn_tail, None);
    assert_eq!(last, (report.bytes, report.bytes));
}

#[test]
fn replay_starts_behind_what_the_caller_has() {
    let disk = MemoryDisk::new();
    fill(&open(&disk, short_files()).unwrap().0, 100, 3);
    let mut seen = Vec::new();
    let mut replay = |revision: Revision, bytes: &[u8]| {
        assert_eq!(bytes, record(revision.0));
        seen.push(revision.0);
        Ok(())
    };
    let options = when_asked();
    let head = Log::read(&disk, "log", VOLUME, &options, Revision(41), &mut replay).unwrap();
    assert_eq!(head, Revision(100));
    assert_eq!(seen, (42..=100).collect::<Vec<_>>());
    // A caller that has more than the log is told that the log lost something.
    let lost = Log::read(
        &disk,
        "log",
        VOLUME,
        &options,
        Revision(101),
        &mut |_, _| Ok(()),
    );
    place_of(lost.unwrap_err());
}

#[test]
fn an_error_of_replay_changes_nothing() {
    let disk = MemoryDisk::new();
    fill(&open(&disk, when_asked()).unwrap().0, 10, 5);
    let path = disk.paths().pop().unwrap();
    let end = edit(&disk, &path).len().unwrap();
    edit(&disk, &path).write_at(b"torn", end).unwrap();
    let before = snapshot(&disk);
    let stop = &mut |_, _: &[u8]| Err(Error::Closed);
    let disk_ = Arc::new(disk.clone());
    let stopped = Log::open(disk_, "log", VOLUME, when_asked(), Revision(0), stop);
    assert!(matches!(stopped, Err(Error::Closed)));
    assert_eq!(snapshot(&disk), before);
}

#[test]
fn cutting_removes_whole_files_below_a_revision() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, short_files()).unwrap();
    fill(&log, 100, 3);
    let files = disk.paths().len();
    log.cut(Revision(50)).unwrap();
    let left = disk.paths();
    assert!(left.len() < files && left.len() > 1);
    log.close().unwrap();
    let mut seen = Vec::new();
    let mut replay = |revision: Revision, _: &[u8]| {
        seen.push(revision.0);
        Ok(())
    };
    let from = Revision(49);
    let log = Log::open(
        Arc::new(disk.clone()),
        "log",
        VOLUME,
        when_asked(),
        from,
        &mut replay,
    );
    let log = log.unwrap();
    assert_eq!(seen, (50..=100).collect::<Vec<_>>());
    log.cut(Revision(1000)).unwrap();
    assert_eq!(disk.paths().len(), 1, "the file being written stays");
    assert_eq!(check(&disk).problems, []);
    drop(log);
    // A caller that lacks what was cut away is told so.
    place_of(open(&disk, when_asked()).unwrap_err());
}

#[test]
fn records_of_any_length_up_to_the_limit() {
    let disk = MemoryDisk::new();
    let options = LogOptions {
        max_unwritten: 1000,
        ..when_asked()
    };
    let (log, _) = open(&disk, options).unwrap();
    let records = [
        vec![],
        vec![1; 999],
        vec![2; MAX_RECORD],
        vec![3; 5000],
        vec![],
    ];
    for record in &records {
        log.append(record).unwrap();
    }
    let refused = log.append(&vec![0; MAX_RECORD + 1]);
    assert!(matches!(refused, Err(Error::Invalid(_))));
    log.close().unwrap();
    assert_eq!(open(&disk, when_asked()).unwrap().1, records);
}
