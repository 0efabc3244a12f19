//! The newest changes, in memory: an active map that takes them and a frozen
//! one on its way to the backend.

use std::{collections::BTreeMap, ops::Bound, sync::Arc, time::Instant};

use super::{Batch, Value};
use crate::ids::Revision;

/// Keys and what they were set to; `None` hides the key of the layers below.
pub(super) type Map = BTreeMap<Box<[u8]>, Option<Value>>;

/// One owned entry of a [`Map`].
pub(super) type Entry = (Box<[u8]>, Option<Value>);

/// A part of the overlay that no longer changes.
pub(super) struct Frozen {
    pub(super) map: Map,
    bytes: usize,
    /// The newest revision in it.
    pub(super) revision: Revision,
}

/// What stands above the backend. Guarded by one lock, so that whoever holds
/// it sees whole revisions only.
pub(super) struct Layers {
    active: Map,
    // Bytes put into `active`; what was overwritten since counts on, so this
    // is never too low.
    active_bytes: usize,
    dirty_since: Option<Instant>,
    frozen: Option<Arc<Frozen>>,
    /// The newest revision in any layer.
    pub(super) applied: Revision,
}

impl Layers {
    pub(super) fn new(applied: Revision) -> Layers {
        Layers {
            active: Map::new(),
            active_bytes: 0,
            dirty_since: None,
            frozen: None,
            applied,
        }
    }

    /// Takes the changes of one revision.
    pub(super) fn insert(&mut self, revision: Revision, batch: &mut Batch) {
        for (key, value) in batch.drain() {
            self.active_bytes += key.len() + value.as_ref().map_or(0, |value| value.len());
            self.active.insert(key, value);
        }
        self.applied = revision;
        if self.dirty_since.is_none() {
            self.dirty_since = Some(Instant::now());
        }
    }

    /// Since when the active map holds a revision the layers below lack.
    pub(super) fn dirty_since(&self) -> Option<Instant> {
        self.dirty_since
    }

    pub(super) fn active_over(&self, entries: usize, bytes: usize) -> bool {
        self.active.len() >= entries || self.active_bytes >= bytes
    }

    pub(super) fn over(&self, entries: usize, bytes: usize) -> bool {
        let frozen = self.frozen.as_ref();
        self.active.len() + frozen.map_or(0, |frozen| frozen.map.len()) >= entries
            || self.active_bytes + frozen.map_or(0, |frozen| frozen.bytes) >= bytes
    }

    /// Freezes the active map. Nothing when it holds no new revision, or when
    /// a frozen one has not gone yet.
    pub(super) fn freeze(&mut self) -> Option<Arc<Frozen>> {
        if self.frozen.is_some() || self.dirty_since.take().is_none() {
            return None;
        }
        let frozen = Arc::new(Frozen {
            map: std::mem::take(&mut self.active),
            bytes: std::mem::take(&mut self.active_bytes),
            revision: self.applied,
        });
        self.frozen = Some(frozen.clone());
        Some(frozen)
    }

    pub(super) fn frozen(&self) -> Option<Arc<Frozen>> {
        self.frozen.clone()
    }

    /// Forgets the frozen map; the backend has it now.
    pub(super) fn drop_frozen(&mut self) {
        self.frozen = None;
    }

    /// What the overlay says about a key: nothing, or its value or deletion.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Value>> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.map.get(key));
        self.active.get(key).or_else(frozen).cloned()
    }

    /// Copies up to `limit` entries of the active map in `from..to`.
    pub(super) fn page(&self, from: &[u8], to: &[u8], limit: usize) -> Vec<Entry> {
        let range = (Bound::Included(from), Bound::Excluded(to));
        self.active
            .range::<[u8], _>(range)
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}
