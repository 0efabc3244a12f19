//! Damage: reported with its place, and nothing is shortened to hide it.

use super::*;

/// Three files with two batches of two records each.
fn small() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let options = LogOptions {
        rotate_at: 300,
        ..when_asked()
    };
    let (log, _) = open(&disk, options).unwrap();
    fill(&log, 12, 2);
    log.close().unwrap();
    let disk = disk.crash(0);
    assert_eq!(disk.paths().len(), 3, "{:?}", disk.paths());
    disk
}

fn options(known_durable: u64) -> LogOptions {
    LogOptions {
        known_durable: Revision(known_durable),
        ..when_asked()
    }
}

#[test]
fn a_flipped_bit_is_damage_or_at_the_very_end_a_torn_batch() {
    let whole = small();
    for (path, contents) in snapshot(&whole) {
        for (at, byte) in contents.iter().enumerate() {
            let disk = whole.crash(0);
            let flipped = byte ^ (1 << (at % 8));
            edit(&disk, &path).write_at(&[flipped], at as u64).unwrap();
            let before = snapshot(&disk);
            let report = check(&disk);
            assert_eq!(snapshot(&disk), before);

            // With what the caller knows, all of it is damage.
            let place = place_of(open(&disk, options(12)).unwrap_err());
            assert!(place.starts_with(&path), "{path} {at}: {place}");
            assert_eq!(snapshot(&disk), before, "damage is left alone");

            // Without, the last batch could be a torn one, and nothing else.
            match open(&disk, options(0)) {
                Ok((_, records)) => {
                    assert_eq!(records.len(), 10, "{path} {at}");
                    assert_eq!(report.torn_tail.map(|tail| tail.file), Some(path.clone()));
                }
                Err(error) => {
                    assert!(place_of(error).starts_with(&path));
                    assert_eq!(report.problems[0].file, path, "{at}");
                    assert_eq!(snapshot(&disk), before);
                }
            }
        }
    }
}

#[test]
fn any_tail_cut_off_the_last_file_is_torn_and_nowhere_else() {
    let whole = small();
    let files = snapshot(&whole);
    for (index, (path, _)) in files.iter().enumerate() {
        for len in 0..written(&whole, path) {
            let disk = whole.crash(0);
            edit(&disk, path).set_len(len as u64).unwrap();
            let opened = open(&disk, options(0));
            if index + 1 < files.len() {
                place_of(opened.unwrap_err());
            } else {
                let (log, records) = opened.unwrap();
                assert!(records.len() <= 12 && records.len() >= 8);
                assert_eq!(log.append(b"next").unwrap().0, records.len() as u64 + 1);
                log.close().unwrap();
                assert_eq!(open(&disk, options(0)).unwrap().1.len(), records.len() + 1);
            }
            assert!(open(&disk, options(12)).is_err() || len == 0 || index + 1 == files.len());
        }
    }
}

#[test]
fn a_bad_batch_with_a_later_one_behind_it_is_damage() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, when_asked()).unwrap();
    fill(&log, 6, 2);
    log.close().unwrap();
    let path = disk.paths().pop().unwrap();
    // The header of the second of three batches: only a search finds the third.
    let second = format::FILE_HEADER as u64 + 64 + 8 + (record(1).len() + record(2).len()) as u64;
    edit(&disk, &path).write_at(&[0; 64], second).unwrap();
    let place = place_of(open(&disk, options(0)).unwrap_err());
    assert_eq!(place, format!("{path} at offset {second}"));
    let report = check(&disk);
    assert_eq!(report.torn_tail, None);
    let offsets: Vec<u64> = report.problems.iter().map(|p| p.offset).collect();
    assert_eq!(offsets[0], second);
    assert_eq!(report.batches, 1);
}

#[test]
fn a_bad_batch_with_anything_behind_it_is_damage() {
    let disk = small();
    let path = disk.paths().pop().unwrap();
    let end = written(&disk, &path) as u64;
    // Zeros behind it are what stood ready for it.
    edit(&disk, &path).write_at(&[0xee], end - 1).unwrap();
    edit(&disk, &path).set_len(end + 5000).unwrap();
    assert!(check(&disk).torn_tail.is_some());
    assert_eq!(open(&disk.crash(0), options(0)).unwrap().1.len(), 10);
    edit(&disk, &path).write_at(b"x", end + 4000).unwrap();
    let before = snapshot(&disk);
    place_of(open(&disk, options(0)).unwrap_err());
    let report = check(&disk);
    assert!(report.torn_tail.is_none() && !report.problems.is_empty());
    assert_eq!(snapshot(&disk), before);
}

#[test]
fn bytes_behind_a_whole_batch_are_damage_only_if_they_say_more() {
    let disk = small();
    let path = disk.paths().pop().unwrap();
    let end = edit(&disk, &path).len().unwrap();
    edit(&disk, &path).write_at(b"torn", end).unwrap();
    let (log, records) = open(&disk, options(12)).unwrap();
    assert_eq!(records.len(), 12);
    assert_eq!(edit(&disk, &path).len().unwrap(), end);
    log.close().unwrap();
}

#[test]
fn a_missing_file_is_damage() {
    let whole = small();
    let paths = whole.paths();
    for (index, path) in paths.iter().enumerate() {
        let disk = whole.crash(0);
        disk.remove(path).unwrap();
        let before = snapshot(&disk);
        place_of(open(&disk, options(12)).unwrap_err());
        assert_eq!(snapshot(&disk), before);
        if index + 1 < paths.len() {
            place_of(open(&disk, options(0)).unwrap_err());
        }
        if index == 1 {
            assert_eq!(check(&disk).problems[0].file, paths[2]);
        }
    }
    let disk = MemoryDisk::new();
    place_of(open(&disk, options(1)).unwrap_err());
}

#[test]
fn files_of_another_volume_or_under_another_name_are_damage() {
    let disk = small();
    let other = VolumeId([8; 16]);
    let opened = Log::read(
        &disk,
        "log",
        other,
        &options(0),
        Revision(0),
        &mut |_, _| Ok(()),
    );
    place_of(opened.unwrap_err());
    assert_eq!(
        verify(&disk, "log", other, None, &mut |_, _| {})
            .unwrap()
            .problems
            .len(),
        4
    );

    let paths = disk.paths();
    disk.rename(&paths[2], "log/0000000000000010.log").unwrap();
    place_of(open(&disk, options(0)).unwrap_err());
    assert!(!check(&disk).problems.is_empty());
}

#[test]
fn a_newer_format_is_named_as_such() {
    let disk = small();
    let path = disk.paths().remove(0);
    let mut header = bytes(&disk, &path)[..format::FILE_HEADER].to_vec();
    header[8] = 2;
    let sum: [u8; 32] = sha2::Digest::finalize(sha2::Digest::chain_update(
        <sha2::Sha256 as sha2::Digest>::new(),
        &header[..96],
    ))
    .into();
    header[96..].copy_from_slice(&sum);
    edit(&disk, &path).write_at(&header, 0).unwrap();
    let refused = open(&disk, options(0)).unwrap_err();
    assert!(matches!(refused, Error::FormatVersion { found: 2, .. }));
}
