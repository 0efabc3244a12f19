//! A disk that records what is done to it.

use std::{io, sync::Arc};

use kiseki_core::host::{Disk, DiskFile, MemoryDisk, OpenMode, Space};
use parking_lot::Mutex;

use super::recording::{FileNumber, Operation, Player};

/// What a disk may do other than it says, to see whether that is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Syncs of the log do nothing.
    LogNotSynced,
    /// Syncs of segments do nothing.
    ChunksNotSynced,
    /// Syncs of segments happen behind the next sync of the log.
    ChunksSyncedBehindLog,
    /// Syncs of the tables and of their image do nothing; one would make good
    /// for the other.
    TablesNotSynced,
    /// Syncs of directories do nothing.
    NamesNotSynced,
}

/// See the module. Clones are the same disk.
#[derive(Clone)]
pub struct Recorder {
    state: Arc<Mutex<State>>,
}

struct State {
    player: Player,
    operations: Vec<Operation>,
    off: bool,
    lie: Option<Lie>,
    /// Syncs that [`Lie::ChunksSyncedBehindLog`] holds back.
    late: Vec<Operation>,
}

impl State {
    fn perform(&mut self, operation: Operation) -> io::Result<()> {
        if self.off {
            return Err(io::Error::other("the power is off"));
        }
        let is_log_sync = self.syncs(&operation, ".log");
        match self.lie {
            Some(Lie::LogNotSynced) if is_log_sync => return Ok(()),
            Some(Lie::ChunksNotSynced) if self.syncs(&operation, ".seg") => return Ok(()),
            Some(Lie::TablesNotSynced) if self.syncs(&operation, "/tables.") => return Ok(()),
            Some(Lie::NamesNotSynced) if matches!(operation, Operation::SyncDir(_)) => {
                return Ok(());
            }
            Some(Lie::ChunksSyncedBehindLog) if self.syncs(&operation, ".seg") => {
                self.late.push(operation);
                return Ok(());
            }
            _ => {}
        }
        self.player.play(&operation)?;
        self.operations.push(operation);
        if is_log_sync {
            for late in std::mem::take(&mut self.late) {
                self.player.play(&late)?;
                self.operations.push(late);
            }
        }
        Ok(())
    }

    fn syncs(&self, operation: &Operation, part: &str) -> bool {
        match operation {
            Operation::Sync(file) => {
                let path = self.player.path(*file);
                path.is_some_and(|path| path.contains(part))
            }
            _ => false,
        }
    }

    /// The number of a file that is there.
    fn known(&mut self, path: &str) -> io::Result<FileNumber> {
        if let Some(number) = self.player.number(path) {
            return Ok(number);
        }
        self.perform(Operation::Open(path.to_owned()))?;
        self.player
            .number(path)
            .ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Recorder {
    /// Goes on from what is on `disk`, after doing what was recorded before.
    #[must_use]
    pub fn resume(disk: MemoryDisk, recorded: &[Operation], lie: Option<Lie>) -> Recorder {
        let mut player = Player::new(disk);
        for operation in recorded {
            player.play(operation).expect("it could be done before");
        }
        Recorder {
            state: Arc::new(Mutex::new(State {
                player,
                operations: recorded.to_vec(),
                off: false,
                lie,
                late: Vec::new(),
            })),
        }
    }

    /// How many operations are recorded.
    #[must_use]
    pub fn position(&self) -> usize {
        self.state.lock().operations.len()
    }

    /// Ends the recording: whatever is done from here on fails, and what was
    /// recorded is returned.
    #[must_use]
    pub fn power_off(&self) -> Vec<Operation> {
        let mut state = self.state.lock();
        state.off = true;
        std::mem::take(&mut state.operations)
    }

    fn perform(&self, operation: Operation) -> io::Result<()> {
        self.state.lock().perform(operation)
    }
}

impl Disk for Recorder {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        let found = match state.player.disk.open(path, OpenMode::Read) {
            Ok(_) if mode == OpenMode::CreateNew => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
            Ok(file) if mode == OpenMode::Read => return Ok(file),
            Ok(file) => Some(file),
        };
        let number = match (found, mode) {
            (Some(_), _) => state.known(path)?,
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                state.perform(Operation::Create(path.to_owned()))?;
                state.known(path)?
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(RecordedFile {
            recorder: self.clone(),
            file: state.player.file(number).clone(),
            number,
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.state.lock().player.disk.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.perform(Operation::CreateDir(dir.to_owned()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.perform(Operation::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.perform(Operation::Remove(path.to_owned()))
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.perform(Operation::RemoveDir(dir.to_owned()))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.perform(Operation::SyncDir(dir.to_owned()))
    }

    fn space(&self) -> io::Result<Space> {
        self.state.lock().player.disk.space()
    }
}

struct RecordedFile {
    recorder: Recorder,
    /// The same file, for reading.
    file: Arc<dyn DiskFile>,
    number: FileNumber,
}

impl DiskFile for RecordedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.file.read_cached_at(buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.recorder.perform(Operation::Write {
            file: self.number,
            offset,
            data: data.into(),
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.number;
        self.recorder.perform(Operation::SetLen { file, len })
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let file = self.number;
        self.recorder
            .perform(Operation::Reserve { file, offset, len })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.recorder.perform(Operation::Sync(self.number))
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}
}
