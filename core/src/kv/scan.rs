//! Scans: the layers of a projection merged in key order.

use std::{
    collections::btree_map,
    iter::Peekable,
    ops::{Bound, ControlFlow},
    slice,
};

use super::{
    Value, Visit,
    overlay::{Entry, Map},
};

type FrozenRange<'a> = Peekable<btree_map::Range<'a, Box<[u8]>, Option<Value>>>;

/// Walks overlay entries in key order, the active map's before the frozen
/// one's where both have a key, and lets the keys of the backend in between.
pub(super) struct Merge<'a> {
    active: Peekable<slice::Iter<'a, Entry>>,
    frozen: Option<FrozenRange<'a>>,
}

impl<'a> Merge<'a> {
    /// Merges a page of the active map with the frozen map's part in `from..to`.
    pub(super) fn new(
        page: &'a [Entry],
        frozen: Option<&'a Map>,
        from: &[u8],
        to: &[u8],
    ) -> Merge<'a> {
        let range = (Bound::Included(from), Bound::Excluded(to));
        Merge {
            active: page.iter().peekable(),
            frozen: frozen.map(|map| map.range::<[u8], _>(range).peekable()),
        }
    }

    /// The next overlay key that is not above `limit`, if any.
    fn next_to(&mut self, limit: Option<&[u8]>) -> Option<(&'a [u8], Option<&'a Value>)> {
        let frozen_key = self
            .frozen
            .as_mut()
            .and_then(|frozen| frozen.peek())
            .map(|(key, _)| &key[..]);
        let active_key = self.active.peek().map(|(key, _)| &key[..]);
        let (key, from_active) = match (active_key, frozen_key) {
            (Some(active), Some(frozen)) => (active.min(frozen), active <= frozen),
            (Some(active), None) => (active, true),
            (None, Some(frozen)) => (frozen, false),
            (None, None) => return None,
        };
        if limit.is_some_and(|limit| key > limit) {
            return None;
        }
        let mut value = None;
        if frozen_key == Some(key) {
            value = self.frozen.as_mut().and_then(Iterator::next);
        }
        let value = if from_active {
            self.active.next().map(|(_, value)| value)
        } else {
            value.map(|(_, value)| value)
        };
        Some((key, value.and_then(Option::as_ref)))
    }

    /// Visits a backend entry and the overlay entries before it, except what
    /// the overlay hides or replaces.
    pub(super) fn below(
        &mut self,
        key: &[u8],
        value: &[u8],
        visit: &mut Visit<'_>,
    ) -> ControlFlow<()> {
        while let Some((over, change)) = self.next_to(Some(key)) {
            if let Some(change) = change {
                visit(over, change)?;
            }
            if over == key {
                return ControlFlow::Continue(());
            }
        }
        visit(key, value)
    }

    /// Visits the overlay entries that are left.
    pub(super) fn rest(&mut self, visit: &mut Visit<'_>) -> ControlFlow<()> {
        while let Some((over, change)) = self.next_to(None) {
            if let Some(change) = change {
                visit(over, change)?;
            }
        }
        ControlFlow::Continue(())
    }
}
