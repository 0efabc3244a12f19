//! `micro`: what `cargo bench -p kiseki-bench` found, as one table with the
//! targets that others published beside it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kiseki_bench::{document, machine::Machine, table};
use serde::Deserialize;

/// Reads what Criterion wrote and prints a table.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Also put the table into this document, such as docs/performance.md
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Where Criterion writes
    #[arg(default_value = "target/criterion")]
    criterion: PathBuf,
}

/// What somebody published for an operation.
struct Target {
    /// As Criterion calls ours.
    id: &'static str,
    /// In words.
    text: &'static str,
    /// Longest time in nanoseconds, of all elements together.
    nanos: f64,
}

const TARGETS: &[Target] = &[
    Target {
        id: "log append/unsynced/100",
        text: "500 K records/s",
        nanos: 200_000.0,
    },
    Target {
        id: "log append/every batch, durable/100",
        text: "100 K records/s",
        nanos: 1e6,
    },
    Target {
        id: "log append/every batch, durable/1",
        text: "p99 < 1 ms",
        nanos: 1e6,
    },
    Target {
        id: "metadata/inode",
        text: "< 50 us",
        nanos: 50_000.0,
    },
    Target {
        id: "metadata/lookup",
        text: "< 50 us",
        nanos: 50_000.0,
    },
    Target {
        id: "metadata/create",
        text: "< 80 us",
        nanos: 80_000.0,
    },
    Target {
        id: "metadata/entries/100",
        text: "< 3 ms",
        nanos: 3e6,
    },
    Target {
        id: "metadata/entries/1000",
        text: "< 35 ms",
        nanos: 35e6,
    },
    Target {
        id: "chunk/seal/1024",
        text: ">= 2 GB/s",
        nanos: 512.0,
    },
    Target {
        id: "chunk store/read by id/4096",
        text: "record by index: p99 < 100 us",
        nanos: 100_000.0,
    },
];

#[derive(Deserialize)]
struct Benchmark {
    full_id: String,
    throughput: Option<Throughput>,
}

#[derive(Deserialize)]
enum Throughput {
    Bytes(u64),
    Elements(u64),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut found = Vec::new();
    collect(&arguments.criterion, &mut found)?;
    ensure!(
        !found.is_empty(),
        "no results in {}; run `cargo bench -p kiseki-bench` first",
        arguments.criterion.display()
    );
    found.sort_by(|a, b| a.0.full_id.cmp(&b.0.full_id));
    let heading = ["part", "median", "95% of medians", "rate", "published", ""].map(str::to_owned);
    let rows = found.iter().map(|(what, times)| row(what, &times.median));
    let text = table::align(&heading, rows.collect());
    print!("{text}");
    if let Some(file) = &arguments.report {
        let text = format!("{}\n\n{text}", Machine::here().text());
        document::replace(file, "parts", &text)?;
    }
    Ok(())
}

/// All results below `dir`.
fn collect(dir: &Path, found: &mut Vec<(Benchmark, Estimates)>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.ends_with("new") && path.join("benchmark.json").exists() {
            let what = serde_json::from_slice(&fs::read(path.join("benchmark.json"))?)?;
            let times = serde_json::from_slice(&fs::read(path.join("estimates.json"))?)?;
            found.push((what, times));
        } else if path.is_dir() {
            collect(&path, found)?;
        }
    }
    Ok(())
}

fn row(what: &Benchmark, time: &Estimate) -> Vec<String> {
    let nanos = time.point_estimate;
    let interval = &time.confidence_interval;
    let target = TARGETS.iter().find(|target| target.id == what.full_id);
    let verdict = target.map_or("", |target| match nanos <= target.nanos {
        true => "met",
        false => "missed",
    });
    vec![
        what.full_id.clone(),
        duration(nanos),
        format!(
            "{} - {}",
            duration(interval.lower_bound),
            duration(interval.upper_bound)
        ),
        what.throughput
            .as_ref()
            .map_or(String::new(), |of| rate(of, nanos)),
        target.map_or(String::new(), |target| target.text.to_owned()),
        verdict.to_owned(),
    ]
}

fn duration(nanos: f64) -> String {
    match nanos {
        nanos if nanos < 1e3 => format!("{nanos:.1} ns"),
        nanos if nanos < 1e6 => format!("{:.2} us", nanos / 1e3),
        nanos => format!("{:.2} ms", nanos / 1e6),
    }
}

fn rate(of: &Throughput, nanos: f64) -> String {
    match of {
        Throughput::Bytes(bytes) => format!("{:.2} GB/s", *bytes as f64 / nanos),
        Throughput::Elements(count) => format!("{}/s", table::number(*count as f64 * 1e9 / nanos)),
        Throughput::Other => String::new(),
    }
}
