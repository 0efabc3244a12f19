//! A disk in memory that loses power at any step.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::host::{Disk, DiskFile, OpenMode, Space};

#[derive(Clone, Default)]
pub(super) struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    names: BTreeMap<String, Node>,
    durable_names: BTreeMap<String, Node>,
    /// Every file there ever was, as a thief of the platters finds them.
    files: Vec<File>,
    /// Changes that still succeed; `None`: all.
    budget: Option<u64>,
}

#[derive(Clone)]
enum Node {
    Dir,
    File(File),
}

#[derive(Clone)]
struct File {
    bytes: Arc<Mutex<Bytes>>,
    disk: MemoryDisk,
}

#[derive(Default)]
struct Bytes {
    now: Vec<u8>,
    durable: Vec<u8>,
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl MemoryDisk {
    /// Lets `changes` changes happen; all later ones fail.
    pub(super) fn fail_after(&self, changes: u64) {
        self.0.lock().budget = Some(changes);
    }

    /// Works again after a failure. With `lose`, all that was not synced is
    /// gone; without, all that was done is there.
    pub(super) fn restart(&self, lose: bool) {
        let mut state = self.0.lock();
        state.budget = None;
        if lose {
            let mut names = BTreeMap::new();
            for (path, node) in &state.durable_names {
                if parent(path).is_empty() || names.contains_key(parent(path)) {
                    names.insert(path.clone(), node.clone());
                }
            }
            state.names = names;
        }
        for file in &state.files {
            let bytes = &mut *file.bytes.lock();
            match lose {
                true => bytes.now.clone_from(&bytes.durable),
                false => bytes.durable.clone_from(&bytes.now),
            }
        }
        state.durable_names = state.names.clone();
    }

    /// Whether any file there ever was still holds these bytes.
    pub(super) fn finds(&self, what: &[u8]) -> bool {
        let has = |bytes: &[u8]| bytes.windows(what.len()).any(|window| window == what);
        self.0.lock().files.iter().any(|file| {
            let bytes = file.bytes.lock();
            has(&bytes.now) || has(&bytes.durable)
        })
    }

    pub(super) fn write(&self, path: &str, bytes: &[u8]) {
        let file = self.open(path, OpenMode::Create).unwrap();
        file.set_len(0).unwrap();
        file.write_at(bytes, 0).unwrap();
    }

    pub(super) fn text(&self, path: &str) -> String {
        let file = self.open(path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn change(&self) -> io::Result<()> {
        match &mut self.0.lock().budget {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn new_file(&self, path: &str) -> io::Result<File> {
        self.change()?;
        let file = File {
            bytes: Arc::default(),
            disk: self.clone(),
        };
        let mut state = self.0.lock();
        if !parent(path).is_empty() && !state.names.contains_key(parent(path)) {
            return Err(ErrorKind::NotFound.into());
        }
        state.files.push(file.clone());
        state.names.insert(path.into(), Node::File(file.clone()));
        Ok(file)
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let found = self.0.lock().names.get(path).cloned();
        match (found, mode) {
            (Some(Node::Dir), _) => Err(ErrorKind::IsADirectory.into()),
            (Some(_), OpenMode::CreateNew) => Err(ErrorKind::AlreadyExists.into()),
            (Some(Node::File(file)), _) => Ok(Arc::new(file)),
            (None, OpenMode::Read | OpenMode::Write) => Err(ErrorKind::NotFound.into()),
            (None, _) => Ok(Arc::new(self.new_file(path)?)),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        match state.names.get(dir) {
            Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
            None if !dir.is_empty() => return Err(ErrorKind::NotFound.into()),
            _ => {}
        }
        let within = state.names.keys().filter(|path| parent(path) == dir);
        let name = |path: &String| path.rsplit('/').next().unwrap().to_owned();
        Ok(within.map(name).collect())
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.change()?;
        let mut at = dir;
        while !at.is_empty() {
            self.0.lock().names.insert(at.into(), Node::Dir);
            at = parent(at);
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change()?;
        let mut state = self.0.lock();
        let node = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.into(), node);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.change()?;
        match self.0.lock().names.remove(path) {
            Some(Node::File(_)) => Ok(()),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.change()?;
        let below = format!("{dir}/");
        let names = &mut self.0.lock().names;
        names.retain(|path, _| path != dir && !path.starts_with(&below));
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.change()?;
        let state = &mut *self.0.lock();
        let State {
            names,
            durable_names,
            ..
        } = state;
        durable_names.retain(|path, _| parent(path) != dir || names.contains_key(path));
        for (path, node) in names.iter().filter(|(path, _)| parent(path) == dir) {
            durable_names.insert(path.clone(), node.clone());
        }
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        Err(ErrorKind::Unsupported.into())
    }
}

impl DiskFile for File {
    fn reserve(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock();
        let rest = bytes.now.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, offset).map(Some)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.disk.change()?;
        let now = &mut self.bytes.lock().now;
        let end = offset as usize + data.len();
        if now.len() < end {
            now.resize(end, 0);
        }
        now[offset as usize..end].copy_from_slice(data);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change()?;
        self.bytes.lock().now.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.change()?;
        let mut bytes = self.bytes.lock();
        bytes.durable = bytes.now.clone();
        Ok(())
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}
}
