//! Space: holes, allocation, sharing and what statfs says.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use kiseki_tests::{Content, Mount, Place, Result, daemon, is_root, skip};
use rustix::{
    fs::{self as sys, FallocateFlags as How, SeekFrom},
    io::Errno,
};

const MIB: u64 = 1 << 20;

fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .unwrap()
}

#[test]
fn sparse_file_of_2_tib_takes_no_space() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("sparse");
    let end = 2_u64 << 40;
    let file = open(&path);
    file.set_len(end)?;
    file.write_all_at(b"middle", end / 2)?;
    file.write_all_at(b"end", end - 3)?;
    file.sync_all()?;
    drop(file);
    place.remount()?;
    let meta = fs::metadata(&path)?;
    assert_eq!(meta.len(), end);
    assert!(meta.blocks() * 512 < 4 * MIB, "{} blocks", meta.blocks());
    let file = File::open(&path)?;
    let mut read = [1; 9];
    file.read_exact_at(&mut read, end / 2 - 3)?;
    assert_eq!(&read, b"\0\0\0middle");
    file.read_exact_at(&mut read, end - 9)?;
    assert_eq!(&read, b"\0\0\0\0\0\0end");
    let mut zeros = vec![1; MIB as usize];
    file.read_exact_at(&mut zeros, end / 4)?;
    assert!(zeros.iter().all(|byte| *byte == 0));
    drop(file);
    place.finish()
}

#[test]
fn seek_finds_data_and_holes() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("file");
    let file = open(&path);
    Content(1).write_at(&file, 4 * MIB, MIB as usize)?;
    Content(1).write_at(&file, 16 * MIB, MIB as usize)?;
    file.set_len(32 * MIB)?;
    file.sync_all()?;
    drop(file);
    for _ in 0..2 {
        let file = File::open(&path)?;
        let seek = |to| sys::seek(&file, to);
        assert_eq!(seek(SeekFrom::Data(0)), Ok(4 * MIB));
        assert_eq!(seek(SeekFrom::Data(4 * MIB + 5)), Ok(4 * MIB + 5));
        assert_eq!(seek(SeekFrom::Hole(0)), Ok(0));
        assert_eq!(seek(SeekFrom::Hole(4 * MIB)), Ok(5 * MIB));
        assert_eq!(seek(SeekFrom::Data(5 * MIB)), Ok(16 * MIB));
        assert_eq!(seek(SeekFrom::Hole(16 * MIB)), Ok(17 * MIB));
        assert_eq!(seek(SeekFrom::Data(17 * MIB)), Err(Errno::NXIO));
        assert_eq!(seek(SeekFrom::Hole(20 * MIB)), Ok(20 * MIB));
        assert_eq!(seek(SeekFrom::Data(32 * MIB)), Err(Errno::NXIO));
        assert_eq!(seek(SeekFrom::Hole(33 * MIB)), Err(Errno::NXIO));
        drop(file);
        place.remount()?;
    }
    place.finish()
}

#[test]
fn hole_ends_at_the_end_of_a_full_file() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    for len in [10, 5000, 3 * MIB] {
        Content(len).create(&place.path("full"), len)?;
        let file = File::open(place.path("full"))?;
        assert_eq!(sys::seek(&file, SeekFrom::Hole(0)), Ok(len));
        assert_eq!(sys::seek(&file, SeekFrom::Data(len - 1)), Ok(len - 1));
        assert_eq!(sys::seek(&file, SeekFrom::Data(len)), Err(Errno::NXIO));
    }
    place.finish()
}

