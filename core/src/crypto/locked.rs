//! Memory for keys: never swapped out, in no core dump, wiped when given back.
//!
//! The kernel locks whole pages and allows a user few of them, so keys share
//! pages, cut into slots. Pages are never unmapped: the next key takes a slot
//! that is free.

#![allow(unsafe_code)]

use std::{
    num::NonZeroUsize,
    ptr::NonNull,
    sync::{Mutex, PoisonError},
};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap_anonymous};
use zeroize::Zeroize;

/// Bytes of a key.
const SLOT: usize = 32;
/// Bytes that are locked at once; a page on most machines.
const PAGE: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

static FREE: Mutex<Vec<Slot>> = Mutex::new(Vec::new());

struct Slot(NonNull<[u8; SLOT]>);

// SAFETY: a slot is plain memory that belongs to whoever has it.
unsafe impl Send for Slot {}

/// 32 bytes of locked memory, zero at first.
pub(super) struct Locked(Slot);

// SAFETY: shared access gives shared references to bytes, as with a box.
unsafe impl Sync for Locked {}

impl Locked {
    pub(super) fn zero() -> Locked {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.is_empty() {
            free.extend(page());
        }
        Locked(free.pop().expect("a page has many slots"))
    }

    pub(super) fn get(&self) -> &[u8; SLOT] {
        // SAFETY: the slot is this value's alone, and never unmapped.
        unsafe { self.0.0.as_ref() }
    }

    pub(super) fn get_mut(&mut self) -> &mut [u8; SLOT] {
        // SAFETY: as above; `&mut self` keeps others out.
        unsafe { self.0.0.as_mut() }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.get_mut().zeroize();
        let slot = Slot(self.0.0);
        FREE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(slot);
    }
}

/// The slots of a new page. Where the limit on locked memory is used up, the
/// keys are as safe as other memory: better than no filesystem.
fn page() -> impl Iterator<Item = Slot> {
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new private mapping touches nothing that exists.
    let start = unsafe { mmap_anonymous(None, PAGE, protection, MapFlags::MAP_PRIVATE) }
        .expect("the machine has a page of memory left");
    // SAFETY: the range is the mapping just made; neither call changes bytes.
    let kept = unsafe {
        mlock(start, PAGE.get())
            .and_then(|()| madvise(start, PAGE.get(), MmapAdvise::MADV_DONTDUMP))
    };
    if let Err(error) = kept {
        tracing::warn!(%error, "keys may be swapped out; raise the limit on locked memory (ulimit -l)");
    }
    let first = start.cast::<[u8; SLOT]>();
    // SAFETY: all of them lie within the mapping.
    (0..PAGE.get() / SLOT).map(move |n| Slot(unsafe { first.add(n) }))
}
