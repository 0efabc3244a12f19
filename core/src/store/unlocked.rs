//! A store with its key.

use std::{io, sync::Arc};

use zeroize::Zeroizing;

use crate::{
    Error, Result,
    crypto::{Secret, VolumeKeys},
    ids::Epoch,
    store::{
        CutPolicy, SlotInfo, Store, Unlock, VolumeRecord, Volumes, destroy,
        keyring::Keyring,
        volume::{self, NewVolume},
    },
};

/// A store that its key has opened. Everything here that writes wants a
/// [`crate::store::StoreLock`] held.
pub struct UnlockedStore {
    store: Store,
    key: Secret,
    /// Wraps the master keys of the volumes.
    wrapping: Secret,
}

impl UnlockedStore {
    pub(super) fn new(store: Store, key: Secret) -> UnlockedStore {
        let wrapping = key.derive(b"kiseki volume wrapping v1");
        UnlockedStore {
            store,
            key,
            wrapping,
        }
    }

    /// What the store tells without a key.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// As [`Store::volumes`].
    ///
    /// # Errors
    /// The same.
    pub fn volumes(&self) -> Result<Volumes> {
        self.store.volumes()
    }

    /// As [`Store::volume`].
    ///
    /// # Errors
    /// The same.
    pub fn volume(&self, name: &str) -> Result<VolumeRecord> {
        self.store.volume(name)
    }

    /// Makes a volume with fresh keys, durable when this returns. Its root
    /// directory will belong to `uid` and `gid`.
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be, `Io` for one that is taken.
    pub fn create_volume(
        &self,
        name: &str,
        policy: CutPolicy,
        uid: u32,
        gid: u32,
    ) -> Result<VolumeRecord> {
        let new = NewVolume {
            name,
            policy,
            owner: (uid, gid),
            created: self.store.clock.now(),
        };
        let id = self.store.id();
        let record = VolumeRecord::generate(&new, id, &self.wrapping, &*self.store.entropy)?;
        let volumes = self.volumes()?;
        if volumes.records.iter().any(|record| record.name == name) {
            let taken = io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the store has a volume of that name",
            );
            return Err(Error::io(format!("create volume {name:?}"), taken));
        }
        let disk = &self.store.disk;
        let failed = |error| Error::io(format!("create volume {name:?}"), error);
        disk.create_dir(&record.dir()).map_err(failed)?;
        record.write(&**disk)?;
        disk.sync_dir(volume::VOLUMES).map_err(failed)?;
        Ok(record)
    }

    /// The keys that a volume works with. They know the epochs that `record`
    /// has.
    ///
    /// # Errors
    /// `Damaged` when a wrapped key is not what was stored.
    pub fn volume_keys(&self, record: &VolumeRecord) -> Result<VolumeKeys> {
        let master = record.master(self.store.id(), &self.wrapping)?;
        record.keys(&master, Arc::clone(&self.store.entropy))
    }

    /// Gives a volume a new sealing key: what is sealed from the next
    /// [`UnlockedStore::volume_keys`] on is sealed under it. Durable when this
    /// returns. What was sealed before stays as it is, and readable.
    ///
    /// # Errors
    /// `NoSuchStore` when no volume has that name.
    pub fn rotate(&self, name: &str) -> Result<Epoch> {
        let mut record = self.volume(name)?;
        let master = record.master(self.store.id(), &self.wrapping)?;
        let now = self.store.clock.now();
        let epoch = record.add_epoch(&master, now, &*self.store.entropy)?;
        record.write(&*self.store.disk)?;
        Ok(epoch)
    }

    /// Destroys a volume: its wrapped keys first, durably, after which nobody
    /// can read it, then its files. `progress` is told files deleted and files
    /// in all. Destructions that were interrupted are brought to their end
    /// before anything else.
    ///
    /// # Errors
    /// `NoSuchStore` when no volume has that name. `Io` before the keys are
    /// gone leaves the volume as it was, behind it, to the next call.
    pub fn destroy_volume(&self, name: &str, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let disk = &*self.store.disk;
        destroy::sweep(disk, progress)?;
        destroy::destroy(disk, &self.volume(name)?, progress)
    }

    /// Adds a passphrase that opens the store; returns the number of its slot.
    ///
    /// # Errors
    /// `Invalid` for an empty one.
    pub fn add_passphrase(&self, passphrase: Zeroizing<String>) -> Result<u32> {
        self.add_slot(&Unlock::Passphrase(passphrase))
    }

    /// Adds another way to open the store; returns the number of its slot.
    ///
    /// # Errors
    /// `Invalid` for an empty passphrase.
    pub fn add_slot(&self, unlock: &Unlock) -> Result<u32> {
        let mut keyring = self.keyring()?;
        let now = self.store.clock.now();
        let id = keyring.add(&self.key, unlock, &*self.store.entropy, now)?;
        keyring.write(&*self.store.disk)?;
        Ok(id)
    }

    /// What opens the store.
    ///
    /// # Errors
    /// `Damaged` or `Io` when `keyring.json` cannot be read.
    pub fn list_slots(&self) -> Result<Vec<SlotInfo>> {
        self.store.list_slots()
    }

    /// Removes a way to open the store. Who has a copy of the old keyring can
    /// still use it.
    ///
    /// # Errors
    /// `Invalid` when there is no such slot, or it is the last.
    pub fn remove_slot(&self, id: u32) -> Result<()> {
        let mut keyring = self.keyring()?;
        keyring.remove(id)?;
        keyring.write(&*self.store.disk)
    }

    fn keyring(&self) -> Result<Keyring> {
        Keyring::read(&*self.store.disk, self.store.id())
    }
}
