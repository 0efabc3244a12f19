//! The `kiseki` command: one binary, a file per verb in [`verb`].
//!
//! `main` parses, runs one verb, and turns its answer into an exit code:
//! 0 good, 1 failed, 2 wrong usage, 3 damage found. Results go to stdout,
//! everything else to stderr.

mod address;
mod answers;
mod args;
mod config;
mod control;
mod creation;
mod daemon;
mod detach;
mod end_signals;
mod exports;
mod failure;
mod fronts;
mod link;
mod mount_options;
mod mounts;
mod places;
mod plan;
mod process;
mod profile;
mod progress;
mod quantity;
mod quiet_terminal;
mod report;
mod s3_keys;
mod secrets;
mod serve;
mod session;
mod supervise;
mod verb;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::{
    args::Context,
    config::Config,
    failure::{Code, Result},
    places::Places,
    verb::Verb,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Encrypted, deduplicating filesystem for machines that compute.
#[derive(Parser)]
#[command(
    name = "kiseki",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
struct Cli {
    /// Configuration file to use instead of the usual ones
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

fn main() -> ExitCode {
    // Answers usage errors itself, with exit code 2.
    let cli = Cli::parse();
    run(cli)
        .unwrap_or_else(|failure| {
            eprintln!("kiseki: {failure}");
            failure.code
        })
        .into()
}

fn run(cli: Cli) -> Result<Code> {
    if let Some(done) = cli.verb.run_without_context() {
        return done;
    }
    let places = Places::of_this_user()?;
    let config = Config::load(&places, cli.config.as_deref())?;
    cli.verb.run(&Context { places, config })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
