//! `kiseki version`.

use clap::Args;
use serde::Serialize;

use crate::{
    failure::{Code, Result},
    report::{print, print_json},
    session,
};

/// Arguments of `kiseki version`.
#[derive(Args)]
pub struct Version {
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Versions {
    version: &'static str,
    format_version: u32,
}

impl Version {
    /// Prints the versions.
    pub fn run(&self) -> Result<Code> {
        let versions = Versions {
            version: env!("CARGO_PKG_VERSION"),
            format_version: session::FORMAT_VERSION,
        };
        if self.json {
            print_json(&versions)?;
        } else {
            print(&format!(
                "kiseki {}, store format {}\n",
                versions.version, versions.format_version
            ))?;
        }
        Ok(Code::Good)
    }
}
