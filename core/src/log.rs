//! The verified, hash-chained log: the truth of a volume.
//!
//! To the metadata service it promises: records come back in the order of
//! their revisions; what [`Log::sync`] said is durable comes back after power
//! loss; what comes back is a prefix of what was appended, with nothing
//! changed and nothing left out; and when that cannot be kept, opening fails
//! with [`Error::Damaged`] and cuts nothing. Appending is a copy in memory.
//! Durability is group commit: one thread writes what gathered as one batch,
//! with one sync for all who wait.
//!
//! The bytes are drawn in `docs/format.md`, section "Log".

mod checkpoint;
mod committer;
pub(crate) mod format;
mod recover;
mod repair;
mod scan;
mod verify;
mod writer;

use std::{
    fmt,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use ed25519_dalek::{SigningKey, VerifyingKey};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{
    Error, Result,
    answer::Answer,
    host::{Disk, OpenMode},
    ids::{Revision, VolumeId},
};

use checkpoint::Checkpoint;
use committer::Shared;
use recover::Recovery;
use writer::{Trouble, Writer};

pub(crate) use repair::own_name;
pub use repair::{EMPTY, Repaired, begin, repair};
pub use verify::{Problem, VerifyReport, verify};

/// Makes everything durable that unwritten records refer to. Called before
/// each batch, on the writing thread.
///
/// [`Error::NoSpace`] means that nothing was lost and calling again can
/// succeed; a sync that failed, even for want of space, is another error,
/// since the next one would succeed without the data. Any other error ends
/// the log.
pub type Barrier = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// When appended records become durable without anybody asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before [`Log::append`] returns. A full disk ends the log.
    EveryRecord,
    /// As soon as the disk has finished what came before.
    EveryBatch,
    /// At most this long after the append.
    Group(Duration),
    /// When the operating system likes: written and reported durable, never
    /// synced. Survives the death of the process, not that of the machine; for
    /// tests.
    Os,
}

/// How a log is kept.
#[derive(Clone)]
pub struct LogOptions {
    /// When records become durable.
    pub policy: SyncPolicy,
    /// Everything up to here was durable once, as far as the caller knows; a
    /// log that lacks it is damaged, not torn.
    pub known_durable: Revision,
    /// Called before each batch is written.
    pub barrier: Barrier,
    /// Checks the signed checkpoint. A log opened with a key is cut only up
    /// to its checkpoint, and one that is cut but has none does not open.
    pub key: Option<VerifyingKey>,
    /// Most bytes of records that gather in memory while a batch is being
    /// written; appends wait beyond it. At most 32 MiB. Two such buffers exist.
    pub max_unwritten: usize,
    /// Length in bytes at which a new file is begun.
    pub rotate_at: u64,
    /// Room in bytes that is set aside at once, as zeros at the end of the
    /// last file; not 0.
    pub set_aside: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            policy: SyncPolicy::Group(Duration::from_secs(1)),
            known_durable: Revision(0),
            barrier: Arc::new(|| Ok(())),
            key: None,
            max_unwritten: 16 << 20,
            rotate_at: 64 << 20,
            set_aside: 1 << 20,
        }
    }
}

/// Longest record, in bytes.
pub const MAX_RECORD: usize = 16 << 20;

/// An open log. Dropping it without [`Log::close`] loses what is not durable.
pub struct Log {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    disk: Arc<dyn Disk>,
    dir: String,
    volume: VolumeId,
    keyed: bool,
    files: Arc<Mutex<Vec<u64>>>,
    /// Revision of the signed checkpoint. Held while one is written, and while
    /// files are cut.
    checkpoint: Mutex<Option<u64>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("dir", &self.dir).finish()
    }
}

