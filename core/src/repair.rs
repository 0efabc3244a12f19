//! Mending what damage left of a volume.
//!
//! Promises `kiseki fsck`: nothing that is sound is dropped, every file that
//! is taken out stays beside its place under another name, what was done and
//! what is lost is told, and a repair that is interrupted can be run again.
//! Only what can be derived is derived: tables from the log, the chunk index
//! from the segments. The caller holds the store's lock, and nobody has the
//! volume open.

mod chunks;
mod losses;
mod places;
mod salvage;
#[cfg(test)]
mod tests;

pub use chunks::mend_chunks;
pub use losses::{Loss, Losses, losses};

use std::{io, ops::ControlFlow, sync::Arc};

use ed25519_dalek::VerifyingKey;

use crate::{
    Error, Result, chunk,
    crypto::{RecordContext, VolumeKeys},
    host::{Disk, OpenMode},
    ids::{Revision, Timestamp},
    kv::{Backend, Owner, RedbBackend},
    log,
    meta::{
        LocalMeta, MetaOptions, MetaService, image,
        local::{owner, usable_image},
    },
    store::VolumeRecord,
};

/// Ends, with a number, the names of files that were taken out of a store.
const ASIDE: &str = ".damaged";

/// Memory in bytes for looking through a projection.
const PAGES: usize = 8 << 20;

/// What is wrong with a projection file (tables or index).
#[derive(Debug)]
pub enum Flaw {
    /// It is not there.
    Missing,
    /// It does not hold.
    Damaged(Error),
}

/// Path of the tables of a volume.
#[must_use]
pub fn tables_path(record: &VolumeRecord) -> String {
    format!("{}/tables.redb", record.dir())
}

/// Path of the image of the tables of a volume.
#[must_use]
pub fn image_path(record: &VolumeRecord) -> String {
    image::path(&record.dir())
}

/// Path of the chunk index of a volume.
#[must_use]
pub fn index_path(record: &VolumeRecord) -> String {
    format!("{}/chunks/index.redb", record.dir())
}

/// What is wrong with the tables of a volume.
///
/// # Errors
/// As [`flaw`].
pub fn tables_flaw(disk: &Arc<dyn Disk>, record: &VolumeRecord) -> Result<Option<Flaw>> {
    flaw(disk, &tables_path(record), owner(record.id))
}

/// What is wrong with the chunk index of a volume.
///
/// # Errors
/// As [`flaw`].
pub fn index_flaw(disk: &Arc<dyn Disk>, record: &VolumeRecord) -> Result<Option<Flaw>> {
    flaw(disk, &index_path(record), chunk::local::owner(record.id))
}

/// What is wrong with the image of the tables: it is damaged, or the log
/// begins behind it.
///
/// # Errors
/// What the disk says.
pub fn image_flaw(
    disk: &dyn Disk,
    record: &VolumeRecord,
    key: Option<&VerifyingKey>,
) -> Result<Option<Error>> {
    let dir = record.dir();
    let begin = log::begin(disk, &format!("{dir}/log"))?.unwrap_or(Revision(1));
    let is_there = disk.open(&image::path(&dir), OpenMode::Read).is_ok();
    if begin == Revision(1) && !is_there {
        return Ok(None);
    }
    match usable_image(disk, &dir, record.id, key, begin) {
        Ok(_) => Ok(None),
        Err(error @ Error::Damaged { .. }) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// Reads a projection file to its end and compares all checksums. What a crash
/// left unfinished is brought to its end by that.
///
/// # Errors
/// What the disk says; `FormatVersion`. Damage is no error.
fn flaw(disk: &Arc<dyn Disk>, path: &str, owner: Owner) -> Result<Option<Flaw>> {
    match disk.open(path, OpenMode::Read) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Flaw::Missing)),
        Err(error) => return Err(Error::io(format!("open {path}"), error)),
    }
    // Records before pages: looking at pages may change a damaged file.
    let checked = read_all(disk, path, owner).and_then(|()| RedbBackend::verify(disk, path, PAGES));
    match checked {
        Ok(()) => Ok(None),
        Err(error @ Error::Damaged { .. }) => Ok(Some(Flaw::Damaged(error))),
        Err(error) => Err(error),
    }
}

