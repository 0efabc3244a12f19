//! `kiseki bench`.

use std::path::PathBuf;

use clap::Args;
use kiseki_bench::{measure_directory, scale::Scale, table};

use crate::{
    failure::{Code, Failure, Result},
    places::absolute,
    report::{print, print_json},
};

/// Arguments of `kiseki bench`.
#[derive(Args)]
pub struct Bench {
    /// Smaller sizes and two rounds
    #[arg(long)]
    quick: bool,
    /// Groups of rows to measure, as `bench/README.md` lists them
    /// [default: all]
    #[arg(long, value_delimiter = ',', value_name = "GROUP")]
    only: Vec<String>,
    /// Seed of payloads; a store that has seen one knows its data
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Directory to measure, on any file system
    #[arg(default_value = ".")]
    dir: PathBuf,
}

impl Bench {
    /// Runs the workloads in a directory of their own, which is removed
    /// afterwards.
    pub fn run(&self) -> Result<Code> {
        let scale = if self.quick {
            Scale::QUICK
        } else {
            Scale::FULL
        };
        let seed = self.seed.unwrap_or_else(unused_seed);
        let dir = absolute(&self.dir)?;
        let figures = measure_directory(&dir, scale, &self.only, seed).map_err(|error| {
            Failure::new(format!("{} could not be measured", dir.display()))
                .why(format!("{error:#}"))
        })?;
        if self.json {
            print_json(&figures)?;
        } else {
            print(&table::text(&figures))?;
        }
        Ok(Code::Good)
    }
}

/// Another one on each run, or the second run in a store would write what is
/// stored already.
fn unused_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |since| since.as_nanos() as u64)
}
