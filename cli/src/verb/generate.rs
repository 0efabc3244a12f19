//! `kiseki generate`: manual pages and completions, for packages.

use std::{fs, path::PathBuf};

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use crate::{
    Cli,
    failure::{Attempt, Code, Result},
};

/// Arguments of `kiseki generate`.
#[derive(Args)]
#[group(required = true, multiple = true)]
pub struct Generate {
    /// Write manual pages into this directory
    #[arg(long, value_name = "DIR")]
    man: Option<PathBuf>,
    /// Write shell completions into this directory
    #[arg(long, value_name = "DIR")]
    completions: Option<PathBuf>,
}

impl Generate {
    /// Writes the files; directories are made as needed.
    pub fn run(&self) -> Result<Code> {
        if let Some(dir) = &self.man {
            let cannot = || format!("cannot write manual pages into {}", dir.display());
            fs::create_dir_all(dir).attempt(cannot)?;
            clap_mangen::generate_to(Cli::command(), dir).attempt(cannot)?;
        }
        if let Some(dir) = &self.completions {
            let cannot = || format!("cannot write completions into {}", dir.display());
            fs::create_dir_all(dir).attempt(cannot)?;
            for &shell in Shell::value_variants() {
                clap_complete::generate_to(shell, &mut Cli::command(), "kiseki", dir)
                    .attempt(cannot)?;
            }
        }
        Ok(Code::Good)
    }
}
