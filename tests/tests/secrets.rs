//! Keys, and what someone sees who has the store but not the key.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
};

use anyhow::ensure;
use kiseki_tests::{
    Mount, Result,
    store::{filled_store, refused, snapshot, store_files},
};

#[test]
fn wrong_key_is_refused_and_the_store_stays_byte_identical() -> Result {
    let Some(mount) = filled_store()? else {
        return Ok(());
    };
    let Some(other) = filled_store()? else {
        return Ok(());
    };
    let before = snapshot(mount.store())?;
    let right = fs::read(mount.key())?;
    fs::copy(other.key(), mount.key())?;
    refused(&mount.try_mount()?, 1, &["key"])?;
    assert!(!mount.is_mounted());
    for verb in [&["fsck"][..], &["gc"], &["fsck", "--repair"]] {
        refused(&mount.on_store(verb)?, 1, &["key"])?;
    }
    assert_eq!(before, snapshot(mount.store())?, "the store was touched");
    fs::write(mount.key(), right)?;
    mount.try_mount()?.ok()?;
    assert_eq!(fs::read(mount.path("file"))?, b"contents");
    Ok(())
}

#[test]
fn missing_or_unreadable_key_is_refused() -> Result {
    let Some(mount) = filled_store()? else {
        return Ok(());
    };
    let before = snapshot(mount.store())?;
    let key = fs::read(mount.key())?;
    fs::remove_file(mount.key())?;
    refused(&mount.try_mount()?, 1, &["key"])?;
    assert!(!mount.key().exists(), "a new key for an old store");
    fs::write(mount.key(), "this is no key")?;
    refused(&mount.try_mount()?, 1, &["key"])?;
    fs::write(mount.key(), &key[..key.len() / 2])?;
    refused(&mount.try_mount()?, 1, &["key"])?;
    assert_eq!(before, snapshot(mount.store())?, "the store was touched");
    Ok(())
}

#[test]
fn key_file_is_private_and_outside_the_store() -> Result {
    let Some(mount) = Mount::fresh()? else {
        return Ok(());
    };
    let mode = fs::metadata(mount.key())?.permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let key = fs::read(mount.key())?;
    for path in store_files(mount.store())? {
        let stored = fs::read(&path)?;
        assert!(!contains(&stored, &key), "{} holds the key", path.display());
    }
    Ok(())
}

#[test]
fn store_holds_no_name_and_no_content() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    let secret = "plainly-visible-secret";
    let dir = mount.path(format!("{secret}-directory"));
    fs::create_dir(&dir)?;
    fs::write(
        dir.join(format!("{secret}-name")),
        format!("{secret}-contents"),
    )?;
    let mut large = File::create(dir.join("large"))?;
    for n in 0..50_000 {
        writeln!(large, "{secret}-line {n}")?;
    }
    drop(large);
    std::os::unix::fs::symlink(format!("{secret}-target"), dir.join("link"))?;
    let xattr = format!("user.{secret}-xattr");
    let value = format!("{secret}-value");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&dir, xattr, value.as_bytes(), flags)?;
    let look = |mount: &Mount| -> Result {
        for path in store_files(mount.store())? {
            ensure!(
                !contains(&fs::read(&path)?, secret.as_bytes())
                    && !path.to_str().unwrap().contains(secret),
                "{} shows what it should hide",
                path.display()
            );
        }
        Ok(())
    };
    mount.umount()?;
    look(&mount)?;
    mount.mount()?;
    fs::rename(&dir, mount.path(format!("{secret}-renamed")))?;
    mount.crash()?;
    look(&mount)
}

/// Whether a few bytes occur in many.
fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
