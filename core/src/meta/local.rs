//! The metadata of a volume on this machine.
//!
//! [`LocalMeta`] promises the engine: commands take effect one after the
//! other, each is in the log before any reader sees it, and readers wait for
//! no writer. The log is the truth; the tables are a
//! [`Projection`](crate::kv::Projection) of it that replay brings to the end
//! when the volume is opened. When the log or the projection fails, commands
//! are answered with `ReadOnly` and reads go on.

mod open;
mod read;
mod rebuild;
mod tables;
#[cfg(test)]
mod tests;
mod upkeep;

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ed25519_dalek::SigningKey;
use parking_lot::Mutex;

pub(crate) use self::rebuild::usable_image;
use self::{tables::Tables, upkeep::Upkeep};
use crate::{
    Error, Result,
    host::Disk,
    ids::{ChunkId, Ino, NameTag, RequestId, Revision, Timestamp, VolumeId},
    journal::{Journal, KeptCommand},
    kv,
    log::{Barrier, Log, SyncPolicy},
    meta::{
        check::{self, Problem},
        command::{Command, Reply},
        inode::{Dentry, Extent, Inode},
        key::{Key, Table, parse},
        machine,
        mend::{self, SealName},
        transaction::{Read, Transaction},
        value,
    },
};

/// How the metadata of a volume is kept.
#[derive(Clone)]
pub struct MetaOptions {
    /// When logged commands become durable without anybody asking.
    pub sync: SyncPolicy,
    /// Makes durable what commands refer to (chunks); called before they are
    /// written to the disk.
    pub barrier: Barrier,
    /// Bytes for caches and for changes on their way to the disk.
    pub memory: u64,
    /// Signs checkpoints of the log. Without it they are not signed, and a
    /// signed one is not verified.
    pub signing_key: Option<Arc<SigningKey>>,
    /// Length in bytes of a file of the log. Once a file is full, and the full
    /// ones together are as long as the last image of the tables, a new image
    /// is written and the log is cut.
    pub cut_after: u64,
    /// Keeps commands that are not durable yet beyond the life of this process.
    pub journal: Option<Arc<Journal>>,
    /// Sign nothing, write no image and cut nothing.
    pub read_only: bool,
    /// Whether the tables move to their file by themselves.
    pub unasked: bool,
}

impl Default for MetaOptions {
    fn default() -> Self {
        MetaOptions {
            sync: SyncPolicy::Group(Duration::from_secs(1)),
            barrier: Arc::new(|| Ok(())),
            memory: 64 << 20,
            signing_key: None,
            cut_after: 64 << 20,
            journal: None,
            read_only: false,
            unasked: true,
        }
    }
}

/// What is known of the image of the tables. Held while one is written and
/// while the log is cut.
struct ImageState {
    /// Its revision, once this service has written it and read it back. The
    /// log is cut up to here at most.
    written: Option<Revision>,
    /// Its length in bytes; 0 when there is none.
    len: u64,
    /// Whether the log needs one to be of use, and there is none that fits.
    is_missing: bool,
    /// When to try again after one could not be written.
    retry_at: Option<Instant>,
}

/// Whose the tables are.
pub(crate) fn owner(volume: VolumeId) -> kv::Owner {
    kv::Owner::new(volume, "tables")
}

/// What only the one that applies a command touches.
#[derive(Default)]
struct Writer {
    record: Vec<u8>,
    batch: kv::Batch,
    /// Set while the log is ahead of the tables. Found set, the last command
    /// ended in a panic there, and what is in memory is not what the log says.
    is_between: bool,
}

struct Inner {
    tables: Tables,
    log: Arc<Log>,
    /// Orders commands: held from reading the tables to having changed them,
    /// so that the order of the log is that in which commands took effect.
    writer: Mutex<Writer>,
    /// The newest revision that readers see.
    revision: AtomicU64,
    /// The inode number given out next.
    next_ino: AtomicU64,
    disk: Arc<dyn Disk>,
    /// The directory of the volume.
    dir: String,
    volume: VolumeId,
    image: Mutex<ImageState>,
    /// Set when the service ends: nothing waits for a full disk any more.
    ending: Arc<AtomicBool>,
    options: MetaOptions,
}

/// The metadata service of one volume on this machine.
///
/// Dropped without [`LocalMeta::close`], it loses what is not synced, as in a
/// crash.
pub struct LocalMeta {
    upkeep: Upkeep,
    inner: Arc<Inner>,
}