/// Does one fallocate, or says that the filesystem refuses it on purpose.
fn allocate(file: &File, how: How, offset: u64, len: u64) -> Result<bool> {
    match sys::fallocate(file, how, offset, len) {
        Err(Errno::OPNOTSUPP) => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

#[test]
fn fallocate_extends_keeps_punches_and_zeroes() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("file");
    let len = 4 * MIB as usize;
    let file = open(&path);
    let mut model = Content(2).bytes(0, len);
    file.write_all_at(&model, 0)?;
    let size = || file.metadata().unwrap().len();

    assert!(allocate(&file, How::empty(), 0, 5 * MIB)?);
    assert_eq!(size(), 5 * MIB);
    model.resize(5 * MIB as usize, 0);
    assert!(allocate(&file, How::KEEP_SIZE, 0, 9 * MIB)?);
    assert_eq!(size(), 5 * MIB);

    let punch = How::PUNCH_HOLE | How::KEEP_SIZE;
    for (at, len) in [(MIB, MIB), (100, 50), (3 * MIB - 77, 4096), (5 * MIB, MIB)] {
        assert!(allocate(&file, punch, at, len)?);
        let end = (at + len).min(5 * MIB) as usize;
        model[at as usize..end].fill(0);
    }
    assert_eq!(size(), 5 * MIB);
    if allocate(&file, How::ZERO_RANGE, 2 * MIB + 1, 1000)? {
        model[2 * MIB as usize + 1..][..1000].fill(0);
    }
    if allocate(&file, How::ZERO_RANGE, 5 * MIB, MIB)? {
        model.resize(6 * MIB as usize, 0);
    }
    drop(file);
    assert!(fs::read(&path)? == model);
    place.remount()?;
    assert!(fs::read(&path)? == model);
    let file = File::open(&path)?;
    assert_eq!(sys::seek(&file, SeekFrom::Hole(MIB + 9))?, MIB + 9);
    assert_eq!(sys::seek(&file, SeekFrom::Data(MIB))?, 2 * MIB);
    drop(file);
    place.finish()
}

#[test]
fn fallocate_collapses_and_inserts_or_refuses() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("file");
    let file = open(&path);
    let mut model = Content(3).bytes(0, 4 * MIB as usize);
    file.write_all_at(&model, 0)?;
    if allocate(&file, How::COLLAPSE_RANGE, MIB, MIB)? {
        model.drain(MIB as usize..2 * MIB as usize);
    }
    if allocate(&file, How::INSERT_RANGE, MIB, 2 * MIB)? {
        let at = MIB as usize;
        model.splice(at..at, vec![0; 2 * MIB as usize]);
    }
    assert!(sys::fallocate(&file, How::empty(), 0, 0).is_err());
    drop(file);
    assert!(fs::read(&path)? == model);
    place.remount()?;
    assert!(fs::read(&path)? == model);
    place.finish()
}

#[test]
fn space_comes_back_from_punched_and_truncated_files() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    let file = open(&place.path("file"));
    Content(4).write_at(&file, 0, 8 * MIB as usize)?;
    file.sync_all()?;
    let blocks = || file.metadata().unwrap().blocks() * 512;
    assert!(blocks() >= 7 * MIB, "{} bytes", blocks());
    allocate(&file, How::PUNCH_HOLE | How::KEEP_SIZE, 0, 4 * MIB)?;
    file.sync_all()?;
    assert!(blocks() <= 5 * MIB, "{} bytes after a punch", blocks());
    file.set_len(MIB)?;
    file.sync_all()?;
    assert!(blocks() <= MIB / 2, "{} bytes after truncate", blocks());
    drop(file);
    place.finish()
}

#[test]
fn copy_file_range_shares_what_is_stored() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let len = 16 * MIB;
    Content(5).create(&place.path("from"), len)?;
    let stored = |place: &mut Place| match place.mount() {
        Some(mount) => mount.status_number("stored_bytes"),
        None => Ok(0),
    };
    let before = stored(&mut place)?;
    let (from, to) = (File::open(place.path("from"))?, open(&place.path("to")));
    // Not aligned to anything, in pieces, and past the end.
    let (mut at_from, mut at_to) = (1000, 77);
    loop {
        let (from_at, to_at) = (Some(&mut at_from), Some(&mut at_to));
        let count = sys::copy_file_range(&from, from_at, &to, to_at, 5 * MIB as usize)?;
        if count == 0 {
            break;
        }
    }
    assert_eq!(at_to, 77 + len - 1000);
    to.sync_all()?;
    let grown = stored(&mut place)? - before;
    assert!(grown < MIB, "{grown} bytes stored for a copy");
    let mut wanted = vec![0; 77];
    wanted.extend(Content(5).bytes(1000, len as usize - 1000));
    assert!(fs::read(place.path("to"))? == wanted);
    // The copy is a copy: changing one leaves the other.
    open(&place.path("from")).write_all_at(&[0; 50_000], 2 * MIB)?;
    drop((from, to));
    place.remount()?;
    assert!(fs::read(place.path("to"))? == wanted);
    place.finish()
}

