//! Exports of NFS, as the daemon that has a volume open changes them and as
//! verbs ask for that.

use kiseki_core::engine::Volume;
use kiseki_fs::nfs::export::{Clients, Rule, kept};
use serde::{Deserialize, Serialize};

use crate::failure::Result;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportRequest {
    /// List those that lie in the volume.
    List,
    /// Add one, or change the one for the same directory and clients.
    Add(Rule),
    /// Remove those of a directory, or only the one for these clients.
    Remove(String, Option<Clients>),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportAnswer {
    /// Those that lie in the volume.
    Kept(Vec<Rule>),
    /// Whether it took the place of another.
    Added(bool),
    /// How many there were to remove.
    Removed(usize),
}

/// Does it, on an open volume. A server that runs has to read the list again.
///
/// # Errors
/// The volume takes no writes, or is damaged.
pub async fn answer(volume: &Volume, request: ExportRequest) -> Result<ExportAnswer> {
    Ok(match request {
        ExportRequest::List => ExportAnswer::Kept(kept::list(volume).await?),
        ExportRequest::Add(rule) => ExportAnswer::Added(kept::add(volume, rule).await?),
        ExportRequest::Remove(path, clients) => {
            ExportAnswer::Removed(kept::remove(volume, &path, clients).await?)
        }
    })
}
