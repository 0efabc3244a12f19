//! `kiseki fsck`.

use clap::Args;

use crate::{
    args::{Context, KeyArgs, StoreArg},
    failure::{Code, Failure, Result},
    mounts,
    progress::Phases,
    report::{print, print_json},
    session::{self, Session},
};

/// Arguments of `kiseki fsck`.
#[derive(Args)]
pub struct Fsck {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    key: KeyArgs,
    /// Mend what can be mended without losing data that is whole
    #[arg(long)]
    repair: bool,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

impl Fsck {
    /// Checks everything that can be checked with what is given.
    pub fn run(&self, context: &Context) -> Result<Code> {
        let store = self.store.dir(context)?;
        let info = session::existing(&store)?;
        if let Some(mount) = mounts::of_store(&store)? {
            return Err(
                Failure::new(format!("cannot check the store {}", store.display()))
                    .why(format!("it is mounted at {}", mount.point.display()))
                    .remedy("unmount it first"),
            );
        }
        let secret = self.key.secret(context, &info)?;
        let mut phases = Phases::default();
        let report = match &secret {
            Some(secret) => Session::open(&store, secret)?.check(self.repair, &mut phases)?,
            None => session::check_without_key(&store, self.repair, &mut phases)?,
        };
        drop(phases);
        if self.json {
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
