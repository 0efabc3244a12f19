//! The backend on a disk: one redb file.
//!
//! Why a crash leaves the content of one durable commit, whole (redb 4.4): a
//! commit with `Durability::None` swaps the root in memory only
//! (`TransactionalMemory::non_durable_commit` writes no header). Its pages may
//! reach the file when the cache overflows, but only into space that the last
//! durable root does not use: pages that root refers to are freed by a durable
//! commit at the earliest. A durable commit with quick-repair has two phases:
//! pages and the spare commit slot, sync, then the byte that selects the slot,
//! sync. Closing a database would make pending commits durable as well; see
//! the `Drop` below.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ::redb::{Builder, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition};
use parking_lot::RwLock;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use self::{
    guard::{Handle, guarded},
    storage::{Cut, Held, Storage},
};
use super::{Backend, Change, Value, Visit};
use crate::{
    Error, Result,
    host::{Disk, OpenMode},
    ids::{Revision, VolumeId},
};

mod guard;
mod storage;

const CONTENT: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("content");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_REVISION: &str = "revision";
const META_OWNER: &str = "owner";
const FORMAT: u64 = 2;

/// The content and its revision, as of one commit.
struct Content {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    revision: Revision,
}

/// Whose a file is: a volume, and what the file is to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(pub(super) u64);

impl Owner {
    /// The file that is `what` to a volume.
    #[must_use]
    pub fn new(volume: VolumeId, what: &str) -> Owner {
        let volume = xxh3_64(&volume.0);
        Owner(xxh3_64_with_seed(what.as_bytes(), volume))
    }
}

/// A backend in one redb file.
///
/// Dropped while writes wait for a durable one, it leaves the file at the last
/// durable one, as a crash would.
pub struct RedbBackend {
    path: Arc<str>,
    // The content as of the last write. Beginning a read transaction and opening
    // its table would add 0.3 us to the 0.5 us of a lookup in cached pages.
    // Declared before the database, to be gone when that closes.
    content: RwLock<Arc<Content>>,
    database: Handle,
    held: Arc<Held>,
    cut: Cut,
    /// Whether the database holds commits that are not durable.
    pending: AtomicBool,
}

impl RedbBackend {
    /// Opens the file at `path`, creating it (and the directory entry,
    /// durably) when there is none. `owner` tells the file from those of other
    /// volumes and other uses. `cache_bytes` bounds the memory for pages.
    ///
    /// # Errors
    /// `Damaged` naming the file when it is no intact database or another's,
    /// `FormatVersion` when a newer kiseki wrote it, `Io` and `NoSpace`.
    pub fn open(
        disk: &Arc<dyn Disk>,
        path: &str,
        owner: Owner,
        cache_bytes: usize,
    ) -> Result<RedbBackend> {
        match disk.open(path, OpenMode::Write) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(disk, path, owner)?,
            Err(error) => return Err(Error::io(format!("open the projection {path}"), error)),
        }
        let cut = Cut::default();
        let held = open_file(disk, path)?;
        let database = open_database(path, held.clone(), cache_bytes, &cut)?;
        let content = guarded(path, "open", || content(&database))?;
        let backend = RedbBackend {
            path: path.into(),
            content: RwLock::new(Arc::new(content)),
            database,
            held,
            cut,
            pending: AtomicBool::new(false),
        };
        match backend.meta(META_FORMAT)? {
            FORMAT if backend.meta(META_OWNER)? == owner.0 => Ok(backend),
            FORMAT => {
                let what = "it was written for another volume or under another name";
                Err(Error::damaged(&*backend.path, what))
            }
            found @ 0..FORMAT => {
                let what = format!("its format {found} is that of a version before the first");
                Err(Error::damaged(&*backend.path, what))
            }
            found => Err(Error::FormatVersion {
                found: u32::try_from(found).unwrap_or(u32::MAX),
                supported: FORMAT as u32,
            }),
        }
    }

    /// Reads the whole file and compares the checksums of its pages, which
    /// ordinary reads do not.
    ///
    /// # Errors
    /// `Damaged` naming the file when something does not hold. redb may have
    /// repaired its own tables by then; the content is not to be trusted.
    pub fn verify(disk: &Arc<dyn Disk>, path: &str, cache_bytes: usize) -> Result<()> {
        let file = open_file(disk, path)?;
        let mut database = open_database(path, file, cache_bytes, &Cut::default())?;
        if guarded(path, "verify", || {
            Ok(database.get_mut()?.check_integrity()?)
        })? {
            return Ok(());
        }
        Err(Error::damaged(path, "page checksums do not match"))
    }

    fn guarded<T>(
        &self,
        action: &str,
        work: impl FnOnce() -> Result<T, ::redb::Error>,
    ) -> Result<T> {
        guarded(&self.path, action, work)
    }

    fn broken(&self) -> Error {
        Error::damaged(&*self.path, "a record does not match its checksum")
    }

    fn meta(&self, name: &str) -> Result<u64> {
        let value = self.guarded("read", || {
            let table = self.database.get()?.begin_read()?.open_table(META)?;
            Ok(table.get(name)?.map(|value| value.value()))
        })?;
        value.ok_or_else(|| Error::damaged(&*self.path, format!("no {name} in the table meta")))
    }
}

/// Bytes of the checksum behind every value.
const SUM: usize = 4;

/// redb compares the checksums of pages only when asked to look at all of
/// them, so that a flipped bit would come out of an ordinary read.
fn sum(key: &[u8], value: &[u8]) -> [u8; SUM] {
    let [a, b, c, d, ..] = xxh3_64_with_seed(value, xxh3_64(key)).to_le_bytes();
    [a, b, c, d]
}

