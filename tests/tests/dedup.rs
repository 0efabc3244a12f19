//! Deduplication and the space that comes back.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::Write,
};

use kiseki_tests::{Content, Mount, Result};

const MIB: u64 = 1 << 20;

/// What the mount has to say about space, in MiB.
fn stored(mount: &Mount) -> Result<u64> {
    Ok(mount.status_number("stored_bytes")? / MIB)
}

#[test]
fn same_file_twice_is_stored_once() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    Content(1).create(&mount.path("one"), 64 * MIB)?;
    let once = mount.status()?;
    let once_stored = once["stored_bytes"].as_u64().unwrap();
    assert!((64..72).contains(&(once_stored / MIB)), "{once}");
    assert_eq!(once["logical_bytes"].as_u64(), Some(64 * MIB));
    Content(1).create(&mount.path("two"), 64 * MIB)?;
    let twice = mount.status()?;
    assert!(
        twice["stored_bytes"].as_u64().unwrap() - once_stored < MIB,
        "{once} became {twice}"
    );
    assert_eq!(twice["logical_bytes"].as_u64(), Some(128 * MIB));
    assert_eq!(twice["unique_chunks"], once["unique_chunks"]);
    let ratio = twice["dedup_ratio"].as_f64().unwrap();
    assert!((1.8..2.1).contains(&ratio), "ratio {ratio}");
    assert!(mount.disk_usage()? < 80 * MIB, "{}", mount.disk_usage()?);
    mount.remount()?;
    Content(1).verify(&mount.path("one"), 64 * MIB)?;
    Content(1).verify(&mount.path("two"), 64 * MIB)?;
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn shifted_copy_is_mostly_stored_already() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    Content(2).create(&mount.path("plain"), 32 * MIB)?;
    let before = mount.status_number("stored_bytes")?;
    let mut shifted = File::create(mount.path("shifted"))?;
    shifted.write_all(b"a few bytes in front")?;
    for n in 0..32 {
        shifted.write_all(&Content(2).bytes(n * MIB, MIB as usize))?;
    }
    shifted.sync_all()?;
    drop(shifted);
    let grown = mount.status_number("stored_bytes")? - before;
    assert!(
        grown < 8 * MIB,
        "{grown} bytes for a shifted copy of 32 MiB"
    );
    mount.remount()?;
    let found = fs::read(mount.path("shifted"))?;
    assert!(found[20..] == Content(2).bytes(0, 32 << 20));
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn rewriting_a_file_does_not_pile_up_copies() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    for version in 0..6 {
        Content(100 + version).create(&mount.path("file"), 16 * MIB)?;
    }
    mount.gc()?;
    assert!(
        stored(&mount)? < 40,
        "{} MiB for a file of 16",
        stored(&mount)?
    );
    assert!(mount.disk_usage()? < 48 * MIB, "{}", mount.disk_usage()?);
    Content(105).verify(&mount.path("file"), 16 * MIB)?;
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn collection_frees_what_was_deleted_and_keeps_what_is_shared() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    for n in 0..8 {
        Content(n).create(&mount.path(format!("file{n}")), 8 * MIB)?;
    }
    // file8 has the contents of file0, by another way than copying.
    Content(0).create(&mount.path("file8"), 8 * MIB)?;
    assert!(stored(&mount)? >= 64);
    for n in 0..6 {
        fs::remove_file(mount.path(format!("file{n}")))?;
    }
    mount.gc()?;
    assert!(stored(&mount)? < 36, "{} MiB for 24", stored(&mount)?);
    for (name, seed) in [("file6", 6), ("file7", 7), ("file8", 0)] {
        Content(seed).verify(&mount.path(name), 8 * MIB)?;
    }
    mount.remount()?;
    for (name, seed) in [("file6", 6), ("file7", 7), ("file8", 0)] {
        Content(seed).verify(&mount.path(name), 8 * MIB)?;
    }
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn deleting_everything_gives_nearly_everything_back() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    for n in 0..10 {
        Content(n).create(&mount.path(format!("big{n}")), 6 * MIB)?;
    }
    for n in 0..500_u64 {
        fs::write(mount.path(format!("small{n}")), Content(n).bytes(0, 900))?;
    }
    for entry in fs::read_dir(mount.dir())? {
        fs::remove_file(entry?.path())?;
    }
    mount.gc()?;
    let status = mount.status()?;
    assert!(stored(&mount)? < 2, "{status}");
    assert_eq!(status["logical_bytes"].as_u64(), Some(0), "{status}");
    assert_eq!(status["unique_chunks"].as_u64(), Some(0), "{status}");
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn collection_of_an_unmounted_store_needs_no_key() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    Content(1).create(&mount.path("goes"), 24 * MIB)?;
    Content(2).create(&mount.path("stays"), 8 * MIB)?;
    fs::remove_file(mount.path("goes"))?;
    mount.umount()?;
    let store = mount.store().to_str().unwrap().to_owned();
    mount.kiseki(&["gc", "--store", &store])?.ok()?;
    assert!(mount.disk_usage()? < 20 * MIB, "{}", mount.disk_usage()?);
    mount.mount()?;
    Content(2).verify(&mount.path("stays"), 8 * MIB)?;
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn info_says_what_two_copies_share() -> Result {
    let Some(mount) = Mount::fresh()? else {
        return Ok(());
    };
    Content(1).create(&mount.path("one"), 4 * MIB)?;
    Content(1).create(&mount.path("two"), 4 * MIB)?;
    fs::write(mount.path("small"), "small")?;
    File::open(mount.path("small"))?.sync_all()?;
    let info = |name: &str| -> Result<serde_json::Value> {
        let path = mount.path(name);
        let said = mount.kiseki(&["info", "--json", path.to_str().unwrap()])?;
        Ok(serde_json::from_str(&said.ok()?)?)
    };
    let two = info("two")?;
    assert_eq!(two["size"].as_u64(), Some(4 * MIB), "{two}");
    assert!(two["chunks"].as_u64() > Some(0), "{two}");
    assert_eq!(two["shared_chunks"], two["chunks"], "{two}");
    assert_eq!(two["inline"].as_bool(), Some(false), "{two}");
    assert_eq!(info("small")?["inline"].as_bool(), Some(true));
    Ok(())
}
