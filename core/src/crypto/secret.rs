//! A key of 32 bytes that is wiped when it goes.

use std::fmt;

use crate::{crypto::locked::Locked, host::Entropy};
use aws_lc_rs::aead::{Algorithm, LessSafeKey, UnboundKey};
use hkdf::Hkdf;
use sha2::Sha256;

/// 32 secret bytes: zeroed on drop, never shown, never swapped out. They have
/// a place of their own, so that moving a `Secret` leaves no copy behind.
pub struct Secret(Locked);

impl Secret {
    /// A fresh random key.
    #[must_use]
    pub fn random(entropy: &dyn Entropy) -> Secret {
        let mut secret = Secret::zero();
        entropy.fill(secret.expose_mut());
        secret
    }

    /// A key from bytes; the caller wipes its own copy.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Secret {
        let mut secret = Secret::zero();
        secret.expose_mut().copy_from_slice(bytes);
        secret
    }

    /// All zeros, to be filled in place.
    pub(crate) fn zero() -> Secret {
        Secret(Locked::zero())
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.get()
    }

    pub(crate) fn expose_mut(&mut self) -> &mut [u8; 32] {
        self.0.get_mut()
    }

    /// The key that `info` names: HKDF-SHA256 without salt (RFC 5869). `info`
    /// must be distinct for each use of one key.
    #[must_use]
    pub fn derive(&self, info: &[u8]) -> Secret {
        let mut derived = Secret::zero();
        expand(&self.hkdf(), &[info], derived.expose_mut());
        wipe_stack::<4096>();
        derived
    }

    /// The extract step of HKDF-SHA256, done once for many expansions.
    pub(crate) fn hkdf(&self) -> Hkdf<Sha256> {
        Hkdf::new(None, self.expose())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The expand step of HKDF-SHA256 for one key; the parts of `info` are taken
/// as one string.
pub(crate) fn expand(hkdf: &Hkdf<Sha256>, info: &[&[u8]], key: &mut [u8; 32]) {
    hkdf.expand_multi_info(info, key)
        .expect("HKDF-SHA256 fails only above 8,160 bytes, this asks for 32");
    wipe_stack::<1024>();
}

/// Clears the stack where functions that have just returned may have left
/// copies of a key: those of other crates do not wipe theirs.
#[inline(never)]
pub(super) fn wipe_stack<const BYTES: usize>() {
    let mut below = [0_u8; BYTES];
    std::hint::black_box(&mut below);
}

/// Prepares a key for a cipher that takes 32 bytes.
pub(crate) fn cipher(algorithm: &'static Algorithm, key: &[u8; 32]) -> LessSafeKey {
    let key = UnboundKey::new(algorithm, key)
        .expect("both ciphers in use take 32 bytes, fixed by the type");
    LessSafeKey::new(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::SystemEntropy;

    #[test]
    fn debug_shows_no_bytes() {
        let secret = Secret::from_bytes(&[0xab; 32]);
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn derived_keys_differ_by_info_and_key() {
        let (one, two) = (
            Secret::random(&SystemEntropy),
            Secret::random(&SystemEntropy),
        );
        assert_ne!(one.expose(), two.expose());
        assert_ne!(one.derive(b"a").expose(), one.derive(b"b").expose());
        assert_ne!(one.derive(b"a").expose(), two.derive(b"a").expose());
        assert_eq!(one.derive(b"a").expose(), one.derive(b"a").expose());
    }
}
