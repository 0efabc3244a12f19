//! The signed checkpoint: history it vouches for cannot change unnoticed.

use super::*;

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn keyed() -> LogOptions {
    LogOptions {
        key: Some(signer().verifying_key()),
        ..short_files()
    }
}

fn check_keyed(disk: &MemoryDisk) -> VerifyReport {
    let key = signer().verifying_key();
    verify(disk, "log", VOLUME, Some(&key), &mut |_, _| {}).unwrap()
}

/// Refused by open, and reported by verify.
fn assert_refused(disk: &MemoryDisk, from: u64) {
    let before = snapshot(disk);
    let mut replay = |_, _: &[u8]| Ok(());
    let disk_ = Arc::new(disk.clone());
    let opened = Log::open(disk_, "log", VOLUME, keyed(), Revision(from), &mut replay);
    place_of(opened.unwrap_err());
    assert_ne!(check_keyed(disk).problems, []);
    assert_eq!(snapshot(disk), before);
}

/// A log of 60 records with a checkpoint at 30.
fn pinned() -> (MemoryDisk, Log) {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, keyed()).unwrap();
    fill(&log, 30, 3);
    assert_eq!(log.checkpoint(&signer()).unwrap(), Revision(30));
    fill(&log, 60, 3);
    (disk, log)
}

#[test]
fn a_checkpoint_survives_and_is_checked() {
    let (disk, log) = pinned();
    drop(log);
    let image = disk.crash(4);
    let report = check_keyed(&image);
    assert_eq!(
        (report.checkpoint, report.signature_checked),
        (Some(Revision(30)), true)
    );
    assert_eq!(report.problems, []);
    let (log, records) = open(&image, keyed()).unwrap();
    assert_eq!(records.len(), 60);
    assert_eq!(log.checkpoint(&signer()).unwrap(), Revision(60));
    assert_eq!(check_keyed(&image).checkpoint, Some(Revision(60)));
    assert!(!check(&image).signature_checked);
}

#[test]
fn nothing_is_cut_behind_the_checkpoint() {
    let (disk, log) = pinned();
    log.cut(Revision(1000)).unwrap();
    let first = check_keyed(&disk).span.unwrap().0;
    assert!(first.0 > 1 && first.0 <= 31, "{first:?}");
    drop(log);
    let disk_ = Arc::new(disk.clone());
    let mut replay = |_, _: &[u8]| Ok(());
    Log::open(disk_, "log", VOLUME, keyed(), Revision(30), &mut replay).unwrap();

    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, keyed()).unwrap();
    fill(&log, 60, 3);
    let before = snapshot(&disk);
    log.cut(Revision(1000)).unwrap();
    assert_eq!(snapshot(&disk), before, "no checkpoint, nothing cut");
}

#[test]
fn history_rewritten_by_someone_without_the_key_is_refused() {
    let (disk, log) = pinned();
    drop(log);
    let checkpoint = bytes(&disk, "log/checkpoint");
    let image = disk.crash(0);
    // A log with other records, whole in itself, under the old checkpoint.
    let forged = MemoryDisk::new();
    let (log, _) = open(&forged, short_files()).unwrap();
    for _ in 0..60 {
        log.append(b"forged").unwrap();
        log.sync_blocking(log.head()).unwrap();
    }
    log.close().unwrap();
    assert_eq!(check(&forged).problems, []);
    let file = forged.open("log/checkpoint", OpenMode::Create).unwrap();
    file.write_at(&checkpoint, 0).unwrap();
    assert_refused(&forged, 0);

    // The last files taken away: a return to an older state.
    for path in image
        .paths()
        .iter()
        .filter(|path| path.ends_with(".log"))
        .skip(3)
    {
        image.remove(path).unwrap();
    }
    assert_refused(&image, 0);
}

#[test]
fn a_log_that_starts_behind_its_checkpoint_is_refused() {
    let (disk, log) = pinned();
    drop(log);
    for path in disk.paths() {
        if format::parse_file_name(path.trim_start_matches("log/")).is_some_and(|first| first < 45)
        {
            disk.remove(&path).unwrap();
        }
    }
    assert_refused(&disk, 59);
}

#[test]
fn a_cut_log_without_its_checkpoint_is_refused() {
    let (disk, log) = pinned();
    log.cut(Revision(1000)).unwrap();
    drop(log);
    disk.remove("log/checkpoint").unwrap();
    assert_refused(&disk, 30);
}

#[test]
fn a_changed_or_foreign_checkpoint_is_refused() {
    let (disk, log) = pinned();
    drop(log);
    let whole = bytes(&disk, "log/checkpoint");
    for (at, byte) in whole.iter().enumerate() {
        let image = disk.crash(0);
        edit(&image, "log/checkpoint")
            .write_at(&[byte ^ 1], at as u64)
            .unwrap();
        assert_refused(&image, 0);
    }
    edit(&disk, "log/checkpoint").set_len(100).unwrap();
    assert_refused(&disk, 0);

    // Signed by another key, all else right: only the key tells.
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, short_files()).unwrap();
    fill(&log, 30, 3);
    log.checkpoint(&SigningKey::from_bytes(&[6; 32])).unwrap();
    drop(log);
    assert_refused(&disk, 0);
    assert_eq!(check(&disk).problems, []);
}

#[test]
fn torn_bytes_below_the_checkpoint_are_damage() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, keyed()).unwrap();
    fill(&log, 2, 2);
    log.checkpoint(&signer()).unwrap();
    log.close().unwrap();
    let path = disk.paths().remove(0);
    let len = edit(&disk, &path).len().unwrap();
    edit(&disk, &path).set_len(len - 1).unwrap();
    assert_refused(&disk, 0);
}
