//! A file of a [`crate::host::Disk`] as redb wants it.
//!
//! redb takes no more writes after one that failed, and a full disk is no
//! reason for that. So writes that find no room are kept in memory, and show
//! in reads, until [`Held::settle`] finds room for them. Only the sync of a
//! durable commit, which has to have them on the disk, waits, and fails when
//! that takes too long; one that redb makes in passing, while it grows the file
//! for a commit that is not durable, is left to `settle`.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ::redb::StorageBackend;
use parking_lot::RwLock;

use crate::{
    error::is_full,
    host::{DiskFile, disk::patch::Patch},
};

/// How long a sync waits for room. Whoever wants to sync asks
/// [`Held::settle`] first, so that this comes to pass only when the room
/// went meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time between two looks for room.
const PAUSE: Duration = Duration::from_millis(100);

/// Cuts the connection between a database and its file.
#[derive(Clone, Default)]
pub(super) struct Cut(Arc<AtomicBool>);

impl Cut {
    /// From here on nothing reaches the file.
    pub(super) fn cut(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Acquire) {
            return Err(io::Error::other("the projection was dropped"));
        }
        Ok(())
    }
}

/// A file and the writes it had no room for.
pub(super) struct Held {
    file: Arc<dyn DiskFile>,
    patch: RwLock<Option<Patch>>,
    /// Whether a sync has to have everything on the disk.
    strict: AtomicBool,
}

impl Held {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Held {
        Held {
            file,
            patch: RwLock::new(None),
            strict: AtomicBool::new(true),
        }
    }

    /// Says whether what is written next is to be durable.
    pub(super) fn set_strict(&self, strict: bool) {
        self.strict.store(strict, Ordering::Release);
    }

    /// Writes to the file what it had no room for, durably: redb takes it for
    /// synced where it asked for that. Does nothing when nothing is held.
    pub(super) fn settle(&self) -> io::Result<()> {
        let mut held = self.patch.write();
        if let Some(patch) = &mut *held {
            patch.write_out(&*self.file)?;
            self.file.sync_data()?;
            *held = None;
        }
        Ok(())
    }

    fn is_waiting(&self) -> bool {
        self.patch.read().is_some()
    }

    /// Runs `direct` on the file, or `kept` on the writes that are held
    /// already or have to be from now on.
    fn change(
        &self,
        direct: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
        kept: impl FnOnce(&mut Patch, &dyn DiskFile) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut held = self.patch.write();
        if let Some(patch) = &mut *held {
            return kept(patch, &*self.file);
        }
        let len = self.file.len()?;
        match direct(&*self.file) {
            Err(error) if is_full(&error) => {
                // A write may have got somewhere; what is held goes over it.
                let mut patch = Patch::new(len);
                kept(&mut patch, &*self.file)?;
                *held = Some(patch);
                Ok(())
            }
            done => done,
        }
    }
}

/// The file of a database. The lock on the store keeps other processes out,
/// so redb's own file lock is left unsupported.
pub(super) struct Storage {
    pub(super) held: Arc<Held>,
    pub(super) cut: Cut,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Storage")
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        match &*self.held.patch.read() {
            Some(patch) => Ok(patch.len()),
            None => self.held.file.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let file = &*self.held.file;
        match &*self.held.patch.read() {
            Some(patch) => match patch.read(Some(file), out, offset)? {
                count if count == out.len() => Ok(()),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            },
            None => file.read_exact_at(out, offset),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.cut.check()?;
        self.held.change(
            |file| file.set_len(len),
            |patch, _| {
                patch.set_len(len);
                Ok(())
            },
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        if !self.held.strict.load(Ordering::Acquire) && self.held.is_waiting() {
            return Ok(());
        }
        let began = Instant::now();
        loop {
            self.cut.check()?;
            match self.held.settle() {
                Err(error) if is_full(&error) && began.elapsed() < PATIENCE => thread::sleep(PAUSE),
                Err(error) => return Err(error),
                Ok(()) => return self.held.file.sync_data(),
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.cut.check()?;
        self.held.change(
            |file| file.write_at(data, offset),
            |patch, file| patch.write(Some(file), data, offset),
        )
    }
}
