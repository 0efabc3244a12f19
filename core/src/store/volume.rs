//! `volume.json`: what the store knows of a volume.

use std::{io, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    chunk::CutPolicy,
    crypto::{Secret, VolumeKeys, Wrapped, Wraps},
    host::{Disk, Entropy},
    ids::{Epoch, Timestamp, VolumeId},
    store::{StoreId, files},
};

pub(super) const VOLUMES: &str = "volumes";
pub(super) const RECORD: &str = "volume.json";
/// Takes the place of the record once a volume is destroyed.
pub(super) const DESTROYED: &str = "volume.destroyed";

const LONGEST_NAME: usize = 64;

/// A volume as its store records it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Its name, in clear.
    pub name: String,
    /// Its random identity.
    #[serde(with = "volume_id")]
    pub id: VolumeId,
    /// How its files are cut.
    pub policy: CutPolicy,
    /// When it was made.
    pub created: Timestamp,
    /// User that made it: the owner of its root directory.
    pub uid: u32,
    /// Group of the root directory.
    pub gid: u32,
    master_key: Wrapped,
    epochs: Vec<EpochRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct EpochRecord {
    epoch: Epoch,
    created: Timestamp,
    sealing_key: Wrapped,
}

mod volume_id {
    use serde::{Deserializer, Serializer};

    use crate::ids::VolumeId;

    pub(super) fn serialize<S: Serializer>(id: &VolumeId, to: S) -> Result<S::Ok, S::Error> {
        hex::serde::serialize(id.0, to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<VolumeId, D::Error> {
        hex::serde::deserialize(from).map(VolumeId)
    }
}

/// What a new volume is to be.
pub(super) struct NewVolume<'a> {
    pub(super) name: &'a str,
    pub(super) policy: CutPolicy,
    pub(super) owner: (u32, u32),
    pub(super) created: Timestamp,
}

impl VolumeRecord {
    /// The record of a new volume with fresh keys, of which the master key is
    /// wrapped under a key of the store.
    pub(super) fn generate(
        new: &NewVolume<'_>,
        store: StoreId,
        wrapping: &Secret,
        entropy: &dyn Entropy,
    ) -> Result<VolumeRecord> {
        check_name(new.name)?;
        let mut id = [0; 16];
        entropy.fill(&mut id);
        let volume = VolumeId(id);
        let master = Secret::random(entropy);
        let wraps = Wraps::MasterKey {
            store: store.0,
            volume,
        };
        let mut record = VolumeRecord {
            name: new.name.to_owned(),
            id: volume,
            policy: new.policy,
            created: new.created,
            uid: new.owner.0,
            gid: new.owner.1,
            master_key: Wrapped::wrap(wrapping, wraps, &master, entropy),
            epochs: Vec::new(),
        };
        record.add_epoch(&master, new.created, entropy)?;
        Ok(record)
    }

    /// The volume's directory in the store. Beside the record it holds the
    /// log, the chunks and the metadata.
    #[must_use]
    pub fn dir(&self) -> String {
        dir(&self.id.to_string())
    }

    /// The epoch that seals; the highest.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        let epochs = self.epochs.iter().map(|epoch| epoch.epoch);
        epochs.max().unwrap_or_default()
    }

