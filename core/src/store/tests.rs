#![allow(clippy::unwrap_used)]

mod interrupted;
mod memory;

use zeroize::Zeroizing;

use super::{memory_disk::MemoryDisk, *};
use crate::{
    crypto::{RecordContext, Secret},
    host::OpenMode,
    ids::{Epoch, Ino},
};

fn key(byte: u8) -> Unlock {
    Unlock::KeyFile(Secret::from_bytes(&[byte; 32]))
}

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(Zeroizing::new(text.into()))
}

fn create_on(disk: &MemoryDisk, unlock: &Unlock) -> Result<UnlockedStore> {
    let disk = Arc::new(disk.clone());
    Store::create(disk, Arc::new(SystemEntropy), Arc::new(SystemClock), unlock)
}

fn open_on(disk: &MemoryDisk) -> Result<Store> {
    Store::open(Arc::new(disk.clone()))
}

fn new_store() -> (MemoryDisk, UnlockedStore) {
    let disk = MemoryDisk::default();
    let store = create_on(&disk, &key(1)).unwrap();
    (disk, store)
}

fn new_volume(store: &UnlockedStore, name: &str) -> VolumeRecord {
    store
        .create_volume(name, CutPolicy::Auto, 1000, 100)
        .unwrap()
}

fn error<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("it went well"),
        Err(error) => error,
    }
}

fn silent() -> impl FnMut(u64, u64) {
    |_, _| {}
}

#[test]
fn a_store_opens_again_with_its_volumes_and_keys() {
    let (disk, store) = new_store();
    let record = new_volume(&store, "home");
    let keys = store.volume_keys(&record).unwrap();
    let sealed = keys
        .seal_record(RecordContext::Inline(Ino(2)), b"text")
        .unwrap();

    let store = open_on(&disk).unwrap();
    assert_eq!(store.format_version(), FORMAT_VERSION);
    let found = store.volume("home").unwrap();
    assert_eq!((found.uid, found.gid, found.epoch()), (1000, 100, Epoch(1)));
    assert_eq!((found.id, found.policy), (record.id, CutPolicy::Auto));
    let store = store.unlock(&key(1)).unwrap();
    let keys = store.volume_keys(&found).unwrap();
    let opened = keys.open_record(RecordContext::Inline(Ino(2)), &sealed);
    assert_eq!(**opened.unwrap(), *b"text");
}

#[test]
fn a_wrong_key_is_refused_and_nothing_is_written() {
    let (disk, store) = new_store();
    new_volume(&store, "home");
    disk.fail_after(0);
    let store = open_on(&disk).unwrap();
    assert!(matches!(
        error(store.unlock(&key(2))),
        Error::WrongKey("key file")
    ));
    assert!(matches!(
        error(store.unlock(&passphrase("guess"))),
        Error::WrongKey("passphrase")
    ));
    store.unlock(&key(1)).unwrap();
}

#[test]
fn passphrases_and_key_files_open_the_same_store() {
    let disk = MemoryDisk::default();
    assert!(matches!(
        error(create_on(&disk, &passphrase(""))),
        Error::Invalid(_)
    ));
    let store = create_on(&disk, &passphrase("correct horse")).unwrap();
    let record = new_volume(&store, "home");
    let id = store.volume_keys(&record).unwrap().chunk_id(b"x");
    assert_eq!(store.add_slot(&key(9)).unwrap(), 2);

    let store = open_on(&disk).unwrap();
    let kinds: Vec<_> = store.list_slots().unwrap();
    assert_eq!(kinds[0].kind, SlotKind::Passphrase);
    assert_eq!((kinds[1].id, kinds[1].kind), (2, SlotKind::KeyFile));
    for unlock in [passphrase("correct horse"), key(9)] {
        let store = store.unlock(&unlock).unwrap();
        let keys = store.volume_keys(&record).unwrap();
        assert_eq!(keys.chunk_id(b"x"), id);
    }
    assert!(store.unlock(&passphrase("correct hors")).is_err());
}

#[test]
fn a_removed_slot_opens_no_more_and_the_last_stays() {
    let (disk, store) = new_store();
    assert_eq!(
        store
            .add_passphrase(Zeroizing::new("words".into()))
            .unwrap(),
        2
    );
    let text = disk.text("keyring.json");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let removed = json["slots"][0]["store_key"].as_str().unwrap();
    assert!(disk.finds(removed.as_bytes()));

    store.remove_slot(1).unwrap();
    assert!(!disk.finds(removed.as_bytes()));
    assert!(matches!(error(store.remove_slot(2)), Error::Invalid(_)));
    assert!(matches!(error(store.remove_slot(7)), Error::Invalid(_)));
    let store = open_on(&disk).unwrap();
    assert!(store.unlock(&key(1)).is_err());
    store.unlock(&passphrase("words")).unwrap();
}

