//! System calls on a directory.

use std::{
    fs::File,
    io::{Read, Write},
    path::PathBuf,
};

use anyhow::Result;
use bytes::Bytes;

use crate::{client::Client, objects::path};

/// A program that uses files.
pub struct Files {
    /// The directory that holds all objects.
    pub root: PathBuf,
}

impl Client for Files {
    fn put(&mut self, number: u64, contents: Bytes) -> Result<()> {
        let mut file = File::create_new(self.root.join(path(number)))?;
        file.write_all(&contents)?;
        file.sync_all()?;
        Ok(())
    }

    fn get(&mut self, number: u64, size: usize) -> Result<Bytes> {
        let mut contents = vec![0; size];
        File::open(self.root.join(path(number)))?.read_exact(&mut contents)?;
        Ok(contents.into())
    }
}