    /// Adds an epoch with a fresh sealing key.
    pub(super) fn add_epoch(
        &mut self,
        master: &Secret,
        created: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Epoch> {
        let next = self.epoch().0.checked_add(1);
        let epoch = Epoch(next.ok_or_else(|| self.damaged("its epochs are used up"))?);
        let wraps = Wraps::SealingKey {
            volume: self.id,
            epoch,
        };
        let wrapping = VolumeKeys::epoch_wrapping_key(master);
        self.epochs.push(EpochRecord {
            epoch,
            created,
            sealing_key: Wrapped::wrap(&wrapping, wraps, &Secret::random(entropy), entropy),
        });
        Ok(epoch)
    }

    /// The master key of the volume.
    pub(super) fn master(&self, store: StoreId, wrapping: &Secret) -> Result<Secret> {
        let wraps = Wraps::MasterKey {
            store: store.0,
            volume: self.id,
        };
        self.master_key
            .unwrap(wrapping, wraps)
            .ok_or_else(|| self.damaged("the wrapped master key does not authenticate"))
    }

    /// The keys to work with.
    pub(super) fn keys(&self, master: &Secret, entropy: Arc<dyn Entropy>) -> Result<VolumeKeys> {
        let wrapping = VolumeKeys::epoch_wrapping_key(master);
        let open = |record: &EpochRecord| {
            let epoch = record.epoch;
            let wraps = Wraps::SealingKey {
                volume: self.id,
                epoch,
            };
            let key = record.sealing_key.unwrap(&wrapping, wraps).ok_or_else(|| {
                self.damaged(&format!(
                    "the wrapped key of {epoch:?} does not authenticate"
                ))
            })?;
            Ok((epoch, key))
        };
        let epochs = self.epochs.iter().map(open).collect::<Result<Vec<_>>>()?;
        VolumeKeys::new(self.id, master, &epochs, entropy).map_err(|error| match error {
            Error::Invalid(what) => self.damaged(what),
            other => other,
        })
    }

    pub(super) fn write(&self, disk: &dyn Disk) -> Result<()> {
        files::replace(disk, &self.path(), self)
    }

    fn path(&self) -> String {
        format!("{}/{RECORD}", self.dir())
    }

    fn damaged(&self, what: &str) -> Error {
        Error::damaged(self.path(), what)
    }
}

/// The volumes of a store.
#[derive(Debug, Default)]
pub struct Volumes {
    /// Those that can be read, by name.
    pub records: Vec<VolumeRecord>,
    /// What is wrong with the others.
    pub damaged: Vec<Error>,
}

impl Volumes {
    /// The volume with this name.
    pub(super) fn find(mut self, name: &str) -> Result<VolumeRecord> {
        if let Some(at) = self.records.iter().position(|record| record.name == name) {
            return Ok(self.records.swap_remove(at));
        }
        if let Some(error) = self.damaged.pop() {
            return Err(error);
        }
        let names: Vec<_> = self.records.iter().map(|record| &*record.name).collect();
        let text = if names.is_empty() {
            format!("the store has no volume yet; `kiseki volume create {name}` makes one")
        } else {
            let names = names.join(", ");
            format!("the store has no volume named {name:?}; it has: {names}")
        };
        Err(Error::NoSuchStore(text.into()))
    }
}

/// All volumes of a store, but for what is being destroyed or was never
/// finished.
pub(super) fn list(disk: &dyn Disk) -> Result<Volumes> {
    let mut volumes = Volumes::default();
    for name in directories(disk)? {
        match read(disk, &name) {
            Ok(Some(record)) => volumes.records.push(record),
            Ok(None) => {}
            Err(error) => volumes.damaged.push(error),
        }
    }
    volumes.records.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(volumes)
}

/// Names of the volumes' directories.
pub(super) fn directories(disk: &dyn Disk) -> Result<Vec<String>> {
    match disk.list(VOLUMES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|error| Error::io("list the volumes of the store", error)),
    }
}

/// Path of a volume's directory.
pub(super) fn dir(name: &str) -> String {
    format!("{VOLUMES}/{name}")
}

/// The record in a volume's directory; `None` when [`is_leftover`] says so.
fn read(disk: &dyn Disk, name: &str) -> Result<Option<VolumeRecord>> {
    let path = format!("{}/{RECORD}", dir(name));
    let Some(bytes) = files::read(disk, &path)? else {
        return match is_leftover(disk, name)? {
            true => Ok(None),
            false => Err(Error::damaged(
                path,
                "the file is missing; without it no key opens the volume: restore it from a copy",
            )),
        };
    };
    let record: VolumeRecord = files::parse(&path, &bytes)?;
    if record.id.to_string() != name {
        return Err(Error::damaged(path, "it belongs to another volume"));
    }
    Ok(Some(record))
}

/// Whether a directory is what an interrupted creation or destruction left. A
/// directory with data in it that only lacks its record is not: the record may
/// come back from a copy.
pub(super) fn is_leftover(disk: &dyn Disk, name: &str) -> Result<bool> {
    let names = disk
        .list(&dir(name))
        .map_err(|error| Error::io(format!("list {}", dir(name)), error))?;
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let unfinished = files::unfinished(RECORD);
    Ok(!has(RECORD) && (has(DESTROYED) || names.iter().all(|name| *name == unfinished)))
}

/// What a volume may be called.
fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    if starts_well && name.len() <= LONGEST_NAME && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Error::Invalid(
            "a volume name has 1 to 64 letters, digits, dots, underscores and hyphens, and begins with a letter or digit",
        ))
    }
}