fn read_all(disk: &Arc<dyn Disk>, path: &str, owner: Owner) -> Result<()> {
    let records = RedbBackend::open(disk, path, owner, PAGES)?;
    records.scan(&[], &[u8::MAX], &mut |_, _| ControlFlow::Continue(()))?;
    Ok(())
}

/// Makes a volume one that opens, and says what was done. Looks at tables and
/// log; for chunks see [`forget_index`] and [`mend_chunks`]. What is made anew
/// is made at `time`.
///
/// # Errors
/// What the disk says; `FormatVersion`.
pub fn repair(
    disk: &Arc<dyn Disk>,
    record: &VolumeRecord,
    keys: &VolumeKeys,
    time: Timestamp,
) -> Result<Vec<String>> {
    let mut done = places::put_in_place(disk, record)?;
    let dir = format!("{}/log", record.dir());
    let key = keys.log_verifying_key();
    let found = log::verify(&**disk, &dir, record.id, Some(&key), &mut |_, _| {})?;
    let tables = tables_path(record);
    if let Some(flaw) = tables_flaw(disk, record)? {
        let opens = RedbBackend::open(disk, &tables, owner(record.id), PAGES).is_ok();
        let is_missing = matches!(flaw, Flaw::Missing);
        let remade = match found.problems.is_empty() || is_missing || !opens {
            true => remake_tables(disk, record, &key, &flaw)?,
            false => None,
        };
        match remade {
            Some(what) => done.push(what),
            None if opens && !is_missing => done.push(salvage::salvage(disk, record)?),
            None => {}
        }
    }
    if !found.problems.is_empty() {
        let applied = applied(disk, &tables, owner(record.id))?;
        let signer = keys.log_signing_key();
        let mended = log::repair(&**disk, &dir, record.id, applied, &signer)?;
        done.extend(describe(&dir, &mended));
    }
    done.extend(mend_tables(disk, record, keys, time)?);
    done.extend(renew_image(disk, record, keys)?);
    Ok(done)
}

/// Brings tables that contradict each other to where they agree.
fn mend_tables(
    disk: &Arc<dyn Disk>,
    record: &VolumeRecord,
    keys: &VolumeKeys,
    time: Timestamp,
) -> Result<Vec<String>> {
    let options = MetaOptions {
        signing_key: Some(keys.log_signing_key()),
        ..MetaOptions::default()
    };
    let meta = LocalMeta::open(disk.clone(), &record.dir(), record.id, options)?;
    if meta.revision() == Revision(0) && has_segments(&**disk, record) {
        let what = "neither tables nor log tell anything any more, but there are chunks";
        return Err(Error::damaged(record.dir(), what));
    }
    let mut problems = 0;
    meta.check(&mut |_| problems += 1)?;
    let mut done = Vec::new();
    if problems > 0 {
        done = meta.mend(time, &mut |dir, name| {
            let tag = keys.name_tag(dir, name);
            let sealed = keys.seal_record(RecordContext::Name { dir, tag }, name)?;
            Ok((tag, sealed.into()))
        })?;
    }
    meta.close()?;
    Ok(done)
}

fn has_segments(disk: &dyn Disk, record: &VolumeRecord) -> bool {
    let names = disk.list(&format!("{}/chunks", record.dir()));
    names.is_ok_and(|names| names.iter().any(|name| name.ends_with(".seg")))
}

