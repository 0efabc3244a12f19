//! Keys sealed under keys.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce};

use crate::{
    crypto::{Secret, nonce::NONCE, secret::cipher},
    host::Entropy,
    ids::{Epoch, VolumeId},
};

const VERSION: u8 = 1;
const KEY: usize = 32;
const TAG: usize = 16;
const LEN: usize = 1 + NONCE + KEY + TAG;

/// What a wrapped key is, so that one cannot stand in for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wraps {
    /// The store key, in a slot of the keyring.
    StoreKey {
        /// Random identity of the store.
        store: [u8; 16],
        /// Number of the slot.
        slot: u32,
    },
    /// The master key of a volume, under the store key.
    MasterKey {
        /// Random identity of the store.
        store: [u8; 16],
        /// The volume.
        volume: VolumeId,
    },
    /// The sealing key of an epoch, under a key of its volume.
    SealingKey {
        /// The volume.
        volume: VolumeId,
        /// The epoch.
        epoch: Epoch,
    },
}

impl Wraps {
    fn aad(&self) -> Vec<u8> {
        let mut aad = b"kiseki wrap".to_vec();
        aad.push(VERSION);
        match self {
            Wraps::StoreKey { store, slot } => {
                aad.push(1);
                aad.extend_from_slice(store);
                aad.extend_from_slice(&slot.to_le_bytes());
            }
            Wraps::MasterKey { store, volume } => {
                aad.push(2);
                aad.extend_from_slice(store);
                aad.extend_from_slice(&volume.0);
            }
            Wraps::SealingKey { volume, epoch } => {
                aad.push(3);
                aad.extend_from_slice(&volume.0);
                aad.extend_from_slice(&epoch.0.to_le_bytes());
            }
        }
        aad
    }
}

/// A key sealed under another key, as stored: in hexadecimal where text is
/// wanted.
#[derive(Clone, PartialEq, Eq)]
pub struct Wrapped([u8; LEN]);

impl Wrapped {
    /// Wraps `key` under `under`.
    #[must_use]
    pub fn wrap(under: &Secret, what: Wraps, key: &Secret, entropy: &dyn Entropy) -> Wrapped {
        let mut nonce = [0; NONCE];
        entropy.fill(&mut nonce);
        let mut text = [VERSION; LEN];
        text[1..=NONCE].copy_from_slice(&nonce);
        let (_, sealed) = text.split_at_mut(1 + NONCE);
        let (body, tag) = sealed.split_at_mut(KEY);
        cipher(&AES_256_GCM_SIV, under.expose())
            .seal_out_of_place_scatter(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(what.aad()),
                key.expose(),
                body,
                &[],
                tag,
            )
            .expect("AES-GCM-SIV seals 32 bytes; the lengths are fixed above");
        Wrapped(text)
    }

    /// The key inside; `None` when `under` is not the key it was wrapped
    /// under, when it is something else than `what`, or damaged.
    #[must_use]
    pub fn unwrap(&self, under: &Secret, what: Wraps) -> Option<Secret> {
        if self.0[0] != VERSION {
            return None;
        }
        let (nonce, sealed) = self.0[1..].split_first_chunk::<NONCE>()?;
        let (body, tag) = sealed.split_at(KEY);
        let mut key = Secret::zero();
        cipher(&AES_256_GCM_SIV, under.expose())
            .open_separate_gather(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(what.aad()),
                body,
                tag,
                key.expose_mut(),
            )
            .ok()?;
        Some(key)
    }
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wrapped")
    }
}

impl serde::Serialize for Wrapped {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> serde::Deserialize<'de> for Wrapped {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let mut bytes = [0; LEN];
        hex::decode_to_slice(text.as_bytes(), &mut bytes).map_err(|_| {
            serde::de::Error::custom(format!("a wrapped key is {LEN} bytes in hexadecimal"))
        })?;
        Ok(Wrapped(bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::host::SystemEntropy;

    const SEALING: Wraps = Wraps::SealingKey {
        volume: VolumeId([7; 16]),
        epoch: Epoch(3),
    };

    #[test]
    fn a_wrapped_key_comes_back_through_json() {
        let (under, key) = (
            Secret::random(&SystemEntropy),
            Secret::random(&SystemEntropy),
        );
        let wrapped = Wrapped::wrap(&under, SEALING, &key, &SystemEntropy);
        let text = serde_json::to_string(&wrapped).unwrap();
        assert!(!text.contains(&hex::encode(key.expose())));
        let back: Wrapped = serde_json::from_str(&text).unwrap();
        assert_eq!(back.unwrap(&under, SEALING).unwrap().expose(), key.expose());
    }

    #[test]
    fn a_wrapped_key_opens_only_as_what_it_is() {
        let under = Secret::random(&SystemEntropy);
        let wrapped = Wrapped::wrap(&under, SEALING, &under, &SystemEntropy);
        for other in [
            Wraps::SealingKey {
                volume: VolumeId([7; 16]),
                epoch: Epoch(4),
            },
            Wraps::SealingKey {
                volume: VolumeId([8; 16]),
                epoch: Epoch(3),
            },
            Wraps::MasterKey {
                store: [7; 16],
                volume: VolumeId([7; 16]),
            },
            Wraps::StoreKey {
                store: [7; 16],
                slot: 3,
            },
        ] {
            assert!(wrapped.unwrap(&under, other).is_none());
        }
        assert!(
            wrapped
                .unwrap(&Secret::random(&SystemEntropy), SEALING)
                .is_none()
        );
        for at in 0..LEN {
            let mut damaged = wrapped.clone();
            damaged.0[at] ^= 1;
            assert!(damaged.unwrap(&under, SEALING).is_none(), "byte {at}");
        }
    }

    #[test]
    fn text_that_is_no_wrapped_key_is_refused() {
        for text in ["\"\"", "\"abc\"", "\"zz\"", "7", "null"] {
            assert!(serde_json::from_str::<Wrapped>(text).is_err(), "{text}");
        }
    }
}
