//! The changes of one revision.

use super::Value;

/// Changes that belong together, in the order they were made: of two to one
/// key the later wins. Kept by its owner and reused: [`super::Projection::apply`]
/// drains it and leaves its memory.
#[derive(Default)]
pub struct Batch {
    changes: Vec<(Box<[u8]>, Option<Value>)>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, key: impl Into<Box<[u8]>>, value: impl Into<Value>) {
        self.changes.push((key.into(), Some(value.into())));
    }

    /// Deletes a key; one that does not exist is fine.
    pub fn delete(&mut self, key: impl Into<Box<[u8]>>) {
        self.changes.push((key.into(), None));
    }

    /// Whether there are no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Forgets the changes; keeps the memory.
    pub fn clear(&mut self) {
        self.changes.clear();
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Box<[u8]>, Option<Value>)> + '_ {
        self.changes.drain(..)
    }
}
