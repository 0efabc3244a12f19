//! What a client sees above its exports when the root is none of them: the
//! directories on the way, read-only, and in them nothing but the way on
//! (RFC 8881, 7.4).

use kiseki_core::{engine::Attr, ids::Ino};

use super::{compound::Compound, failure::Outcome, xdr::Status};
use crate::nfs::{
    Target,
    caller::Identity,
    export::{self, Squash, Terms, rule::SquashKind},
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

/// The ways from the root to the exports of a client.
pub struct Ways(Vec<Vec<Ino>>);

impl Ways {
    /// Whether an inode lies on a way, or at the end of one.
    pub fn lead_over(&self, ino: Ino) -> bool {
        self.0.iter().any(|way| way.contains(&ino))
    }

    /// Whether an inode is the root of an export.
    fn lead_to(&self, ino: Ino) -> bool {
        self.0.iter().any(|way| way.last() == Some(&ino))
    }
}

impl Compound<'_> {
    /// The root as a directory above the exports, if there are any.
    ///
    /// # Errors
    /// `Access`.
    pub(super) async fn above(&self) -> Outcome<Target> {
        match self.ways().await?.lead_over(Ino::ROOT) {
            true => Ok(target(Ino::ROOT)),
            false => Err(Status::Access.into()),
        }
    }

    /// A directory above the exports that a client names by its handle.
    ///
    /// # Errors
    /// `Stale` when there is nothing below it any more.
    pub(super) async fn still_above(&self, ino: Ino) -> Outcome<Target> {
        match self.ways().await?.lead_over(ino) {
            true => Ok(target(ino)),
            false => Err(Status::Stale.into()),
        }
    }

    /// Where a step from above the exports leads: on, or into one.
    ///
    /// # Errors
    /// `NoEnt`.
    pub(super) async fn step_from_above(&self, found: &Attr) -> Outcome<Target> {
        let ways = self.ways().await?;
        if ways.lead_to(found.ino) {
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
        match ways.lead_over(found.ino) {
            true => Ok(target(found.ino)),
            false => Err(Status::NoEnt.into()),
        }
    }

    /// The ways from the root to all exports of this client.
    ///
    /// # Errors
    /// The volume is damaged.
    pub(super) async fn ways(&self) -> Outcome<Ways> {
        let client = self.peer.address.ip();
        let mut ways = Vec::new();
        for rule in self.nfs.exports.rules() {
            if rule.clients.include(client)
                && let Some(way) = export::way(self.volume, &rule).await?
            {
                ways.push(way);
            }
        }
        Ok(Ways(ways))
    }
}
