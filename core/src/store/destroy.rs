//! The end of a volume.
//!
//! Renaming the record to `volume.destroyed` decides it, atomically and
//! without needing room on a full disk. Then the wrapped keys in it are
//! overwritten, and only then are the files deleted; the renamed record goes
//! last, so that an interrupted destruction is recognised and finished.

use std::io;

use crate::{
    Error, Result,
    host::Disk,
    store::{
        files,
        volume::{self, DESTROYED, RECORD, VolumeRecord},
    },
};

/// Directories of a volume are never nested deeper.
const DEEPEST: u32 = 8;

/// Destroys a volume.
pub(super) fn destroy(
    disk: &dyn Disk,
    record: &VolumeRecord,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let dir = record.dir();
    let failed = |error| Error::io(format!("destroy the keys in {dir}"), error);
    disk.rename(&format!("{dir}/{RECORD}"), &format!("{dir}/{DESTROYED}"))
        .map_err(failed)?;
    disk.sync_dir(&dir).map_err(failed)?;
    finish(disk, &dir, progress)
}

/// Finishes what was interrupted.
pub(super) fn sweep(disk: &dyn Disk, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
    for name in volume::directories(disk)? {
        // What cannot be examined is no leftover for sure; listing reports it.
        if volume::is_leftover(disk, &name).unwrap_or(false) {
            finish(disk, &volume::dir(&name), progress)?;
        }
    }
    Ok(())
}

/// Overwrites what is left of the keys, then deletes the directory.
fn finish(disk: &dyn Disk, dir: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
    let unfinished = files::unfinished(RECORD);
    for name in [DESTROYED, &unfinished] {
        files::erase(disk, &format!("{dir}/{name}"))
            .map_err(|error| Error::io(format!("destroy the keys in {dir}"), error))?;
    }
    delete(disk, dir, progress).map_err(|error| Error::io(format!("delete {dir}"), error))
}

fn delete(disk: &dyn Disk, dir: &str, progress: &mut dyn FnMut(u64, u64)) -> io::Result<()> {
    let mut all = Vec::new();
    let mut directories = Vec::new();
    for name in disk.list(dir)? {
        if name != DESTROYED {
            collect(disk, format!("{dir}/{name}"), 0, &mut all, &mut directories)?;
        }
    }
    let total = all.len() as u64;
    progress(0, total);
    for (done, file) in (1..).zip(&all) {
        disk.remove(file)?;
        progress(done, total);
    }
    // Innermost last in the list, and so first to go.
    for directory in directories.iter().rev() {
        disk.remove_dir(directory)?;
    }
    disk.sync_dir(dir)?;
    disk.remove_dir(dir)?;
    disk.sync_dir(volume::VOLUMES)
}

/// All files at and below `path`, and all directories, outer before inner.
fn collect(
    disk: &dyn Disk,
    path: String,
    depth: u32,
    all: &mut Vec<String>,
    directories: &mut Vec<String>,
) -> io::Result<()> {
    match disk.list(&path) {
        Ok(names) if depth < DEEPEST => {
            directories.push(path.clone());
            for name in names {
                let path = format!("{path}/{name}");
                collect(disk, path, depth + 1, all, directories)?;
            }
        }
        Ok(_) => directories.push(path),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => all.push(path),
        Err(error) => return Err(error),
    }
    Ok(())
}
