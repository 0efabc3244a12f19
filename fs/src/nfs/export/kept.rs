//! The rules that lie in the volume, in a directory that no client sees:
//! sealed like all files, and durable like them.

use bytes::Bytes;
use kiseki_core::{
    Error, Result,
    engine::{Caller, RenameFlags, Volume},
    ids::Ino,
    meta::Kind,
};

use super::Rule;
use crate::nfs::PRIVATE;

const FILE: &[u8] = b"exports";
const UNFINISHED: &[u8] = b"exports.new";

/// More than a list of exports has.
const LONGEST: u32 = 1 << 20;

/// The rules of the volume, in their order.
///
/// # Errors
/// `Damaged`.
pub async fn list(volume: &Volume) -> Result<Vec<Rule>> {
    let directory = match volume.private_dir(PRIVATE).await {
        Ok(directory) => directory,
        Err(Error::NotFound | Error::ReadOnly(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let file = match volume.lookup(directory, FILE).await {
        Ok(file) => file,
        Err(Error::NotFound) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let text = volume.read(file.ino, 0, LONGEST).await?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::damaged("the export list", error.to_string()))
}

/// Adds a rule, durably, in the place of one for the same directory and the
/// same clients, if there is one; whether there was.
///
/// # Errors
/// The volume takes no writes.
pub async fn add(volume: &Volume, rule: Rule) -> Result<bool> {
    let mut rules = list(volume).await?;
    let same = |old: &&mut Rule| old.path == rule.path && old.clients == rule.clients;
    let replaced = match rules.iter_mut().find(same) {
        Some(old) => {
            *old = rule;
            true
        }
        None => {
            rules.push(rule);
            false
        }
    };
    store(volume, &rules).await?;
    Ok(replaced)
}

/// Removes the rules for a directory, or of these only those for some clients,
/// durably; how many there were.
///
/// # Errors
/// The volume takes no writes.
pub async fn remove(volume: &Volume, path: &str, clients: Option<super::Clients>) -> Result<usize> {
    let mut rules = list(volume).await?;
    let before = rules.len();
    rules.retain(|rule| rule.path != path || clients.is_some_and(|only| only != rule.clients));
    let removed = before - rules.len();
    if removed > 0 {
        store(volume, &rules).await?;
    }
    Ok(removed)
}

async fn store(volume: &Volume, rules: &[Rule]) -> Result<()> {
    let directory = volume.private_dir(PRIVATE).await?;
    let text = serde_json::to_vec(rules)
        .map_err(|_| Error::Invalid("an export list that cannot be written"))?;
    let who = Caller::default();
    drop_unfinished(volume, &who, directory).await?;
    let file = volume
        .mknod(&who, directory, UNFINISHED, Kind::File, 0o600, 0)
        .await?;
    volume.write(&who, file.ino, 0, Bytes::from(text)).await?;
    let flags = RenameFlags::Replace;
    volume
        .rename(&who, directory, UNFINISHED, directory, FILE, flags)
        .await?;
    volume.fsync(file.ino, false).await
}

async fn drop_unfinished(volume: &Volume, who: &Caller, directory: Ino) -> Result<()> {
    match volume.unlink(who, directory, UNFINISHED).await {
        Ok(()) | Err(Error::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}