impl Log {
    /// Opens the log in `dir`, which is made when it does not exist, verifies
    /// all of it and hands the records behind `from` to `replay`, in order. A
    /// torn tail is cut.
    ///
    /// # Errors
    /// [`Error::Damaged`] with file and offset when the log is not what was
    /// written, or lacks records behind `from`; then, as after every error of
    /// `replay`, nothing on the disk was changed, and what `replay` saw is a
    /// prefix of the log.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &str,
        volume: VolumeId,
        options: LogOptions,
        from: Revision,
        replay: &mut dyn FnMut(Revision, &[u8]) -> Result<()>,
    ) -> Result<Log> {
        let parent = dir.rsplit_once('/').map_or("", |(parent, _)| parent);
        disk.create_dir(dir)
            .and_then(|()| disk.sync_dir(parent))
            .map_err(|error| Error::io(format!("make {dir}"), error))?;
        let mut found = recovery(&*disk, dir, volume, &options, from, replay).read()?;
        let file = match found.repair(&*disk, dir)? {
            Some(file) => file,
            None => {
                let begun = writer::create(&*disk, dir, volume, 1, &found.chain);
                let file = begun.map_err(Trouble::into_error)?;
                found.files.push(1);
                found.end = format::FILE_HEADER as u64;
                file
            }
        };
        let reserved = file
            .len()
            .map_err(|error| Error::io(format!("look at the files of {dir}"), error))?;
        let files = Arc::new(Mutex::new(found.files));
        let first = files.lock().last().copied().unwrap_or(1);
        let writer = Writer {
            disk: disk.clone(),
            dir: dir.to_owned(),
            volume,
            barrier: options.barrier,
            rotate_at: options.rotate_at,
            set_aside: options.set_aside.max(1),
            durable: options.policy != SyncPolicy::Os,
            files: files.clone(),
            file,
            first,
            end: found.end,
            reserved,
            chain: found.chain,
        };
        let bound = options.max_unwritten.min(format::MAX_PAYLOAD);
        let shared = Arc::new(Shared::new(options.policy, bound, found.head, found.chain));
        let committer = shared.clone();
        let thread = thread::Builder::new()
            .name("kiseki-log".to_owned())
            .spawn(move || committer.run(writer))
            .map_err(|error| Error::io("start the log thread", error))?;
        Ok(Log {
            shared,
            thread: Mutex::new(Some(thread)),
            disk,
            dir: dir.to_owned(),
            volume,
            keyed: options.key.is_some(),
            files,
            checkpoint: Mutex::new(found.checkpoint.map(|checkpoint| checkpoint.revision)),
        })
    }

    /// Verifies and replays like [`Log::open`], but changes nothing on the
    /// disk: for volumes opened read-only. Returns the last revision.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn read(
        disk: &dyn Disk,
        dir: &str,
        volume: VolumeId,
        options: &LogOptions,
        from: Revision,
        replay: &mut dyn FnMut(Revision, &[u8]) -> Result<()>,
    ) -> Result<Revision> {
        let found = recovery(disk, dir, volume, options, from, replay).read()?;
        Ok(Revision(found.head))
    }

    /// Appends a record: a copy in memory. Waits only when records come faster
    /// than the disk takes them, or when every record is to be synced.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] once the log has failed, [`Error::NoSpace`] when
    /// the disk is full and so is the buffer, [`Error::Closed`]. The record was
    /// not appended then.
    pub fn append(&self, record: &[u8]) -> Result<Revision> {
        if record.len() > MAX_RECORD {
            return Err(Error::Invalid("a log record longer than 16 MiB"));
        }
        let revision = self.shared.append(record)?;
        if self.shared.every_record() {
            self.sync_blocking(revision)?;
        }
        Ok(revision)
    }

    /// The revision of the last record appended.
    pub fn head(&self) -> Revision {
        self.shared.head()
    }

    /// The last revision that survives power loss.
    pub fn durable(&self) -> Revision {
        self.shared.durable_point().0
    }

    /// Batches made durable since it was opened, with one sync each.
    pub fn batches(&self) -> u64 {
        self.shared.batches()
    }

    /// The last revision that survives power loss, which is the last of its
    /// batch, and the chain hash there.
    pub fn durable_point(&self) -> (Revision, [u8; 32]) {
        self.shared.durable_point()
    }

    /// Why the log takes no more records, if it failed.
    pub fn failed(&self) -> Option<Arc<str>> {
        self.shared.failed()
    }

    /// Waits until everything up to `revision` survives power loss. Writing
    /// starts with the call, not when the answer is polled.
    ///
    /// The answer is [`Error::NoSpace`] when the disk is full (the records are
    /// kept; a later sync can succeed), [`Error::ReadOnly`] when the log failed.
    pub fn sync(&self, revision: Revision) -> Answer<()> {
        let (sender, receiver) = oneshot::channel();
        let known = self.shared.when_durable(revision, || {
            // A caller that went away needs no answer.
            Box::new(move |result| drop(sender.send(result)))
        });
        match known {
            Some(result) => Answer::Ready(result),
            None => Answer::Pending(Box::pin(async move {
                receiver.await.unwrap_or(Err(Error::Closed))
            })),
        }
    }

    /// [`Log::sync`] for threads that may block.
    ///
    /// # Errors
    /// What [`Log::sync`] answers.
    pub fn sync_blocking(&self, revision: Revision) -> Result<()> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let known = self.shared.when_durable(revision, || {
            Box::new(move |result| drop(sender.send(result)))
        });
        match known {
            Some(result) => result,
            None => receiver.recv().unwrap_or(Err(Error::Closed)),
        }
    }

    /// Removes files with nothing but records below `below`. Keeps the file
    /// being written, and in a log with a checkpoint, or opened with a key,
    /// everything behind the checkpoint.
    ///
    /// # Errors
    /// I/O errors; files go oldest first, so that what is left is whole.
    pub fn cut(&self, below: Revision) -> Result<()> {
        let checkpoint = self.checkpoint.lock();
        let below = match *checkpoint {
            Some(revision) => below.0.min(revision + 1),
            None if self.keyed => return Ok(()),
            None => below.0,
        };
        loop {
            let first = match self.files.lock()[..] {
                [first, second, ..] if second <= below => first,
                _ => return Ok(()),
            };
            let path = format!("{}/{}", self.dir, format::file_name(first));
            // Each removal is durable before the next, or power loss could
            // keep an older file and lose a newer one.
            self.disk
                .remove(&path)
                .and_then(|()| self.disk.sync_dir(&self.dir))
                .map_err(|error| Error::io(format!("remove {path}"), error))?;
            self.files.lock().remove(0);
        }
    }

    /// Bytes of the files that are not written to any more: what a cut can
    /// remove.
    ///
    /// # Errors
    /// I/O errors.
    pub fn closed_bytes(&self) -> Result<u64> {
        let files = self.files.lock().clone();
        let (_, closed) = files.split_last().unwrap_or((&0, &[]));
        let mut bytes = 0;
        for first in closed {
            let path = format!("{}/{}", self.dir, format::file_name(*first));
            let len = self
                .disk
                .open(&path, OpenMode::Read)
                .and_then(|file| file.len());
            bytes += len.map_err(|error| Error::io(format!("look at {path}"), error))?;
        }
        Ok(bytes)
    }

    /// The revision that the log begins with.
    pub fn first(&self) -> Revision {
        Revision(self.files.lock().first().copied().unwrap_or(1))
    }

    /// Signs the durable end of the log, and returns its revision: up to it,
    /// history cannot be changed or cut off unnoticed.
    ///
    /// # Errors
    /// I/O errors; the checkpoint before stays then.
    pub fn checkpoint(&self, signer: &SigningKey) -> Result<Revision> {
        let mut pinned = self.checkpoint.lock();
        let (revision, chain) = self.shared.durable_point();
        if pinned.is_none_or(|pinned| pinned < revision.0) {
            let checkpoint = Checkpoint {
                revision: revision.0,
                chain,
            };
            checkpoint.write(&*self.disk, &self.dir, self.volume, signer)?;
            *pinned = Some(revision.0);
        }
        Ok(revision)
    }

    /// Makes everything durable and ends the log; appends are refused from
    /// here on. Closing twice is fine.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when the disk is full: the log stays open then.
    /// [`Error::ReadOnly`] when it failed, now or before.
    pub fn close(&self) -> Result<()> {
        self.shared.set_closing(true);
        let synced = self.sync_blocking(self.head());
        if let Err(Error::NoSpace) = synced {
            self.shared.set_closing(false);
            return synced;
        }
        self.stop();
        match self.failed() {
            Some(why) => Err(Error::ReadOnly(why)),
            None => synced,
        }
    }

    fn stop(&self) {
        self.shared.stop();
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the thread was reported as the failure of the log.
            let _ = thread.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.stop();
    }
}

fn recovery<'a>(
    disk: &'a dyn Disk,
    dir: &'a str,
    volume: VolumeId,
    options: &'a LogOptions,
    from: Revision,
    replay: &'a mut dyn FnMut(Revision, &[u8]) -> Result<()>,
) -> Recovery<'a> {
    Recovery {
        disk,
        dir,
        volume,
        key: options.key.as_ref(),
        from,
        known_durable: options.known_durable,
        replay,
    }
}

#[cfg(test)]
mod tests;
