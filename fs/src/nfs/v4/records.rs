//! What the server knows of clients beyond its own life: the names of those
//! that may have state. Each is a small file in a directory that no client
//! sees, sealed like all files. One is durable before its client gets any
//! state, and gone for good before others may get what the client had.

use std::sync::Arc;

use bytes::Bytes;
use kiseki_core::{
    Error, Result,
    engine::{Caller, FrontId, SetAttr, Volume},
    ids::Ino,
    meta::Kind,
};
use serde::{Deserialize, Serialize};

use crate::nfs::PRIVATE;

const CLIENTS: &[u8] = b"clients";
const BOOT: &[u8] = b"boot";

/// Longest record: a name of 1,024 bytes with its length.
const RECORD_MAX: u32 = 4096;

#[derive(Serialize, Deserialize)]
enum Record {
    Client { owner: Vec<u8> },
}

/// The records of a volume.
#[derive(Clone)]
pub struct Records {
    volume: Volume,
    private: Ino,
    clients: Ino,
    who: Caller,
}

impl Records {
    /// Finds or makes their place.
    ///
    /// # Errors
    /// `NotFound` where there is none and the volume takes no writes.
    pub async fn open(volume: &Volume, front: FrontId) -> Result<Records> {
        let who = Caller {
            privileged: true,
            front,
            ..Caller::default()
        };
        let private = volume.private_dir(PRIVATE).await?;
        Ok(Records {
            volume: volume.clone(),
            private,
            clients: make_dir(volume, &who, private, CLIENTS).await?,
            who,
        })
    }

    /// A number that no start of the server before this one had.
    ///
    /// # Errors
    /// The volume takes no writes.
    pub async fn next_boot(&self) -> Result<u32> {
        let last = match self.volume.lookup(self.private, BOOT).await {
            Ok(file) => self.volume.read(file.ino, 0, 4).await?,
            Err(Error::NotFound) => Bytes::new(),
            Err(error) => return Err(error),
        };
        let last = <[u8; 4]>::try_from(&*last).map_or(0, u32::from_be_bytes);
        let next = last.wrapping_add(1).max(1);
        let bytes = Bytes::copy_from_slice(&next.to_be_bytes());
        self.write(self.private, BOOT, bytes).await?;
        Ok(next)
    }

    /// All clients on record. A record that a crash left without its contents
    /// goes: its client had no state yet.
    ///
    /// # Errors
    /// `Damaged`.
    pub async fn load(&self) -> Result<Vec<Arc<[u8]>>> {
        let mut owners = Vec::new();
        let mut cookie = 0;
        loop {
            let page = self.volume.readdir(self.clients, cookie, 256).await?;
            let Some(last) = page.last() else {
                return Ok(owners);
            };
            cookie = last.cookie;
            for entry in &page {
                let bytes = self.volume.read(entry.ino, 0, RECORD_MAX).await?;
                match postcard::from_bytes(&bytes) {
                    Ok(Record::Client { owner }) => owners.push(owner.into()),
                    Err(_) => {
                        let gone = self.volume.unlink(&self.who, self.clients, &entry.name);
                        gone.await?;
                    }
                }
            }
        }
    }

    /// Notes a client; durable when this returns.
    ///
    /// # Errors
    /// The volume takes no writes.
    pub async fn keep(&self, owner: &[u8]) -> Result<()> {
        let record = Record::Client {
            owner: owner.to_vec(),
        };
        let bytes = postcard::to_allocvec(&record)
            .map_err(|_| Error::Invalid("a client's name cannot be kept"))?;
        self.write(self.clients, &name(owner), bytes.into()).await
    }

    /// Forgets clients; durable when this returns.
    ///
    /// # Errors
    /// The volume takes no writes.
    pub async fn forget(&self, owners: &[Arc<[u8]>]) -> Result<()> {
        for owner in owners {
            let name = name(owner);
            match self.volume.unlink(&self.who, self.clients, &name).await {
                Ok(()) | Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        self.volume.fsync(self.clients, false).await
    }

    async fn write(&self, directory: Ino, name: &[u8], bytes: Bytes) -> Result<()> {
        let (volume, who) = (&self.volume, &self.who);
        let file = match volume.lookup(directory, name).await {
            Ok(file) => file,
            Err(Error::NotFound) => {
                let made = volume
                    .mknod(who, directory, name, Kind::File, 0o600, 0)
                    .await;
                match made {
                    Err(Error::Exists) => volume.lookup(directory, name).await?,
                    made => made?,
                }
            }
            Err(error) => return Err(error),
        };
        let length = bytes.len() as u64;
        volume.write(who, file.ino, 0, bytes).await?;
        if file.size > length {
            let cut = SetAttr {
                size: Some(length),
                ..SetAttr::default()
            };
            volume.setattr(who, file.ino, cut).await?;
        }
        volume.fsync(file.ino, false).await
    }
}

/// Names of files are short and names of clients need not be.
fn name(owner: &[u8]) -> Vec<u8> {
    blake3::hash(owner).to_hex().as_bytes().to_vec()
}

async fn make_dir(volume: &Volume, who: &Caller, parent: Ino, name: &[u8]) -> Result<Ino> {
    loop {
        match volume.lookup(parent, name).await {
            Ok(found) => return Ok(found.ino),
            Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        match volume.mkdir(who, parent, name, 0o700).await {
            Ok(made) => return Ok(made.ino),
            Err(Error::Exists) => {}
            Err(error) => return Err(error),
        }
    }
}
