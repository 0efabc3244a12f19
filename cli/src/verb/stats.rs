//! `kiseki stats`.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;

use crate::{
    control::Connection,
    failure::{Code, Failure, Result},
    mounts,
    report::{Operation, Statistics, print, print_json},
};

/// Arguments of `kiseki stats`.
#[derive(Args)]
pub struct Stats {
    /// One JSON object per line
    #[arg(long)]
    json: bool,
    /// Lines to show [default: until Ctrl-C]
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Everything since the mount began, once
    #[arg(long, conflicts_with = "count")]
    total: bool,
    /// The mount point
    mountpoint: PathBuf,
}

/// Operations named on a line.
const BUSIEST: usize = 4;

/// Lines between two headings.
const PAGE: u64 = 20;

/// One second of a mount.
#[derive(Debug, PartialEq, Serialize)]
struct Second {
    /// Operations per second, of all kinds.
    operations: f64,
    /// Bytes per second read.
    read_bytes: f64,
    /// Bytes per second written.
    written_bytes: f64,
    /// The kinds that occurred most, first the most frequent.
    busiest: Vec<Busy>,
}

/// What one kind of operation did in a second. Latencies are of all since the
/// mount began.
#[derive(Debug, PartialEq, Serialize)]
struct Busy {
    name: String,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Stats {
    /// A line per second until the mount ends or there were enough.
    pub fn run(&self) -> Result<Code> {
        let mount = mounts::at(&self.mountpoint)?;
        let (connection, _) = Connection::to(&mount.store)?.ok_or_else(|| {
            Failure::new(format!("the mount {} has no daemon", mount.point.display()))
                .why("its process ended or was killed")
                .remedy("run `kiseki umount --lazy` on it and mount again")
        })?;
        if self.total {
            return self.show_total(&connection.stats()?);
        }
        let mut before = (Instant::now(), connection.stats()?);
        let mut shown = 0;
        while self.count.is_none_or(|count| shown < count) {
            thread::sleep(Duration::from_secs(1).saturating_sub(before.0.elapsed()));
            let now = (Instant::now(), connection.stats()?);
            let second = Second::between(&before.1, &now.1, (now.0 - before.0).as_secs_f64());
            if self.json {
                print_json(&second)?;
            } else {
                let heading = if shown % PAGE == 0 { HEADING } else { "" };
                print(&format!("{heading}{}\n", second.text()))?;
            }
            before = now;
            shown += 1;
        }
        Ok(Code::Good)
    }
}

impl Stats {
    fn show_total(&self, all: &Statistics) -> Result<Code> {
        if self.json {
            print_json(all)?;
        } else {
            print(&all.text())?;
        }
        Ok(Code::Good)
    }
}

const HEADING: &str =
    "     ops/s  read MB/s write MB/s  busiest: per second, p50/p99 in us since the mount\n";

impl Second {
    fn between(before: &Statistics, now: &Statistics, seconds: f64) -> Second {
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds.max(0.001);
        let count_before = |operation: &Operation| {
            let same = before
                .operations
                .iter()
                .find(|other| other.name == operation.name);
            same.map_or(0, |same| same.count)
        };
        let mut busiest: Vec<Busy> = now
            .operations
            .iter()
            .map(|operation| Busy {
                name: operation.name.clone(),
                per_second: rate(count_before(operation), operation.count),
                p50_us: operation.p50_us,
                p99_us: operation.p99_us,
            })
            .filter(|busy| busy.per_second > 0.0)
            .collect();
        busiest.sort_by(|a, b| b.per_second.total_cmp(&a.per_second));
        let operations = busiest.iter().fold(0.0, |sum, busy| sum + busy.per_second);
        busiest.truncate(BUSIEST);
        Second {
            operations,
            read_bytes: rate(before.read_bytes, now.read_bytes),
            written_bytes: rate(before.written_bytes, now.written_bytes),
            busiest,
        }
    }

    fn text(&self) -> String {
        let busiest: Vec<String> = self
            .busiest
            .iter()
            .map(|busy| {
                format!(
                    "{} {:.0} {:.0}/{:.0}",
                    busy.name, busy.per_second, busy.p50_us, busy.p99_us
                )
            })
            .collect();
        format!(
            "{:>10.0} {:>10.1} {:>10.1}  {}",
            self.operations,
            self.read_bytes / 1e6,
            self.written_bytes / 1e6,
            busiest.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(counts: &[(&str, u64)], read: u64) -> Statistics {
        Statistics {
            read_bytes: read,
            written_bytes: 0,
            operations: counts
                .iter()
                .map(|(name, count)| Operation {
                    name: (*name).to_owned(),
                    count: *count,
                    p50_us: 3.0,
                    p99_us: 40.0,
                })
                .collect(),
        }
    }

    #[test]
    fn a_second_is_the_difference_of_two_looks() {
        let before = statistics(&[("read", 100)], 0);
        let now = statistics(&[("read", 300), ("open", 50), ("lookup", 0)], 4_000_000);
        let second = Second::between(&before, &now, 2.0);
        assert!((second.operations - 125.0).abs() < 1e-9);
        assert!((second.read_bytes - 2e6).abs() < 1e-9);
        assert!(second.written_bytes.abs() < 1e-9);
        let names: Vec<&str> = second
            .busiest
            .iter()
            .map(|busy| busy.name.as_str())
            .collect();
        assert_eq!(names, ["read", "open"]);
        assert_eq!(
            second.text(),
            "       125        2.0        0.0  read 100 3/40, open 25 3/40"
        );
    }
}
