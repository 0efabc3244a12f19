//! Stores as files on a disk, for tests that look at them from below.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::{Content, Mount, Output, Result};

/// All files of a store. The control socket of a daemon is none.
pub fn store_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(store_files(&entry.path())?);
        } else if kind.is_file() {
            // Not the socket of the daemon, which holds nothing.
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Every byte of a store, by file; but for `lock`, where whoever opens the store
/// leaves its process number before anything else is known.
pub fn snapshot(store: &Path) -> Result<BTreeMap<PathBuf, blake3::Hash>> {
    let hash = |path: PathBuf| {
        let bytes = fs::read(&path)?;
        Ok((path, blake3::hash(&bytes)))
    };
    let files = store_files(store)?.into_iter();
    files
        .filter(|path| !path.ends_with("lock"))
        .map(hash)
        .collect()
}

/// A mount with a file in it, unmounted.
pub fn filled_store() -> Result<Option<Mount>> {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(None);
    };
    fs::write(mount.path("file"), "contents")?;
    Content(1).create(&mount.path("large"), 3 << 20)?;
    mount.umount()?;
    Ok(Some(mount))
}

/// Fails unless the command failed with this code and these words.
pub fn refused(output: &Output, code: i32, words: &[&str]) -> Result {
    ensure!(output.code == code, "exit code not {code}: {output:?}");
    let said = output.stderr.to_lowercase();
    for word in words {
        ensure!(
            said.contains(word),
            "{word:?} is missing in: {}",
            output.stderr
        );
    }
    Ok(())
}
