//! Mounts by a user: default places, terminals, credentials of systemd, readiness.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use kiseki_tests::{Result, User, need_tools, store::refused};
use nix::{sys::signal, unistd::Pid};

/// What a user writes to see that the mount is theirs.
const WRITE: &str = "echo contents > data/file && cat data/file";

fn works(user: &User) -> Result {
    let mut shell = user.program_of("sh");
    shell.args(["-euc", WRITE]);
    let said = user.collect(shell)?.ok()?;
    ensure!(said == "contents\n", "{said}");
    Ok(())
}

#[test]
fn first_mount_needs_a_directory_and_nothing_else() -> Result {
    let Some(user) = User::fresh()? else {
        return Ok(());
    };
    let mounted = user.kiseki(&["mount", "data"])?;
    ensure!(mounted.code == 0, "{mounted:?}");
    ensure!(user.is_mounted());
    let keys = user.home().join(".config/kiseki/keys");
    let key = fs::read_dir(&keys)?.next().context("no key")??.path();
    let line = &mounted.stderr;
    for word in [
        user.store().to_str().unwrap(),
        key.to_str().unwrap(),
        "loses",
    ] {
        ensure!(line.contains(word), "{word} is missing in: {line}");
    }
    ensure!(line.lines().count() == 1, "more than one line: {line}");
    for (path, mode) in [(&key, 0o600), (&keys, 0o700), (&user.store(), 0o700)] {
        let found = fs::metadata(path)?.permissions().mode() & 0o7777;
        ensure!(found == mode, "{} has mode {found:o}", path.display());
    }
    works(&user)?;
    for args in [&["status", "data"][..], &["status"], &["info", "data/file"]] {
        user.kiseki(args)?.ok()?;
    }
    user.kiseki(&["umount", "data"])?.ok()?;
    ensure!(!user.is_mounted());
    let status = user.kiseki(&["status"])?.ok()?;
    ensure!(!status.contains("read-only"), "{status}");
    let again = user.kiseki(&["mount", "data"])?;
    ensure!(again.code == 0 && again.stderr.is_empty(), "{again:?}");
    user.kiseki(&["umount", "data"])?.ok()?;
    user.kiseki(&["fsck"])?.ok()?;
    Ok(())
}

#[test]
fn what_fusermount_refuses_is_one_line() -> Result {
    let Some(user) = User::fresh()? else {
        return Ok(());
    };
    let said = user.kiseki(&["mount", "/"])?;
    refused(&said, 1, &["cannot mount"])?;
    let last = said.stderr.lines().last().unwrap_or_default();
    ensure!(last.starts_with("kiseki: cannot mount"), "{}", said.stderr);
    Ok(())
}

#[test]
fn passphrase_is_asked_on_the_terminal_and_not_shown() -> Result {
    let Some(user) = User::fresh()? else {
        return Ok(());
    };
    if !need_tools(&["script"]) {
        return Ok(());
    }
    let ask = |line: &str, answers: &[&str]| on_terminal(&user, line, answers);
    let (said, code) = ask("mount --passphrase data", &["one thing", "another"])?;
    ensure!(code != 0 && said.contains("differ"), "{said}");
    let (said, code) = ask("mount --passphrase data", &["a phrase", "a phrase"])?;
    ensure!(code == 0 && !said.contains("a phrase"), "{said}");
    works(&user)?;
    user.kiseki(&["umount", "data"])?.ok()?;
    let (said, code) = ask("mount data", &["a wrong one"])?;
    ensure!(code != 0 && said.contains("wrong key"), "{said}");
    let (said, code) = ask("mount data", &["a phrase"])?;
    ensure!(code == 0, "{said}");
    works(&user)?;
    user.kiseki(&["umount", "data"])?.ok()?;
    refused(&user.kiseki(&["mount", "data"])?, 1, &["no terminal"])
}

/// Runs kiseki on a terminal and answers what it asks; what the terminal
/// showed, and the exit code.
fn on_terminal(user: &User, line: &str, answers: &[&str]) -> Result<(String, i32)> {
    let line = format!("{} {line}", user.program().display());
    let mut command = user.program_of("script");
    command.args(["-qec", &line, "/dev/null"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut seen, mut buffer) = (String::new(), 0, [0; 4096]);
    let mut answers = answers.iter();
    while let Ok(n @ 1..) = output.read(&mut buffer) {
        shown.push_str(&String::from_utf8_lossy(&buffer[..n]));
        if shown[seen..].ends_with(": ")
            && let Some(answer) = answers.next()
        {
            seen = shown.len();
            writeln!(input, "{answer}")?;
        }
    }
    drop(input);
    Ok((shown, child.wait()?.code().unwrap_or(-1)))
}

#[test]
fn credential_of_systemd_opens_the_store() -> Result {
    let Some(user) = User::fresh()? else {
        return Ok(());
    };
    let dir = user.home().join("credentials");
    fs::create_dir(&dir)?;
    user.own(&dir)?;
    user.write_private(&dir.join("kiseki.passphrase"), "a phrase\n")?;
    let mount = || {
        let mut command = user.command(&["mount", "data"]);
        command.env("CREDENTIALS_DIRECTORY", &dir);
        user.collect(command)
    };
    for _ in 0..2 {
        mount()?.ok()?;
        works(&user)?;
        user.kiseki(&["umount", "data"])?.ok()?;
    }
    user.write_private(&dir.join("kiseki.passphrase"), "a wrong one\n")?;
    refused(&mount()?, 1, &["wrong key"])
}

#[test]
fn systemd_is_told_when_the_mount_answers() -> Result {
    let Some(user) = User::fresh()? else {
        return Ok(());
    };
    let path = user.home().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    user.own(&path)?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut command = user.command(&["mount", "-f", "data"]);
    let mut child = command.env("NOTIFY_SOCKET", &path).spawn()?;
    let mut message = [0; 256];
    let n = socket.recv(&mut message).context("no word of readiness")?;
    ensure!(&message[..n] == b"READY=1\n", "{:?}", &message[..n]);
    ensure!(user.is_mounted(), "ready, and not mounted");
    works(&user)?;
    // `timeout`, which runs it, passes the signal on.
    signal::kill(
        Pid::from_raw(i32::try_from(child.id())?),
        signal::Signal::SIGTERM,
    )?;
    let n = socket.recv(&mut message).context("no word of the end")?;
    ensure!(&message[..n] == b"STOPPING=1\n", "{:?}", &message[..n]);
    let ended = child.wait()?;
    ensure!(ended.success() && !user.is_mounted(), "{ended}");
    Ok(())
}