#[test]
fn copy_file_range_within_a_file_refuses_overlap_only() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    Content(6).create(&place.path("file"), 4 * MIB)?;
    let file = open(&place.path("file"));
    let copy = |from: u64, to: u64, len: u64| {
        let (mut from, mut to) = (from, to);
        sys::copy_file_range(&file, Some(&mut from), &file, Some(&mut to), len as usize)
    };
    assert_eq!(copy(0, MIB / 2, MIB), Err(Errno::INVAL));
    assert_eq!(copy(0, 2 * MIB, MIB), Ok(MIB as usize));
    let found = fs::read(place.path("file"))?;
    assert!(found[2 * MIB as usize..3 * MIB as usize] == Content(6).bytes(0, MIB as usize));
    drop(file);
    place.finish()
}

#[test]
fn statfs_has_real_numbers() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let before = sys::statvfs(place.dir())?;
    assert!(before.f_blocks > 0 && before.f_bavail > 0 && before.f_frsize >= 512);
    assert!(before.f_bavail <= before.f_bfree && before.f_bfree <= before.f_blocks);
    assert_eq!(before.f_namemax, 255);
    if let Some(mount) = place.mount() {
        let disk = sys::statvfs(mount.store())?;
        let (ours, theirs) = (
            before.f_bavail * before.f_frsize,
            disk.f_bavail * disk.f_frsize,
        );
        assert!(
            ours.abs_diff(theirs) < theirs / 10 + (256 << 20),
            "free: {ours} bytes, and the disk of the store has {theirs}"
        );
        let used = |place: &Place| -> Result<u64> {
            let now = sys::statvfs(place.dir())?;
            Ok((now.f_blocks - now.f_bfree) * now.f_frsize)
        };
        // Others may give back as much meanwhile, but not time and again.
        let counts = (7..12).any(|seed| {
            let before = used(&place).unwrap();
            let path = place.path(format!("file{seed}"));
            Content(seed).create(&path, 64 * MIB).unwrap();
            used(&place).unwrap() > before
        });
        assert!(counts, "64 MiB did not count");
    }
    place.finish()
}

#[test]
fn file_offsets_have_limits_with_an_errno() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    if place.dir().starts_with("/dev/shm") {
        skip("tmpfs has other limits");
        return Ok(());
    }
    let file = open(&place.path("file"));
    let error = file.write_at(b"x", i64::MAX as u64).unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::InvalidInput | ErrorKind::FileTooLarge
        ),
        "{error}"
    );
    assert_eq!(file.metadata()?.len(), 0);
    drop(file);
    place.finish()
}

/// Bytes that the daemon of a store has had written to disks so far.
fn written(store: &Path) -> Result<u64> {
    let mut total = 0;
    for pid in daemon::of_store(store) {
        let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
        let line = io
            .lines()
            .find_map(|line| line.strip_prefix("write_bytes: "));
        total += line.unwrap().parse::<u64>()?;
    }
    Ok(total)
}

#[test]
fn one_byte_and_fsync_in_a_file_of_16_mib_costs_a_chunk() -> Result {
    if !is_root() {
        skip("needs root to see what a daemon writes");
        return Ok(());
    }
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    let size = 16 * MIB;
    let path = mount.path("file");
    Content(5).create(&path, size)?;
    mount.remount()?;
    let file = open(&path);
    let before = written(mount.store())?;
    let rounds = 20;
    for n in 0..rounds {
        file.write_all_at(b"x", n * size / rounds + 4321)?;
        file.sync_all()?;
    }
    let each = (written(mount.store())? - before) / rounds;
    println!("{each} bytes written for one byte and fsync");
    // The largest chunk and room for the log; a twentieth of the file.
    assert!(each < MIB * 3 / 4, "{each} bytes for one");
    drop(file);
    mount.umount()?;
    mount.fsck_clean()
}
