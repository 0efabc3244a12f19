//! Memory that outlives the process that uses it.
//!
//! An anonymous file of the kernel (`memfd_create(2)`), mapped here and held
//! open by somebody else: what is stored there survives the death of this
//! process, and is gone with the last descriptor. Only touched pages take
//! memory.

#![allow(unsafe_code)]

use std::{
    io,
    num::NonZeroUsize,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

use nix::{
    libc,
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, munmap},
    },
    unistd::{Whence, ftruncate, lseek},
};

/// A mapping of shared memory. All access goes by offset and is checked.
///
/// Plain reads and writes must not overlap others at the same time; who uses
/// it orders them by the atomic words in it.
pub struct SharedMemory {
    file: OwnedFd,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the value and lives as long as it does.
unsafe impl Send for SharedMemory {}
// SAFETY: shared access is by atomics, or by copies that callers keep apart.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// A descriptor of new memory, empty.
    ///
    /// # Errors
    /// The kernel has no room or does not know how.
    pub fn create() -> io::Result<OwnedFd> {
        Ok(memfd_create("kiseki", MFdFlags::MFD_CLOEXEC)?)
    }

    /// Maps `len` bytes of it. New bytes are zeros.
    ///
    /// # Errors
    /// The address space is limited to less.
    pub fn map(file: OwnedFd, len: usize) -> io::Result<SharedMemory> {
        let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        ftruncate(&file, len as i64)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(None, size, access, flags, &file, 0)? };
        // SAFETY: the range was mapped above. Plaintext must not reach a core
        // dump of anybody; when the kernel refuses, the process is not dumpable
        // all the same.
        unsafe { libc::madvise(base.as_ptr(), len, libc::MADV_DONTDUMP) };
        Ok(SharedMemory {
            file,
            base: base.cast(),
            len,
        })
    }

    fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "an access outside of shared memory"
        );
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.base.add(offset) }
    }

    /// Copies bytes in.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let to = self.at(offset, bytes.len());
        // SAFETY: the target is inside the mapping; `bytes` cannot overlap it,
        // because nobody has a reference into the mapping but to atomics.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }

    /// Copies bytes out.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        let from = self.at(offset, bytes.len());
        // SAFETY: as in `write`.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(&mut *bytes).cast(), bytes.len()) };
    }

    /// A byte for several threads.
    pub fn byte(&self, offset: usize) -> &AtomicU8 {
        // SAFETY: inside the mapping, which outlives the reference.
        unsafe { self.at(offset, 1).cast().as_ref() }
    }

    /// A word of 4 bytes for several threads; `offset` is a multiple of 4.
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4), "a word is aligned");
        // SAFETY: inside the mapping and aligned.
        unsafe { self.at(offset, 4).cast().as_ref() }
    }

    /// A word of 8 bytes for several threads; `offset` is a multiple of 8.
    pub fn long(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8), "a word is aligned");
        // SAFETY: inside the mapping and aligned.
        unsafe { self.at(offset, 8).cast().as_ref() }
    }

    /// The first byte from `offset` on whose page takes memory.
    pub fn next_touched(&self, offset: usize) -> Option<usize> {
        let found = lseek(&self.file, offset as i64, Whence::SeekData).ok()?;
        usize::try_from(found).ok()
    }

    /// Whether a range holds nothing but zeros. Both ends are multiples of 8.
    pub fn is_zero(&self, offset: usize, len: usize) -> bool {
        (offset..offset + len)
            .step_by(8)
            .all(|at| self.long(at).load(Ordering::Acquire) == 0)
    }

    /// Gives the pages of a range back; it reads as zeros afterwards. Both
    /// ends are multiples of the page size.
    pub fn give_back(&self, offset: usize, len: usize) {
        let from = self.at(offset, len);
        // SAFETY: inside the mapping; the range is in use by nobody, as its
        // owner says by calling this. Refusal only costs memory.
        unsafe { libc::madvise(from.as_ptr().cast(), len, libc::MADV_REMOVE) };
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: mapped in `map`, and nothing refers to it any more.
        let _ = unsafe { munmap(self.base.cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_written_is_there_for_the_next_mapping() {
        let file = SharedMemory::create().unwrap();
        let again = file.try_clone().unwrap();
        let memory = SharedMemory::map(file, 1 << 30).unwrap();
        memory.write(4096, b"kept");
        memory.long(1 << 20).store(7, Ordering::Release);
        drop(memory);
        let memory = SharedMemory::map(again, 1 << 30).unwrap();
        let mut bytes = [0; 4];
        memory.read(4096, &mut bytes);
        assert_eq!(&bytes, b"kept");
        assert_eq!(memory.long(1 << 20).load(Ordering::Acquire), 7);
        memory.give_back(4096, 4096);
        memory.read(4096, &mut bytes);
        assert_eq!(bytes, [0; 4]);
    }

    #[test]
    #[should_panic(expected = "outside of shared memory")]
    fn nothing_is_read_beyond_its_end() {
        let memory = SharedMemory::map(SharedMemory::create().unwrap(), 4096).unwrap();
        memory.read(4090, &mut [0; 7]);
    }
}