/// Sets damaged tables aside, if their image or the log can take their place.
fn remake_tables(
    disk: &Arc<dyn Disk>,
    record: &VolumeRecord,
    key: &VerifyingKey,
    flaw: &Flaw,
) -> Result<Option<String>> {
    let (dir, tables) = (record.dir(), tables_path(record));
    let begin = log::begin(&**disk, &format!("{dir}/log"))?.unwrap_or(Revision(1));
    let image = usable_image(&**disk, &dir, record.id, Some(key), begin);
    if image.is_err() && begin > Revision(1) {
        return Ok(None);
    }
    let old = match flaw {
        Flaw::Missing => "the file was missing".to_owned(),
        Flaw::Damaged(error) => {
            let aside = set_aside(&**disk, &tables)?;
            format!("{error}; the old file is {aside}")
        }
    };
    let source = match image {
        Ok(_) => {
            let found = image::restore(disk, &dir, record.id, Some(key))?;
            format!("their image of revision {} and the log", found.revision.0)
        }
        Err(_) => "the log".to_owned(),
    };
    Ok(Some(format!(
        "the tables are made anew from {source}: {old}"
    )))
}

/// Writes an image of the tables where the log needs one to be of use.
fn renew_image(
    disk: &Arc<dyn Disk>,
    record: &VolumeRecord,
    keys: &VolumeKeys,
) -> Result<Option<String>> {
    let dir = record.dir();
    let key = keys.log_verifying_key();
    let Some(why) = image_flaw(&**disk, record, Some(&key))? else {
        return Ok(None);
    };
    let options = MetaOptions {
        signing_key: Some(keys.log_signing_key()),
        ..MetaOptions::default()
    };
    let meta = LocalMeta::open(disk.clone(), &dir, record.id, options)?;
    let revision = meta.write_image()?;
    meta.close()?;
    let done = format!(
        "an image of the tables at revision {} is written: {why}",
        revision.0
    );
    Ok(Some(done))
}

/// Up to where the tables hold everything; nothing where there are none.
fn applied(disk: &Arc<dyn Disk>, path: &str, owner: Owner) -> Result<Revision> {
    match disk.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Revision(0)),
        Err(error) => Err(Error::io(format!("open {path}"), error)),
        Ok(_) => RedbBackend::open(disk, path, owner, PAGES)?.applied(),
    }
}

fn describe(dir: &str, mended: &log::Repaired) -> Vec<String> {
    let mut done = vec![format!(
        "{dir}: ends at revision {}, which is signed anew",
        mended.end.0
    )];
    if let Some((from, to)) = mended.lost {
        done.push(format!(
            "{dir}: the changes of revisions {} to {} are lost",
            from.0, to.0
        ));
    }
    let aside = mended.aside.iter();
    done.extend(aside.map(|path| format!("set aside, to be deleted by you: {path}")));
    done
}

/// Sets the chunk index aside, so that the next open builds it from what holds
/// in the segments.
///
/// # Errors
/// What the disk says.
pub fn forget_index(disk: &dyn Disk, record: &VolumeRecord) -> Result<()> {
    let path = index_path(record);
    match disk.open(&path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => set_aside(disk, &path).map(drop),
    }
}

/// Renames a damaged file, so that another can take its place; durable when
/// this returns. Returns the new path.
///
/// # Errors
/// What the disk says.
pub fn set_aside(disk: &dyn Disk, path: &str) -> Result<String> {
    let failed = |error| Error::io(format!("set {path} aside"), error);
    let (dir, _) = path.rsplit_once('/').unwrap_or(("", path));
    let aside = free_name(disk, path)?;
    disk.rename(path, &aside).map_err(failed)?;
    disk.sync_dir(dir).map_err(failed)?;
    Ok(aside)
}

/// A path beside `path` for what is taken out, that nothing has.
fn free_name(disk: &dyn Disk, path: &str) -> Result<String> {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let failed = |error| Error::io(format!("list {dir}"), error);
    let names = disk.list(dir).map_err(failed)?;
    let mut number = 1;
    while names.contains(&format!("{name}{ASIDE}{number}")) {
        number += 1;
    }
    Ok(format!("{path}{ASIDE}{number}"))
}
