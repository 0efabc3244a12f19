//! The engine in this process.

use std::{fs, path::Path, sync::Arc};

use anyhow::Result;
use kiseki_core::{
    chunk::CutPolicy,
    crypto::Secret,
    engine::{Caller, Volume, VolumeOptions, open_volume},
    host::{OsDisk, SystemClock, SystemEntropy},
    ids::Ino,
    store::{Store, Unlock},
};
use tokio::runtime::Runtime;

use crate::{
    client::{Client, engine::Calls},
    objects::{DIRECTORIES, ROOT, directory_name},
    server::Server,
};

/// What `kiseki serve` takes on a machine with 4 GiB and more, in bytes.
const MEMORY: u64 = 1 << 30;

/// An open volume.
pub struct Engine {
    runtime: Runtime,
    volume: Volume,
    directories: Vec<Ino>,
}

impl Engine {
    /// Opens a volume of a fresh store below `home`.
    ///
    /// # Errors
    /// The disk cannot be used.
    pub fn start(home: &Path) -> Result<Engine> {
        let store = home.join("store");
        fs::create_dir_all(&store)?;
        let runtime = Runtime::new()?;
        let (volume, directories) = runtime.block_on(async {
            let volume = open(&store)?;
            let who = Caller::default();
            let root = volume.mkdir(&who, Ino::ROOT, ROOT.as_bytes(), 0o755);
            let root = root.await?.ino;
            let mut directories = Vec::new();
            for directory in 0..DIRECTORIES {
                let name = directory_name(directory);
                let made = volume.mkdir(&who, root, name.as_bytes(), 0o755).await?;
                directories.push(made.ino);
            }
            anyhow::Ok((volume, directories))
        })?;
        Ok(Engine {
            runtime,
            volume,
            directories,
        })
    }
}

fn open(store: &Path) -> Result<Volume> {
    let (entropy, clock) = (Arc::new(SystemEntropy), Arc::new(SystemClock));
    let key = Unlock::KeyFile(Secret::random(&SystemEntropy));
    let disk = Arc::new(OsDisk::open(store.to_owned())?);
    let store = Store::create(disk.clone(), entropy, clock.clone(), &key)?;
    store.create_volume("measured", CutPolicy::Auto, 0, 0)?;
    let record = store.volume("measured")?;
    let options = VolumeOptions {
        memory: MEMORY,
        ..VolumeOptions::default()
    };
    Ok(open_volume(disk, clock, &store, &record, options)?)
}

impl Server for Engine {
    fn client(&self, _who: usize) -> Result<Box<dyn Client>> {
        Ok(Box::new(Calls {
            runtime: self.runtime.handle().clone(),
            volume: self.volume.clone(),
            directories: self.directories.clone(),
        }))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.runtime.block_on(self.volume.close()) {
            eprintln!("the volume did not close: {error}");
        }
    }
}
