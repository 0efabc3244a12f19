//! Repair: what holds and is needed stays, and the log opens again.

use ed25519_dalek::SigningKey;

use super::*;

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// Three files with two batches of two records each, signed at the end.
fn small() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let options = LogOptions {
        rotate_at: 300,
        ..when_asked()
    };
    let (log, _) = open(&disk, options).unwrap();
    fill(&log, 12, 2);
    log.checkpoint(&signer()).unwrap();
    log.close().unwrap();
    disk.crash(0)
}

/// Repairs for tables that hold everything up to `applied`, and opens: the
/// records behind that.
fn mended(disk: &MemoryDisk, applied: u64) -> (Repaired, Vec<u64>) {
    let key = signer();
    let done = repair(disk, "log", VOLUME, Revision(applied), &key).unwrap();
    let options = LogOptions {
        known_durable: Revision(applied),
        key: Some(key.verifying_key()),
        ..when_asked()
    };
    let mut seen = Vec::new();
    let mut replay = |revision: Revision, bytes: &[u8]| {
        assert_eq!(bytes, record(revision.0));
        seen.push(revision.0);
        Ok(())
    };
    let shared = Arc::new(disk.clone());
    let log = Log::open(
        shared,
        "log",
        VOLUME,
        options,
        Revision(applied),
        &mut replay,
    );
    let log = log.unwrap();
    assert_eq!(log.head(), done.end);
    log.append(b"more").unwrap();
    log.close().unwrap();
    let report = verify(
        disk,
        "log",
        VOLUME,
        Some(&key.verifying_key()),
        &mut |_, _| {},
    );
    assert_eq!(report.unwrap().problems, []);
    (done, seen)
}

#[test]
fn a_sound_log_stays_as_it_is() {
    let disk = small();
    let before = snapshot(&disk);
    let done = repair(&disk, "log", VOLUME, Revision(5), &signer()).unwrap();
    assert_eq!(
        (done.end, done.lost, done.aside),
        (Revision(12), None, vec![])
    );
    assert_eq!(snapshot(&disk), before);
}

#[test]
fn after_any_damage_the_log_opens_and_tells_what_is_lost() {
    let whole = small();
    for (path, contents) in snapshot(&whole) {
        for at in (0..contents.len()).step_by(7) {
            for applied in [0, 4, 12] {
                let flipped = whole.crash(0);
                let byte = contents[at] ^ (1 << (at % 8));
                edit(&flipped, &path).write_at(&[byte], at as u64).unwrap();
                check_mended(&flipped, applied);
                let cut = whole.crash(0);
                edit(&cut, &path).set_len(at as u64).unwrap();
                check_mended(&cut, applied);
            }
        }
        for applied in [0, 4, 12] {
            let disk = whole.crash(0);
            disk.remove(&path).unwrap();
            check_mended(&disk, applied);
        }
    }
}

fn check_mended(disk: &MemoryDisk, applied: u64) {
    let (done, seen) = mended(disk, applied);
    let end = done.end.0;
    assert!((applied..=12).contains(&end));
    assert_eq!(seen, (applied + 1..=end).collect::<Vec<_>>());
    match done.lost {
        Some((from, _)) => assert_eq!(from.0, end + 1),
        None => assert_eq!(end, 12),
    }
}

#[test]
fn what_the_tables_hold_is_not_needed_from_the_log() {
    let whole = small();
    let (path, _) = snapshot(&whole).swap_remove(1);
    assert!(path.ends_with(".log"), "{path}");
    let disk = whole.crash(0);
    edit(&disk, &path).write_at(&[0; 8], 300).unwrap();
    let (done, seen) = mended(&disk, 8);
    assert_eq!(done.lost, None);
    assert_eq!(seen, [9, 10, 11, 12]);
    for path in done.aside {
        assert!(disk.paths().contains(&path), "{path} is gone");
    }
}

#[test]
fn an_interrupted_repair_can_be_run_again() {
    let whole = small();
    let (path, _) = snapshot(&whole).swap_remove(1);
    let mut steps = 0;
    loop {
        let disk = whole.crash(0);
        let at = (format::FILE_HEADER + format::BATCH_HEADER) as u64;
        edit(&disk, &path).write_at(&[0xff; 5], at).unwrap();
        edit(&disk, &path).sync_data().unwrap();
        let begun = disk.operations();
        disk.power_off_after(begun + steps);
        let is_over = repair(&disk, "log", VOLUME, Revision(2), &signer()).is_ok();
        let (again, seen) = mended(&disk.crash(steps), 2);
        // What stands before the damaged file is the last that holds.
        assert!((2..12).contains(&again.end.0), "{steps}");
        assert_eq!(seen, (3..=again.end.0).collect::<Vec<_>>());
        if is_over {
            return;
        }
        steps += 1;
    }
}
