//! `keyring.json`: the store key, wrapped once for each way to open it.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    Error, Result,
    crypto::{Argon2Params, Secret, Wrapped, Wraps},
    host::{Disk, Entropy},
    ids::Timestamp,
    store::{StoreId, files},
};

pub(super) const PATH: &str = "keyring.json";

/// What a user opens a store with.
pub enum Unlock {
    /// The key from a key file (see [`crate::crypto::key_file`]).
    KeyFile(Secret),
    /// A passphrase.
    Passphrase(Zeroizing<String>),
}

impl Unlock {
    fn kind(&self) -> SlotKind {
        match self {
            Unlock::KeyFile(_) => SlotKind::KeyFile,
            Unlock::Passphrase(_) => SlotKind::Passphrase,
        }
    }
}

/// How a slot of the keyring is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotKind {
    /// By a key file.
    KeyFile,
    /// By a passphrase.
    Passphrase,
}

impl SlotKind {
    /// What a user calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SlotKind::KeyFile => "key file",
            SlotKind::Passphrase => "passphrase",
        }
    }
}

/// What `kiseki key list` shows of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotInfo {
    /// Number of the slot.
    pub id: u32,
    /// How it is opened.
    pub kind: SlotKind,
    /// When it was made.
    pub created: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Slot {
    id: u32,
    kind: SlotKind,
    created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argon2: Option<Argon2Params>,
    store_key: Wrapped,
}

impl Slot {
    fn wraps(store: StoreId, slot: u32) -> Wraps {
        Wraps::StoreKey {
            store: store.0,
            slot,
        }
    }

    /// The store key, if `unlock` opens this slot.
    fn open(&self, store: StoreId, unlock: &Unlock) -> Result<Option<Secret>> {
        let wrapping = match (unlock, &self.argon2) {
            (Unlock::KeyFile(key), _) => wrapping_key(key),
            (Unlock::Passphrase(text), Some(params)) => wrapping_key(&params.derive(text)?),
            (Unlock::Passphrase(_), None) => {
                let what = format!("slot {} has no Argon2 parameters", self.id);
                return Err(Error::damaged(PATH, what));
            }
        };
        let wraps = Slot::wraps(store, self.id);
        Ok(self.store_key.unwrap(&wrapping, wraps))
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Keyring {
    /// Repeated from `kiseki.json`, which could not be made anew without it.
    store: StoreId,
    slots: Vec<Slot>,
}

/// A new store key, and the keyring in which `unlock` opens it.
pub(super) fn create(
    store: StoreId,
    unlock: &Unlock,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> Result<(Secret, Keyring)> {
    let key = Secret::random(entropy);
    let slots = Vec::new();
    let mut keyring = Keyring { store, slots };
    keyring.add(&key, unlock, entropy, now)?;
    Ok((key, keyring))
}

impl Keyring {
    pub(super) fn read(disk: &dyn Disk, store: StoreId) -> Result<Keyring> {
        let bytes = files::read(disk, PATH)?.ok_or_else(|| {
            Error::damaged(
                PATH,
                "the file is missing; without it no key opens the store: restore it from a copy",
            )
        })?;
        let keyring: Keyring = files::parse(PATH, &bytes)?;
        if keyring.store != store {
            return Err(Error::damaged(PATH, "it belongs to another store"));
        }
        Ok(keyring)
    }

    pub(super) fn write(&self, disk: &dyn Disk) -> Result<()> {
        files::replace(disk, PATH, self)
    }

    pub(super) fn infos(&self) -> Vec<SlotInfo> {
        let info = |slot: &Slot| SlotInfo {
            id: slot.id,
            kind: slot.kind,
            created: slot.created,
        };
        self.slots.iter().map(info).collect()
    }

    /// The store key.
    pub(super) fn unlock(&self, unlock: &Unlock) -> Result<Secret> {
        let mut fault = None;
        for slot in self.slots.iter().filter(|slot| slot.kind == unlock.kind()) {
            // A damaged slot must not keep another from opening the store.
            match slot.open(self.store, unlock) {
                Ok(Some(key)) => return Ok(key),
                Ok(None) => {}
                Err(error) => fault = Some(error),
            }
        }
        Err(fault.unwrap_or(Error::WrongKey(unlock.kind().name())))
    }

    /// Adds a slot that `unlock` opens; returns its number.
    pub(super) fn add(
        &mut self,
        store_key: &Secret,
        unlock: &Unlock,
        entropy: &dyn Entropy,
        now: Timestamp,
    ) -> Result<u32> {
        let newest = self.slots.iter().map(|slot| slot.id).max().unwrap_or(0);
        let id = newest
            .checked_add(1)
            .ok_or_else(|| Error::damaged(PATH, "its slot numbers are used up"))?;
        let (argon2, wrapping) = match unlock {
            Unlock::KeyFile(key) => (None, wrapping_key(key)),
            Unlock::Passphrase(text) if text.is_empty() => {
                return Err(Error::Invalid("an empty passphrase protects nothing"));
            }
            Unlock::Passphrase(text) => {
                let params = Argon2Params::generate(entropy);
                let key = wrapping_key(&params.derive(text)?);
                (Some(params), key)
            }
        };
        let wraps = Slot::wraps(self.store, id);
        self.slots.push(Slot {
            id,
            kind: unlock.kind(),
            created: now,
            argon2,
            store_key: Wrapped::wrap(&wrapping, wraps, store_key, entropy),
        });
        Ok(id)
    }

    /// Removes a slot, but never the last.
    pub(super) fn remove(&mut self, id: u32) -> Result<()> {
        if !self.slots.iter().any(|slot| slot.id == id) {
            return Err(Error::Invalid(
                "the keyring has no slot of that number; `kiseki key list` shows them",
            ));
        }
        if self.slots.len() == 1 {
            return Err(Error::Invalid(
                "the last slot stays: without it nothing would open the store; add another first",
            ));
        }
        self.slots.retain(|slot| slot.id != id);
        Ok(())
    }
}

fn wrapping_key(unlock: &Secret) -> Secret {
    unlock.derive(b"kiseki unlock v1")
}
