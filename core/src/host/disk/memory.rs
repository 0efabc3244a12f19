//! A disk in memory that loses what was not synced: for tests and simulation.
//!
//! [`MemoryDisk`] promises no more than POSIX does. What was synced survives
//! [`MemoryDisk::crash`]; of the rest, a seed decides what does: writes whole,
//! torn between sectors of 512 bytes, reordered or lost, lengths apart from
//! contents, names apart from files. The same calls and the same seed give the
//! same image. Faults come when told, and a failed sync loses the bytes it was
//! for while the next one succeeds, as on Linux.

mod contents;
mod names;
mod random;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::Arc,
    thread,
    time::Duration,
};

use nix::errno::Errno;
use parking_lot::Mutex;

use self::{
    contents::Contents,
    names::{NameChange, Names, Node, parent},
    random::Random,
};
use super::{Disk, DiskFile, OpenMode, Space};

/// What goes wrong, see [`MemoryDisk::fail_after`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// One write writes half of its bytes and fails.
    Write,
    /// One sync of a file fails, and its unsynced bytes will never be durable.
    Sync,
    /// The disk is full from then on: writes behind the end of a file, new
    /// files and reservations fail.
    Enospc,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    names: Names,
    files: BTreeMap<u64, Contents>,
    next_file: u64,
    operations: u64,
    power_off_after: Option<u64>,
    /// How many operations a fault still lets through.
    write_fault: Option<u64>,
    sync_fault: Option<u64>,
    full_after: Option<u64>,
    reserves_nothing: bool,
    sync_takes: Duration,
}

/// Whether an operation needs new room on the disk.
#[derive(PartialEq, Eq)]
enum Room {
    Takes,
    Keeps,
}

impl Inner {
    /// Numbers an operation that changes the disk.
    fn begin(&mut self, room: Room) -> io::Result<()> {
        if self
            .power_off_after
            .is_some_and(|last| self.operations >= last)
        {
            return Err(io::Error::other("the power is off"));
        }
        self.operations += 1;
        if room == Room::Takes
            && let Some(left) = &mut self.full_after
        {
            if *left == 0 {
                return Err(io::Error::from(Errno::ENOSPC));
            }
            *left -= 1;
        }
        Ok(())
    }

    fn file(&mut self, id: u64) -> &mut Contents {
        // Every id handed out stays in the map.
        self.files.entry(id).or_default()
    }
}

