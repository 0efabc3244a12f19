//! A disk whose changes stay in memory.
//!
//! Promises whoever opens a store through it that the store is not changed by
//! a single byte: reading a store on a read-only disk, or checking one, takes
//! the same code as any other use, with replay and repair in memory. What is
//! changed takes memory until the disk is dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};

use super::{Disk, DiskFile, OpenMode, Space, patch::Patch};

/// See the module. A file that was opened for reading before it is changed for
/// the first time goes on to show what it was.
pub struct ScratchDisk {
    below: Arc<dyn Disk>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Files that were opened for writing, and names that are gone (`None`).
    names: BTreeMap<String, Option<Arc<ScratchFile>>>,
    /// Directories made here.
    dirs: BTreeSet<String>,
}

impl ScratchDisk {
    /// A disk that shows what is on `below`.
    #[must_use]
    pub fn over(below: Arc<dyn Disk>) -> ScratchDisk {
        ScratchDisk {
            below,
            state: Mutex::default(),
        }
    }

    fn writable(
        &self,
        state: &mut State,
        path: &str,
        mode: OpenMode,
    ) -> io::Result<Arc<ScratchFile>> {
        let found = match state.names.get(path) {
            Some(known) => known.clone(),
            None => match self.below.open(path, OpenMode::Read) {
                Ok(file) => Some(Arc::new(ScratchFile::over(file)?)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
        };
        let file = match (found, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => file,
            (None, OpenMode::Create | OpenMode::CreateNew) => Arc::new(ScratchFile::empty()),
            (None, OpenMode::Read | OpenMode::Write) => return Err(io::ErrorKind::NotFound.into()),
        };
        state.names.insert(path.to_owned(), Some(file.clone()));
        Ok(file)
    }

    fn list_in(&self, state: &State, dir: &str) -> io::Result<BTreeSet<String>> {
        let gone = matches!(state.names.get(dir), Some(None));
        let mut names: BTreeSet<String> = match self.below.list(dir) {
            _ if gone => return Err(io::ErrorKind::NotFound.into()),
            Ok(names) => names.into_iter().collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && state.dirs.contains(dir) => {
                BTreeSet::new()
            }
            Err(error) => return Err(error),
        };
        for (path, file) in &state.names {
            if let Some(name) = name_in(dir, path) {
                match file {
                    Some(_) => names.insert(name.to_owned()),
                    None => names.remove(name),
                };
            }
        }
        names.extend(
            state
                .dirs
                .iter()
                .filter_map(|path| Some(name_in(dir, path)?.to_owned())),
        );
        Ok(names)
    }

    fn remove_below(&self, state: &mut State, dir: &str) -> io::Result<()> {
        for name in self.list_in(state, dir)? {
            let path = format!("{dir}/{name}");
            if self.list_in(state, &path).is_ok() {
                self.remove_below(state, &path)?;
            } else {
                state.names.insert(path, None);
            }
        }
        state.dirs.remove(dir);
        state.names.insert(dir.to_owned(), None);
        Ok(())
    }
}

/// The name of `path` if it stands directly in `dir`.
fn name_in<'p>(dir: &str, path: &'p str) -> Option<&'p str> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    (parent == dir).then_some(name)
}

impl Disk for ScratchDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        if mode == OpenMode::Read && !state.names.contains_key(path) {
            return self.below.open(path, mode);
        }
        Ok(self.writable(&mut state, path, mode)?)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let names = self.list_in(&self.state.lock(), dir)?;
        Ok(names.into_iter().collect())
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        if self.list_in(&state, dir).is_ok() {
            return Ok(());
        }
        let mut rest = dir;
        while !rest.is_empty() && self.list_in(&state, rest).is_err() {
            if matches!(state.names.get(rest), Some(None)) {
                state.names.remove(rest);
            }
            state.dirs.insert(rest.to_owned());
            rest = rest.rsplit_once('/').map_or("", |(above, _)| above);
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = self.writable(&mut state, from, OpenMode::Write)?;
        state.names.insert(from.to_owned(), None);
        state.names.insert(to.to_owned(), Some(file));
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        self.writable(&mut state, path, OpenMode::Write)?;
        state.names.insert(path.to_owned(), None);
        Ok(())
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.remove_below(&mut self.state.lock(), dir)
    }

    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        self.below.space()
    }
}

