//! `protocols`: objects put and got by each way into kiseki, beside peers.

mod case;
mod client;
mod drive;
mod matrix;
mod objects;
mod report;
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use kiseki_bench::{document, peers};

use crate::{
    case::Protocol,
    matrix::{Options, Scale},
    report::Report,
    server::Programs,
};

// As in the program that serves, for the rows that are within this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Puts and gets objects by each protocol, with 1, 4 and 16 clients at a time,
/// and compares kiseki with peers. Needs root.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// A few minutes instead of an hour
    #[arg(long)]
    quick: bool,
    /// Rounds of which the median is taken
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    /// Protocols to measure [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PROTOCOL")]
    only: Vec<Protocol>,
    /// Seed of contents and choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The kiseki binary [default: beside this program]
    #[arg(long, value_name = "FILE")]
    kiseki: Option<PathBuf>,
    /// Also write all figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write latencies as charts (SVG, PNG) and as CSV
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
    /// Also put the tables into this document, such as docs/performance.md
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Directory on the disk to measure
    #[arg(default_value = ".")]
    disk: PathBuf,
}

/// The peers that are packages.
const PACKAGES: [&str; 4] = ["bindfs", "fuse3", "nfs-ganesha", "nfs-ganesha-vfs"];

/// The peer that is not; part of the program, so that it works from anywhere.
const S3_PEER: &str = include_str!("../../../s3-peer.sh");

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let protocols = match arguments.only.is_empty() {
        true => Protocol::value_variants().to_vec(),
        false => arguments.only.clone(),
    };
    let mut scale = if arguments.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    };
    scale.rounds = arguments.rounds.unwrap_or(scale.rounds);
    peers::install(&PACKAGES)?;
    let s3s_fs = protocols
        .contains(&Protocol::S3)
        .then(s3_peer)
        .transpose()?;
    let kiseki = match &arguments.kiseki {
        Some(path) => fs::canonicalize(path)?,
        None => std::env::current_exe()?.with_file_name("kiseki"),
    };
    let measured = matrix::run(&Options {
        protocols,
        scale,
        disk: fs::canonicalize(&arguments.disk)
            .with_context(|| format!("cannot use {}", arguments.disk.display()))?,
        programs: Programs { kiseki, s3s_fs },
        seed: arguments.seed,
    })?;
    show(&Report::new(measured, scale), &arguments)
}

fn show(report: &Report, arguments: &Arguments) -> Result<()> {
    print!("{}", report.text());
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(report)?;
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(dir) = &arguments.charts {
        report.draw(dir)?;
    }
    match &arguments.report {
        Some(file) => document::replace(file, "protocols", &report.text()),
        None => Ok(()),
    }
}

/// Builds the S3 peer where it is not built yet: where it is.
fn s3_peer() -> Result<PathBuf> {
    let built = Command::new("bash")
        .args(["-c", S3_PEER])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        built.status.success(),
        "the S3 peer could not be built; see bench/s3-peer.sh"
    );
    let path = String::from_utf8(built.stdout)?;
    Ok(Path::new(path.trim()).to_owned())
}
