//! Tests that cannot run on this machine say why.
//!
//! The test runner knows no skipped tests, so a reason goes to standard error
//! and, one line each, to the file `KISEKI_SKIP_LOG`, which `scripts/test`
//! prints and counts.

use std::{fs::OpenOptions, io::Write, path::Path, thread};

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::Uid,
};

use crate::Result;

/// Records that the running test is skipped. The caller returns after it.
pub fn skip(why: &str) {
    let line = format!("{}: {why}", thread::current().name().unwrap_or("test"));
    eprintln!("skipped: {line}");
    let Some(log) = std::env::var_os("KISEKI_SKIP_LOG") else {
        return;
    };
    let opened = OpenOptions::new().create(true).append(true).open(&log);
    // One write call, so that lines of parallel tests do not mix.
    if let Err(e) = opened.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
        panic!("cannot record a skipped test in {}: {e}", log.display());
    }
}

/// Whether this process may do what only root may.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Whether a program is on the path.
#[must_use]
pub fn have(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(|dir| Path::new(dir).to_path_buf()))
        .any(|dir| dir.join(tool).is_file())
}

/// Whether all these programs are here; otherwise the test is skipped.
#[must_use]
pub fn need_tools(tools: &[&str]) -> bool {
    let missing: Vec<_> = tools.iter().copied().filter(|tool| !have(tool)).collect();
    if !missing.is_empty() {
        skip(&format!("not installed: {}", missing.join(", ")));
    }
    missing.is_empty()
}

/// Raises the limit of open files of this process as far as it goes; where that
/// is not so many, the test is skipped.
pub fn need_open_files(count: u64) -> Result<bool> {
    let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit)?;
    if limit < count {
        skip(&format!("needs {count} open files, {limit} are allowed"));
    }
    Ok(limit >= count)
}
