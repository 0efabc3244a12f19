//! What was done to a disk, and doing it again.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use kiseki_core::host::{Disk, DiskFile, MemoryDisk, OpenMode};

/// Number of a file in a recording, which it keeps through renames.
pub type FileNumber = u64;

/// One change of a disk.
#[derive(Clone)]
pub enum Operation {
    /// A file is made, under the next number.
    Create(String),
    /// A file that the recording did not know yet gets the next number.
    Open(String),
    Write {
        file: FileNumber,
        offset: u64,
        data: Arc<[u8]>,
    },
    SetLen {
        file: FileNumber,
        len: u64,
    },
    Reserve {
        file: FileNumber,
        offset: u64,
        len: u64,
    },
    Sync(FileNumber),
    CreateDir(String),
    Rename {
        from: String,
        to: String,
    },
    Remove(String),
    RemoveDir(String),
    SyncDir(String),
}

/// Short, and without the bytes that are written.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Create(path) => write!(f, "create {path}"),
            Operation::Open(path) => write!(f, "open {path}"),
            Operation::Write { file, offset, data } => {
                write!(f, "write {} bytes at {offset} of {file}", data.len())
            }
            Operation::SetLen { file, len } => write!(f, "cut {file} to {len}"),
            Operation::Reserve { file, offset, len } => {
                write!(f, "reserve {len} bytes at {offset} of {file}")
            }
            Operation::Sync(file) => write!(f, "sync {file}"),
            Operation::CreateDir(path) => write!(f, "make directory {path}"),
            Operation::Rename { from, to } => write!(f, "rename {from} to {to}"),
            Operation::Remove(path) => write!(f, "remove {path}"),
            Operation::RemoveDir(path) => write!(f, "remove directory {path}"),
            Operation::SyncDir(path) => write!(f, "sync directory {path}"),
        }
    }
}

/// A disk to which operations are done one after the other.
pub struct Player {
    pub disk: MemoryDisk,
    files: Vec<Arc<dyn DiskFile>>,
    numbers: BTreeMap<String, FileNumber>,
}

impl Player {
    /// Goes on from what is on `disk`.
    pub fn new(disk: MemoryDisk) -> Player {
        Player {
            disk,
            files: Vec::new(),
            numbers: BTreeMap::new(),
        }
    }

    /// The number of a file, if the recording knows it.
    pub fn number(&self, path: &str) -> Option<FileNumber> {
        self.numbers.get(path).copied()
    }

    /// The path of a file that has one.
    pub fn path(&self, file: FileNumber) -> Option<&str> {
        let found = self.numbers.iter().find(|(_, number)| **number == file);
        found.map(|(path, _)| path.as_str())
    }

    /// Does one operation.
    pub fn play(&mut self, operation: &Operation) -> io::Result<()> {
        match operation {
            Operation::Create(path) => self.enter(path, OpenMode::CreateNew),
            Operation::Open(path) => self.enter(path, OpenMode::Write),
            Operation::Write { file, offset, data } => self.file(*file).write_at(data, *offset),
            Operation::SetLen { file, len } => self.file(*file).set_len(*len),
            Operation::Reserve { file, offset, len } => self.file(*file).reserve(*offset, *len),
            Operation::Sync(file) => self.file(*file).sync_data(),
            Operation::CreateDir(path) => self.disk.create_dir(path),
            Operation::Rename { from, to } => {
                self.disk.rename(from, to)?;
                match self.numbers.remove(from) {
                    Some(number) => self.numbers.insert(to.clone(), number),
                    None => self.numbers.remove(to),
                };
                Ok(())
            }
            Operation::Remove(path) => {
                self.disk.remove(path)?;
                self.numbers.remove(path);
                Ok(())
            }
            Operation::RemoveDir(dir) => {
                self.disk.remove_dir(dir)?;
                let below = format!("{dir}/");
                self.numbers.retain(|path, _| !path.starts_with(&below));
                Ok(())
            }
            Operation::SyncDir(dir) => self.disk.sync_dir(dir),
        }
    }

    /// A file by its number.
    pub fn file(&self, number: FileNumber) -> &Arc<dyn DiskFile> {
        &self.files[number as usize]
    }

    fn enter(&mut self, path: &str, mode: OpenMode) -> io::Result<()> {
        let file = self.disk.open(path, mode)?;
        self.numbers
            .insert(path.to_owned(), self.files.len() as FileNumber);
        self.files.push(file);
        Ok(())
    }
}
