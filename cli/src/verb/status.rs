//! `kiseki status`.

use std::path::Path;

use clap::Args;

use crate::{
    args::{Context, KeyArgs, TargetArgs},
    control::Connection,
    failure::{Code, Failure, Result},
    plan::DEFAULT_VOLUME,
    report::{Status, print, print_json},
    session::{self, Session},
};

/// Arguments of `kiseki status`.
#[derive(Args)]
pub struct StatusVerb {
    #[command(flatten)]
    target: TargetArgs,
    /// Volume to show when the store is not mounted
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

impl StatusVerb {
    /// Asks the daemon, or opens the store where there is none.
    pub fn run(&self, context: &Context) -> Result<Code> {
        let (store, mount) = self.target.resolve(context)?;
        let status = match (Connection::to(&store)?, mount) {
            (Some((connection, _)), _) => connection.status()?,
            (None, Some(mount)) => {
                return Err(Failure::new(format!(
                    "the mount {} has no daemon",
                    mount.point.display()
                ))
                .why("its process ended or was killed")
                .remedy("mount again, which clears it away; nothing that was synced is lost"));
            }
            (None, None) => self.unmounted(context, &store)?,
        };
        if self.json {
            print_json(&status)?
        } else {
            print(&status.text())?
        }
        Ok(Code::Good)
    }

    fn unmounted(&self, context: &Context, store: &Path) -> Result<Status> {
        let info = session::existing(store)?;
        let volume = self
            .volume
            .clone()
            .or_else(|| context.config.volume.clone());
        let volume = volume.unwrap_or_else(|| DEFAULT_VOLUME.to_owned());
        let status = match self.key.secret(context, &info)? {
            Some(secret) => Session::open(store, &secret)?.status(&volume)?,
            None => Status {
                needs: Some(format!(
                    "totals and names need the key; there is none at {}, name it with --key-file",
                    context.places.key_file(&info.id).display()
                )),
                ..Status::default()
            },
        };
        Ok(Status {
            store: store.to_owned(),
            volume,
            format_version: info.format_version,
            ..status
        })
    }
}
