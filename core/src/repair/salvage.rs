//! Reading what can be read of damaged tables.

use std::{io, ops::ControlFlow, sync::Arc};

use super::{PAGES, set_aside};
use crate::{
    Error, Result,
    host::Disk,
    ids::{Ino, Revision},
    kv::{Backend, Change, RedbBackend},
    meta::{
        key::{Key, Table},
        local::owner,
    },
    store::VolumeRecord,
};

/// Tables that begin with the number of an inode. Counts follow from the others.
const TABLES: [Table; 6] = [
    Table::Inode,
    Table::Dentry,
    Table::Extent,
    Table::Inline,
    Table::Xattr,
    Table::Orphan,
];

/// Bytes of records that are written at once.
const BATCH: usize = 4 << 20;

/// How far to go on without a record that can be read.
const PATIENCE: u64 = 4096;

/// Puts tables in place that hold what can be read of those that are there.
/// They do not agree with each other: [`crate::meta::LocalMeta::mend`] has to
/// follow. Says what was done.
///
/// # Errors
/// What the disk says; `Damaged` when nothing can be read.
pub(super) fn salvage(disk: &Arc<dyn Disk>, record: &VolumeRecord) -> Result<String> {
    let path = super::tables_path(record);
    let draft = format!("{path}.restored");
    match disk.remove(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::io(format!("remove {draft}"), error));
        }
        _ => {}
    }
    let old = RedbBackend::open(disk, &path, owner(record.id), PAGES)?;
    let revision = old.applied()?;
    let new = RedbBackend::open(disk, &draft, owner(record.id), PAGES)?;
    let mut out = Out {
        backend: &new,
        batch: Vec::new(),
        bytes: 0,
        records: 0,
    };
    for table in TABLES {
        out.table(&old, table)?;
    }
    if let Ok(Some(totals)) = old.get(&Key::totals()) {
        out.put(&Key::totals(), &totals)?;
    }
    out.flush(revision, true)?;
    let records = out.records;
    drop((old, new));
    let aside = set_aside(&**disk, &path)?;
    let (dir, _) = path.rsplit_once('/').unwrap_or(("", &path));
    disk.rename(&draft, &path)
        .and_then(|()| disk.sync_dir(dir))
        .map_err(|error| Error::io(format!("put {path} in its place"), error))?;
    Ok(format!(
        "{records} records of the tables can be read and are kept; the old file is {aside}"
    ))
}

/// A key and its value.
type Record = (Box<[u8]>, Box<[u8]>);

/// The new tables.
struct Out<'o> {
    backend: &'o RedbBackend,
    batch: Vec<Record>,
    bytes: usize,
    records: u64,
}

impl Out<'_> {
    /// Copies a table. Where a page cannot be read it goes on with the next
    /// inode, and with wider steps the longer that fails.
    fn table(&mut self, old: &RedbBackend, table: Table) -> Result<()> {
        let mut ino = Ino(0);
        let mut failures = 0;
        loop {
            let mut last = None;
            let mut outcome = Ok(());
            let from = Key::first_of(table, ino);
            let read = old.scan(&from, &Key::table_end(table), &mut |key, value| {
                last = ino_of(key).max(last);
                outcome = self.put(key, value);
                match outcome {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            });
            outcome?;
            match read {
                Ok(_) => return Ok(()),
                Err(Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
            failures = if last.is_some() { 0 } else { failures + 1 };
            let step = match failures {
                0..PATIENCE => 1 + failures / 16,
                more => 1 << (more - PATIENCE).min(62),
            };
            let reached = last.unwrap_or(ino).max(ino);
            match reached.0.checked_add(step) {
                Some(next) => ino = Ino(next),
                None => return Ok(()),
            }
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.records += 1;
        self.bytes += key.len() + value.len();
        self.batch.push((key.into(), value.into()));
        match self.bytes >= BATCH {
            true => self.flush(Revision(0), false),
            false => Ok(()),
        }
    }

    fn flush(&mut self, revision: Revision, durable: bool) -> Result<()> {
        let records = self.batch.iter();
        let mut changes = records.map(|(key, value)| -> Change<'_> { (key, Some(value)) });
        self.backend.write(&mut changes, revision, durable)?;
        self.batch.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn ino_of(key: &[u8]) -> Option<Ino> {
    let ino = key.get(1..9)?.try_into().ok()?;
    Some(Ino(u64::from_be_bytes(ino)))
}