/// Counts down to a fault that happens once: true when it is due.
fn strikes(fault: &mut Option<u64>) -> bool {
    match fault {
        Some(0) => {
            *fault = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// What a machine finds after losing power now: a disk of its own, on
    /// which everything is durable and nothing is faulty.
    #[must_use]
    pub fn crash(&self, seed: u64) -> MemoryDisk {
        let inner = self.inner.lock();
        let mut random = Random::new(seed);
        let names = inner.names.crash(&mut random);
        let mut files = BTreeMap::new();
        for (&id, contents) in &inner.files {
            files.insert(id, contents.crash(&mut random));
        }
        let inner = Inner {
            names,
            files,
            next_file: inner.next_file,
            ..Inner::default()
        };
        MemoryDisk {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// The least that a machine finds after losing power now: nothing that was
    /// not synced.
    #[must_use]
    pub fn crash_losing_all(&self) -> MemoryDisk {
        let inner = self.inner.lock();
        let files = inner.files.iter();
        let inner = Inner {
            names: inner.names.durable(),
            files: files.map(|(&id, file)| (id, file.durable())).collect(),
            next_file: inner.next_file,
            ..Inner::default()
        };
        MemoryDisk {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// How many operations have changed the disk, or tried: opens that create,
    /// writes, changes of length, reservations, syncs, and changes of names.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.inner.lock().operations
    }

    /// Lets every operation behind number `last` fail without effect, so that
    /// [`MemoryDisk::crash`] gives the image after exactly that one.
    pub fn power_off_after(&self, last: u64) {
        self.inner.lock().power_off_after = Some(last);
    }

    /// Lets `n` more operations of the kind succeed before the fault comes.
    pub fn fail_after(&self, n: u64, fault: Fault) {
        let mut inner = self.inner.lock();
        match fault {
            Fault::Write => inner.write_fault = Some(n),
            Fault::Sync => inner.sync_fault = Some(n),
            Fault::Enospc => inner.full_after = Some(n),
        }
    }

    /// From here on reservations do nothing, as on filesystems that know none.
    pub fn reserve_nothing(&self) {
        self.inner.lock().reserves_nothing = true;
    }

    /// From here on each sync of a file takes this long.
    pub fn slow_down(&self, sync_takes: Duration) {
        self.inner.lock().sync_takes = sync_takes;
    }

    /// Takes back faults that have not come, and makes room on a full disk.
    pub fn clear_faults(&self) {
        let mut inner = self.inner.lock();
        inner.write_fault = None;
        inner.sync_fault = None;
        inner.full_after = None;
    }

    /// Paths of all files, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.inner.lock().names.files()
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner.lock();
        let id = match (inner.names.get(path), mode) {
            (Some(Node::Dir), _) => return Err(ErrorKind::IsADirectory.into()),
            (Some(Node::File(_)), OpenMode::CreateNew) => {
                return Err(ErrorKind::AlreadyExists.into());
            }
            (Some(Node::File(id)), _) => id,
            (None, OpenMode::Read | OpenMode::Write) => return Err(ErrorKind::NotFound.into()),
            (None, OpenMode::CreateNew | OpenMode::Create) => {
                inner.names.check_dir(parent(path))?;
                inner.begin(Room::Takes)?;
                let id = inner.next_file;
                inner.next_file += 1;
                inner.files.insert(id, Contents::default());
                inner.names.change(NameChange::Make {
                    path: path.to_owned(),
                    node: Node::File(id),
                });
                id
            }
        };
        Ok(Arc::new(MemoryFile {
            disk: self.clone(),
            id,
            writable: mode != OpenMode::Read,
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let inner = self.inner.lock();
        inner.names.check_dir(dir)?;
        Ok(inner.names.list(dir))
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let mut made = String::new();
        for part in dir.split('/').filter(|part| !part.is_empty()) {
            if !made.is_empty() {
                made.push('/');
            }
            made.push_str(part);
            match inner.names.get(&made) {
                Some(Node::Dir) => {}
                Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                None => {
                    inner.begin(Room::Takes)?;
                    inner.names.change(NameChange::Make {
                        path: made.clone(),
                        node: Node::Dir,
                    });
                }
            }
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let node = inner.names.get(from).ok_or(ErrorKind::NotFound)?;
        inner.names.check_dir(parent(to))?;
        inner.begin(Room::Keeps)?;
        inner.names.change(NameChange::Move {
            from: from.to_owned(),
            to: to.to_owned(),
            node,
        });
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        match inner.names.get(path) {
            Some(Node::File(_)) => {}
            Some(Node::Dir) => return Err(ErrorKind::IsADirectory.into()),
            None => return Err(ErrorKind::NotFound.into()),
        }
        inner.begin(Room::Keeps)?;
        inner.names.change(NameChange::Remove {
            path: path.to_owned(),
        });
        Ok(())
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.names.check_dir(dir)?;
        // Deepest first, each by itself: power loss can leave some.
        for path in inner.names.below(dir).into_iter().rev() {
            inner.begin(Room::Keeps)?;
            inner.names.change(NameChange::Remove { path });
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.names.check_dir(dir)?;
        inner.begin(Room::Keeps)?;
        inner.names.sync(dir);
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        const TOTAL: u64 = 1 << 40;
        let inner = self.inner.lock();
        let used: u64 = inner.files.values().map(Contents::len).sum();
        let free = match inner.full_after {
            Some(0) => 0,
            _ => TOTAL.saturating_sub(used),
        };
        Ok(Space {
            total: TOTAL,
            free,
            available: free,
        })
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    id: u64,
    writable: bool,
}

impl MemoryFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(io::Error::from(Errno::EBADF))
        }
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.disk.inner.lock().file(self.id).read(buffer, offset))
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, offset).map(Some)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut inner = self.disk.inner.lock();
        let grows = offset + data.len() as u64 > inner.file(self.id).len();
        inner.begin(if grows { Room::Takes } else { Room::Keeps })?;
        if strikes(&mut inner.write_fault) {
            inner.file(self.id).write(&data[..data.len() / 2], offset);
            return Err(io::Error::from(Errno::EIO));
        }
        inner.file(self.id).write(data, offset);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.inner.lock().file(self.id).len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut inner = self.disk.inner.lock();
        inner.begin(Room::Keeps)?;
        inner.file(self.id).set_len(len);
        Ok(())
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut inner = self.disk.inner.lock();
        if inner.reserves_nothing {
            return Ok(());
        }
        inner.begin(Room::Takes)?;
        let file = inner.file(self.id);
        if offset + len > file.len() {
            file.set_len(offset + len);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let takes = self.disk.inner.lock().sync_takes;
        thread::sleep(takes);
        let mut inner = self.disk.inner.lock();
        inner.begin(Room::Keeps)?;
        if strikes(&mut inner.sync_fault) {
            inner.file(self.id).lose();
            return Err(io::Error::from(Errno::EIO));
        }
        inner.file(self.id).sync();
        Ok(())
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}
}
