//! Tables that are lost come back from their image and the log, whenever the
//! power went.

use ed25519_dalek::SigningKey;

use super::*;
use crate::{
    host::{MemoryDisk, OpenMode},
    log,
    meta::image,
};

const COMMANDS: u64 = 160;

fn signed(read_only: bool) -> MetaOptions {
    MetaOptions {
        signing_key: Some(Arc::new(SigningKey::from_bytes(&[6; 32]))),
        cut_after: 2 << 10,
        read_only,
        ..options(SyncPolicy::EveryBatch)
    }
}

/// A disk with the directory of the volume, as the store makes it.
fn fresh() -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir("v").unwrap();
    disk.sync_dir("").unwrap();
    disk
}

fn open(disk: &MemoryDisk) -> Result<Arc<LocalMeta>> {
    LocalMeta::open(Arc::new(disk.clone()), "v", VOLUME, signed(false))
}

/// The command of a revision: files come, and half of them go.
fn nth(revision: u64) -> Command {
    match revision {
        1 => Command::Format {
            uid: 0,
            gid: 0,
            mode: 0o755,
            time: at(0),
        },
        _ if revision.is_multiple_of(3) => Command::Unlink {
            parent: Ino::ROOT,
            tag: tag(revision as u8 - 1),
            time: at(3),
        },
        _ => create(1, revision as u8, revision, Kind::File),
    }
}

/// Runs all commands with a checkpoint now and then; returns what was synced.
fn run(disk: &MemoryDisk) -> u64 {
    let mut synced = 0;
    let Ok(meta) = open(disk) else { return 0 };
    for revision in 1..=COMMANDS {
        if now(meta.apply(nth(revision))).is_err() {
            break;
        }
        if revision.is_multiple_of(4) && meta.inner.log.sync_blocking(Revision(revision)).is_ok() {
            synced = revision;
        }
        if revision.is_multiple_of(20) {
            let _ = meta.checkpoint();
        }
    }
    synced
}

/// The tables after each revision.
fn history() -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    let dir = TempDir::new().unwrap();
    let meta = in_memory(&dir);
    let mut states = vec![Vec::new()];
    for revision in 1..=COMMANDS {
        now(meta.apply(nth(revision))).unwrap();
        states.push(dump(&meta));
    }
    states
}

#[test]
fn power_loss_leaves_tables_that_can_be_lost() {
    let history = history();
    let whole = fresh();
    assert_eq!(run(&whole), COMMANDS);
    assert!(
        log::begin(&whole, "v/log").unwrap() > Some(Revision(1)),
        "never cut"
    );
    let last = whole.operations();
    let mut from_image = 0;
    for step in 0..120 {
        let disk = fresh();
        disk.power_off_after(last * step / 120);
        let synced = run(&disk);
        let as_it_is = disk.crash(step);
        let meta = open(&as_it_is).unwrap();
        let revision = meta.revision().0;
        assert!(revision >= synced, "step {step}: {revision} of {synced}");
        assert!(dump(&meta) == history[revision as usize], "step {step}");
        drop(meta);
        // The same once more, without the tables.
        let lost = disk.crash(step);
        let _ = lost.remove("v/tables.redb");
        let meta = open(&lost).unwrap();
        assert_eq!(meta.revision().0, revision, "step {step}");
        assert!(dump(&meta) == history[revision as usize], "step {step}");
        let begin = log::begin(&lost, "v/log").unwrap();
        from_image += u32::from(begin > Some(Revision(1)));
    }
    assert!(from_image > 40, "{from_image}");
}

#[test]
fn damaged_tables_are_made_anew_from_their_image() {
    let disk = fresh();
    run(&disk);
    let before = dump(&open(&disk).unwrap());
    let tables = disk.open("v/tables.redb", OpenMode::Write).unwrap();
    tables.write_at(&[0; 512], 0).unwrap();
    let meta = open(&disk).unwrap();
    assert!(dump(&meta) == before);
    assert_sound(&meta);
    assert!(disk.paths().contains(&"v/tables.redb.damaged1".to_owned()));
}

#[test]
fn a_lost_image_is_written_anew() {
    let disk = fresh();
    run(&disk);
    disk.remove("v/tables.image").unwrap();
    let meta = open(&disk).unwrap();
    meta.checkpoint().unwrap();
    drop(meta);
    let before = dump(&open(&disk).unwrap());
    disk.remove("v/tables.redb").unwrap();
    assert!(dump(&open(&disk).unwrap()) == before);
}

#[test]
fn tables_and_image_lost_are_an_error_that_says_so() {
    let disk = fresh();
    run(&disk);
    disk.remove("v/tables.redb").unwrap();
    let file = disk.open("v/tables.image", OpenMode::Write).unwrap();
    file.write_at(&[1], file.len().unwrap() / 2).unwrap();
    let before = disk.paths();
    let Err(Error::Damaged { place, what }) = open(&disk) else {
        panic!("opened without tables");
    };
    assert_eq!(&*place, "v/tables.redb");
    assert!(
        what.contains("the file is missing") && what.contains("tables.image"),
        "{what}"
    );
    assert_eq!(disk.paths(), before);
}

#[test]
fn a_log_is_cut_behind_an_image_only() {
    let disk = fresh();
    let meta = LocalMeta::open(Arc::new(disk.clone()), "v", VOLUME, signed(true)).unwrap();
    for revision in 1..=COMMANDS {
        now(meta.apply(nth(revision))).unwrap();
        sync(&meta);
    }
    meta.checkpoint().unwrap();
    meta.close().unwrap();
    assert_eq!(log::begin(&disk, "v/log").unwrap(), Some(Revision(1)));
    let key = signed(false).signing_key.unwrap().verifying_key();
    assert_eq!(image::look(&disk, "v", VOLUME, Some(&key)).unwrap(), None);
}
