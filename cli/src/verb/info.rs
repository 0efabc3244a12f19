//! `kiseki info`.

use std::{io, path::PathBuf};

use clap::Args;
use rustix::{fs::getxattr, io::Errno};
use serde_json::{Map, Value};

use crate::{
    failure::{Attempt, Code, Failure, Result},
    quantity::Size,
    report::{print, print_json, table},
};

/// Arguments of `kiseki info`.
#[derive(Args)]
pub struct Info {
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
    /// A file or directory on a kiseki mount
    path: PathBuf,
}

/// The attribute through which a mount says how it stores an inode, as a JSON
/// object.
const ATTRIBUTE: &str = "user.kiseki.info";

/// No answer is longer, in bytes.
const LONGEST: usize = 4096;

impl Info {
    /// Asks the mount.
    pub fn run(&self) -> Result<Code> {
        let shown = self.path.display();
        let mut answer = vec![0; LONGEST];
        let length = match getxattr(&self.path, ATTRIBUTE, &mut answer) {
            Ok(length) => length,
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {
                return Err(Failure::new(format!("{shown} is not on a mount of kiseki"))
                    .remedy("`findmnt -t fuse.kiseki` lists the mounts there are"));
            }
            Err(errno) => {
                return Err(io::Error::from(errno)).attempt(|| format!("cannot ask about {shown}"));
            }
        };
        let fields: Map<String, Value> = serde_json::from_slice(&answer[..length.min(LONGEST)])
            .map_err(|error| {
                Failure::new(format!("the mount gives no sense about {shown}"))
                    .why(error)
                    .remedy("unmount and mount again after an upgrade")
            })?;
        if self.json {
            print_json(&fields)?;
        } else {
            print(&format!("{shown}\n{}", text(&fields)))?;
        }
        Ok(Code::Good)
    }
}

fn text(fields: &Map<String, Value>) -> String {
    let value = |name: &str, value: &Value| match value.as_u64() {
        Some(bytes) if name == "size" || name.ends_with("_bytes") => {
            format!("{bytes} ({})", Size(bytes))
        }
        _ => value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned),
    };
    let labels: Vec<String> = fields.keys().map(|name| name.replace('_', " ")).collect();
    let rows: Vec<(&str, String)> = labels
        .iter()
        .zip(fields)
        .map(|(label, (name, field))| (label.as_str(), value(name, field)))
        .collect();
    table(&rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_shown_both_ways() {
        let fields =
            serde_json::from_str(r#"{"ino":7,"stored_bytes":2048,"inline":false}"#).unwrap();
        let shown = text(&fields);
        assert!(shown.contains("stored bytes  2048 (2.0 KiB)"), "{shown}");
        assert!(shown.contains("inline        false"), "{shown}");
        assert!(shown.contains("ino           7\n"), "{shown}");
    }

    #[test]
    fn a_file_elsewhere_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let info = Info {
            json: false,
            path: dir.path().into(),
        };
        assert!(
            info.run()
                .unwrap_err()
                .to_string()
                .contains("not on a mount")
        );
    }
}