struct ScratchFile {
    file: Option<Arc<dyn DiskFile>>,
    patch: RwLock<Patch>,
}

impl ScratchFile {
    fn over(file: Arc<dyn DiskFile>) -> io::Result<ScratchFile> {
        let patch = RwLock::new(Patch::new(file.len()?));
        Ok(ScratchFile {
            file: Some(file),
            patch,
        })
    }

    fn empty() -> ScratchFile {
        ScratchFile {
            file: None,
            patch: RwLock::new(Patch::new(0)),
        }
    }
}

impl DiskFile for ScratchFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.patch.read().read(self.file.as_deref(), buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        let patch = self.patch.read();
        match &self.file {
            Some(file) if patch.spares(offset, buffer.len() as u64) => {
                file.read_cached_at(buffer, offset)
            }
            _ => patch.read(self.file.as_deref(), buffer, offset).map(Some),
        }
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.patch.write().write(self.file.as_deref(), data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.patch.read().len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.patch.write().set_len(len);
        Ok(())
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut patch = self.patch.write();
        let end = patch.len().max(offset + len);
        patch.set_len(end);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::host::disk::MemoryDisk;

    fn contents(disk: &dyn Disk, path: &str) -> io::Result<Vec<u8>> {
        let file = disk.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; file.len()? as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    #[test]
    fn changes_show_here_and_stay_off_the_disk_below() {
        let below: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        below.create_dir("dir").unwrap();
        for name in ["dir/a", "dir/b", "dir/c"] {
            let file = below.open(name, OpenMode::CreateNew).unwrap();
            file.write_at(b"old", 0).unwrap();
        }
        let disk = ScratchDisk::over(below.clone());
        let a = disk.open("dir/a", OpenMode::Write).unwrap();
        a.write_at(b"NEW", 1).unwrap();
        disk.remove("dir/b").unwrap();
        disk.rename("dir/c", "dir/d").unwrap();
        disk.create_dir("more/deep").unwrap();
        let new = disk.open("more/deep/file", OpenMode::CreateNew).unwrap();
        new.write_at(b"x", 0).unwrap();

        assert_eq!(contents(&disk, "dir/a").unwrap(), b"oNEW");
        assert_eq!(contents(&disk, "dir/d").unwrap(), b"old");
        assert_eq!(contents(&disk, "more/deep/file").unwrap(), b"x");
        for gone in ["dir/b", "dir/c"] {
            assert_eq!(
                contents(&disk, gone).unwrap_err().kind(),
                io::ErrorKind::NotFound
            );
        }
        assert_eq!(disk.list("dir").unwrap(), ["a", "d"]);
        assert_eq!(disk.list("more").unwrap(), ["deep"]);
        disk.remove_dir("more").unwrap();
        assert!(disk.list("more").is_err());

        let mut names = below.list("dir").unwrap();
        names.sort();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(contents(&*below, "dir/a").unwrap(), b"old");
        assert!(below.list("more").is_err());
    }

    #[test]
    fn a_name_that_went_can_come_back() {
        let disk = ScratchDisk::over(Arc::new(MemoryDisk::new()));
        let open = |mode| {
            disk.open("file", mode)
                .map(drop)
                .map_err(|error| error.kind())
        };
        assert_eq!(open(OpenMode::Write), Err(io::ErrorKind::NotFound));
        assert_eq!(open(OpenMode::CreateNew), Ok(()));
        assert_eq!(open(OpenMode::CreateNew), Err(io::ErrorKind::AlreadyExists));
        disk.remove("file").unwrap();
        assert_eq!(open(OpenMode::Read), Err(io::ErrorKind::NotFound));
        assert_eq!(open(OpenMode::Create), Ok(()));
    }
}
