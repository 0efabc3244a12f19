//! The tables as commands and readers see them: the projection, and the
//! decoded inodes and names that are hot.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use parking_lot::RwLock;
use quick_cache::{
    Weighter,
    sync::{Cache, GuardResult},
};

use crate::{
    Result,
    ids::{Ino, NameTag, Revision},
    kv::{Batch, Projection},
    meta::{
        inode::{Dentry, Inode},
        key::Key,
        transaction::{Changes, Read, Visit},
        value::{self, Totals},
    },
};

/// Bytes a cached inode takes, with its place in the cache.
const INODE_WEIGHT: u64 = 320;

/// Bytes a cached name takes besides the sealed name itself.
const DENTRY_WEIGHT: u64 = 192;

/// Caches smaller than this hold too little to be of use.
const LEAST_CACHE: u64 = 1 << 20;

#[derive(Clone)]
struct InodeWeight;

impl Weighter<Ino, Arc<Inode>> for InodeWeight {
    fn weight(&self, _: &Ino, _: &Arc<Inode>) -> u64 {
        INODE_WEIGHT
    }
}

type Place = (Ino, NameTag);

#[derive(Clone)]
struct DentryWeight;

impl Weighter<Place, Option<Dentry>> for DentryWeight {
    fn weight(&self, _: &Place, dentry: &Option<Dentry>) -> u64 {
        let name = dentry.as_ref().map_or(0, |dentry| dentry.sealed_name.len());
        DENTRY_WEIGHT + name as u64
    }
}

/// The caches never hold anything but what the projection holds, for good:
///
/// - A command first changes the projection, then puts what it changed in the
///   cache or takes it out, both before its reply.
/// - A reader that finds nothing takes the placeholder of the key, then reads
///   the projection, then fills the placeholder. If a command touched the key
///   in between, its put or removal has done away with the placeholder, and
///   filling it does nothing. If the command touched the cache before the
///   placeholder was taken, it had changed the projection before that, and the
///   reader reads the new value.
/// - A reader that finds a placeholder of another reader does not wait, and
///   keeps nothing.
pub(super) struct Tables {
    projection: Projection,
    inodes: Cache<Ino, Arc<Inode>, InodeWeight>,
    /// Names that are known not to exist are `None`.
    dentries: Cache<Place, Option<Dentry>, DentryWeight>,
    totals: RwLock<Totals>,
}

impl Tables {
    /// Tables over a projection, with `memory` bytes for caches.
    pub(super) fn new(projection: Projection, memory: u64) -> Result<Tables> {
        let each = (memory / 2).max(LEAST_CACHE);
        let tables = Tables {
            projection,
            inodes: Cache::with_weighter((each / INODE_WEIGHT) as usize, each, InodeWeight),
            dentries: Cache::with_weighter((each / DENTRY_WEIGHT) as usize, each, DentryWeight),
            totals: RwLock::default(),
        };
        if let Some(record) = tables.projection.get(&Key::totals())? {
            *tables.totals.write() = value::decode_totals(&record)?;
        }
        Ok(tables)
    }

    pub(super) fn projection(&self) -> &Projection {
        &self.projection
    }

    pub(super) fn failed(&self) -> Option<Arc<str>> {
        self.projection.failed()
    }

    pub(super) fn current_totals(&self) -> Totals {
        *self.totals.read()
    }

    /// Makes the changes of a revision visible. One caller at a time.
    pub(super) fn commit(&self, revision: Revision, changes: Changes, batch: &mut Batch) {
        for (key, value) in changes.writes {
            match value {
                Some(value) => batch.put(&*key, value),
                None => batch.delete(&*key),
            }
        }
        self.projection.apply(revision, batch);
        for (ino, inode) in changes.inodes {
            match inode {
                Some(inode) => self.inodes.insert(ino, inode),
                None => drop(self.inodes.remove(&ino)),
            }
        }
        for (place, dentry) in changes.dentries {
            self.dentries.insert(place, dentry);
        }
        *self.totals.write() = changes.totals;
    }

    /// Takes an inode out of the cache, as eviction would.
    #[cfg(test)]
    pub(super) fn forget(&self, ino: Ino) {
        self.inodes.remove(&ino);
    }

    fn load_inode(&self, ino: Ino) -> Result<Option<Arc<Inode>>> {
        match self.projection.get(&Key::inode(ino))? {
            Some(record) => Ok(Some(Arc::new(value::decode_inode(ino, &record)?))),
            None => Ok(None),
        }
    }

    fn load_dentry(&self, parent: Ino, tag: NameTag) -> Result<Option<Dentry>> {
        match self.projection.get(&Key::dentry(parent, tag))? {
            Some(record) => Ok(Some(value::decode_dentry(parent, tag, &record)?)),
            None => Ok(None),
        }
    }
}

impl Read for Tables {
    fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        self.projection.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        let mut outcome = Ok(());
        self.projection
            .scan(from, to, &mut |key, record| match visit(key, record) {
                Ok(flow) => flow,
                Err(error) => {
                    outcome = Err(error);
                    ControlFlow::Break(())
                }
            })?;
        outcome
    }

    fn inode(&self, ino: Ino) -> Result<Option<Arc<Inode>>> {
        match self.inodes.get_value_or_guard(&ino, Some(Duration::ZERO)) {
            GuardResult::Value(inode) => Ok(Some(inode)),
            GuardResult::Timeout => self.load_inode(ino),
            GuardResult::Guard(placeholder) => {
                let found = self.load_inode(ino)?;
                if let Some(inode) = &found {
                    // Refused when a command was faster: see `Tables`.
                    let _ = placeholder.insert(Arc::clone(inode));
                }
                Ok(found)
            }
        }
    }

    fn dentry(&self, parent: Ino, tag: NameTag) -> Result<Option<Dentry>> {
        let place = (parent, tag);
        match self
            .dentries
            .get_value_or_guard(&place, Some(Duration::ZERO))
        {
            GuardResult::Value(dentry) => Ok(dentry),
            GuardResult::Timeout => self.load_dentry(parent, tag),
            GuardResult::Guard(placeholder) => {
                let found = self.load_dentry(parent, tag)?;
                let _ = placeholder.insert(found.clone());
                Ok(found)
            }
        }
    }

    fn totals(&self) -> Result<Totals> {
        Ok(self.current_totals())
    }
}
