//! Keys from passphrases, by Argon2id.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, crypto::Secret, host::Entropy};

/// What Argon2id was told for one passphrase, stored beside the key it wraps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argon2Params {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// Random salt.
    #[serde(with = "hex::serde")]
    pub salt: [u8; 16],
}

impl Argon2Params {
    /// The parameters for a new passphrase: 64 MiB, 3 passes, 1 lane, and a
    /// random salt.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Argon2Params {
        let mut salt = [0; 16];
        entropy.fill(&mut salt);
        Argon2Params {
            memory_kib: 64 * 1024,
            passes: 3,
            lanes: 1,
            salt,
        }
    }

    /// The key of a passphrase. Takes a noticeable time and `memory_kib` of
    /// memory, which is wiped.
    ///
    /// # Errors
    /// `Damaged` when the parameters make no sense or would take more than
    /// 2 GiB or 100 passes, which no version has ever written.
    pub fn derive(&self, passphrase: &str) -> Result<Secret> {
        if self.memory_kib > 2 * 1024 * 1024 || self.passes > 100 || self.lanes > 64 {
            return Err(bad("they ask for more work than any kiseki ever asks for"));
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
            .map_err(|error| bad(&error.to_string()))?;
        let mut key = Secret::zero();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &self.salt, key.expose_mut())
            .map_err(|error| bad(&error.to_string()))?;
        Ok(key)
    }
}

fn bad(what: &str) -> Error {
    Error::damaged("keyring.json", format!("Argon2 parameters: {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const QUICK: Argon2Params = Argon2Params {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
        salt: [5; 16],
    };

    #[test]
    fn the_key_depends_on_passphrase_and_salt() {
        let key = QUICK.derive("correct horse").unwrap();
        assert_eq!(
            key.expose(),
            QUICK.derive("correct horse").unwrap().expose()
        );
        assert_ne!(
            key.expose(),
            QUICK.derive("correct horsf").unwrap().expose()
        );
        let salted = Argon2Params {
            salt: [6; 16],
            ..QUICK
        };
        assert_ne!(
            key.expose(),
            salted.derive("correct horse").unwrap().expose()
        );
    }

    #[test]
    fn absurd_parameters_are_damage_and_cost_nothing() {
        for params in [
            Argon2Params {
                memory_kib: u32::MAX,
                ..QUICK
            },
            Argon2Params {
                memory_kib: 0,
                ..QUICK
            },
            Argon2Params { passes: 0, ..QUICK },
            Argon2Params {
                passes: u32::MAX,
                ..QUICK
            },
            Argon2Params { lanes: 0, ..QUICK },
            Argon2Params {
                lanes: u32::MAX,
                ..QUICK
            },
        ] {
            assert!(matches!(params.derive("x"), Err(Error::Damaged { .. })));
        }
    }
}
