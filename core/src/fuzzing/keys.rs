//! The files that keys are in, and what is sealed under them.

use std::sync::Arc;

use super::split::choice;
use crate::{
    crypto::{RecordContext, Secret, VolumeKeys, Wrapped, Wraps, key_file},
    host::{Disk, MemoryDisk, OpenMode, SystemEntropy},
    ids::{Epoch, Ino, VolumeId},
    store::{Store, Unlock},
};

const ID: &str = "07070707070707070707070707070707";

/// A key file (0), the three files of a store (1), a wrapped key (2), a sealed
/// record (3).
pub fn keys(input: &[u8]) {
    let (choice, bytes) = choice(input);
    match choice % 4 {
        0 => {
            if let Ok(key) = key_file::parse(bytes) {
                assert!(key_file::parse(key_file::render(&key).as_bytes()).is_ok());
            }
        }
        1 => store(bytes),
        2 => wrapped(bytes),
        _ => record(bytes),
    }
}

/// The files, with a byte between them that is in no text.
fn store(bytes: &[u8]) {
    let disk = MemoryDisk::new();
    let dir = format!("volumes/{ID}");
    disk.create_dir(&dir).expect("a directory in memory");
    let names = [
        "kiseki.json",
        "keyring.json",
        &*format!("{dir}/volume.json"),
    ];
    for (name, text) in names.into_iter().zip(bytes.split(|byte| *byte == 0xff)) {
        let file = disk.open(name, OpenMode::Create).expect("a file in memory");
        file.write_at(text, 0).expect("a file in memory");
    }
    let Ok(store) = Store::open(Arc::new(disk)) else {
        return;
    };
    let _ = store.list_slots();
    let _ = store.volumes();
    let unlock = Unlock::KeyFile(Secret::from_bytes(&[1; 32]));
    assert!(store.unlock(&unlock).is_err(), "a forged keyring opened");
}

fn wrapped(bytes: &[u8]) {
    let Ok(wrapped) = serde_json::from_slice::<Wrapped>(bytes) else {
        return;
    };
    let wraps = Wraps::StoreKey {
        store: [0; 16],
        slot: 1,
    };
    let under = Secret::from_bytes(&[1; 32]);
    assert!(
        wrapped.unwrap(&under, wraps).is_none(),
        "a forged key opened"
    );
}

fn record(bytes: &[u8]) {
    let master = Secret::from_bytes(&[1; 32]);
    let epochs = [(Epoch(1), Secret::from_bytes(&[2; 32]))];
    let keys = VolumeKeys::new(VolumeId([7; 16]), &master, &epochs, Arc::new(SystemEntropy))
        .expect("one epoch");
    let place = RecordContext::Inline(Ino(5));
    assert!(
        keys.open_record(place, bytes).is_err(),
        "a forged record opened"
    );
    let mut sealed = keys.seal_record(place, bytes).expect("short enough");
    let opened = keys.open_record(place, &sealed);
    assert_eq!(**opened.expect("what was sealed opens"), *bytes);
    let elsewhere = RecordContext::Inline(Ino(6));
    assert!(
        keys.open_record(elsewhere, &sealed).is_err(),
        "a moved record opened"
    );
    let at = bytes.first().map_or(0, |byte| usize::from(*byte)) % sealed.len();
    sealed[at] ^= 1;
    assert!(
        keys.open_record(place, &sealed).is_err(),
        "a changed record opened"
    );
}
