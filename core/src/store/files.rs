//! Small JSON files that are replaced whole.

use std::io;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Error, Result,
    host::{Disk, OpenMode},
};

/// Longer than any file written here, by far.
const LONGEST: u64 = 16 * 1024 * 1024;
/// Where a file is written before it takes its name.
const NEW: &str = ".new";

/// Name of the file that `path` is written to first.
pub(super) fn unfinished(path: &str) -> String {
    format!("{path}{NEW}")
}

/// Contents of a file; `None` when it does not exist.
pub(super) fn read(disk: &dyn Disk, path: &str) -> Result<Option<Vec<u8>>> {
    let failed = |error| Error::io(format!("read {path}"), error);
    let file = match disk.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let len = file.len().map_err(failed)?;
    if len > LONGEST {
        return Err(Error::damaged(
            path,
            format!("its {len} bytes are too many"),
        ));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok(Some(bytes))
}

/// Reads JSON; unknown fields are passed over.
pub(super) fn parse<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::damaged(path, error.to_string()))
}

/// Replaces a file by the JSON of `value`. After a power loss it is the old or
/// the new one; when this returns, the new one. The old contents, which may
/// hold wrapped keys, are overwritten where they lay.
pub(super) fn replace<T: Serialize>(disk: &dyn Disk, path: &str, value: &T) -> Result<()> {
    let failed = |error| Error::io(format!("write {path}"), error);
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::io(format!("write {path}"), error.into()))?;
    text.push(b'\n');

    let new = unfinished(path);
    erase(disk, &new).map_err(failed)?;
    let file = disk.open(&new, OpenMode::Create).map_err(failed)?;
    file.set_len(0).map_err(failed)?;
    file.write_at(&text, 0).map_err(failed)?;
    file.sync_data().map_err(failed)?;

    let old = match disk.open(path, OpenMode::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        other => Some(other.map_err(failed)?),
    };
    disk.rename(&new, path).map_err(failed)?;
    disk.sync_dir(parent(path)).map_err(failed)?;

    if let Some(old) = old
        && let Err(error) = erase_file(&*old)
    {
        // The new contents are in place, which is what was asked for.
        tracing::warn!("cannot overwrite the former contents of {path}: {error}");
    }
    Ok(())
}

/// Overwrites a file, if it exists, with zeros where it lies, durably.
pub(super) fn erase(disk: &dyn Disk, path: &str) -> io::Result<()> {
    match disk.open(path, OpenMode::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => erase_file(&*other?),
    }
}

fn erase_file(file: &dyn crate::host::DiskFile) -> io::Result<()> {
    let len = file.len()?.min(LONGEST);
    if len > 0 {
        file.write_at(&vec![0; len as usize], 0)?;
        file.sync_data()?;
    }
    Ok(())
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
