//! The directory on disk: format version, lock, keyring, volumes.
//!
//! A [`Store`] tells what the directory holds and needs no key; an
//! [`UnlockedStore`] holds the store key and makes, opens and destroys
//! volumes. Both promise that each of their small files is, after a power
//! loss, either as it was or as it was to become, and that a wrong key changes
//! nothing. They do not keep other processes away: take a [`StoreLock`]
//! before anything that writes. Formats stand in `docs/format.md`.

mod destroy;
mod files;
mod header;
mod keyring;
mod lock;
mod unlocked;
mod volume;

use std::sync::Arc;

use crate::{
    Error, Result,
    host::{Clock, Disk, Entropy, SystemClock, SystemEntropy},
    ids::Timestamp,
};

pub use crate::chunk::CutPolicy;
pub use header::{FORMAT_VERSION, StoreId};
pub use keyring::{SlotInfo, SlotKind, Unlock};
pub use lock::StoreLock;
pub use unlocked::UnlockedStore;
pub use volume::{VolumeRecord, Volumes};

/// A store directory, read without a key.
#[derive(Clone)]
pub struct Store {
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    header: header::Header,
}

impl Store {
    /// Makes a store in an empty or absent directory, which `unlock` opens
    /// from then on. What an earlier, interrupted attempt left is replaced.
    ///
    /// # Errors
    /// `Io` when the directory holds a store or anything else already (nothing
    /// is changed then), `Invalid` for an empty passphrase.
    pub fn create(
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        clock: Arc<dyn Clock>,
        unlock: &Unlock,
    ) -> Result<UnlockedStore> {
        header::check_free(&*disk)?;
        let header = header::Header::new(&*entropy, clock.now());
        let (key, keyring) = keyring::create(header.id, unlock, &*entropy, clock.now())?;
        let io = |error| Error::io("make the directories of the store", error);
        disk.create_dir(volume::VOLUMES).map_err(io)?;
        disk.sync_dir("").map_err(io)?;
        keyring.write(&*disk)?;
        // Last: from here on it is a store.
        header.write(&*disk)?;
        let store = Store {
            disk,
            entropy,
            clock,
            header,
        };
        Ok(UnlockedStore::new(store, key))
    }

    /// Opens the store in a directory, with the randomness and the clock of
    /// the machine.
    ///
    /// # Errors
    /// `NoSuchStore` when there is none, `FormatVersion` when a newer kiseki
    /// wrote it, `Damaged` when `kiseki.json` makes no sense.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Store> {
        Store::open_with(disk, Arc::new(SystemEntropy), Arc::new(SystemClock))
    }

    /// Opens the store in a directory.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        clock: Arc<dyn Clock>,
    ) -> Result<Store> {
        let header = header::Header::read(&*disk)?;
        Ok(Store {
            disk,
            entropy,
            clock,
            header,
        })
    }

    /// Random identity of the store.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.header.id
    }

    /// Version of the formats in the store.
    #[must_use]
    pub fn format_version(&self) -> u32 {
        self.header.format_version
    }

    /// When the store was made.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.header.created
    }

    /// The disk under the store.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// All volumes; those whose record is damaged are told apart, so that one
    /// does not hide the others.
    ///
    /// # Errors
    /// `Io` when the directory cannot be read.
    pub fn volumes(&self) -> Result<Volumes> {
        volume::list(&*self.disk)
    }

    /// The volume with this name.
    ///
    /// # Errors
    /// `NoSuchStore` when there is none, saying which there are; `Damaged` when
    /// it may be one whose record cannot be read.
    pub fn volume(&self, name: &str) -> Result<VolumeRecord> {
        self.volumes()?.find(name)
    }

    /// What opens the store.
    ///
    /// # Errors
    /// `Damaged` or `Io` when `keyring.json` cannot be read.
    pub fn list_slots(&self) -> Result<Vec<SlotInfo>> {
        Ok(keyring::Keyring::read(&*self.disk, self.header.id)?.infos())
    }

    /// Opens the keyring. Writes nothing. A passphrase takes a noticeable time
    /// for each slot that has one.
    ///
    /// # Errors
    /// `WrongKey` when it opens no slot.
    pub fn unlock(&self, unlock: &Unlock) -> Result<UnlockedStore> {
        let key = keyring::Keyring::read(&*self.disk, self.header.id)?.unlock(unlock)?;
        Ok(UnlockedStore::new(self.clone(), key))
    }
}

#[cfg(test)]
mod memory_disk;
#[cfg(test)]
mod tests;
