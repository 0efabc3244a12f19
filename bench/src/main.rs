//! `kiseki-bench`: kiseki and its peers side by side.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kiseki_bench::{Options, compare, contender::Contender, scale::Scale, table};

/// Compares kiseki with its peers, each mounted on a fresh store on the same
/// disk, in turns, and prints medians and ratios.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Smaller sizes and two rounds
    #[arg(long)]
    quick: bool,
    /// Rounds of which the median is taken
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rounds: Option<u64>,
    /// Who is measured; ratios are of the first to the others
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "kiseki,gocryptfs,bindfs,plain"
    )]
    contenders: Vec<Contender>,
    /// Groups of rows to measure, as `bench/README.md` lists them
    /// [default: all]
    #[arg(long, value_delimiter = ',', value_name = "GROUP")]
    only: Vec<String>,
    /// Seed of payloads and choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The kiseki binary [default: beside this program]
    #[arg(long, value_name = "FILE")]
    kiseki: Option<PathBuf>,
    /// Also write all figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Use only peers that are installed already
    #[arg(long)]
    no_install: bool,
    /// Directory on the disk to measure
    #[arg(default_value = ".")]
    disk: PathBuf,
}

/// Part of the program, so that it works from anywhere.
const PEERS: &str = include_str!("../peers.sh");

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if !arguments.no_install {
        let status = Command::new("bash").args(["-c", PEERS]).status()?;
        ensure!(
            status.success(),
            "the peers could not be installed; see bench/peers.sh"
        );
    }
    let mut scale = if arguments.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    };
    scale.rounds = arguments.rounds.unwrap_or(scale.rounds);
    let comparison = compare(&Options {
        contenders: arguments.contenders,
        disk: fs::canonicalize(&arguments.disk)
            .with_context(|| format!("cannot use {}", arguments.disk.display()))?,
        kiseki: match arguments.kiseki {
            Some(path) => fs::canonicalize(path)?,
            None => std::env::current_exe()?.with_file_name("kiseki"),
        },
        scale,
        only: arguments.only,
        seed: arguments.seed,
    })?;
    if let Some(path) = &arguments.json {
        write_json(path, &comparison)?;
    }
    print!("{}", table::text(&comparison));
    Ok(())
}

fn write_json(path: &Path, comparison: &kiseki_bench::Comparison) -> Result<()> {
    let text = serde_json::to_string_pretty(comparison)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
