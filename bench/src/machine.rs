//! Where and when something was measured, as far as figures depend on it.

use std::{fs, process::Command};

use serde::Serialize;

/// A machine at a moment.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// That this process may use.
    pub cores: usize,
    /// As it calls itself.
    pub processor: String,
    /// Memory in GiB, rounded.
    pub memory_gib: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Load averages when the run began.
    pub load_before: String,
    /// The day, in UTC.
    pub date: String,
    /// The commit of the working directory, where it is a repository.
    pub commit: Option<String>,
}

impl Machine {
    /// This one, now.
    #[must_use]
    pub fn here() -> Machine {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map(|(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib = memory.split(' ').next().and_then(|kib| kib.parse().ok());
        Machine {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            memory_gib: kib.map_or(0, |kib: u64| (kib + (1 << 19)) >> 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg").trim().to_owned(),
            date: said("date", &["-u", "+%F"]).unwrap_or_default(),
            commit: said("git", &["describe", "--always", "--dirty"]),
        }
    }

    /// One sentence.
    #[must_use]
    pub fn text(&self) -> String {
        let commit = self.commit.as_ref();
        format!(
            "{}{}, {} cores of {}, {} GiB of memory, Linux {}; load average {} when it began.",
            self.date,
            commit.map_or(String::new(), |commit| format!(", kiseki {commit}")),
            self.cores,
            self.processor,
            self.memory_gib,
            self.kernel,
            self.load_before
                .split(' ')
                .take(3)
                .collect::<Vec<_>>()
                .join(" / "),
        )
    }
}

/// What a program prints, when it succeeds.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let said = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    said.status.success().then(|| text.trim().to_owned())
}
