//! The process behind a mount: finding it, killing it, weighing it.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{sys::signal, unistd::Pid};

use crate::{Result, env_number};

/// The processes that run kiseki with this store on their command line.
#[must_use]
pub fn of_store(store: &Path) -> Vec<i32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| runs_with(*pid, store).unwrap_or(false))
        .collect()
}

fn runs_with(pid: i32, store: &Path) -> Option<bool> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = command.split(|byte| *byte == 0);
    let program = PathBuf::from(std::ffi::OsStr::from_bytes(words.next()?));
    let wanted = store.as_os_str().as_bytes();
    Some(program.ends_with("kiseki") && words.any(|word| word == wanted))
}

/// The one of them that serves the mount now; the other one keeps it.
#[must_use]
pub fn serving(store: &Path) -> Option<i32> {
    let serves = |pid: &i32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let verb = command.split(|byte| *byte == 0).nth(1);
        matches!(verb, Some(b"serve-mount" | b"serve"))
    };
    of_store(store).into_iter().rfind(serves)
}

/// Sends SIGKILL to all of them and waits until they are gone: a crash of
/// everything, which nothing in memory survives.
pub fn kill(store: &Path) -> Result {
    let mut pids = of_store(store);
    ensure!(!pids.is_empty(), "no daemon for {}", store.display());
    // The one that serves comes last, or another would take its place.
    pids.sort_by_key(|pid| Some(*pid) == serving(store));
    for pid in &pids {
        // One that ended between the look and the signal is as dead.
        let _ = signal::kill(Pid::from_raw(*pid), signal::Signal::SIGKILL);
    }
    wait_ended(&pids, store)
}

/// Waits until these processes of a store are gone with all that they had open.
pub fn wait_ended(pids: &[i32], store: &Path) -> Result {
    let start = Instant::now();
    while !pids.iter().all(|pid| has_ended(*pid)) {
        if start.elapsed() > Duration::from_secs(30) {
            bail!("the daemon of {} does not end", store.display());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Whether a process is gone with all that it had open: its command line goes
/// before its files do.
fn has_ended(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return true;
    };
    let dead = stat
        .rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    dead && threads <= 1
}

/// Waits until no daemon of this store is left.
pub fn wait_gone(store: &Path) -> Result {
    let start = Instant::now();
    while !of_store(store).is_empty() {
        if start.elapsed() > Duration::from_secs(30) {
            bail!("the daemon of {} does not end", store.display());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Resident memory of the daemon in bytes: now, and the highest so far.
pub fn resident(store: &Path) -> Result<(u64, u64)> {
    let pid = serving(store).context("no daemon")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find(|line| line.starts_with(name));
        let kib: u64 = line
            .and_then(|line| line.split_whitespace().nth(1))
            .with_context(|| format!("{name} of process {pid}"))?
            .parse()?;
        Ok(kib << 10)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// Bytes by which the resident memory of the daemon is above what it was.
pub fn grown(store: &Path, before: u64) -> Result<u64> {
    Ok(resident(store)?.0.saturating_sub(before))
}

/// Kills the daemon when a test takes too long, so that a test that waits for
/// an answer that never comes fails instead of hanging.
pub struct Watchdog(#[allow(dead_code, reason = "dropping it ends the watch")] Sender<()>);

impl Watchdog {
    /// Watches for `KISEKI_TEST_LIMIT` seconds, by default 600.
    #[must_use]
    pub fn start(store: PathBuf) -> Watchdog {
        let limit = Duration::from_secs(env_number("KISEKI_TEST_LIMIT", 600));
        let (stop, stopped) = mpsc::channel();
        thread::spawn(move || {
            if stopped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!("no end after {limit:?}: killing the daemon");
                let _ = kill(&store);
            }
        });
        Watchdog(stop)
    }
}
