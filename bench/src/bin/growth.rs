//! `growth`: how costs grow with files and with bytes.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use kiseki_bench::{
    charts,
    contender::Contender,
    document,
    growth::{Point, Subject, by_bytes, by_files},
    machine::Machine,
    table,
};
use serde_json::json;

/// Measures the same operations beside more and more files, and beside more
/// and more bytes, each on a fresh store.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Numbers of files, ascending
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    files: Vec<u64>,
    /// GiB of contents, ascending
    #[arg(long, value_delimiter = ',', default_value = "1,10,50")]
    gib: Vec<u64>,
    /// Who is measured
    #[arg(long, value_enum, default_value = "kiseki")]
    contender: Contender,
    /// Seed of payloads and choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The kiseki binary [default: beside this program]
    #[arg(long, value_name = "FILE")]
    kiseki: Option<PathBuf>,
    /// Also write all figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write charts (SVG, PNG) and CSV
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
    /// Also put the tables into this document, such as docs/performance.md
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Directory on the disk to measure
    #[arg(default_value = ".")]
    disk: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let disk = fs::canonicalize(&arguments.disk)?;
    let kiseki = match &arguments.kiseki {
        Some(path) => fs::canonicalize(path)?,
        None => std::env::current_exe()?.with_file_name("kiseki"),
    };
    let start = || Subject::start(arguments.contender, &disk, &kiseki);
    let bytes: Vec<u64> = arguments.gib.iter().map(|gib| gib << 30).collect();
    let machine = Machine::here();
    let mut tables = format!("{}\n\n", machine.text());
    let files = by_files(&mut start()?, &arguments.files, arguments.seed)?;
    tables += &show("files", &files, 1);
    let bytes = by_bytes(&mut start()?, &bytes, arguments.seed)?;
    tables += &format!("\n{}", show("GiB", &bytes, 1 << 30));
    print!("{tables}");
    if let Some(dir) = &arguments.charts {
        charts::growth("files", 1, &files, dir)?;
        charts::growth("GiB", 1 << 30, &bytes, dir)?;
    }
    if let Some(file) = &arguments.report {
        document::replace(file, "growth", &tables)?;
    }
    if let Some(path) = &arguments.json {
        let all = json!({ "files": files, "bytes": bytes });
        fs::write(path, serde_json::to_string_pretty(&all)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A line for each figure, a column for each size.
fn show(what: &str, points: &[Point], unit: u64) -> String {
    let sizes = points
        .iter()
        .map(|point| table::number((point.size / unit) as f64));
    let heading: Vec<_> = [what.to_owned()].into_iter().chain(sizes).collect();
    let names = points.first().map(|point| point.figures.iter());
    let rows = names
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, (name, _))| {
            let figures = points
                .iter()
                .map(|point| table::number(point.figures[index].1));
            [(*name).to_owned()].into_iter().chain(figures).collect()
        });
    table::align(&heading, rows.collect())
}
