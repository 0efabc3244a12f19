#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    crypto::{VolumeKeys, volume_keys::tests::fixed_keys},
    host::SystemEntropy,
};

fn keys() -> VolumeKeys {
    fixed_keys(Arc::new(SystemEntropy))
}

fn contexts() -> Vec<RecordContext> {
    let (tag, other) = (NameTag([1; 16]), NameTag([2; 16]));
    vec![
        RecordContext::Name { dir: Ino(1), tag },
        RecordContext::Name { dir: Ino(2), tag },
        RecordContext::Name {
            dir: Ino(1),
            tag: other,
        },
        RecordContext::Target(Ino(1)),
        RecordContext::Target(Ino(2)),
        RecordContext::Inline(Ino(1)),
        RecordContext::Inline(Ino(2)),
        RecordContext::Xattr { ino: Ino(1), tag },
        RecordContext::Xattr { ino: Ino(2), tag },
        RecordContext::Xattr {
            ino: Ino(1),
            tag: other,
        },
    ]
}

#[test]
fn a_record_opens_only_at_its_place() {
    let keys = keys();
    for sealed_to in contexts() {
        let sealed = keys.seal_record(sealed_to, b"secret text").unwrap();
        for opened_at in contexts() {
            let opened = keys.open_record(opened_at, &sealed);
            if opened_at == sealed_to {
                assert_eq!(**opened.unwrap(), *b"secret text");
            } else {
                assert!(matches!(opened, Err(Error::Damaged { .. })));
            }
        }
    }
}

#[test]
fn a_record_of_another_volume_does_not_open() {
    let context = RecordContext::Inline(Ino(1));
    let master = Secret::from_bytes(&[0x4b; 32]);
    let epochs = [(Epoch(2), Secret::from_bytes(&[2; 32]))];
    let other = VolumeKeys::new(VolumeId([0; 16]), &master, &epochs, Arc::new(SystemEntropy));
    let sealed = keys().seal_record(context, b"text").unwrap();
    assert!(other.unwrap().open_record(context, &sealed).is_err());
}

#[test]
fn equal_records_look_different() {
    let keys = keys();
    let context = RecordContext::Target(Ino(1));
    let (one, two) = (
        keys.seal_record(context, b"same").unwrap(),
        keys.seal_record(context, b"same").unwrap(),
    );
    assert_ne!(one, two);
}

#[test]
fn every_damaged_byte_and_every_cut_is_noticed() {
    let keys = keys();
    let context = RecordContext::Target(Ino(1));
    let sealed = keys.seal_record(context, b"where it points").unwrap();
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 0x10;
        let result = keys.open_record(context, &damaged);
        assert!(matches!(result, Err(Error::Damaged { .. })), "byte {at}");
        let cut = keys.open_record(context, &sealed[..at]);
        assert!(matches!(cut, Err(Error::Damaged { .. })), "cut at {at}");
    }
    let longer = [&sealed[..], b"x"].concat();
    assert!(keys.open_record(context, &longer).is_err());
}

#[test]
fn the_error_names_the_place() {
    let context = RecordContext::Inline(Ino(77));
    let Err(error) = keys().open_record(context, b"short") else {
        panic!("opened")
    };
    assert!(error.to_string().contains("inline contents of ino 77"));
}

proptest! {
    #[test]
    fn what_was_sealed_comes_back(
        plain in proptest::collection::vec(any::<u8>(), 0..5000),
        which in 0..10usize,
    ) {
        let keys = keys();
        let context = contexts()[which];
        let sealed = keys.seal_record(context, &plain).unwrap();
        prop_assert_eq!(sealed.len(), plain.len() + RECORD_OVERHEAD);
        let opened = keys.open_record(context, &sealed).unwrap();
        prop_assert_eq!(&**opened, &plain[..]);
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(keys().open_record(RecordContext::Inline(Ino(1)), &bytes).is_err());
    }
}
