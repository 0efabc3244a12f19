//! `kiseki-bench`: kiseki and its peers side by side.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Parser;
use kiseki_bench::{
    Comparison, Options, charts, compare, contender::Contender, document, goals, peers,
    scale::Scale, table,
};

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
    /// Also write latencies as charts (SVG, PNG) and as CSV
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
    /// Also put the tables into this document, such as docs/performance.md
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Operations per second that the group `paced` asks for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Use only peers that are installed already
    #[arg(long)]
    no_install: bool,
    /// Directory on the disk to measure
    #[arg(default_value = ".")]
    disk: PathBuf,
}

/// The peers, and the programs that workloads run.
const PACKAGES: [&str; 6] = [
    "gocryptfs",
    "bindfs",
    "fuse3",
    "git",
    "postgresql",
    "sqlite3",
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if !arguments.no_install {
        peers::install(&PACKAGES)?;
    }
    let mut scale = if arguments.quick {
        Scale::QUICK
    } else {
        Scale::FULL
    };
    scale.rounds = arguments.rounds.unwrap_or(scale.rounds);
    scale.rate = arguments.rate.unwrap_or(scale.rate);
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
    print!("{}", table::text(&comparison));
    if let Some(goals) = goals::text(&comparison) {
        print!("\n{goals}");
    }
    if let Some(path) = &arguments.json {
        write_json(path, &comparison)?;
    }
    if let Some(dir) = &arguments.charts {
        charts::latencies(&comparison, dir)?;
    }
    if let Some(file) = &arguments.report {
        document::replace(file, "comparison", &report(&comparison, arguments.quick))?;
    }
    Ok(())
}

/// The section of a document about this run.
fn report(comparison: &Comparison, quick: bool) -> String {
    let goals = goals::text(comparison).map_or(String::new(), |goals| {
        format!("\n### What the first release must show, and what this run showed\n\n{goals}")
    });
    format!(
        "{}\n\nMedians of {} rounds of the {} sizes. \"plain\" is the directory below all of them. Figures are better when\n\
         higher; the last columns divide {} by the others.\n\n{}\n### Wins and losses\n\n{}{goals}",
        comparison.machine.text(),
        comparison.scale.rounds,
        if quick { "quick" } else { "full" },
        comparison.columns.first().map_or("", String::as_str),
        table::text(comparison),
        goals::wins_and_losses(comparison),
    )
}

fn write_json(path: &Path, comparison: &Comparison) -> Result<()> {
    let text = serde_json::to_string_pretty(comparison)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
