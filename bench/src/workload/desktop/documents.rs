//! Files whose contents are known, so that what is read can be compared.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::payload::{Random, derive};

/// A file and what it holds now; contents follow from seed, version and
/// length, so that a library of them needs no memory.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) path: PathBuf,
    pub(super) len: u64,
    seed: u64,
    version: u64,
}

impl Document {
    pub(super) fn new(path: PathBuf, seed: u64, len: u64) -> Document {
        Document {
            path,
            len,
            seed,
            version: 0,
        }
    }

    /// The contents.
    pub(super) fn contents(&self) -> Vec<u8> {
        Random::new(derive(self.seed, self.version)).bytes(self.len)
    }

    /// Writes the file anew and makes it durable.
    pub(super) fn save(&self) -> Result<()> {
        save(&self.path, &self.contents())
    }

    /// Changes all of the contents, and saves.
    pub(super) fn rewrite(&mut self) -> Result<()> {
        self.version += 1;
        self.save()
    }

    /// Reads all of it and compares the length.
    pub(super) fn read(&self) -> Result<Vec<u8>> {
        let bytes = fs::read(&self.path)?;
        ensure!(
            bytes.len() as u64 == self.len,
            "{} has a wrong length",
            self.path.display()
        );
        Ok(bytes)
    }

    /// Whether `copy` holds what this file should.
    pub(super) fn verify(&self, copy: &Path) -> Result<()> {
        ensure!(
            fs::read(copy)? == self.contents(),
            "{} has wrong contents",
            copy.display()
        );
        Ok(())
    }
}

/// Writes a file from its beginning and makes it durable.
pub(super) fn save(path: &Path, contents: &[u8]) -> Result<()> {
    let mut file =
        File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(contents)?;
    Ok(file.sync_all()?)
}

/// Overwrites a part of a file and makes it durable.
pub(super) fn patch(path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(bytes, offset)?;
    Ok(file.sync_data()?)
}

/// Copies a file as `cp` does and makes the copy durable.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)?;
    Ok(File::open(to)?.sync_all()?)
}

/// `len` bytes at `offset`.
pub(super) fn read_part(path: &Path, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    File::open(path)?.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_rewritten_document_is_another_one_of_the_same_length() {
        let dir = tempfile::tempdir().unwrap();
        let mut document = Document::new(dir.path().join("f"), 7, 1000);
        document.save().unwrap();
        let before = document.read().unwrap();
        document.rewrite().unwrap();
        let after = document.read().unwrap();
        assert_ne!(before, after);
        document.verify(&document.path).unwrap();
        patch(&document.path, 10, b"x").unwrap();
        assert!(document.verify(&document.path).is_err());
    }
}
