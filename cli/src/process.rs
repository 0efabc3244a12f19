//! Another process of this machine, as `/proc` shows it.

use std::{fs, io};

/// A process by its number and when it started, so that another one with its
/// number is not mistaken for it.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// In clock ticks since boot.
    started: u64,
}

impl Process {
    /// The one that has this number now, if there is one.
    #[must_use]
    pub fn of(pid: u32) -> Option<Process> {
        let started = stat(pid).ok()?.started;
        Some(Process { pid, started })
    }

    /// Whether it has ended and let go of all it had open.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match stat(self.pid) {
            Ok(stat) if stat.started == self.started => {
                // Its first thread may be dead while others still hold its files.
                matches!(stat.state, 'Z' | 'X') && stat.threads <= 1
            }
            _ => true,
        }
    }
}

struct Stat {
    /// A letter, as in proc_pid_stat(5).
    state: char,
    threads: u64,
    started: u64,
}

fn stat(pid: u32) -> io::Result<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may itself hold anything; fields count behind it.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let fields: Vec<&str> = after.split_whitespace().collect();
    // The first of these is the third of the line.
    let number = |field: usize| fields.get(field - 3)?.parse().ok();
    let stat = || {
        Some(Stat {
            state: fields.first()?.chars().next()?,
            threads: number(20)?,
            started: number(22)?,
        })
    };
    stat().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_ends_and_another_of_its_number_is_not_taken_for_it() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(!process.has_ended());
        let other = Process {
            started: process.started + 1,
            ..process
        };
        assert!(other.has_ended());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(process.has_ended());
    }
}
