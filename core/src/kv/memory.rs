//! A backend in memory, for tests and for volumes that need no disk.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use parking_lot::RwLock;

use super::{Backend, Change, Value, Visit};
use crate::{Result, ids::Revision};

#[derive(Clone, Default)]
struct Content {
    map: BTreeMap<Box<[u8]>, Value>,
    revision: Revision,
}

/// A backend that lives as long as the process. Nothing it holds survives
/// that, whatever `durable` says.
#[derive(Default)]
pub struct MemoryBackend {
    // Scans walk the state they began with while writes go on; a write copies
    // the map only when a scan holds it.
    content: RwLock<Arc<Content>>,
}

impl MemoryBackend {
    /// An empty backend at revision 0.
    #[must_use]
    pub fn new() -> MemoryBackend {
        MemoryBackend::default()
    }
}

impl Backend for MemoryBackend {
    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        Ok(self.content.read().map.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<Revision> {
        let content = self.content.read().clone();
        if from >= to {
            return Ok(content.revision);
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        for (key, value) in content.map.range::<[u8], _>(range) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(content.revision)
    }

    fn write<'a>(
        &self,
        changes: &mut (dyn Iterator<Item = Change<'a>> + 'a),
        revision: Revision,
        _durable: bool,
    ) -> Result<()> {
        let mut content = self.content.write();
        let content = Arc::make_mut(&mut content);
        for (key, value) in changes {
            match value {
                Some(value) => content.map.insert(key.into(), value.into()),
                None => content.map.remove(key),
            };
        }
        content.revision = revision;
        Ok(())
    }

    fn applied(&self) -> Result<Revision> {
        Ok(self.content.read().revision)
    }
}
