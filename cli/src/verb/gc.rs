//! `kiseki gc`.

use clap::Args;

use crate::{
    args::{Context, KeyArgs, TargetArgs},
    control::Connection,
    failure::{Code, Result},
    progress::Progress,
    report::{print, print_json},
    session::{self, Session},
};

/// Arguments of `kiseki gc`.
#[derive(Args)]
pub struct Gc {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    key: KeyArgs,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

impl Gc {
    /// Lets the daemon collect, or opens the store where there is none.
    pub fn run(&self, context: &Context) -> Result<Code> {
        let (store, _) = self.target.resolve(context)?;
        let mut progress = Progress::start("collecting");
        let mut update = |done, total| progress.update(done, total);
        let collection = match Connection::to(&store)? {
            Some((connection, _)) => connection.gc(&mut update)?,
            None => {
                let info = session::existing(&store)?;
                // A key is not needed, and a wrong one is refused all the same.
                match self.key.secret(context, &info)? {
                    Some(secret) => Session::open(&store, &secret)?.collect(&mut update)?,
                    None => session::collect_without_key(&store, &mut update)?,
                }
            }
        };
        drop(progress);
        if self.json {
            print_json(&collection)?
        } else {
            print(&collection.text())?
        }
        Ok(Code::Good)
    }
}
