//! `kiseki log`.

use clap::{Args, Subcommand};

use crate::{
    args::{Context, KeyArgs, StoreArg},
    failure::{Code, Result},
    progress::Progress,
    report::{print, print_json},
    session,
};

/// What to do with logs.
#[derive(Subcommand)]
pub enum Log {
    /// Check the hash chain of every volume's log; with the key also the
    /// signatures
    Verify(Verify),
}

/// Arguments of `kiseki log verify`.
#[derive(Args)]
pub struct Verify {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    key: KeyArgs,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

impl Log {
    /// Runs the verb.
    pub fn run(&self, context: &Context) -> Result<Code> {
        let Log::Verify(verb) = self;
        let store = verb.store.dir(context)?;
        let info = session::existing(&store)?;
        let secret = verb.key.secret(context, &info)?;
        let mut progress = Progress::start("verifying");
        let mut update = |done, total| progress.update(done, total);
        let report = match &secret {
            Some(secret) => session::verify_logs_with_key(&store, secret, &mut update)?,
            None => session::verify_logs(&store, &mut update)?,
        };
        drop(progress);
        if verb.json {
            print_json(&report)?
        } else {
            print(&report.text())?
        }
        Ok(if report.is_good() {
            Code::Good
        } else {
            Code::Damage
        })
    }
}
