//! Files whose names were mixed up: most say themselves what they are.

use std::{collections::BTreeSet, io, sync::Arc};

use super::PAGES;
use crate::{
    Error, Result, chunk,
    host::{Disk, OpenMode},
    kv::{Owner, RedbBackend},
    log,
    meta::{image, local},
    store::VolumeRecord,
};

/// Ends the name of a file on its way from one name to another.
const MOVING: &str = ".moving";

/// Bytes at the beginning of a file that tell what it is.
const BEGIN: usize = 128;

/// What a redb file begins with.
const REDB: &[u8] = b"redb\x1a\x0a";

/// Gives files of a volume that lie under the names of others their own. Says
/// which.
///
/// # Errors
/// What the disk says.
pub(super) fn put_in_place(disk: &Arc<dyn Disk>, record: &VolumeRecord) -> Result<Vec<String>> {
    let dir = record.dir();
    let failed = |error| Error::io(format!("rename files in {dir}"), error);
    // In two steps, so that two that were swapped do not meet.
    for path in files(&**disk, record)? {
        let own = own_place(disk, record, &path)?;
        if !path.ends_with(MOVING) && own.is_some_and(|own| own != path) {
            disk.rename(&path, &format!("{path}{MOVING}"))
                .map_err(failed)?;
        }
    }
    let mut done = Vec::new();
    for path in files(&**disk, record)? {
        let Some(old) = path.strip_suffix(MOVING) else {
            continue;
        };
        let taken = |path: &str| disk.open(path, OpenMode::Read).is_ok();
        let own = own_place(disk, record, &path)?.filter(|own| !taken(own));
        let is_found = own.is_some();
        let to = match own {
            Some(own) => own,
            None if is_aside(old) && !taken(old) => old.to_owned(),
            // A better one has its name, and what has this one is elsewhere.
            None => super::free_name(&**disk, old)?,
        };
        disk.rename(&path, &to).map_err(failed)?;
        if is_found {
            done.push(format!("{to} lay under the name {old}"));
        }
    }
    for dir in dirs(record) {
        // One that is not there has no names to sync.
        let _ = disk.sync_dir(&dir);
    }
    Ok(done)
}

/// Whether a file was taken out of the store.
fn is_aside(path: &str) -> bool {
    path.contains(super::ASIDE)
}

fn dirs(record: &VolumeRecord) -> [String; 3] {
    let dir = record.dir();
    [format!("{dir}/log"), format!("{dir}/chunks"), dir]
}

/// Paths under which the files of a volume lie.
fn files(disk: &dyn Disk, record: &VolumeRecord) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for dir in dirs(record) {
        let names = match disk.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            names => names.map_err(|error| Error::io(format!("list {dir}"), error))?,
        };
        found.extend(
            names
                .into_iter()
                .filter(|name| is_ours(name))
                .map(|name| format!("{dir}/{name}")),
        );
    }
    Ok(found)
}

fn is_ours(name: &str) -> bool {
    let name = name.strip_suffix(MOVING).unwrap_or(name);
    let known = ["tables.redb", "tables.image", "index.redb", "checkpoint"];
    known.contains(&name) || name.ends_with(".log") || name.ends_with(".seg") || is_aside(name)
}

/// Where a file belongs, if it says so.
fn own_place(disk: &Arc<dyn Disk>, record: &VolumeRecord, path: &str) -> Result<Option<String>> {
    let failed = |error| Error::io(format!("read {path}"), error);
    let file = disk.open(path, OpenMode::Read).map_err(failed)?;
    let mut begin = [0; BEGIN];
    let len = file.len().map_err(failed)?.min(BEGIN as u64) as usize;
    file.read_exact_at(&mut begin[..len], 0).map_err(failed)?;
    let begin = &begin[..len];
    let dir = record.dir();
    let segment = chunk::segment::own_name(begin, record.id);
    let segment = segment.map(|name| format!("{dir}/chunks/{name}"));
    if is_aside(path) {
        // Of what was taken out, only a segment is never out of date.
        return Ok(segment);
    }
    if begin.starts_with(REDB) {
        return Ok(of_projection(disk, record, path));
    }
    let name =
        segment.or_else(|| log::own_name(begin, record.id).map(|name| format!("{dir}/log/{name}")));
    Ok(name.or_else(|| image::is_one(begin, record.id).then(|| image::path(&dir))))
}

/// A projection knows its owner; the one that its name promises is tried first.
fn of_projection(disk: &Arc<dyn Disk>, record: &VolumeRecord, path: &str) -> Option<String> {
    let owners: [(String, Owner); 2] = [
        (super::tables_path(record), local::owner(record.id)),
        (super::index_path(record), chunk::local::owner(record.id)),
    ];
    let found = owners
        .into_iter()
        .find(|(_, owner)| RedbBackend::open(disk, path, *owner, PAGES).is_ok());
    found.map(|(place, _)| place)
}
