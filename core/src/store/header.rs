//! `kiseki.json`: what makes a directory a store.

use std::{fmt, io};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    host::{Disk, Entropy},
    ids::Timestamp,
    store::{files, keyring, lock, volume},
};

const PATH: &str = "kiseki.json";
const MAGIC: &str = "kiseki store";

/// The newest version of a store's formats that this program reads, and the
/// one it writes.
pub const FORMAT_VERSION: u32 = 1;

/// Random identity of a store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoreId(#[serde(with = "hex::serde")] pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    magic: String,
    pub(super) format_version: u32,
    pub(super) id: StoreId,
    pub(super) created: Timestamp,
}

/// The part that every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    magic: String,
    format_version: u32,
}

impl Header {
    pub(super) fn new(entropy: &dyn Entropy, created: Timestamp) -> Header {
        let mut id = [0; 16];
        entropy.fill(&mut id);
        Header {
            magic: MAGIC.into(),
            format_version: FORMAT_VERSION,
            id: StoreId(id),
            created,
        }
    }

    pub(super) fn write(&self, disk: &dyn Disk) -> Result<()> {
        files::replace(disk, PATH, self)
    }

    pub(super) fn read(disk: &dyn Disk) -> Result<Header> {
        let Some(bytes) = files::read(disk, PATH)? else {
            return Err(missing(disk));
        };
        let found: Versioned = files::parse(PATH, &bytes)?;
        if found.magic != MAGIC {
            return Err(Error::damaged(PATH, "it does not say `kiseki store`"));
        }
        match found.format_version {
            0 => Err(Error::damaged(PATH, "there is no format version 0")),
            1..=FORMAT_VERSION => files::parse(PATH, &bytes),
            found => Err(Error::FormatVersion {
                found,
                supported: FORMAT_VERSION,
            }),
        }
    }
}

/// Why there is no store, and what to do about it.
fn missing(disk: &dyn Disk) -> Error {
    let text = match disk.list("") {
        Ok(names) if is_free(disk, &names) => {
            "there is no store in this directory yet; `kiseki mount --store DIR MOUNTPOINT` creates one"
        }
        Ok(names) if names.iter().any(|name| name == keyring::PATH) => {
            "this directory has the keyring of a store, but its kiseki.json is missing; restore that file from a copy"
        }
        Ok(_) => {
            "this directory holds other files and no store; name the directory of a store, or an empty one to create a store in"
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            "the store directory does not exist; `kiseki mount --store DIR MOUNTPOINT` creates it"
        }
        Err(error) => return Error::io("list the store directory", error),
    };
    Error::NoSuchStore(text.into())
}

/// Refuses to make a store where there is one, or anything else.
pub(super) fn check_free(disk: &dyn Disk) -> Result<()> {
    let io = |error| Error::io("list the store directory", error);
    let names = match disk.list("") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            disk.create_dir("").map_err(io)?;
            return Ok(());
        }
        other => other.map_err(io)?,
    };
    let refuse = |kind, text: &str| {
        let source = io::Error::new(kind, text.to_owned());
        Err(Error::io("create a store in this directory", source))
    };
    if names.iter().any(|name| name == PATH) {
        refuse(
            io::ErrorKind::AlreadyExists,
            "it holds a kiseki store already",
        )
    } else if !is_free(disk, &names) {
        refuse(
            io::ErrorKind::DirectoryNotEmpty,
            "it holds other files; name an empty or a new directory",
        )
    } else {
        Ok(())
    }
}

/// Whether a directory is empty but for what locking it, the filesystem, or an
/// interrupted creation leaves. A keyring with volumes beside it is a store
/// that lost its `kiseki.json`, and is never built over.
fn is_free(disk: &dyn Disk, names: &[String]) -> bool {
    let ours = [PATH, keyring::PATH].map(files::unfinished);
    names.iter().all(|name| match name.as_str() {
        lock::NAME | "lost+found" | keyring::PATH => true,
        volume::VOLUMES => disk
            .list(volume::VOLUMES)
            .is_ok_and(|volumes| volumes.is_empty()),
        other => ours.iter().any(|name| name == other),
    })
}
