//! What another user, and whoever looks at the daemon, cannot learn or do.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    process::Command,
};

use anyhow::{Context, bail, ensure};
use kiseki_tests::{
    Mount, Result, User, daemon, have, is_root, skip,
    store::{refused, snapshot, store_files},
};

/// Runs a shell command as nobody and gives its exit code; none when the test
/// was skipped.
fn as_nobody(script: &str) -> Result<Option<i32>> {
    if !is_root() || !have("setpriv") {
        skip("needs root and setpriv to become another user");
        return Ok(None);
    }
    let ids = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut command = Command::new("setpriv");
    let status = command.args(ids).args(["sh", "-c", script]).output()?;
    Ok(Some(status.status.code().unwrap_or(-1)))
}

/// The options of a mount, as the kernel tells them.
fn kernel_options(point: &Path) -> Result<String> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(4).map(Path::new) == Some(point));
    Ok(line.context("not mounted")?.to_owned())
}

#[test]
fn another_user_cannot_enter_unless_asked_for() -> Result {
    let Some(mut mount) = Mount::prepare(kiseki_tests::Setup::default())? else {
        return Ok(());
    };
    let args = mount.mount_args();
    let plain: Vec<&str> = args
        .iter()
        .copied()
        .filter(|word| !["-o", "allow_other"].contains(word))
        .collect();
    mount.logged(&plain)?.ok()?;
    ensure!(!kernel_options(mount.dir())?.contains("allow_other"));
    fs::write(mount.path("open"), "to all")?;
    let point = mount.dir().display();
    for script in [format!("ls {point}"), format!("cat {point}/open")] {
        match as_nobody(&script)? {
            Some(code) => ensure!(code != 0, "nobody can {script}"),
            None => return Ok(()),
        }
    }
    mount.umount()
}

#[test]
fn kernel_checks_permissions_on_every_mount() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    ensure!(kernel_options(mount.dir())?.contains("default_permissions"));
    mount.umount()?;
    // Nor can it be turned off.
    let mut args = vec!["mount", "-o", "nodefault_permissions"];
    args.extend(&mount.mount_args()[1..]);
    refused(&mount.logged(&args)?, 2, &["nodefault_permissions"])
}

#[test]
fn files_of_root_are_closed_to_others_on_a_shared_mount() -> Result {
    let Some(mount) = Mount::fresh()? else {
        return Ok(());
    };
    let file = mount.path("private");
    fs::write(&file, "secret")?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&file, mode)?;
    let file = file.display();
    for script in [
        format!("cat {file}"),
        format!("echo x > {file}"),
        format!("chmod 666 {file}"),
        format!("rm -f {file}"),
    ] {
        match as_nobody(&script)? {
            Some(code) => ensure!(code != 0, "nobody can {script}"),
            None => return Ok(()),
        }
    }
    Ok(())
}

#[test]
fn directory_of_another_user_is_no_mount_point() -> Result {
    let Some(user) = User::fresh()? else {
        return Ok(());
    };
    if !is_root() {
        skip("needs root to make a directory of somebody else");
        return Ok(());
    }
    let foreign = user.home().join("foreign");
    fs::create_dir(&foreign)?;
    std::os::unix::fs::chown(&foreign, Some(12345), Some(12345))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&foreign, mode)?;
    let said = user.kiseki(&["mount", "foreign"])?;
    refused(&said, 1, &["belongs to another user"])
}

#[test]
fn store_and_socket_are_closed_to_other_users() -> Result {
    let Some(mount) = Mount::fresh()? else {
        return Ok(());
    };
    fs::write(mount.path("file"), "contents")?;
    let socket = mount.store().join("control.sock");
    for path in store_files(mount.store())?.iter().chain([&socket]) {
        let mode = fs::metadata(path)?.mode() & 0o077;
        ensure!(mode == 0, "{} has mode {mode:o}", path.display());
    }
    ensure!(fs::metadata(mount.store())?.mode() & 0o077 == 0);
    Ok(())
}

#[test]
fn key_file_open_to_others_is_refused() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    mount.umount()?;
    for mode in [0o640, 0o604, 0o620] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(mount.key(), mode)?;
        refused(&mount.try_mount()?, 1, &["open to others", "chmod 600"])?;
    }
    Ok(())
}

/// The key of a key file, as bytes and as the text it is written in.
fn forms_of_the_key(file: &Path) -> Result<[Vec<u8>; 2]> {
    let text = fs::read_to_string(file)?;
    let digits = text.split(':').nth(1).context("no key file")?.to_owned();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16);
    let bytes: Result<Vec<u8>, _> = (0..digits.len()).step_by(2).map(byte).collect();
    Ok([bytes?, digits.into_bytes()])
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[test]
fn no_key_in_arguments_environment_or_log() -> Result {
    let Some(mount) = Mount::fresh()? else {
        return Ok(());
    };
    fs::write(mount.path("file"), "contents")?;
    let forms = forms_of_the_key(mount.key())?;
    let mut places = BTreeMap::new();
    for pid in daemon::of_store(mount.store()) {
        for what in ["cmdline", "environ", "comm"] {
            let path = format!("/proc/{pid}/{what}");
            places.insert(path.clone(), fs::read(&path)?);
        }
        // Its log is what its standard error is.
        let log = fs::read_link(format!("/proc/{pid}/fd/2"))?;
        if log.is_file() {
            places.insert(log.display().to_string(), fs::read(log)?);
        }
    }
    ensure!(places.len() > 2, "no daemon");
    for (place, bytes) in places {
        for form in &forms {
            ensure!(!contains(&bytes, form), "{place} shows the key");
        }
    }
    Ok(())
}

