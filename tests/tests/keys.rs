//! Keys, volumes and collection through the command, on stores with data.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use kiseki_tests::{Content, Mount, Result, store::refused};

const LEN: u64 = 3 << 20;

/// Writes a passphrase to a file that only its owner can read.
fn passphrase(mount: &Mount, name: &str, text: &str) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let path = mount.base().join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path.to_str().unwrap().to_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn old_and_new_files_are_readable_after_a_rotation_and_still_shared() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    Content(1).create(&mount.path("old"), LEN)?;
    fs::write(mount.path("small"), "old and small")?;
    mount.umount()?;
    let said = mount.on_store(&["key", "rotate"])?.ok()?;
    ensure!(said.contains("default"), "{said}");
    let wrong = mount.on_store(&["key", "rotate", "--volume", "absent"])?;
    refused(&wrong, 1, &["absent"])?;
    mount.mount()?;
    let before = mount.status_number("unique_chunks")?;
    Content(1).create(&mount.path("copy"), LEN)?;
    let after = mount.status_number("unique_chunks")?;
    ensure!(
        after == before,
        "stored again: {before} chunks, then {after}"
    );
    Content(2).create(&mount.path("new"), LEN)?;
    fs::write(mount.path("small new"), "new and small")?;
    mount.umount()?;
    mount
        .on_store(&["key", "rotate", "--volume", "default"])?
        .ok()?;
    mount.fsck_clean()?;
    mount.mount()?;
    for (seed, name) in [(1, "old"), (1, "copy"), (2, "new")] {
        Content(seed).verify(&mount.path(name), LEN)?;
    }
    assert_eq!(fs::read(mount.path("small"))?, b"old and small");
    assert_eq!(fs::read(mount.path("small new"))?, b"new and small");
    mount.umount()
}

#[test]
fn an_added_passphrase_opens_the_store_without_the_key_file() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    Content(1).create(&mount.path("file"), LEN)?;
    mount.umount()?;
    let right = passphrase(&mount, "right", "correct horse\n")?;
    let wrong = passphrase(&mount, "wrong", "battery staple\n")?;
    mount
        .on_store(&["key", "add-passphrase", "--new-passphrase-file", &right])?
        .ok()?;
    let store = text(mount.store()).to_owned();
    let slots = mount.kiseki(&["key", "list", "--store", &store])?.ok()?;
    ensure!(slots.lines().count() == 2, "{slots}");
    fs::remove_file(mount.key())?;
    let point = text(mount.dir()).to_owned();
    let run = |file: &str| {
        mount.logged(&[
            "mount",
            "--store",
            &store,
            "--passphrase-file",
            file,
            &point,
        ])
    };
    refused(&run(&wrong)?, 1, &["passphrase"])?;
    run(&right)?.ok()?;
    Content(1).verify(&mount.path("file"), LEN)?;
    mount.umount()
}

#[test]
fn a_destroyed_volume_is_gone_and_its_space_free() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    Content(1).create(&mount.path("file"), LEN)?;
    mount.umount()?;
    mount.on_store(&["volume", "create", "other"])?.ok()?;
    let listed = mount.on_store(&["volume", "list"])?.ok()?;
    ensure!(
        listed.contains("default") && listed.contains("other"),
        "{listed}"
    );
    let before = mount.disk_usage()?;
    ensure!(before > LEN);
    let unasked = mount.on_store(&["volume", "destroy", "default"])?;
    ensure!(
        unasked.code != 0,
        "destroyed without being sure: {unasked:?}"
    );
    mount
        .on_store(&["volume", "destroy", "--yes", "default"])?
        .ok()?;
    let after = mount.disk_usage()?;
    ensure!(after < LEN / 2, "{before} bytes before, {after} after");
    refused(&mount.try_mount()?, 1, &["other"])?;
    let listed = mount.on_store(&["volume", "list"])?.ok()?;
    ensure!(!listed.contains("default"), "{listed}");
    mount.fsck_clean()
}

#[test]
fn one_volume_of_a_store_is_mounted_at_a_time() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    fs::write(mount.path("file"), "of default")?;
    let busy = mount.on_store(&["volume", "create", "other"])?;
    refused(&busy, 1, &["in use"])?;
    mount.umount()?;
    mount.on_store(&["volume", "create", "other"])?.ok()?;
    mount.mount()?;
    let second = mount.base().join("second");
    fs::create_dir(&second)?;
    let mount_other = |mount: &Mount, point: &Path| {
        let (store, key) = (text(mount.store()), text(mount.key()));
        let args = ["mount", "--store", store, "--key-file", key];
        mount.logged(&[&args[..], &["--volume", "other", text(point)]].concat())
    };
    refused(&mount_other(&mount, &second)?, 1, &["in use"])?;
    mount.umount()?;
    mount_other(&mount, mount.dir())?.ok()?;
    ensure!(!mount.path("file").exists(), "volumes share names");
    fs::write(mount.path("file"), "of other")?;
    mount.remount()?;
    assert_eq!(fs::read(mount.path("file"))?, b"of default");
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn collection_frees_what_nothing_refers_to_and_needs_no_key() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    for n in 0..4 {
        Content(n).create(&mount.path(format!("file{n}")), LEN)?;
    }
    for n in 0..3 {
        fs::remove_file(mount.path(format!("file{n}")))?;
    }
    mount.umount()?;
    let before = mount.disk_usage()?;
    let store = text(mount.store()).to_owned();
    mount
        .kiseki(&["gc", "--store", &store])?
        .ok()
        .context("gc")?;
    let after = mount.disk_usage()?;
    ensure!(
        after + 2 * LEN < before,
        "{before} bytes before, {after} after"
    );
    mount.fsck_clean()?;
    mount.mount()?;
    Content(3).verify(&mount.path("file3"), LEN)?;
    mount.umount()
}
