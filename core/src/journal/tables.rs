//! Which inodes clients know, and which requests were done.
//!
//! Inode numbers are given out in sequence and never again, so a counter for
//! each needs no more than an array of which only touched pages exist.

use std::sync::atomic::Ordering;

use super::{AT_KNOWN, AT_RING, AT_RING_HEAD};
use crate::{
    host::SharedMemory,
    ids::{Ino, RequestId},
};

/// Inodes that are counted, from 0 on; those beyond are always known.
const KNOWN: u64 = 1 << 32;

pub(super) const KNOWN_BYTES: usize = KNOWN as usize * 4;

/// A count that stays: one that was reached is not believed any more.
const MANY: u32 = u32::MAX;

/// Requests remembered. Between being done and being answered there are no
/// more than threads of the process.
const DONE: u64 = 4096;

pub(super) struct Tables;

impl Tables {
    pub fn remember(&self, memory: &SharedMemory, ino: Ino) {
        if ino.0 < KNOWN {
            let count = memory.word(place(ino));
            // Never fails: the closure always answers.
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                Some(count.saturating_add(1))
            });
        }
    }

    pub fn forget(&self, memory: &SharedMemory, ino: Ino, forgotten: u64) -> bool {
        if ino.0 >= KNOWN {
            return false;
        }
        let left = |count: u32| match count {
            MANY => MANY,
            count => u64::from(count).saturating_sub(forgotten) as u32,
        };
        let update = |count| Some(left(count));
        let count = memory.word(place(ino));
        match count.fetch_update(Ordering::AcqRel, Ordering::Acquire, update) {
            Ok(before) | Err(before) => left(before) == 0,
        }
    }

    pub fn knows(&self, memory: &SharedMemory, ino: Ino) -> bool {
        ino.0 >= KNOWN || memory.word(place(ino)).load(Ordering::Acquire) > 0
    }

    /// Behind the entry of the command: found without it, the request would
    /// count as done and would not be.
    pub fn note_done(&self, memory: &SharedMemory, request: RequestId, made: Ino) {
        let head = memory.long(AT_RING_HEAD).fetch_add(1, Ordering::Relaxed);
        let slot = slot(head % DONE);
        memory.long(slot).store(0, Ordering::Release);
        memory.long(slot + 8).store(made.0, Ordering::Release);
        memory.long(slot).store(request.0, Ordering::Release);
    }

    pub fn forget_done(&self, memory: &SharedMemory, request: RequestId) {
        for index in 0..DONE {
            let of = memory.long(slot(index));
            let _ = of.compare_exchange(request.0, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    pub fn find_done(&self, memory: &SharedMemory, request: RequestId) -> Option<Ino> {
        (0..DONE).map(slot).find_map(|slot| {
            let found = memory.long(slot).load(Ordering::Acquire) == request.0;
            found.then(|| Ino(memory.long(slot + 8).load(Ordering::Acquire)))
        })
    }
}

fn place(ino: Ino) -> usize {
    AT_KNOWN + ino.0 as usize * 4
}

fn slot(index: u64) -> usize {
    AT_RING + index as usize * 16
}
