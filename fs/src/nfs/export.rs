//! Exports: which clients see which directory, and as whom.
//!
//! - [`rule`]: one line of the list, as people write it
//! - [`kept`]: the part of the list that lies in the volume
//!
//! The list is that of the configuration, followed by that of the volume; of
//! the rules for a directory the first one that names the client counts. The
//! last rule, which is always there, gives the whole tree to this machine.

pub mod kept;
pub mod rule;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use kiseki_core::{Error, engine::Volume, ids::Ino, meta::Kind};
use parking_lot::RwLock;

pub use rule::{Clients, Rule, RuleError, Squash};

use super::handle::Handle;

/// The list in force.
pub struct Exports {
    configured: Vec<Rule>,
    entries: RwLock<Arc<[Entry]>>,
}

struct Entry {
    rule: Rule,
    /// The directory; 0 while there is none at this path.
    root: AtomicU64,
}

/// What a client may do under an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Root of the export.
    pub root: Ino,
    /// Nothing may be changed.
    pub read_only: bool,
    /// Whom users of the client are taken for.
    pub squash: Squash,
}

impl Exports {
    /// The rules of the configuration and those of the volume.
    ///
    /// # Errors
    /// The volume is damaged.
    pub async fn load(volume: &Volume, configured: Vec<Rule>) -> Result<Exports, Error> {
        let exports = Exports {
            configured,
            entries: RwLock::new(Arc::new([])),
        };
        exports.reload(volume).await?;
        Ok(exports)
    }

    /// Reads the list of the volume again, after it was changed.
    ///
    /// # Errors
    /// The volume is damaged.
    pub async fn reload(&self, volume: &Volume) -> Result<(), Error> {
        let kept = kept::list(volume).await?;
        let all = self.configured.iter().cloned().chain(kept);
        let entries: Arc<[Entry]> = all
            .chain([Rule::of_this_machine()])
            .map(Entry::of)
            .collect();
        for entry in &*entries {
            entry.find(volume).await?;
        }
        *self.entries.write() = entries;
        Ok(())
    }

    fn entries(&self) -> Arc<[Entry]> {
        self.entries.read().clone()
    }

    /// Whether any rule is for other machines than this one.
    #[must_use]
    pub fn reach_others(&self) -> bool {
        let entries = self.entries();
        entries
            .iter()
            .any(|entry| !entry.rule.clients.is_this_machine())
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let entries = self.entries();
        entries.iter().map(|entry| entry.rule.clone()).collect()
    }

    /// What a client may do with a handle; `None` when it was handed out under
    /// an export that is not, or no more, for this client.
    #[must_use]
    pub fn terms(&self, client: IpAddr, handle: Handle) -> Option<Terms> {
        let entries = self.entries.read();
        entries
            .iter()
            .find(|entry| {
                entry.root.load(Ordering::Relaxed) == handle.root.0
                    && entry.rule.clients.include(client)
            })
            .map(|entry| entry.rule.terms(handle.root))
    }

    /// The export through which a client reaches a path: the deepest one, and
    /// the names that lead on from its root.
    ///
    /// # Errors
    /// `NotFound` when there is an export and no such directory,
    /// `NotPermitted` when there is no export for the client.
    pub async fn reach<'a>(
        &self,
        volume: &Volume,
        client: IpAddr,
        path: &'a [u8],
    ) -> Result<(Terms, Vec<&'a [u8]>), Error> {
        let names = names(path);
        let entries = self.entries();
        let fitting = entries
            .iter()
            .filter(|entry| entry.rule.clients.include(client))
            .filter(|entry| names.starts_with(&rule_names(&entry.rule)));
        // Of two that are as deep the first counts, which `max_by_key` is not.
        let deepest = fitting
            .rev()
            .max_by_key(|entry| rule_names(&entry.rule).len());
        let entry = deepest.ok_or(Error::NotPermitted)?;
        let root = entry.find(volume).await?.ok_or(Error::NotFound)?;
        let rest = names[rule_names(&entry.rule).len()..].to_vec();
        Ok((entry.rule.terms(root), rest))
    }
}

impl Entry {
    fn of(rule: Rule) -> Entry {
        Entry {
            rule,
            root: AtomicU64::new(0),
        }
    }

    /// Looks where the path leads now.
    async fn find(&self, volume: &Volume) -> Result<Option<Ino>, Error> {
        let way = way(volume, &self.rule).await?;
        let root = way.and_then(|way| way.last().copied());
        let known = root.map_or(0, |root| root.0);
        self.root.store(known, Ordering::Relaxed);
        Ok(root)
    }
}

/// The directories from the root to the one of a rule, both included; `None`
/// while there is none at its path. Links are not followed: what is exported
/// must not depend on who may write into the tree.
///
/// # Errors
/// The volume is damaged.
pub(super) async fn way(volume: &Volume, rule: &Rule) -> Result<Option<Vec<Ino>>, Error> {
    let mut at = Ino::ROOT;
    let mut way = vec![at];
    for name in rule_names(rule) {
        match volume.lookup(at, name).await {
            Ok(found) if found.kind == Kind::Directory => at = found.ino,
            Ok(_) | Err(Error::NotFound | Error::NotADirectory) => return Ok(None),
            Err(error) => return Err(error),
        }
        way.push(at);
    }
    Ok(Some(way))
}

fn rule_names(rule: &Rule) -> Vec<&[u8]> {
    names(rule.path.as_bytes())
}

/// The names of a path; empty ones and `.` lead nowhere.
fn names(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .collect()
}
