//! What kiseki refuses, and what it says: damage, versions, full disks, usage.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use kiseki_tests::{
    Content, Mount, Result, Setup, is_root, need_tools,
    run::sh,
    skip,
    store::{filled_store, refused, snapshot, store_files},
};

#[test]
fn second_mount_of_a_store_is_refused() -> Result {
    let Some(mount) = Mount::fresh()? else {
        return Ok(());
    };
    fs::write(mount.path("file"), "one")?;
    let elsewhere = mount.base().join("second");
    fs::create_dir(&elsewhere)?;
    let mut args = mount.mount_args();
    *args.last_mut().unwrap() = elsewhere.to_str().unwrap();
    let said = mount.logged(&args)?;
    let pid = kiseki_tests::daemon::serving(mount.store()).context("no daemon")?;
    let pid = pid.to_string();
    refused(&said, 1, &["in use", &pid])?;
    assert_eq!(fs::read(mount.path("file"))?, b"one");
    fs::write(mount.path("file"), "two")?;
    Ok(())
}

#[test]
fn newer_format_version_is_refused_unchanged() -> Result {
    let Some(mount) = filled_store()? else {
        return Ok(());
    };
    let path = mount.store().join("kiseki.json");
    let text = fs::read_to_string(&path).context("kiseki.json of the store")?;
    let mut header: serde_json::Value = serde_json::from_str(&text)?;
    let version = header["format_version"]
        .as_u64()
        .context("format_version")?;
    header["format_version"] = (version + 1).into();
    fs::write(&path, header.to_string())?;
    let before = snapshot(mount.store())?;
    let newer = (version + 1).to_string();
    refused(&mount.try_mount()?, 1, &["version", &newer])?;
    refused(&mount.on_store(&["fsck"])?, 1, &["version", &newer])?;
    assert_eq!(before, snapshot(mount.store())?);
    fs::write(&path, text)?;
    mount.try_mount()?.ok()?;
    Ok(())
}

#[test]
fn damaged_chunk_is_an_error_on_its_file_only() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    const LEN: u64 = 4 << 20;
    for n in 0..4 {
        Content(n).create(&mount.path(format!("file{n}")), LEN)?;
    }
    mount.umount()?;
    let segment = largest_file(mount.store())?;
    flip_a_byte(&segment)?;
    mount.mount()?;
    let mut damaged = Vec::new();
    for n in 0..4 {
        let path = mount.path(format!("file{n}"));
        match fs::read(&path) {
            Ok(found) => assert!(
                found == Content(n).bytes(0, LEN as usize),
                "file{n} differs"
            ),
            Err(e) => {
                assert_eq!(e.raw_os_error(), Some(nix::libc::EIO), "file{n}");
                damaged.push(n);
            }
        }
    }
    assert_eq!(damaged.len(), 1, "one byte is wrong: {damaged:?}");
    // The rest of that file can be read, and all else works.
    let file = File::open(mount.path(format!("file{}", damaged[0])))?;
    let readable = (0..LEN).step_by(65536).filter(|at| {
        let mut piece = [0; 4096];
        file.read_exact_at(&mut piece, *at).is_ok()
    });
    assert!(
        readable.count() > 32,
        "half of the file is lost for one byte"
    );
    drop(file);
    fs::write(mount.path("new"), "still writable")?;
    mount.umount()?;
    let found = mount.on_store(&["fsck"])?;
    let said = format!("{}{}", found.stdout, found.stderr);
    assert_eq!(found.code, 3, "{said}");
    assert!(said.contains(&format!("file{}", damaged[0])), "{said}");
    for n in (0..4).filter(|n| *n != damaged[0]) {
        assert!(!said.contains(&format!("file{n}")), "{said}");
    }
    Ok(())
}

/// The segment that holds most of the data.
fn largest_file(store: &Path) -> Result<PathBuf> {
    store_files(store)?
        .into_iter()
        .max_by_key(|path| fs::metadata(path).map(|meta| meta.len()).unwrap_or(0))
        .context("an empty store")
}

fn flip_a_byte(path: &Path) -> Result {
    let file = File::options().read(true).write(true).open(path)?;
    let at = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 0x40], at)?;
    Ok(())
}

/// An ext4 of 96 MiB on a loop device, unmounted when dropped.
struct SmallDisk {
    point: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    fn make() -> Result<Option<SmallDisk>> {
        if !is_root() || !need_tools(&["mkfs.ext4", "losetup", "mount"]) {
            skip("a full disk needs root, for a loop device");
            return Ok(None);
        }
        let dir = kiseki_tests::mount::scratch_dir("disk")?;
        let script = "truncate -s 96M image; mkfs.ext4 -q -m 0 image; mkdir mnt
            mount -o loop image mnt";
        if let Err(e) = sh(dir.path(), script) {
            skip(&format!("cannot mount a loop device: {e:#}"));
            return Ok(None);
        }
        let point = dir.path().join("mnt");
        Ok(Some(SmallDisk { point, _dir: dir }))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = kiseki_tests::run("umount", &["-l".as_ref(), self.point.as_os_str()]);
    }
}

