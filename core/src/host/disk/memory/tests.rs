#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;

fn read(disk: &MemoryDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

/// A disk with a durable file `f` of 2048 bytes of `a`.
fn with_file() -> (MemoryDisk, Arc<dyn DiskFile>) {
    let disk = MemoryDisk::new();
    let file = disk.open("f", OpenMode::CreateNew).unwrap();
    file.write_at(&[b'a'; 2048], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    (disk, file)
}

#[test]
fn what_was_synced_survives_every_crash() {
    let (disk, _file) = with_file();
    for seed in 0..50 {
        assert_eq!(read(&disk.crash(seed), "f").unwrap(), [b'a'; 2048]);
    }
}

#[test]
fn unsynced_writes_are_kept_torn_or_lost() {
    let (disk, file) = with_file();
    file.write_at(&[b'b'; 1024], 256).unwrap();
    let mut images = BTreeSet::new();
    for seed in 0..200 {
        let bytes = read(&disk.crash(seed), "f").unwrap();
        assert_eq!(
            bytes,
            read(&disk.crash(seed), "f").unwrap(),
            "one seed, one image"
        );
        // Only whole sectors differ: 256..512, 512..1024 and 1024..1280.
        let sectors = [bytes[256], bytes[512], bytes[1024]];
        let mut expected = vec![b'a'; 2048];
        expected[256..512].fill(sectors[0]);
        expected[512..1024].fill(sectors[1]);
        expected[1024..1280].fill(sectors[2]);
        assert_eq!(bytes, expected);
        images.insert(sectors);
    }
    assert_eq!(images.len(), 8, "every combination of sectors occurs");
}

#[test]
fn later_writes_can_survive_without_earlier_ones() {
    let (disk, file) = with_file();
    file.write_at(b"1", 0).unwrap();
    file.write_at(b"2", 1024).unwrap();
    let images: BTreeSet<(u8, u8)> = (0..100)
        .map(|seed| read(&disk.crash(seed), "f").unwrap())
        .map(|bytes| (bytes[0], bytes[1024]))
        .collect();
    assert_eq!(images.len(), 4);
}

#[test]
fn lengths_reach_the_disk_apart_from_bytes() {
    let (disk, file) = with_file();
    file.write_at(&[b'b'; 1000], 2048).unwrap();
    let images: BTreeSet<(usize, Option<u8>)> = (0..100)
        .map(|seed| read(&disk.crash(seed), "f").unwrap())
        .map(|bytes| (bytes.len(), bytes.get(2048).copied()))
        .collect();
    let expected = [(2048, None), (3048, Some(0)), (3048, Some(b'b'))];
    assert_eq!(images, BTreeSet::from(expected));

    file.set_len(100).unwrap();
    let lengths: BTreeSet<usize> = (0..100)
        .map(|seed| read(&disk.crash(seed), "f").unwrap().len())
        .collect();
    assert_eq!(lengths, BTreeSet::from([100, 2048, 3048]));
    file.sync_data().unwrap();
    assert_eq!(read(&disk.crash(1), "f").unwrap(), [b'a'; 100]);
}

#[test]
fn unsynced_names_may_be_lost() {
    let (disk, _file) = with_file();
    disk.create_dir("d").unwrap();
    let new = disk.open("d/new", OpenMode::Create).unwrap();
    new.write_at(b"n", 0).unwrap();
    new.sync_data().unwrap();
    disk.sync_dir("d").unwrap();
    let names: BTreeSet<Vec<String>> = (0..20).map(|seed| disk.crash(seed).paths()).collect();
    let lost = vec!["f".to_owned()];
    let kept = vec!["d/new".to_owned(), "f".to_owned()];
    assert_eq!(
        names,
        BTreeSet::from([lost, kept.clone()]),
        "`d` itself was not synced"
    );

    disk.sync_dir("").unwrap();
    disk.rename("d/new", "f").unwrap();
    disk.sync_dir("d").unwrap();
    assert_eq!(read(&disk.crash(0), "f").unwrap(), b"n");
    disk.remove("f").unwrap();
    let gone = (0..20).filter(|&seed| disk.crash(seed).paths().is_empty());
    assert!((1..20).contains(&gone.count()));
    disk.remove_dir("d").unwrap();
    assert!(disk.list("d").is_err());
}

#[test]
fn a_replaced_file_is_old_or_new_after_a_crash() {
    let (disk, _file) = with_file();
    let new = disk.open("tmp", OpenMode::Create).unwrap();
    new.write_at(b"new", 0).unwrap();
    new.sync_data().unwrap();
    disk.rename("tmp", "f").unwrap();
    for seed in 0..50 {
        let bytes = read(&disk.crash(seed), "f").unwrap();
        assert!(bytes == b"new" || bytes == [b'a'; 2048]);
    }
}

#[test]
fn a_failed_sync_loses_bytes_and_the_next_succeeds() {
    let (disk, file) = with_file();
    disk.fail_after(1, Fault::Sync);
    file.sync_data().unwrap();
    file.write_at(b"b", 0).unwrap();
    file.sync_data().unwrap_err();
    file.sync_data().unwrap();
    assert_eq!(read(&disk, "f").unwrap()[0], b'b');
    assert_eq!(read(&disk.crash(3), "f").unwrap()[0], b'a');
}

#[test]
fn a_failed_write_writes_half() {
    let (disk, file) = with_file();
    disk.fail_after(0, Fault::Write);
    file.write_at(b"bbbb", 0).unwrap_err();
    assert_eq!(&read(&disk, "f").unwrap()[..4], b"bbaa");
    file.write_at(b"bbbb", 0).unwrap();
}

#[test]
fn a_full_disk_takes_nothing_new_until_there_is_room() {
    let (disk, file) = with_file();
    disk.fail_after(0, Fault::Enospc);
    let full = |result: io::Result<()>| result.unwrap_err().raw_os_error() == Some(28);
    assert!(full(file.write_at(b"x", 2048)));
    assert!(full(file.reserve(0, 1)));
    assert!(full(disk.open("g", OpenMode::Create).map(drop)));
    file.write_at(b"x", 2047).unwrap();
    assert_eq!(disk.space().unwrap().available, 0);
    disk.clear_faults();
    file.write_at(b"x", 2048).unwrap();
}

#[test]
fn power_goes_off_after_a_numbered_operation() {
    let (disk, file) = with_file();
    let before = disk.operations();
    disk.power_off_after(before + 2);
    file.write_at(b"b", 0).unwrap();
    file.sync_data().unwrap();
    file.write_at(b"c", 0).unwrap_err();
    file.sync_data().unwrap_err();
    assert_eq!(disk.operations(), before + 2);
    let image = disk.crash(9);
    assert_eq!(read(&image, "f").unwrap()[0], b'b');
    let file = image.open("f", OpenMode::Write).unwrap();
    file.write_at(b"d", 0).unwrap();
}
