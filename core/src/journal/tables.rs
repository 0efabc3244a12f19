//! Which inodes clients know, and which requests were done.
//!
//! Inode numbers are given out in sequence and never again, so a counter for
//! each needs no more than an array of which only touched pages exist. A page
//! whose inodes nobody knows any more is given back.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use parking_lot::RwLock;

use super::{AT_KNOWN, AT_RING, AT_RING_HEAD};
use crate::{
    host::SharedMemory,
    ids::{Ino, RequestId},
};

/// Inodes that are counted, from 0 on; those beyond are always known. A
/// thousand new ones a second use them up in eight years, and 1 TiB of address
/// space.
const KNOWN: u64 = 1 << 38;

/// Of the page size of any machine a multiple.
const PAGE: usize = 64 << 10;

const INODES_PER_PAGE: u64 = PAGE as u64 / 4;

/// Pages are looked through after so many new ones, 1 MiB.
const LOOK_AFTER: u64 = 16;

/// Locks that keep a page from being given back while it is counted in.
const LOCKS: usize = 16;

pub(super) const KNOWN_BYTES: usize = KNOWN as usize * 4;

/// A count that stays: one that was reached is not believed any more.
const MANY: u32 = u32::MAX;

/// Requests remembered. Between being done and being answered there are no
/// more than threads of the process.
const DONE: u64 = 4096;

#[derive(Default)]
pub(super) struct Tables {
    in_use: [CachePadded<RwLock<()>>; LOCKS],
    /// The last page that was counted in.
    newest: AtomicU64,
    /// What that was when pages were looked through.
    looked_at: AtomicU64,
}

impl Tables {
    pub fn remember(&self, memory: &SharedMemory, ino: Ino) {
        if ino.0 < KNOWN {
            let page = ino.0 / INODES_PER_PAGE;
            if page > self.newest.load(Ordering::Relaxed) {
                self.newest.fetch_max(page, Ordering::Relaxed);
            }
            let _in_use = self.lock(page).read();
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
        let _in_use = self.lock(ino.0 / INODES_PER_PAGE).read();
        let count = memory.word(place(ino));
        match count.fetch_update(Ordering::AcqRel, Ordering::Acquire, update) {
            Ok(before) | Err(before) => left(before) == 0,
        }
    }

    pub fn knows(&self, memory: &SharedMemory, ino: Ino) -> bool {
        ino.0 >= KNOWN || memory.word(place(ino)).load(Ordering::Acquire) > 0
    }

    /// Whether [`Tables::trim`] has something to do.
    pub fn have_grown(&self) -> bool {
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        self.newest.load(Ordering::Relaxed) >= looked_at + LOOK_AFTER
    }

    /// Gives back the pages whose inodes nobody knows.
    pub fn trim(&self, memory: &SharedMemory) {
        let newest = self.newest.load(Ordering::Relaxed);
        self.looked_at.store(newest, Ordering::Relaxed);
        let end = AT_KNOWN + KNOWN_BYTES;
        let mut at = AT_KNOWN;
        while let Some(touched) = memory.next_touched(at).filter(|touched| *touched < end) {
            let index = (touched - AT_KNOWN) / PAGE;
            let page = AT_KNOWN + index * PAGE;
            let _alone = self.lock(index as u64).write();
            if memory.is_zero(page, PAGE) {
                memory.give_back(page, PAGE);
            }
            at = page + PAGE;
        }
    }

    fn lock(&self, page: u64) -> &RwLock<()> {
        &self.in_use[page as usize % LOCKS]
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