impl Inner {
    fn apply(&self, command: &Command, request: RequestId) -> Result<(Revision, Reply)> {
        let mut writer = self.writer.lock();
        self.apply_locked(command, &mut writer, |record| {
            self.append(command, request, record)
        })
    }

    /// Applies a command; `append` puts it into the log.
    fn apply_locked(
        &self,
        command: &Command,
        writer: &mut Writer,
        append: impl FnOnce(&[u8]) -> Result<Revision>,
    ) -> Result<(Revision, Reply)> {
        if let Some(why) = self.tables.failed() {
            return Err(Error::ReadOnly(why));
        }
        if writer.is_between {
            return Err(Error::ReadOnly(
                "an internal error interrupted a command; mount again".into(),
            ));
        }
        let mut tx = Transaction::new(&self.tables)?;
        let reply = machine::apply(&mut tx, command)?;
        let changes = tx.finish()?;
        let record = std::mem::take(&mut writer.record);
        writer.record = value::encode_command(command, record);
        let revision = append(&writer.record)?;
        writer.is_between = true;
        self.tables.commit(revision, changes, &mut writer.batch);
        writer.is_between = false;
        self.revision.store(revision.0, Ordering::Release);
        Ok((revision, reply))
    }

    /// Appends a record to the log. Where there is a journal, it is there
    /// first: a command that only the log has would be done again when its
    /// request is sent again.
    fn append(&self, command: &Command, request: RequestId, record: &[u8]) -> Result<Revision> {
        let Some(journal) = &self.options.journal else {
            return self.log.append(record);
        };
        let revision = self.log.head().next();
        let made = command.subject().unwrap_or(Ino(0));
        match journal.command(revision, self.log.durable(), request, made, record) {
            Ok(kept) => self
                .log
                .append(record)
                .inspect_err(|_| journal.cancel(kept, request)),
            // No room for it: what is durable needs none.
            Err(_) => {
                let revision = self.log.append(record)?;
                self.log.sync_blocking(revision)?;
                Ok(revision)
            }
        }
    }

