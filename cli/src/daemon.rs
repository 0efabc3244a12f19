//! Starting a mount in the background.
//!
//! The process that the user started reads what it needs (a passphrase may
//! have to be typed), starts itself again in a session of its own, hands plan
//! and secret over on standard input, and waits until the mount answers. So
//! the secret never stands on a command line, in the environment or on disk,
//! and the command returns 0 only for a mount that works.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use kiseki_core::crypto::Secret as Key;
use nix::unistd;
use zeroize::Zeroizing;

use crate::{
    control::{Daemon, Line},
    failure::{Attempt, Code, Failure, Result},
    plan::Plan,
    secrets::{self, Secret},
};

/// The hidden verb that a background process runs.
pub const VERB: &str = "daemon";

/// The longest plan with a secret.
const LONGEST: usize = 160 << 10;

/// A log is begun anew beyond this many bytes; the old one is kept once.
const LOG_LIMIT: u64 = 4 << 20;

/// Starts the daemon and waits until its mount answers.
///
/// # Errors
/// What the daemon could not do.
pub fn start(plan: &Plan, secret: &Secret, log: &Path) -> Result<Daemon> {
    let shown = log.display();
    let (stderr, logs_to) = match open_log(log) {
        Ok(file) => (Stdio::from(file), format!("its log {shown} says why")),
        Err(error) => {
            eprintln!("kiseki: no log of this mount: cannot write {shown}: {error}");
            (Stdio::null(), "mount with -f to see why".to_owned())
        }
    };
    // Store and mount point stand on the command line for `ps` alone.
    let mut child = Command::new("/proc/self/exe")
        .arg0("kiseki")
        .arg(VERB)
        .args([&plan.store, &plan.mountpoint])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .attempt(|| "cannot start the daemon".into())?;
    let told = child
        .stdin
        .take()
        .map_or(Ok(()), |mut pipe| pipe.write_all(&encode(plan, secret)));
    let mut answer = String::new();
    if let Some(pipe) = child.stdout.take() {
        // An answer that cannot be read is as good as none.
        let _ = BufReader::new(pipe.take(64 << 10)).read_line(&mut answer);
    }
    match serde_json::from_str(&answer) {
        Ok(Line::Pong(daemon)) => Ok(daemon),
        Ok(Line::Failed { message, damage }) => {
            let _ = child.wait();
            let code = if damage { Code::Damage } else { Code::Failed };
            Err(Failure::new(message).code(code))
        }
        _ => {
            let failure = Failure::new(format!(
                "the daemon ended before {} answered",
                plan.mountpoint.display()
            ));
            let failure = match (child.wait(), told) {
                (Ok(status), _) if !status.success() => failure.why(status),
                (_, Err(error)) => failure.why(error),
                _ => failure,
            };
            Err(failure.remedy(logs_to))
        }
    }
}

/// Plan and secret as one process hands them to another.
#[must_use]
pub fn encode(plan: &Plan, secret: &Secret) -> Zeroizing<Vec<u8>> {
    // Full capacity from the start: growing would leave copies behind.
    let mut told = Zeroizing::new(Vec::with_capacity(LONGEST));
    // A plan has no part that JSON could refuse.
    let _ = serde_json::to_writer(&mut *told, plan);
    let (kind, bytes) = match secret {
        Secret::Key(key) => (b'k', &key.expose()[..]),
        Secret::Passphrase(text) => (b'p', text.as_bytes()),
    };
    told.extend_from_slice(&[b'\n', kind]);
    told.extend_from_slice(bytes);
    told
}

/// What [`encode`] made.
///
/// # Errors
/// It is something else: somebody typed the verb.
pub fn decode(told: &[u8]) -> Result<(Plan, Secret)> {
    let wrong = || Failure::usage("this verb is run by `kiseki mount` alone");
    let end = told.iter().position(|byte| *byte == b'\n');
    let (line, rest) = told.split_at(end.ok_or_else(wrong)?);
    let plan = serde_json::from_slice(line).map_err(|_| wrong())?;
    let secret = match rest {
        [_, b'k', key @ ..] => Secret::Key(Key::from_bytes(key.try_into().map_err(|_| wrong())?)),
        [_, b'p', text @ ..] => {
            let text = std::str::from_utf8(text).map_err(|_| wrong())?;
            Secret::Passphrase(Zeroizing::new(text.to_owned()))
        }
        _ => return Err(wrong()),
    };
    Ok((plan, secret))
}

/// The daemon's side: leaves the session of the user and takes over what
/// [`start`] hands out.
///
/// # Errors
/// Standard input is not what [`start`] writes: somebody typed the verb.
pub fn take_over() -> Result<(Plan, Secret)> {
    secrets::protect_process()?;
    // Fails only for the leader of a process group, which a child is not.
    let _ = unistd::setsid();
    // Unbuffered, so that no copy of the secret stays in a buffer.
    let pipe = leave_stdin()?;
    let mut told = Zeroizing::new(Vec::with_capacity(LONGEST));
    File::from(pipe)
        .take(LONGEST as u64 - 1)
        .read_to_end(&mut told)
        .attempt(|| "cannot read the plan".into())?;
    decode(&told)
}

/// What stands at standard input, which is given up.
///
/// # Errors
/// The process has too many descriptors.
pub fn leave_stdin() -> Result<OwnedFd> {
    let stdin = unistd::dup(io::stdin()).attempt(|| "cannot read the plan".into())?;
    let null = File::open("/dev/null").attempt(|| "cannot open /dev/null".into())?;
    unistd::dup2_stdin(null).attempt(|| "cannot close standard input".into())?;
    Ok(stdin)
}

/// Tells [`start`] how it went and lets go of its pipe.
pub fn report(line: &Line) {
    if let Ok(mut text) = serde_json::to_vec(line) {
        text.push(b'\n');
        // Whoever waited may be gone; the mount stays all the same.
        let mut out = io::stdout().lock();
        let _ = out.write_all(&text).and_then(|()| out.flush());
    }
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        let _ = unistd::dup2_stdout(null);
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    if fs::metadata(path).is_ok_and(|log| log.len() > LOG_LIMIT) {
        let mut old = path.as_os_str().to_owned();
        old.push(".old");
        fs::rename(path, PathBuf::from(old))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_log_is_begun_anew_when_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.log");
        open_log(&path).unwrap().set_len(LOG_LIMIT + 1).unwrap();
        assert_eq!(open_log(&path).unwrap().metadata().unwrap().len(), 0);
        assert!(dir.path().join("a/b.log.old").exists());
    }

    #[test]
    fn the_secret_follows_the_plan() {
        let plan = Plan::for_tests();
        let told = encode(&plan, &Secret::Passphrase("a\nb".to_owned().into()));
        let (again, secret) = decode(&told).unwrap();
        assert_eq!(again, plan);
        assert!(matches!(secret, Secret::Passphrase(text) if *text == "a\nb"));
        for wrong in [&b""[..], b"{}", &told[..told.len() - 4]] {
            assert!(decode(wrong).is_err());
        }
    }
}
