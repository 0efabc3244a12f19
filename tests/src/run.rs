//! Running programs with a time limit.

use std::{ffi::OsStr, path::Path, process::Command};

use anyhow::{Context, ensure};

use crate::{Result, env_number};

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Exit code; 124 when the time limit ended it, 128 + n for signal n.
    pub code: i32,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
}

impl Output {
    /// Collects what a finished program left.
    #[must_use]
    pub fn of(output: &std::process::Output) -> Output {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Output {
            code: status.code().or(status.signal().map(|n| 128 + n)).unwrap(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output, if the program succeeded.
    pub fn ok(self) -> Result<String> {
        ensure!(
            self.code == 0,
            "exit code {}\n{}{}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self.stdout)
    }
}

/// Seconds that a program may take which a test started: half of what the test
/// may.
#[must_use]
pub fn limit() -> u64 {
    (env_number("KISEKI_TEST_LIMIT", 600) / 2).max(1)
}

/// A command under that time limit: `timeout` ends it and what it waits for.
#[must_use]
pub fn limited(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["-k", "5", &limit().to_string()])
        .arg(program)
        .stdin(std::process::Stdio::null());
    command
}

/// Runs a program to its end.
pub fn run<A: AsRef<OsStr>>(program: &str, args: &[A]) -> Result<Output> {
    run_in(Path::new("/"), program, args)
}

/// Runs a program to its end in a directory, in the C locale, with git kept
/// from the configuration of whoever runs the tests, and from tending a
/// repository in the background, where it changes files behind the test.
pub fn run_in<A: AsRef<OsStr>>(dir: &Path, program: &str, args: &[A]) -> Result<Output> {
    let output = limited(program)
        .args(args)
        .current_dir(dir)
        .env("LC_ALL", "C.UTF-8")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "maintenance.auto")
        .env("GIT_CONFIG_VALUE_0", "false")
        .env("GIT_AUTHOR_NAME", "test")
        .env("GIT_AUTHOR_EMAIL", "test@example.org")
        .env("GIT_COMMITTER_NAME", "test")
        .env("GIT_COMMITTER_EMAIL", "test@example.org")
        .output()
        .with_context(|| format!("start {program}"))?;
    Ok(Output::of(&output))
}

/// Runs a shell script in a directory; it must succeed. Returns what it
/// printed on standard output.
pub fn sh(dir: &Path, script: &str) -> Result<String> {
    run_in(dir, "sh", &["-euc", script])?
        .ok()
        .with_context(|| format!("sh -euc {script:?} in {}", dir.display()))
}

/// Copies a program in order to run it. Another process does, because one that
/// a test beside forks at that moment would hold the copy open for writing
/// until it executes, and a program that is open for writing does not run
/// (ETXTBSY).
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result {
    let (from, to) = (from.as_ref(), to.as_ref());
    run("cp", &[from, to])?.ok().map(drop)
}
