//! A disk in memory that can lose power.

use std::{collections::BTreeMap, io, sync::Arc};

use parking_lot::Mutex;

use crate::host::{Disk, DiskFile, OpenMode, Space};

enum Step {
    Write(u64, Vec<u8>),
    Length(u64),
}

impl Step {
    fn perform(&self, bytes: &mut Vec<u8>) {
        match self {
            Step::Write(offset, data) => {
                let offset = usize::try_from(*offset).unwrap();
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[offset..end].copy_from_slice(data);
            }
            Step::Length(len) => bytes.resize(usize::try_from(*len).unwrap(), 0),
        }
    }
}

#[derive(Default)]
struct State {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Step>,
    failing: bool,
}

#[derive(Default)]
struct TestFile(Mutex<State>);

impl TestFile {
    fn change(&self, step: Step) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.failing {
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        step.perform(&mut state.now);
        state.unsynced.push(step);
        Ok(())
    }
}

/// Names become durable at once; bytes when synced.
#[derive(Clone, Default)]
pub(super) struct TestDisk(Arc<Mutex<BTreeMap<String, Arc<TestFile>>>>);

impl TestDisk {
    /// What a power loss now may leave: synced bytes, and of the writes since
    /// those that `keep` picks, block by block.
    pub(super) fn image(&self, mut keep: impl FnMut() -> bool) -> TestDisk {
        const BLOCK: u64 = 512;
        let image = TestDisk::default();
        for (name, file) in &*self.0.lock() {
            let state = file.0.lock();
            let mut bytes = state.synced.clone();
            for step in &state.unsynced {
                match step {
                    Step::Length(_) => {
                        if keep() {
                            step.perform(&mut bytes);
                        }
                    }
                    Step::Write(offset, data) => {
                        let (mut at, mut data) = (*offset, &data[..]);
                        while !data.is_empty() {
                            let len = (BLOCK - at % BLOCK).min(data.len() as u64);
                            let (block, rest) = data.split_at(usize::try_from(len).unwrap());
                            if keep() {
                                Step::Write(at, block.into()).perform(&mut bytes);
                            }
                            (at, data) = (at + len, rest);
                        }
                    }
                }
            }
            image.put(name, bytes);
        }
        image
    }

    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) {
        let state = State {
            now: bytes.clone(),
            synced: bytes,
            ..State::default()
        };
        let file = Arc::new(TestFile(Mutex::new(state)));
        self.0.lock().insert(name.into(), file);
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        self.0.lock()[name].0.lock().now.clone()
    }

    /// Makes every change of files fail.
    pub(super) fn fail(&self) {
        for file in self.0.lock().values() {
            file.0.lock().failing = true;
        }
    }
}

impl Disk for TestDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.0.lock();
        match (files.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => Ok(file.clone()),
            (None, OpenMode::Read | OpenMode::Write) => Err(io::ErrorKind::NotFound.into()),
            (None, _) => {
                let file = Arc::new(TestFile::default());
                files.insert(path.into(), file.clone());
                Ok(file)
            }
        }
    }

    fn list(&self, _dir: &str) -> io::Result<Vec<String>> {
        Ok(self.0.lock().keys().cloned().collect())
    }

    fn create_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.0.lock();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.into(), file);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let removed = self.0.lock().remove(path);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl DiskFile for TestFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.0.lock();
        let start = usize::try_from(offset).unwrap().min(state.now.len());
        let len = buffer.len().min(state.now.len() - start);
        buffer[..len].copy_from_slice(&state.now[start..start + len]);
        Ok(len)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, offset).map(Some)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.change(Step::Write(offset, data.into()))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Step::Length(len))
    }

    fn reserve(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.failing {
            return Err(io::Error::from_raw_os_error(nix::libc::EIO));
        }
        let state = &mut *state;
        for step in state.unsynced.drain(..) {
            step.perform(&mut state.synced);
        }
        Ok(())
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}
}
