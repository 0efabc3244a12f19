//! What the server knows of clients beyond its own life: small records, each a
//! file in a directory that no client sees, sealed like all files. One is
//! durable before its client gets anything, and gone for good before others
//! may get what the client had.

use std::marker::PhantomData;

use bytes::Bytes;
use kiseki_core::{
    Error, Result,
    engine::{Caller, FrontId, SetAttr, Volume},
    ids::Ino,
    meta::Kind,
};
use serde::{Serialize, de::DeserializeOwned};

use super::PRIVATE;

const BOOT: &[u8] = b"boot";

/// Longest record: a name of 1,024 bytes and what goes with it.
const RECORD_MAX: u32 = 4096;

/// Records of one kind.
pub struct Folder<T> {
    files: Files,
    directory: Ino,
    kind: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Folder<T> {
    /// Finds or makes their place.
    ///
    /// # Errors
    /// `NotFound` where there is none and the volume takes no writes.
    pub async fn open(volume: &Volume, front: FrontId, name: &[u8]) -> Result<Folder<T>> {
        let files = Files::new(volume, front);
        let private = volume.private_dir(PRIVATE).await?;
        Ok(Folder {
            directory: files.make_dir(private, name).await?,
            files,
            kind: PhantomData,
        })
    }

    /// All records. One that a crash left without its contents goes: its
    /// client had nothing yet.
    ///
    /// # Errors
    /// `Damaged`.
    pub async fn load(&self) -> Result<Vec<T>> {
        let Files { volume, who } = &self.files;
        let mut records = Vec::new();
        let mut cookie = 0;
        loop {
            let page = volume.readdir(self.directory, cookie, 256).await?;
            let Some(last) = page.last() else {
                return Ok(records);
            };
            cookie = last.cookie;
            for entry in &page {
                let bytes = volume.read(entry.ino, 0, RECORD_MAX).await?;
                match postcard::from_bytes(&bytes) {
                    Ok(record) => records.push(record),
                    Err(_) => volume.unlink(who, self.directory, &entry.name).await?,
                }
            }
        }
    }

    /// Notes a client, by what tells it from others; durable when this returns.
    ///
    /// # Errors
    /// The volume takes no writes.
    pub async fn keep(&self, key: &[u8], record: &T) -> Result<()> {
        let bytes = postcard::to_allocvec(record)
            .map_err(|_| Error::Invalid("a client's name cannot be kept"))?;
        let name = file_name(key);
        self.files.write(self.directory, &name, bytes.into()).await
    }

    /// Forgets clients; durable when this returns.
    ///
    /// # Errors
    /// The volume takes no writes.
    pub async fn forget(&self, keys: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<()> {
        let Files { volume, who } = &self.files;
        for key in keys {
            let name = file_name(key.as_ref());
            match volume.unlink(who, self.directory, &name).await {
                Ok(()) | Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        volume.fsync(self.directory, false).await
    }
}

/// A number that no start of the server before this one had.
///
/// # Errors
/// The volume takes no writes.
pub async fn next_boot(volume: &Volume, front: FrontId) -> Result<u32> {
    let private = volume.private_dir(PRIVATE).await?;
    let last = match volume.lookup(private, BOOT).await {
        Ok(file) => volume.read(file.ino, 0, 4).await?,
        Err(Error::NotFound) => Bytes::new(),
        Err(error) => return Err(error),
    };
    let last = <[u8; 4]>::try_from(&*last).map_or(0, u32::from_be_bytes);
    let next = last.wrapping_add(1).max(1);
    let bytes = Bytes::copy_from_slice(&next.to_be_bytes());
    Files::new(volume, front)
        .write(private, BOOT, bytes)
        .await?;
    Ok(next)
}

/// Names of files are short and names of clients need not be.
fn file_name(key: &[u8]) -> Vec<u8> {
    blake3::hash(key).to_hex().as_bytes().to_vec()
}

struct Files {
    volume: Volume,
    who: Caller,
}

impl Files {
    fn new(volume: &Volume, front: FrontId) -> Files {
        Files {
            volume: volume.clone(),
            who: Caller {
                privileged: true,
                front,
                ..Caller::default()
            },
        }
    }

    async fn write(&self, directory: Ino, name: &[u8], bytes: Bytes) -> Result<()> {
        let Files { volume, who } = self;
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

    async fn make_dir(&self, parent: Ino, name: &[u8]) -> Result<Ino> {
        loop {
            match self.volume.lookup(parent, name).await {
                Ok(found) => return Ok(found.ino),
                Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
            match self.volume.mkdir(&self.who, parent, name, 0o700).await {
                Ok(made) => return Ok(made.ino),
                Err(Error::Exists) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
