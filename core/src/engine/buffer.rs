//! Buffers for unsealed bytes.
//!
//! A stream fills one long buffer after the other. Giving each back to the
//! system would cost a page fault and a cleared page for every 4 KiB written,
//! so they are kept for as long as streams use them, and a few for the next.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::spare::Spare;

/// Length of a long buffer: what one sealing pass takes of a stream.
pub(super) const LONG: usize = 8 << 20;

/// A piece that has grown to this is taken for a stream.
const STREAM: usize = 256 << 10;

/// Long buffers kept while nobody writes, for all volumes of the process.
const KEPT: usize = 4;

/// Most that are kept in any case.
static MOST: AtomicUsize = AtomicUsize::new(KEPT);

static SPARE: Mutex<Spare<Vec<u8>>> = Mutex::new(Spare::new());

/// Lets buffers of so many bytes be kept, if no volume of the process has asked
/// for more.
pub(super) fn keep(bytes: u64) {
    let buffers = usize::try_from(bytes / LONG as u64).unwrap_or(usize::MAX);
    MOST.fetch_max(buffers, Ordering::Relaxed);
}

/// Gives back buffers that streams have not needed for a while.
pub(super) fn trim() {
    let surplus = SPARE.lock().surplus(KEPT);
    drop(surplus);
}

/// Bytes that grow.
#[derive(Default)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Appends; the sum must not exceed [`LONG`].
    pub fn extend(&mut self, data: &[u8]) {
        let len = self.0.len() + data.len();
        if len > self.0.capacity() && len >= STREAM {
            let spare = SPARE.lock().take();
            let mut long = spare.unwrap_or_else(|| Vec::with_capacity(LONG));
            long.extend_from_slice(&self.0);
            self.0 = long;
        }
        self.0.extend_from_slice(data);
    }

    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

impl From<&[u8]> for Buffer {
    fn from(data: &[u8]) -> Buffer {
        let mut buffer = Buffer::default();
        buffer.extend(data);
        buffer
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.capacity() == LONG {
            let mut spare = SPARE.lock();
            if spare.len() < MOST.load(Ordering::Relaxed) {
                self.0.clear();
                spare.put(std::mem::take(&mut self.0));
            }
        }
    }
}