#[test]
fn no_passphrase_in_errors() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    mount.umount()?;
    let file = mount.base().join("passphrase");
    fs::write(&file, "open-sesame-7712\n")?;
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&file, closed)?;
    let file = file.to_str().unwrap();
    let store = mount.store().to_str().unwrap();
    let said = mount.kiseki(&["fsck", "--store", store, "--passphrase-file", file])?;
    ensure!(said.code == 1, "{said:?}");
    ensure!(!format!("{said:?}").contains("sesame"), "{said:?}");
    // Of a damaged key file, nothing is repeated.
    let key = fs::read_to_string(mount.key())?;
    fs::write(
        mount.key(),
        key.replacen("kiseki-key-1:", "kiseki-key-1:0", 1),
    )?;
    let said = mount.on_store(&["fsck"])?;
    ensure!(said.code == 1 && said.stderr.contains("key"), "{said:?}");
    let digits = key.split(':').nth(1).unwrap();
    ensure!(!said.stderr.contains(&digits[..8]), "{said:?}");
    Ok(())
}

#[test]
fn daemon_leaves_no_core_dump_and_shows_its_memory_to_nobody() -> Result {
    let Some(user) = User::fresh()? else {
        return Ok(());
    };
    user.kiseki(&["mount", "data"])?.ok()?;
    let pids = daemon::of_store(&user.store());
    let pid = *pids.first().context("no daemon")?;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .context("no limit of core files")?;
    let numbers: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    ensure!(numbers == ["0", "0"], "{core}");
    // What is not dumpable belongs to root in /proc, and to nobody else.
    for what in ["mem", "environ", "maps"] {
        let owner = fs::metadata(format!("/proc/{pid}/{what}"))?.uid();
        ensure!(owner == 0, "/proc/{pid}/{what} belongs to user {owner}");
    }
    let mut look = user.program_of("cat");
    look.arg(format!("/proc/{pid}/environ"));
    let said = user.collect(look)?;
    ensure!(said.code != 0 || is_root_itself(&user), "{said:?}");
    user.kiseki(&["umount", "data"])?.ok()?;
    Ok(())
}

fn is_root_itself(user: &User) -> bool {
    fs::metadata(user.home()).is_ok_and(|home| home.uid() == 0)
}

#[test]
fn key_file_is_not_in_the_memory_of_the_daemon() -> Result {
    if !is_root() {
        skip("needs root to read the memory of a daemon");
        return Ok(());
    }
    let Some(mount) = Mount::fresh()? else {
        return Ok(());
    };
    fs::write(mount.path("file"), vec![7; 1 << 20])?;
    File::open(mount.path("file"))?.sync_all()?;
    let forms = forms_of_the_key(mount.key())?;
    let mut looked_at = 0;
    // Not the supervisor, which keeps what opens the store for the next daemon.
    if let Some(pid) = daemon::serving(mount.store()) {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        for line in maps.lines() {
            let Some((start, end)) = readable(line) else {
                continue;
            };
            let mut bytes = vec![0; (end - start) as usize];
            // Some mappings of the kernel cannot be read.
            if memory.read_exact_at(&mut bytes, start).is_err() {
                continue;
            }
            looked_at += bytes.len();
            for form in &forms {
                if contains(&bytes, form) {
                    bail!("the key is in {line}");
                }
            }
        }
    }
    ensure!(looked_at > 1 << 20, "only {looked_at} bytes could be read");
    Ok(())
}

/// Begin and end of a mapping that can be read and is no file.
fn readable(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    // The journal is mostly address space, and a look would make memory of it.
    (rest.starts_with("rw") && !rest.contains("/memfd:")).then_some(())?;
    Some((number(start)?, number(end)?))
}

/// A change of any sealed byte is an error or makes no difference; never other
/// contents.
#[test]
fn host_of_the_store_cannot_change_contents_unnoticed() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    let text = vec![b'a'; 300_000];
    fs::write(mount.path("file"), &text)?;
    fs::write(mount.path("small"), "small contents")?;
    mount.umount()?;
    let before = snapshot(mount.store())?;
    ensure!(!before.is_empty());
    let segment = store_files(mount.store())?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "seg"))
        .max_by_key(|path| fs::metadata(path).map_or(0, |about| about.len()))
        .context("no segment")?;
    let whole = fs::read(&segment)?;
    for at in (200..whole.len()).step_by(whole.len() / 7) {
        let mut changed = whole.clone();
        changed[at] ^= 0x40;
        fs::write(&segment, &changed)?;
        mount.mount()?;
        if let Ok(read) = fs::read(mount.path("file")) {
            ensure!(read == text, "byte {at} changed what is read");
        }
        ensure!(fs::read(mount.path("small"))? == b"small contents");
        mount.umount()?;
    }
    Ok(())
}
