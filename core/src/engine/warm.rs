//! The first questions to a volume, without a seek of the disk for each.

use std::sync::{Arc, atomic::Ordering};

use crate::{engine::Inner, host::OpenMode};

/// Most bytes of a file that are read ahead of questions. They go to the
/// machine's page cache, which gives them up when memory is wanted.
const MOST: u64 = 128 << 20;

/// Bytes asked for at once; between two the volume may be closed.
const STEP: u64 = 4 << 20;

/// Begins to read the tables and the chunk index into the page cache: in
/// order that is one stream, and page by page, as questions come, it is a
/// seek for each.
pub(super) fn start(inner: &Arc<Inner>, dir: &str) {
    let paths = [
        format!("{dir}/tables.redb"),
        format!("{dir}/chunks/index.redb"),
    ];
    let owned = inner.clone();
    // Readers too busy for it do without.
    let _ = inner.readers.offer(move || {
        for path in &paths {
            owned.warm(path);
        }
    });
}

impl Inner {
    fn warm(&self, path: &str) {
        let Ok(file) = self.disk.open(path, OpenMode::Read) else {
            return;
        };
        let len = file.len().unwrap_or(0).min(MOST);
        for offset in (0..len).step_by(STEP as usize) {
            if self.closed.load(Ordering::Relaxed) {
                return;
            }
            file.will_need(offset, STEP.min(len - offset));
        }
    }
}