#[test]
fn full_disk_is_an_error_to_the_writer_and_harms_nothing() -> Result {
    let Some(disk) = SmallDisk::make()? else {
        return Ok(());
    };
    let setup = Setup {
        store_in: Some(disk.point.clone()),
        ..Setup::default()
    };
    let Some(mut mount) = Mount::with(setup)? else {
        return Ok(());
    };
    const LEN: u64 = 8 << 20;
    let mut stored = Vec::new();
    let error = loop {
        let n = stored.len() as u64;
        match Content(n).create(&mount.path(format!("file{n}")), LEN) {
            Ok(()) => stored.push(n),
            Err(e) => break e,
        }
        ensure!(n < 20, "160 MiB on a disk of 96");
    };
    let kind = error
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind);
    assert_eq!(kind, Some(ErrorKind::StorageFull), "{error:#}");
    assert!(stored.len() >= 5, "full after {} files", stored.len());
    let check = |mount: &Mount, from: u64| -> Result {
        for n in stored.iter().filter(|n| **n >= from) {
            Content(*n).verify(&mount.path(format!("file{n}")), LEN)?;
        }
        Ok(())
    };
    check(&mount, 0)?;
    // Deleting works on a full disk, and makes room after a collection.
    let partial = mount.path(format!("file{}", stored.len()));
    fs::remove_file(partial).or_else(|e| match e.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(e),
    })?;
    for n in 0..3 {
        fs::remove_file(mount.path(format!("file{n}")))?;
    }
    mount.gc()?;
    Content(99).create(&mount.path("after"), LEN)?;
    check(&mount, 3)?;
    mount.remount()?;
    check(&mount, 3)?;
    Content(99).verify(&mount.path("after"), LEN)?;
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn read_only_store_can_be_read_and_refuses_writes() -> Result {
    let Some(disk) = SmallDisk::make()? else {
        return Ok(());
    };
    let setup = Setup {
        store_in: Some(disk.point.clone()),
        ..Setup::default()
    };
    let Some(mut mount) = Mount::with(setup)? else {
        return Ok(());
    };
    Content(1).create(&mount.path("file"), 2 << 20)?;
    mount.umount()?;
    sh(
        &disk.point,
        &format!("mount -o remount,ro {}", disk.point.display()),
    )?;
    let said = mount.try_mount()?;
    if said.code == 0 {
        Content(1).verify(&mount.path("file"), 2 << 20)?;
        let error = fs::write(mount.path("new"), "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
        return Ok(());
    }
    // The other good answer names the cause, and `-o ro` works.
    refused(&said, 1, &["read-only"])?;
    let mut args = mount.mount_args();
    args.splice(1..1, ["-o", "ro"]);
    mount.logged(&args)?.ok()?;
    Content(1).verify(&mount.path("file"), 2 << 20)
}

#[test]
fn mount_with_option_ro_refuses_writes() -> Result {
    let Some(mut mount) = filled_store()? else {
        return Ok(());
    };
    let mut args = mount.mount_args();
    args.splice(1..1, ["-o", "ro"]);
    mount.logged(&args)?.ok()?;
    assert_eq!(fs::read(mount.path("file"))?, b"contents");
    for error in [
        fs::write(mount.path("new"), "x").unwrap_err(),
        fs::remove_file(mount.path("file")).unwrap_err(),
        fs::create_dir(mount.path("dir")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
    }
    mount.umount()
}

#[test]
fn unknown_configuration_key_is_refused_with_its_line() -> Result {
    let Some(mount) = Mount::prepare(Setup::default())? else {
        return Ok(());
    };
    let path = mount.base().join("kiseki.toml");
    fs::write(&path, "# settings\n\nmemroy = \"1G\"\n")?;
    let mut args = mount.mount_args();
    args.splice(1..1, ["--config", path.to_str().unwrap()]);
    let said = mount.logged(&args)?;
    ensure!(matches!(said.code, 1 | 2), "{said:?}");
    refused(&said, said.code, &["memroy", "3"])?;
    assert!(!mount.is_mounted());
    Ok(())
}

#[test]
fn exit_codes_and_messages_are_for_people_and_scripts() -> Result {
    let Some(mount) = filled_store()? else {
        return Ok(());
    };
    let base = mount.base().to_str().unwrap();
    let missing = format!("{base}/missing");
    for (args, code) in [
        (&["version"][..], 0),
        (&["--help"], 0),
        (&["no-such-verb"], 2),
        (&["mount"], 2),
        (&["mount", "--no-such-flag", base], 2),
        (&["status", "--store", &missing], 1),
        (&["umount", base], 1),
        (&["fsck", "--store", &missing], 1),
        (&["info", "/"], 1),
    ] {
        let said = mount.kiseki(args)?;
        assert_eq!(said.code, code, "{args:?}: {said:?}");
        assert_eq!(code == 0, said.stderr.is_empty(), "{args:?}: {said:?}");
        assert!(!said.stderr.contains("panicked"), "{said:?}");
    }
    assert!(!Path::new(&missing).exists(), "looking made a store");
    mount.on_store(&["fsck"])?.ok()?;
    mount.on_store(&["log", "verify"])?.ok()?;
    Ok(())
}

#[test]
fn mount_returns_to_a_script_that_reads_its_output() -> Result {
    let Some(mount) = Mount::prepare(Setup::default())? else {
        return Ok(());
    };
    let mut child = mount
        .command(&mount.mount_args())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = std::thread::spawn(|| std::io::read_to_string(stdout));
    let errors = std::thread::spawn(|| std::io::read_to_string(stderr));
    assert!(child.wait()?.success());
    assert!(mount.is_mounted());
    let start = Instant::now();
    while !(reader.is_finished() && errors.is_finished()) {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "the daemon keeps the output of `kiseki mount` open"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = reader.join().unwrap()? + &errors.join().unwrap()?;
    // The first mount says where the key is, and what losing it means.
    assert!(said.contains(mount.key().to_str().unwrap()), "{said}");
    assert!(said.contains(mount.store().to_str().unwrap()), "{said}");
    Ok(())
}
