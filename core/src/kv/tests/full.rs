//! Full disks.

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::*;
use crate::{
    Error,
    host::{Disk, DiskFile, MemoryDisk, OpenMode, Space},
};

const FILE: &str = "projection";

/// A disk that runs full as real ones do: a file can still be made longer, but
/// what was never written takes no bytes.
#[derive(Clone, Default)]
struct SmallDisk {
    disk: MemoryDisk,
    full: Arc<AtomicBool>,
}

struct SmallFile {
    file: Arc<dyn DiskFile>,
    full: Arc<AtomicBool>,
    /// Everything in front of this was written.
    written: AtomicU64,
}

impl Disk for SmallDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(SmallFile {
            written: file.len()?.into(),
            file,
            full: self.full.clone(),
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

impl DiskFile for SmallFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.file.read_cached_at(buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + data.len() as u64;
        if self.full.load(Ordering::SeqCst) && end > self.written.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
        }
        self.written.fetch_max(end, Ordering::SeqCst);
        self.file.write_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.reserve(offset, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.file.start_writeback(offset, len);
    }
}

fn open(disk: impl Disk) -> Projection {
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let backend = RedbBackend::open(&disk, FILE, OWNER, 1 << 20).unwrap();
    Projection::open(Arc::new(backend), ProjectionOptions::default()).unwrap()
}

/// Sets a hundred keys to 4 KiB each.
fn apply(projection: &Projection, revision: u64) {
    let mut batch = Batch::default();
    for key in 0..100 {
        batch.put(
            (revision * 100 + key).to_be_bytes(),
            vec![revision as u8; 4096],
        );
    }
    projection.apply(Revision(revision), &mut batch);
}

fn check(projection: &Projection, revisions: u64) {
    for revision in 1..=revisions {
        for key in 0..100 {
            let found = projection
                .get(&(revision * 100 + key).to_be_bytes())
                .unwrap();
            assert_eq!(found.as_deref(), Some(&[revision as u8; 4096][..]));
        }
    }
}

#[test]
fn a_full_disk_is_waited_for() {
    let disk = SmallDisk::default();
    let projection = open(disk.clone());
    apply(&projection, 1);
    projection.checkpoint().unwrap();
    disk.full.store(true, Ordering::SeqCst);
    for revision in 2..=60 {
        apply(&projection, revision);
    }
    for _ in 0..2 {
        let refused = projection.checkpoint();
        assert!(matches!(refused, Err(Error::NoSpace)), "{refused:?}");
    }
    assert_eq!(projection.failed(), None);
    check(&projection, 60);
    // What is on the disk is what it was.
    let image = open(disk.disk.crash(1));
    assert_eq!(image.applied(), Revision(1));
    check(&image, 1);

    disk.full.store(false, Ordering::SeqCst);
    projection.checkpoint().unwrap();
    check(&projection, 60);
    apply(&projection, 61);
    projection.close().unwrap();
    let image = open(disk.disk.crash(2));
    assert_eq!(image.applied(), Revision(61));
    check(&image, 61);
}

#[test]
fn closing_on_a_full_disk_keeps_what_was_durable() {
    let disk = SmallDisk::default();
    let projection = open(disk.clone());
    apply(&projection, 1);
    projection.checkpoint().unwrap();
    disk.full.store(true, Ordering::SeqCst);
    for revision in 2..=60 {
        apply(&projection, revision);
    }
    assert!(projection.close().is_err());
    drop(projection);
    disk.full.store(false, Ordering::SeqCst);
    let reopened = open(disk.clone());
    assert_eq!(reopened.applied(), Revision(1));
    check(&reopened, 1);
}
