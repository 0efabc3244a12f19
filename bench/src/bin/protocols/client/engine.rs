//! Calls of the engine, without any front end.

use anyhow::Result;
use bytes::Bytes;
use kiseki_core::{
    engine::{Caller, Volume},
    ids::Ino,
};
use tokio::runtime::Handle;

use crate::{
    client::Client,
    objects::{directory, file_name},
};

/// Somebody who calls the engine.
pub struct Calls {
    /// Runs what the engine does beside the calls.
    pub runtime: Handle,
    /// The engine.
    pub volume: Volume,
    /// The directories of objects, in order.
    pub directories: Vec<Ino>,
}

impl Client for Calls {
    fn put(&mut self, number: u64, contents: Bytes) -> Result<()> {
        let (volume, who) = (&self.volume, Caller::default());
        let (parent, name) = (self.directories[directory(number)], file_name(number));
        self.runtime.block_on(async {
            let made = volume.create(&who, parent, name.as_bytes(), 0o644).await?;
            volume.open(made.ino).await?;
            volume.write(&who, made.ino, 0, contents).await?;
            volume.fsync(made.ino, false).await?;
            volume.release(made.ino).await?;
            Ok(())
        })
    }

    fn get(&mut self, number: u64, size: usize) -> Result<Bytes> {
        let volume = &self.volume;
        let (parent, name) = (self.directories[directory(number)], file_name(number));
        self.runtime.block_on(async {
            let found = volume.lookup(parent, name.as_bytes()).await?;
            volume.open(found.ino).await?;
            let read = volume.read(found.ino, 0, size as u32).await?;
            volume.release(found.ino).await?;
            Ok(read)
        })
    }
}
