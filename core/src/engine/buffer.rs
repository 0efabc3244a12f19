//! Buffers for unsealed bytes.
//!
//! A stream fills one long buffer after the other. Giving each back to the
//! system would cost a page fault and a cleared page for every 4 KiB written,
//! so they are kept for as long as streams use them, and a few for the next.

use parking_lot::Mutex;

use crate::spare::Spare;

/// Length of a long buffer: what one sealing pass takes of a stream.
pub(super) const LONG: usize = 8 << 20;

/// A piece that has grown to this is taken for a stream.
const STREAM: usize = 256 << 10;

/// Long buffers kept while nobody writes, for all volumes of the process.
const KEPT: usize = 4;

/// The long buffers of the process. One that was used has all its pages, so
/// there are never more than the budget of the largest volume has room for.
struct Pool {
    spare: Spare<Vec<u8>>,
    /// Spare and in use.
    all: usize,
    most: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    spare: Spare::new(),
    all: 0,
    most: KEPT,
});

impl Pool {
    fn take(&mut self) -> Option<Vec<u8>> {
        self.spare.take().or_else(|| {
            let may_be = self.all < self.most;
            self.all += usize::from(may_be);
            may_be.then(|| Vec::with_capacity(LONG))
        })
    }
}

/// Lets there be long buffers of so many bytes, if no volume of the process has
/// asked for more.
pub(super) fn allow(bytes: u64) {
    let buffers = usize::try_from(bytes / LONG as u64).unwrap_or(usize::MAX);
    let mut pool = POOL.lock();
    pool.most = pool.most.max(buffers);
}

/// Gives back buffers that streams have not needed for a while.
pub(super) fn trim() {
    let surplus = {
        let mut pool = POOL.lock();
        let surplus = pool.spare.surplus(KEPT);
        pool.all -= surplus.len();
        surplus
    };
    drop(surplus);
}

/// Bytes that grow.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Of the pool.
    long: bool,
}

impl Buffer {
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends; the sum must not exceed [`LONG`].
    pub fn extend(&mut self, data: &[u8]) {
        let len = self.bytes.len() + data.len();
        if len > self.bytes.capacity() && len >= STREAM && !self.long {
            let long = POOL.lock().take();
            if let Some(mut long) = long {
                long.extend_from_slice(&self.bytes);
                (self.bytes, self.long) = (long, true);
            }
        }
        self.bytes.extend_from_slice(data);
    }

    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
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
        &self.bytes
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.long {
            self.bytes.clear();
            POOL.lock().spare.put(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_are_not_of_the_pool_hold_the_same() {
        let data: Vec<u8> = (0..STREAM).map(|n| n as u8).collect();
        // More than the pool has for anybody in this process.
        let mut buffers: Vec<Buffer> = (0..300).map(|_| data.as_slice().into()).collect();
        let outside = buffers.iter_mut().find(|buffer| !buffer.long);
        let outside = outside.expect("the pool has an end");
        outside.extend(&data);
        outside.extend(&data[..7]);
        outside.truncate(2 * STREAM + 5);
        let bytes: &[u8] = (*outside).as_ref();
        assert!(bytes[..STREAM] == data && bytes[STREAM..2 * STREAM] == data);
        assert_eq!(bytes[2 * STREAM..], data[..5]);
    }
}