#[test]
fn a_slot_or_volume_of_another_store_does_not_open_here() {
    let (disk, store) = new_store();
    let (other_disk, other) = new_store();
    let foreign = new_volume(&other, "home");
    assert!(matches!(
        error(store.volume_keys(&foreign)),
        Error::Damaged { .. }
    ));
    disk.write("keyring.json", other_disk.text("keyring.json").as_bytes());
    let result = open_on(&disk).unwrap().unlock(&key(1));
    assert!(error(result).to_string().contains("another store"));
}

#[test]
fn a_directory_with_anything_else_in_it_is_refused() {
    let disk = MemoryDisk::default();
    disk.write("thesis.tex", b"do not touch");
    let text = error(create_on(&disk, &key(1))).to_string();
    assert!(text.contains("other files"), "{text}");
    assert!(matches!(error(open_on(&disk)), Error::NoSuchStore(_)));
    assert_eq!(disk.list("").unwrap(), ["thesis.tex"]);

    let (disk, _) = new_store();
    let before = disk.text("keyring.json");
    let text = error(create_on(&disk, &key(2))).to_string();
    assert!(text.contains("already"), "{text}");
    assert_eq!(disk.text("keyring.json"), before);
}

#[test]
fn a_store_that_lost_its_first_file_is_not_built_over() {
    let (disk, store) = new_store();
    new_volume(&store, "home");
    disk.remove("kiseki.json").unwrap();
    let text = error(open_on(&disk)).to_string();
    assert!(text.contains("restore"), "{text}");
    assert!(create_on(&disk, &key(2)).is_err());
}

#[test]
fn a_lock_file_alone_is_an_empty_directory() {
    let disk = MemoryDisk::default();
    disk.write("lock", b"17\n");
    let text = error(open_on(&disk)).to_string();
    assert!(text.contains("creates one"), "{text}");
    create_on(&disk, &key(1)).unwrap();
}

#[test]
fn newer_formats_are_refused_and_unknown_fields_passed_over() {
    let (disk, _) = new_store();
    let good = disk.text("kiseki.json");
    let newer = good.replace("\"format_version\": 1", "\"format_version\": 2");
    // The rest of the file may look different in a newer version.
    let newer = newer.replace("\"created\"", "\"made\"");
    disk.write("kiseki.json", newer.as_bytes());
    assert!(matches!(
        error(open_on(&disk)),
        Error::FormatVersion {
            found: 2,
            supported: 1
        }
    ));
    let more = good.replacen('{', "{\"colour\": \"red\",", 1);
    disk.write("kiseki.json", more.as_bytes());
    open_on(&disk).unwrap();
}

#[test]
fn nonsense_in_any_file_is_damage_that_names_it() {
    let (disk, store) = new_store();
    let record = new_volume(&store, "home");
    let volume = format!("{}/volume.json", record.dir());
    for path in ["kiseki.json", "keyring.json", &volume] {
        let good = disk.text(path);
        for bad in ["", "{", "[]", "null", "\u{0}\u{0}", "{\"magic\": 7}"] {
            disk.write(path, bad.as_bytes());
            let result = open_on(&disk).and_then(|store| {
                store.unlock(&key(1))?;
                store.volume("home")
            });
            let error = error(result);
            assert!(matches!(error, Error::Damaged { .. }), "{path}: {error}");
            assert!(error.to_string().contains(path), "{path}: {error}");
        }
        disk.write(path, good.as_bytes());
    }
    open_on(&disk).unwrap().volume("home").unwrap();
}

#[test]
fn a_damaged_volume_does_not_hide_the_others() {
    let (disk, store) = new_store();
    let (bad, good) = (new_volume(&store, "bad"), new_volume(&store, "good"));
    disk.write(&format!("{}/volume.json", bad.dir()), b"{}");
    let volumes = store.volumes().unwrap();
    assert_eq!((volumes.records.len(), volumes.damaged.len()), (1, 1));
    assert_eq!(store.volume("good").unwrap().id, good.id);
    assert!(matches!(error(store.volume("bad")), Error::Damaged { .. }));
}

