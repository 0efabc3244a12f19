#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::host::SystemEntropy;

/// Randomness that is not: for formats that must come out the same.
pub(crate) struct Counting;

impl Entropy for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        for (at, byte) in buffer.iter_mut().enumerate() {
            *byte = at as u8;
        }
    }
}

/// Keys that are the same in every run, with epochs 1 and 2.
pub(crate) fn fixed_keys(entropy: Arc<dyn Entropy>) -> VolumeKeys {
    let epochs = [1, 2].map(|n| (Epoch(n), Secret::from_bytes(&[n as u8; 32])));
    let master = Secret::from_bytes(&[0x4b; 32]);
    VolumeKeys::new(VolumeId([0x56; 16]), &master, &epochs, entropy).unwrap()
}

#[test]
fn tags_depend_on_place_name_and_purpose() {
    let keys = fixed_keys(Arc::new(SystemEntropy));
    let tag = keys.name_tag(Ino(5), b"name");
    assert_eq!(tag, keys.name_tag(Ino(5), b"name"));
    assert_ne!(tag, keys.name_tag(Ino(6), b"name"));
    assert_ne!(tag, keys.name_tag(Ino(5), b"Name"));
    assert_ne!(tag, keys.xattr_tag(Ino(5), b"name"));
    assert_ne!(keys.name_tag(Ino(5), b""), keys.name_tag(Ino(5), b"\0"));
}

#[test]
fn long_and_short_names_are_hashed_alike() {
    let keys = fixed_keys(Arc::new(SystemEntropy));
    for len in [0, 1, 254, 255, 256, 1000] {
        let name = vec![b'n'; len];
        let mut input = 5u64.to_le_bytes().to_vec();
        input.extend_from_slice(&name);
        let whole = blake3::keyed_hash(keys.name_key.expose(), &input);
        assert_eq!(keys.name_tag(Ino(5), &name).0, whole.as_bytes()[..16]);
    }
}

#[test]
fn ids_are_keyed_and_stay_across_rotation() {
    let keys = fixed_keys(Arc::new(SystemEntropy));
    assert_ne!(keys.chunk_id(b"x").0, *blake3::hash(b"x").as_bytes());
    let master = Secret::from_bytes(&[0x4b; 32]);
    let later = VolumeKeys::new(
        VolumeId([0x56; 16]),
        &master,
        &[(Epoch(9), Secret::random(&SystemEntropy))],
        Arc::new(SystemEntropy),
    )
    .unwrap();
    assert_eq!(keys.chunk_id(b"x"), later.chunk_id(b"x"));
    assert_eq!(keys.name_tag(Ino(1), b"x"), later.name_tag(Ino(1), b"x"));
    let other = Secret::from_bytes(&[0x4c; 32]);
    let other = VolumeKeys::new(
        VolumeId([0x56; 16]),
        &other,
        &[(Epoch(1), Secret::random(&SystemEntropy))],
        Arc::new(SystemEntropy),
    )
    .unwrap();
    assert_ne!(keys.chunk_id(b"x"), other.chunk_id(b"x"));
}

#[test]
fn the_newest_epoch_seals_and_all_open() {
    let (one, two) = ([1; 32], [2; 32]);
    let keys = |epochs: &[(u32, [u8; 32])]| {
        let epochs: Vec<_> = epochs
            .iter()
            .map(|(n, key)| (Epoch(*n), Secret::from_bytes(key)))
            .collect();
        let master = Secret::from_bytes(&[0; 32]);
        VolumeKeys::new(VolumeId([1; 16]), &master, &epochs, Arc::new(SystemEntropy))
    };
    let before = keys(&[(1, one)]).unwrap();
    let after = keys(&[(2, two), (1, one)]).unwrap();
    assert_eq!((before.epoch(), after.epoch()), (Epoch(1), Epoch(2)));

    let context = RecordContext::Inline(Ino(3));
    let record = before.seal_record(context, b"old").unwrap();
    assert_eq!(**after.open_record(context, &record).unwrap(), *b"old");
    let record = after.seal_record(context, b"new").unwrap();
    assert!(matches!(
        before.open_record(context, &record),
        Err(Error::Damaged { .. })
    ));

    let id = before.chunk_id(b"chunk");
    let (info, sealed) = before.seal_chunk(&id, b"chunk").unwrap();
    let mut out = [0; 5];
    after.open_frames(&id, info, 0, &sealed, &mut out).unwrap();
    assert_eq!(&out, b"chunk");
    let (newer, resealed) = after.seal_chunk(&id, b"chunk").unwrap();
    assert_eq!(newer.epoch, Epoch(2));
    assert_ne!(sealed, resealed);
    assert!(matches!(
        before.open_frames(&id, newer, 0, &resealed, &mut out),
        Err(Error::Damaged { .. })
    ));
}

#[test]
fn a_volume_without_or_with_twice_an_epoch_is_refused() {
    let make = |epochs: &[(Epoch, Secret)]| {
        let master = Secret::from_bytes(&[0; 32]);
        VolumeKeys::new(VolumeId([1; 16]), &master, epochs, Arc::new(SystemEntropy))
    };
    assert!(matches!(make(&[]), Err(Error::Invalid(_))));
    let twice = [1, 2].map(|n| (Epoch(1), Secret::from_bytes(&[n; 32])));
    assert!(matches!(make(&twice), Err(Error::Invalid(_))));
}