    /// Applies what the journal has and the log does not.
    fn redo(&self, kept: &[KeptCommand]) -> Result<()> {
        let mut writer = self.writer.lock();
        for kept in kept {
            let head = self.log.head();
            if kept.revision <= head {
                continue;
            }
            let place = || format!("command {} of the journal", kept.revision.0);
            if kept.revision != head.next() {
                let what = format!("the log ends at {}, and what follows is missing", head.0);
                return Err(Error::damaged(place(), what));
            }
            let command = value::decode_command(&kept.record)?;
            // It was accepted once, on the same tables.
            self.apply_locked(&command, &mut writer, |_| self.log.append(&kept.record))
                .map_err(|error| {
                    Error::damaged(place(), format!("the tables refuse it: {error}"))
                })?;
        }
        let last = self.tables.current_totals().last_ino;
        self.next_ino
            .fetch_max(last.saturating_add(1), Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for LocalMeta {
    fn drop(&mut self) {
        self.inner.ending.store(true, Ordering::Release);
    }
}

impl LocalMeta {
    /// Brings the metadata to where a process before this one was, by the
    /// commands that it kept in the journal.
    ///
    /// # Errors
    /// `Damaged` when they do not continue the log; as for any command.
    pub fn redo(&self, kept: &[KeptCommand]) -> Result<()> {
        self.inner.redo(kept)
    }

    /// Makes everything durable, signs and cuts the log, and ends. Later
    /// commands are refused; reads go on. Closing twice is fine.
    ///
    /// # Errors
    /// `ReadOnly` when the log or the tables failed, now or before; `NoSpace`
    /// when the disk is full.
    pub fn close(&self) -> Result<()> {
        // A full disk is found here, while there still is a way back.
        self.inner.sync_all()?;
        self.inner.ending.store(true, Ordering::Release);
        self.upkeep.stop();
        self.inner.close()
    }

    /// Makes the tables durable up to now, and the log as short as it may be.
    /// Blocks.
    ///
    /// # Errors
    /// `ReadOnly` after a failure; what the disk says.
    pub fn checkpoint(&self) -> Result<()> {
        self.inner.checkpoint()
    }

    /// Writes an image of the tables as they are. Blocks.
    ///
    /// # Errors
    /// `ReadOnly` after a failure or without a key; what the disk says.
    pub fn write_image(&self) -> Result<Revision> {
        self.inner.write_image(&mut self.inner.image.lock())
    }

    /// The newest revision that survives power loss.
    #[must_use]
    pub fn durable(&self) -> Revision {
        self.inner.log.durable()
    }

    /// Batches that the log made durable since it was opened.
    #[must_use]
    pub fn log_batches(&self) -> u64 {
        self.inner.log.batches()
    }

    /// Why commands are refused, when the log or the tables failed.
    #[must_use]
    pub fn failed(&self) -> Option<Arc<str>> {
        self.inner
            .log
            .failed()
            .or_else(|| self.inner.tables.failed())
    }

    /// Compares the tables with each other, without a key, and shows every
    /// problem to `report`. Commands wait meanwhile.
    ///
    /// # Errors
    /// What the disk says.
    pub fn check(&self, report: &mut dyn FnMut(Problem)) -> Result<()> {
        let _writer = self.inner.writer.lock();
        // A crash came before the first command, which makes the root.
        if self.inner.log.head() == Revision(0) {
            return Ok(());
        }
        check::check(&self.inner.tables, report)
    }

    /// Makes the tables agree with each other again, by commands, so that the
    /// log tells of it too. Says what was done. Nobody else may use the volume.
    ///
    /// # Errors
    /// What the disk and `seal_name` say.
    pub fn mend(&self, time: Timestamp, seal_name: &mut SealName<'_>) -> Result<Vec<String>> {
        const RECORDS: usize = 4096;
        let mended = mend::mend(&self.inner.tables, time, seal_name)?;
        for part in mended.records.chunks(RECORDS) {
            let records = part.to_vec();
            self.inner
                .apply(&Command::Amend { records }, RequestId::NONE)?;
        }
        Ok(mended.done)
    }

    /// Shows every chunk that something refers to, and how many extents do.
    ///
    /// # Errors
    /// What the disk says; `Damaged`.
    pub fn for_each_reference(&self, visit: &mut dyn FnMut(ChunkId, u64)) -> Result<()> {
        self.each(Table::Reference, |key, record| {
            let chunk = parse::reference(key)?;
            visit(chunk, value::decode_count(&chunk, record)?);
            Ok(())
        })
    }

    /// Shows every chunk that a repair found to be lost.
    ///
    /// # Errors
    /// What the disk says; `Damaged`.
    pub fn for_each_lost(&self, visit: &mut dyn FnMut(ChunkId)) -> Result<()> {
        self.each(Table::Lost, |key, _| {
            visit(parse::reference(key)?);
            Ok(())
        })
    }

    /// Shows every inode, orphans too.
    ///
    /// # Errors
    /// What the disk says; `Damaged`.
    pub fn for_each_inode(&self, visit: &mut dyn FnMut(&Inode)) -> Result<()> {
        self.each(Table::Inode, |key, record| {
            visit(&value::decode_inode(parse::ino(key)?, record)?);
            Ok(())
        })
    }

    /// Shows every name and the directory it stands in.
    ///
    /// # Errors
    /// What the disk says; `Damaged`.
    pub fn for_each_dentry(&self, visit: &mut dyn FnMut(Ino, &Dentry)) -> Result<()> {
        self.each(Table::Dentry, |key, record| {
            let (parent, tag) = parse::tagged(key)?;
            visit(parent, &value::decode_dentry(parent, tag, record)?);
            Ok(())
        })
    }

    /// Shows every extent and its file.
    ///
    /// # Errors
    /// What the disk says; `Damaged`.
    pub fn for_each_extent(&self, visit: &mut dyn FnMut(Ino, &Extent)) -> Result<()> {
        self.each(Table::Extent, |key, record| {
            let (ino, end) = parse::extent(key)?;
            visit(ino, &value::decode_extent(ino, end, record)?);
            Ok(())
        })
    }

    /// Shows every sealed inline value and its inode.
    ///
    /// # Errors
    /// What the disk says; `Damaged`.
    pub fn for_each_inline(&self, visit: &mut dyn FnMut(Ino, &[u8])) -> Result<()> {
        self.each(Table::Inline, |key, record| {
            visit(parse::ino(key)?, record);
            Ok(())
        })
    }

    /// Shows every sealed extended attribute, its inode and its tag.
    ///
    /// # Errors
    /// What the disk says; `Damaged`.
    pub fn for_each_xattr(&self, visit: &mut dyn FnMut(Ino, NameTag, &[u8])) -> Result<()> {
        self.each(Table::Xattr, |key, record| {
            let (ino, tag) = parse::tagged(key)?;
            visit(ino, tag, record);
            Ok(())
        })
    }

    fn each(&self, table: Table, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let (from, to) = (Key::table(table), Key::table_end(table));
        self.inner.tables.scan(&from, &to, &mut |key, record| {
            visit(key, record).map(ControlFlow::Continue)
        })
    }
}