#[test]
fn a_volume_that_lost_its_record_is_kept_and_reported() {
    let (disk, store) = new_store();
    let record = new_volume(&store, "home");
    new_volume(&store, "other");
    disk.write(&format!("{}/meta.redb", record.dir()), b"data");
    disk.remove(&format!("{}/volume.json", record.dir()))
        .unwrap();
    store.destroy_volume("other", &mut silent()).unwrap();
    assert_eq!(disk.text(&format!("{}/meta.redb", record.dir())), "data");
    assert_eq!(store.volumes().unwrap().damaged.len(), 1);
}

#[test]
fn volume_names() {
    let (_, store) = new_store();
    for name in ["", ".x", "-x", "a/b", "a b", "é", "..", &"x".repeat(65)] {
        let result = store.create_volume(name, CutPolicy::Auto, 0, 0);
        assert!(matches!(error(result), Error::Invalid(_)), "{name}");
    }
    for name in ["a", "0", "data-2.old_x", &"x".repeat(64)] {
        new_volume(&store, name);
    }
    let taken = error(store.create_volume("a", CutPolicy::Cdc, 0, 0)).to_string();
    assert!(taken.contains("\"a\""), "{taken}");
    let unknown = error(store.volume("b")).to_string();
    assert!(unknown.contains("data-2.old_x"), "{unknown}");
}

#[test]
fn cutting_policies_are_words() {
    for policy in [CutPolicy::Auto, CutPolicy::Cdc, CutPolicy::Fixed] {
        assert_eq!(policy.to_string().parse::<CutPolicy>().unwrap(), policy);
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(json, format!("\"{policy}\""));
    }
    assert!("rabin".parse::<CutPolicy>().is_err());
}

#[test]
fn rotation_seals_anew_and_opens_the_old() {
    let (disk, store) = new_store();
    let record = new_volume(&store, "home");
    let before = store.volume_keys(&record).unwrap();
    let id = before.chunk_id(b"chunk");
    let (info, sealed) = before.seal_chunk(&id, b"chunk").unwrap();
    assert_eq!(store.rotate("home").unwrap(), Epoch(2));
    assert_eq!(store.rotate("home").unwrap(), Epoch(3));

    let store = open_on(&disk).unwrap().unlock(&key(1)).unwrap();
    let after = store.volume_keys(&store.volume("home").unwrap()).unwrap();
    assert_eq!((before.epoch(), after.epoch()), (Epoch(1), Epoch(3)));
    assert_eq!(after.chunk_id(b"chunk"), id);
    let mut out = [0; 5];
    after.open_frames(&id, info, 0, &sealed, &mut out).unwrap();
    assert_eq!(&out, b"chunk");
}

#[test]
fn wrapped_keys_cannot_change_places() {
    let (disk, store) = new_store();
    let record = new_volume(&store, "home");
    store.rotate("home").unwrap();
    let path = format!("{}/volume.json", record.dir());
    let mut json: serde_json::Value = serde_json::from_str(&disk.text(&path)).unwrap();
    let first = json["epochs"][0]["sealing_key"].take();
    json["epochs"][0]["sealing_key"] = json["epochs"][1]["sealing_key"].take();
    json["epochs"][1]["sealing_key"] = first;
    disk.write(&path, json.to_string().as_bytes());
    let keys = store.volume_keys(&store.volume("home").unwrap());
    assert!(matches!(error(keys), Error::Damaged { .. }));
}

fn wrapped_master(disk: &MemoryDisk, record: &VolumeRecord) -> String {
    let text = disk.text(&format!("{}/volume.json", record.dir()));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["master_key"].as_str().unwrap().to_owned()
}

#[test]
fn destroying_leaves_no_wrapped_key_on_the_platters() {
    let (disk, store) = new_store();
    let (record, other) = (new_volume(&store, "home"), new_volume(&store, "other"));
    store.rotate("home").unwrap();
    let master = wrapped_master(&disk, &record);
    disk.create_dir(&format!("{}/chunks", record.dir()))
        .unwrap();
    for n in 0..3 {
        let path = format!("{}/chunks/{n}", record.dir());
        disk.open(&path, OpenMode::CreateNew).unwrap();
    }
    assert!(disk.finds(master.as_bytes()));
    let mut steps = Vec::new();
    store
        .destroy_volume("home", &mut |done, total| steps.push((done, total)))
        .unwrap();
    assert_eq!(steps, [(0, 3), (1, 3), (2, 3), (3, 3)]);
    assert!(!disk.finds(master.as_bytes()));
    assert_eq!(disk.list("volumes").unwrap(), [other.id.to_string()]);
    assert!(matches!(
        error(store.destroy_volume("home", &mut silent())),
        Error::NoSuchStore(_)
    ));
}
