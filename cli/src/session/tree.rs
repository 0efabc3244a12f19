//! Reading a whole volume through its names, as a program would: every name,
//! every small file, target and attribute is opened. Where the bytes of larger
//! files cannot be read is known by then; this gives them their paths.

use std::collections::BTreeSet;

use kiseki_core::{
    Error,
    engine::{Attr, Volume},
    ids::Ino,
    meta::Kind,
    repair::Losses,
};

use super::check::{CheckReport, Problem};
use crate::failure::Result;

/// Entries asked for at a time.
const ENTRIES: usize = 1024;

/// Contents of files up to this length lie in the tables.
const INLINE: u32 = 4096;

/// Reads everything. Damage goes to `report`; `progress` is told inodes seen
/// and inodes in all.
///
/// # Errors
/// What is no damage: the disk fails, the volume is closed.
pub async fn walk(
    volume: &Volume,
    losses: &Losses,
    report: &mut CheckReport,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let total = volume.status().await?.usage.inodes;
    let mut walk = Walk {
        volume,
        losses,
        unnamed: losses.keys().copied().collect(),
        report,
    };
    let mut directories = vec![(Ino::ROOT, Vec::new())];
    while let Some((directory, path)) = directories.pop() {
        let mut cookie = 0;
        loop {
            let entries = match volume.readdir_plus(directory, cookie, ENTRIES).await {
                Ok(entries) => entries,
                Err(error) => {
                    walk.damage(&path, "its entries", error)?;
                    break;
                }
            };
            let last = entries.len() < ENTRIES;
            for (entry, attr) in entries {
                cookie = entry.cookie;
                walk.report.inodes += 1;
                progress(walk.report.inodes, total);
                let path = [&path[..], b"/", &entry.name].concat();
                walk.read(&attr, &path).await?;
                if attr.kind == Kind::Directory {
                    directories.push((entry.ino, path));
                }
            }
            if last {
                break;
            }
        }
    }
    for ino in std::mem::take(&mut walk.unnamed) {
        let place = format!("inode {}, which has no name", ino.0);
        walk.report.lost(&place, &losses[&ino]);
    }
    Ok(())
}

struct Walk<'w> {
    volume: &'w Volume,
    losses: &'w Losses,
    /// Files that lost bytes and were not met yet.
    unnamed: BTreeSet<Ino>,
    report: &'w mut CheckReport,
}

impl Walk<'_> {
    async fn read(&mut self, attr: &Attr, path: &[u8]) -> Result<()> {
        match attr.kind {
            Kind::File => self.contents(attr, path).await?,
            Kind::Symlink => {
                if let Err(error) = self.volume.readlink(attr.ino).await {
                    self.damage(path, "its target", error)?;
                }
            }
            _ => {}
        }
        match self.volume.listxattr(attr.ino).await {
            Ok(names) => {
                for name in names {
                    match self.volume.getxattr(attr.ino, &name).await {
                        Err(error @ (Error::NoAttribute | Error::NotFound)) => {
                            tracing::debug!(%error);
                        }
                        Err(error) => self.damage(path, "an extended attribute", error)?,
                        Ok(_) => {}
                    }
                }
            }
            Err(error) => self.damage(path, "its extended attributes", error)?,
        }
        Ok(())
    }

    async fn contents(&mut self, attr: &Attr, path: &[u8]) -> Result<()> {
        if let Some(losses) = self.losses.get(&attr.ino) {
            self.unnamed.remove(&attr.ino);
            self.report.lost(&String::from_utf8_lossy(path), losses);
            return Ok(());
        }
        match self.volume.read(attr.ino, 0, INLINE).await {
            Ok(_) => Ok(()),
            Err(error) => self.damage(path, "its contents", error),
        }
    }

    /// Tells damage from what ends the walk.
    fn damage(&mut self, path: &[u8], what: &str, error: Error) -> Result<()> {
        match error {
            Error::Closed | Error::NoSpace | Error::ReadOnly(_) => Err(error.into()),
            error => {
                let shown = if path.is_empty() { b"/" } else { path };
                self.report.problems.push(Problem {
                    place: String::from_utf8_lossy(shown).into_owned(),
                    what: format!("{what}: {error}"),
                });
                Ok(())
            }
        }
    }
}
