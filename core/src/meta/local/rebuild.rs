//! Opening the tables, and making them anew when they are lost: from their
//! image and the log behind it, or from the log alone while that reaches back
//! to the first change.

use std::sync::Arc;

use ed25519_dalek::VerifyingKey;

use super::owner;
use crate::{
    Error, Result,
    host::{Disk, OpenMode, ScratchDisk},
    ids::{Revision, VolumeId},
    kv::{Backend, RedbBackend},
    log,
    meta::image,
    repair,
};

/// Longest tables, in bytes, that are verified whenever they are opened.
const VERIFIED_UP_TO: u64 = 64 << 20;

/// Memory in bytes for that.
const PAGES: usize = 8 << 20;

pub(super) fn log_dir(dir: &str) -> String {
    format!("{dir}/log")
}

/// Opens the tables in `dir`.
///
/// # Errors
/// `Damaged` when they are lost and cannot be made anew; nothing was changed
/// then.
pub(super) fn open(
    disk: &Arc<dyn Disk>,
    dir: &str,
    volume: VolumeId,
    key: Option<&VerifyingKey>,
    pages: usize,
) -> Result<RedbBackend> {
    let path = format!("{dir}/tables.redb");
    let open = || RedbBackend::open(disk, &path, owner(volume), pages);
    let open_verified = || {
        verify(disk, &path, volume)?;
        open()
    };
    let begin = log::begin(&**disk, &log_dir(dir))?;
    let is_there = disk.open(&path, OpenMode::Read).is_ok();
    let Some(begin) = begin else {
        // Without a log the volume is new, or has lost what it was.
        return open();
    };
    let why = match is_there.then(open_verified) {
        Some(Ok(backend)) => match gap(&backend, &path, begin)? {
            None => return Ok(backend),
            Some(damage) => damage,
        },
        Some(Err(damage @ Error::Damaged { .. })) => damage,
        Some(Err(error)) => return Err(error),
        None if is_new(disk, dir) => return open(),
        None => Error::damaged(&*path, "the file is missing"),
    };
    make_anew(disk, dir, volume, key, begin, why)?;
    open()
}

/// Compares the checksums of all pages of tables that are not too long for it.
/// A flipped bit between the pages could hide records from every search.
fn verify(disk: &Arc<dyn Disk>, path: &str, volume: VolumeId) -> Result<()> {
    let len = disk
        .open(path, OpenMode::Read)
        .and_then(|file| file.len())
        .map_err(|error| Error::io(format!("open {path}"), error))?;
    if len > VERIFIED_UP_TO {
        return Ok(());
    }
    // Verifying writes into the file, even one that is sound.
    let scratch: Arc<dyn Disk> = Arc::new(ScratchDisk::over(disk.clone()));
    // What a crash left unfinished is brought to its end by opening.
    drop(RedbBackend::open(&scratch, path, owner(volume), PAGES)?);
    RedbBackend::verify(&scratch, path, PAGES)
}

/// Whether nothing was ever logged.
fn is_new(disk: &Arc<dyn Disk>, dir: &str) -> bool {
    let names = disk.list(&log_dir(dir)).unwrap_or_default();
    !names.iter().any(|name| {
        let file = disk.open(&format!("{}/{name}", log_dir(dir)), OpenMode::Read);
        name.ends_with(".log")
            && file
                .and_then(|file| file.len())
                .is_ok_and(|len| len > log::EMPTY)
    })
}

/// Tables that end before the log begins are those of another time.
fn gap(backend: &RedbBackend, path: &str, begin: Revision) -> Result<Option<Error>> {
    let applied = backend.applied()?;
    Ok((applied.next() < begin).then(|| {
        let what = format!("they end at revision {}, before the log begins", applied.0);
        Error::damaged(path, what)
    }))
}

/// Puts tables in place that the log can bring to its end.
fn make_anew(
    disk: &Arc<dyn Disk>,
    dir: &str,
    volume: VolumeId,
    key: Option<&VerifyingKey>,
    begin: Revision,
    why: Error,
) -> Result<()> {
    let path = format!("{dir}/tables.redb");
    let lacks = match usable_image(&**disk, dir, volume, key, begin) {
        Ok(found) => {
            let aside = set_aside(&**disk, &path)?;
            image::restore(disk, dir, volume, key)?;
            let revision = found.revision.0;
            tracing::warn!(%why, aside, revision, "the tables are made anew from their image");
            return Ok(());
        }
        Err(lacks) if begin > Revision(1) => lacks.to_string(),
        Err(_) => {
            let found = log::verify(&**disk, &log_dir(dir), volume, None, &mut |_, _| {})?;
            if found.problems.is_empty() {
                let aside = set_aside(&**disk, &path)?;
                tracing::warn!(%why, aside, "the tables are made anew from the log");
                return Ok(());
            }
            "the log is damaged as well".to_owned()
        }
    };
    let Error::Damaged { place, what } = why else {
        return Err(why);
    };
    let what = format!("{what}; they cannot be made anew: {lacks}");
    Err(Error::damaged(place, what))
}

/// The image, if it is whole and the log goes on from it.
///
/// # Errors
/// Why it is of no use.
pub(crate) fn usable_image(
    disk: &dyn Disk,
    dir: &str,
    volume: VolumeId,
    key: Option<&VerifyingKey>,
    begin: Revision,
) -> Result<image::Found> {
    let path = image::path(dir);
    let unfit = |what: String| Err(Error::damaged(&*path, what));
    match image::look(disk, dir, volume, key)? {
        None => unfit("there is no image of them".to_owned()),
        Some(found) if found.revision.next() < begin => unfit(format!(
            "it ends at revision {}, before the log begins at {}",
            found.revision.0, begin.0
        )),
        Some(_) => image::verify(disk, &path, volume, key),
    }
}

/// Renames the tables, if they are there; says where to.
fn set_aside(disk: &dyn Disk, path: &str) -> Result<String> {
    match disk.open(path, OpenMode::Read) {
        Ok(_) => repair::set_aside(disk, path),
        Err(_) => Ok("nowhere: there were none".to_owned()),
    }
}
