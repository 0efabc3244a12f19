//! What a client sees above its exports when the root is none of them: the
//! directories on the way, read-only, and in them nothing but the way on
//! (RFC 8881, 7.4).

use kiseki_core::{Error, engine::Attr, ids::Ino};

use super::{compound::Compound, failure::Outcome, xdr::Status};
use crate::nfs::{
    Target,
    caller::Identity,
    export::{Squash, Terms, rule::SquashKind},
    handle::Handle,
};

/// Stands for the root of an export in handles of these directories; no inode
/// has this number.
const ABOVE: Ino = Ino(u64::MAX);

const NOBODY: u32 = 65_534;

/// Whether a handle is of a directory above the exports.
pub fn is_above(handle: Handle) -> bool {
    handle.root == ABOVE
}

/// A directory above the exports.
pub fn target(ino: Ino) -> Target {
    let squash = Squash {
        kind: SquashKind::All,
        uid: NOBODY,
        gid: NOBODY,
    };
    Target {
        handle: Handle { root: ABOVE, ino },
        terms: Terms {
            root: ABOVE,
            read_only: true,
            squash,
        },
        who: Identity {
            uid: NOBODY,
            gid: NOBODY,
            groups: vec![NOBODY],
        },
    }
}

impl Compound<'_> {
    /// The root as a directory above the exports, if there are any.
    ///
    /// # Errors
    /// `Access`.
    pub(super) async fn above(&self) -> Outcome<Target> {
        match self.ways().await?.is_empty() {
            true => Err(Status::Access.into()),
            false => Ok(target(Ino::ROOT)),
        }
    }

    /// A directory above the exports that a client names by its handle.
    ///
    /// # Errors
    /// `Stale` when there is nothing below it any more.
    pub(super) async fn still_above(&self, ino: Ino) -> Outcome<Target> {
        let ways = self.ways().await?;
        match ways.iter().any(|way| way.contains(&ino)) {
            true => Ok(target(ino)),
            false => Err(Status::Stale.into()),
        }
    }

    /// Whether something in a directory above the exports leads to one.
    ///
    /// # Errors
    /// The volume is damaged.
    pub(super) async fn leads_on(&self, ino: Ino) -> Outcome<bool> {
        let ways = self.ways().await?;
        Ok(ways.iter().any(|way| way.contains(&ino)))
    }

    /// Where a step from above the exports leads: on, or into one.
    ///
    /// # Errors
    /// `NoEnt`.
    pub(super) async fn step_from_above(&self, found: &Attr) -> Outcome<Target> {
        let ways = self.ways().await?;
        let export = ways.iter().find(|way| way.last() == Some(&found.ino));
        if export.is_some() {
            let handle = Handle {
                root: found.ino,
                ino: found.ino,
            };
            let terms = self.nfs.exports.terms(self.peer.address.ip(), handle);
            let terms = terms.ok_or(Status::NoEnt)?;
            return Ok(Target {
                handle,
                terms,
                who: Identity::of(self.credentials, terms.squash),
            });
        }
        match ways.iter().any(|way| way.contains(&found.ino)) {
            true => Ok(target(found.ino)),
            false => Err(Status::NoEnt.into()),
        }
    }

    /// The ways from the root to all exports of this client.
    async fn ways(&self) -> Outcome<Vec<Vec<Ino>>> {
        let client = self.peer.address.ip();
        let mut ways = Vec::new();
        for rule in self.nfs.exports.rules() {
            if rule.clients.include(client)
                && let Some(way) = self.way(rule.path.as_bytes()).await?
            {
                ways.push(way);
            }
        }
        Ok(ways)
    }

    async fn way(&self, path: &[u8]) -> Outcome<Option<Vec<Ino>>> {
        let mut way = vec![Ino::ROOT];
        let mut at = Ino::ROOT;
        for name in path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
        {
            match self.volume.lookup(at, name).await {
                Ok(found) => at = found.ino,
                Err(Error::NotFound | Error::NotADirectory) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            way.push(at);
        }
        Ok(Some(way))
    }
}
