//! Files of a store, behind a trait.
//!
//! Paths are relative to the store directory, with `/` between parts. Methods
//! block; callers that must not block hand them to an I/O thread.
//!
//! [`OsDisk`] is a directory of the machine, [`ScratchDisk`] shows another disk
//! and keeps changes to itself, [`MemoryDisk`] is for tests that cut the power.

pub mod memory;
mod os;
pub(crate) mod patch;
mod scratch;

pub use memory::{Fault, MemoryDisk};
pub use os::OsDisk;
pub use scratch::ScratchDisk;

use std::{io, sync::Arc};

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; it must not exist.
    CreateNew,
    /// For reading and writing; created empty when it does not exist.
    Create,
}

/// Room on the filesystem that holds the store, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Size of the filesystem.
    pub total: u64,
    /// Free, including what is reserved for root.
    pub free: u64,
    /// Free to this process.
    pub available: u64,
}

/// A directory tree of files.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Names of files and directories directly in `dir`, in no order.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes a directory and its parents; one that exists is fine.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Renames a file over whatever stands at `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes a directory and all below it.
    fn remove_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Room left.
    fn space(&self) -> io::Result<Space>;
}

/// An open file. Offsets and lengths are bytes.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads up to `buffer.len()` bytes; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Reads without waiting for the disk: `None` when the bytes are not in
    /// memory. May be short like [`DiskFile::read_at`].
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>>;

    /// Writes all of `data`; extends the file where needed.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Length of the file.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Sets room aside for a range, so that writing it later does not find the
    /// disk full, and extends the file with zeros to the end of the range, so
    /// that a sync need not record a new length. Changes no byte. Does nothing
    /// on filesystems that cannot.
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes all bytes written so far, and the length, durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;

    /// Asks the machine to start writing a range back, without waiting. Says
    /// nothing about durability.
    fn start_writeback(&self, offset: u64, len: u64);

    /// Asks the machine to read a range into its cache, without waiting for
    /// all of it. Nothing happens where that cannot be asked for.
    fn will_need(&self, _offset: u64, _len: u64) {}

    /// Reads exactly `buffer.len()` bytes; `UnexpectedEof` when the file ends
    /// before.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buffer = &mut buffer[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
