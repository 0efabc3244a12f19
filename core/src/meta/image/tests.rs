#![allow(clippy::unwrap_used)]

use std::{ops::ControlFlow, sync::Arc};

use ed25519_dalek::SigningKey;

use super::{path, restore, verify, write};
use crate::{
    Error, Result,
    host::{Disk, MemoryDisk, OpenMode},
    ids::{Revision, VolumeId},
    kv::{Backend, RedbBackend},
    meta::local::owner,
};

const VOLUME: VolumeId = VolumeId([3; 16]);
const DIR: &str = "v";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// Records of many lengths; one is longer than what is read at once.
fn records() -> Vec<(Vec<u8>, Vec<u8>)> {
    let long = (vec![9; 33], vec![7; 3 << 20]);
    let short = (0..5000_u32).map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; n as usize % 700]));
    let mut all: Vec<_> = short.chain([long]).collect();
    all.sort();
    all
}

fn disk_with_image() -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    disk.create_dir(DIR).unwrap();
    let records = records();
    let mut settled = None;
    let (revision, len) = write(
        &disk,
        DIR,
        VOLUME,
        &key(),
        &mut |visit| {
            for (key, value) in &records {
                assert!(matches!(visit(key, value), ControlFlow::Continue(())));
            }
            Ok(Revision(77))
        },
        &mut |revision| {
            settled = Some(revision);
            Ok(())
        },
    )
    .unwrap();
    assert_eq!((revision, settled), (Revision(77), Some(Revision(77))));
    let file = disk.open(&path(DIR), OpenMode::Read).unwrap();
    assert_eq!(file.len().unwrap(), len);
    disk
}

fn check(disk: &Arc<dyn Disk>) -> Result<super::Found> {
    verify(&**disk, &path(DIR), VOLUME, Some(&key().verifying_key()))
}

#[test]
fn what_was_written_comes_back() {
    let disk = disk_with_image();
    assert_eq!(check(&disk).unwrap().revision, Revision(77));
    let key = key().verifying_key();
    restore(&disk, DIR, VOLUME, Some(&key)).unwrap();
    let tables = RedbBackend::open(&disk, "v/tables.redb", owner(VOLUME), 1 << 20).unwrap();
    let mut found = Vec::new();
    let revision = tables.scan(&[], &[255], &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    });
    assert_eq!(revision.unwrap(), Revision(77));
    assert!(found == records());
}

#[test]
fn any_change_is_noticed() {
    let disk = disk_with_image();
    let file = disk.open(&path(DIR), OpenMode::Write).unwrap();
    let len = file.len().unwrap();
    let places = (0..64)
        .chain(len - 140..len)
        .chain((64..len - 140).step_by(60_013));
    for at in places {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_at(&[byte[0] ^ 4], at).unwrap();
        assert!(
            matches!(check(&disk), Err(Error::Damaged { .. })),
            "byte {at}"
        );
        file.write_at(&byte, at).unwrap();
    }
    check(&disk).unwrap();
    for cut in [0, 1, 31, 159, len / 2, len - 1] {
        let disk = disk_with_image();
        let file = disk.open(&path(DIR), OpenMode::Write).unwrap();
        file.set_len(cut).unwrap();
        assert!(check(&disk).is_err(), "cut at {cut}");
        assert!(restore(&disk, DIR, VOLUME, None).is_err());
        assert!(disk.open("v/tables.redb", OpenMode::Read).is_err());
    }
}

#[test]
fn one_of_another_volume_or_key_is_refused() {
    let disk = disk_with_image();
    let path = path(DIR);
    assert!(verify(&*disk, &path, VolumeId([4; 16]), None).is_err());
    let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
    assert!(verify(&*disk, &path, VOLUME, Some(&other)).is_err());
}