/// A value as it is stored.
fn seal(key: &[u8], value: &[u8], record: &mut Vec<u8>) {
    record.clear();
    record.extend_from_slice(value);
    record.extend_from_slice(&sum(key, value));
}

/// The value in a record; `None` when it is not what was stored.
fn body<'r>(key: &[u8], record: &'r [u8]) -> Option<&'r [u8]> {
    let (value, stored) = record.split_last_chunk::<SUM>()?;
    (*stored == sum(key, value)).then_some(value)
}

/// Makes a file at revision 0. It gets its name when it is whole, so that a
/// crash leaves no half one.
fn create(disk: &Arc<dyn Disk>, path: &str, owner: Owner) -> Result<()> {
    let failed = |error| Error::io(format!("create the projection {path}"), error);
    let draft = format!("{path}.new");
    match disk.remove(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    drop(disk.open(&draft, OpenMode::CreateNew).map_err(failed)?);
    let file = open_file(disk, &draft)?;
    let database = open_database(&draft, file, 0, &Cut::default())?;
    guarded(&draft, "create", || {
        let mut transaction = database.get()?.begin_write()?;
        transaction.set_quick_repair(true);
        transaction.open_table(CONTENT)?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert(META_FORMAT, FORMAT)?;
            meta.insert(META_REVISION, 0)?;
            meta.insert(META_OWNER, owner.0)?;
        }
        Ok(transaction.commit()?)
    })?;
    drop(database);
    disk.rename(&draft, path).map_err(failed)?;
    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
    disk.sync_dir(dir).map_err(failed)
}

fn open_file(disk: &Arc<dyn Disk>, path: &str) -> Result<Arc<Held>> {
    let file = disk
        .open(path, OpenMode::Write)
        .map_err(|error| Error::io(format!("open the projection {path}"), error))?;
    Ok(Arc::new(Held::new(file)))
}

fn open_database(path: &str, held: Arc<Held>, cache_bytes: usize, cut: &Cut) -> Result<Handle> {
    let storage = Storage {
        held,
        cut: cut.clone(),
    };
    guarded(path, "open", || {
        let mut builder = Builder::new();
        let database = builder.set_cache_size(cache_bytes);
        Ok(Handle::new(database.create_with_backend(storage)?))
    })
}

fn content(database: &Handle) -> Result<Content, ::redb::Error> {
    let transaction = database.get()?.begin_read()?;
    let revision = transaction.open_table(META)?.get(META_REVISION)?;
    Ok(Content {
        table: transaction.open_table(CONTENT)?,
        revision: Revision(revision.map_or(0, |value| value.value())),
    })
}

impl Backend for RedbBackend {
    fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        let content = self.content.read().clone();
        let found = self.guarded("read", || {
            let value = content.table.get(key)?;
            Ok(value.map(|value| body(key, value.value()).map(Value::from)))
        })?;
        found
            .map(|body| body.ok_or_else(|| self.broken()))
            .transpose()
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<Revision> {
        let content = self.content.read().clone();
        if from >= to {
            return Ok(content.revision);
        }
        let mut range = self.guarded("read", || Ok(content.table.range(from..to)?))?;
        loop {
            // The visitor stays outside, for its panics are its own.
            let entry = self.guarded("read", || {
                let entry = range.next().transpose()?;
                // A damaged page shows here when it has not before; the same
                // calls below cannot panic then.
                if let Some((key, value)) = &entry {
                    let _ = (key.value(), value.value());
                }
                Ok(entry)
            })?;
            let Some((key, value)) = entry else { break };
            let body = body(key.value(), value.value()).ok_or_else(|| self.broken())?;
            if visit(key.value(), body).is_break() {
                break;
            }
        }
        Ok(content.revision)
    }

    fn write<'a>(
        &self,
        changes: &mut (dyn Iterator<Item = Change<'a>> + 'a),
        revision: Revision,
        durable: bool,
    ) -> Result<()> {
        self.pending.store(true, Ordering::Release);
        self.held.set_strict(durable);
        let content = self.guarded("write", || {
            let mut transaction = self.database.get()?.begin_write()?;
            if durable {
                transaction.set_quick_repair(true);
            } else {
                transaction.set_durability(Durability::None)?;
            }
            {
                let mut content = transaction.open_table(CONTENT)?;
                let mut record = Vec::new();
                for (key, value) in changes {
                    match value {
                        Some(value) => {
                            seal(key, value, &mut record);
                            content.insert(key, &record[..])?;
                        }
                        None => drop(content.remove(key)?),
                    }
                }
                let mut meta = transaction.open_table(META)?;
                meta.insert(META_REVISION, revision.0)?;
            }
            transaction.commit()?;
            content(&self.database)
        })?;
        *self.content.write() = Arc::new(content);
        if durable {
            self.pending.store(false, Ordering::Release);
        }
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        self.held
            .settle()
            .map_err(|error| Error::io(format!("write the projection {}", self.path), error))
    }

    fn applied(&self) -> Result<Revision> {
        self.meta(META_REVISION).map(Revision)
    }
}

impl Drop for RedbBackend {
    fn drop(&mut self) {
        // redb makes pending commits durable when it closes, without asking
        // whether the log is; then the file stays as the last durable write
        // left it, which quick-repair opens without a walk.
        if *self.pending.get_mut() {
            self.cut.cut();
        }
    }
}
