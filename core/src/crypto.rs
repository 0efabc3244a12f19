//! Keys, ids and sealing.
//!
//! To everything above, this module promises that what leaves it sealed tells
//! nothing but its length, that what it opens is what was sealed at that very
//! place, and that no key outlives its last use in memory. [`VolumeKeys`] is
//! what a mounted volume works with; the layers below it (files of keys,
//! wrapping) serve [`crate::store`]. Byte layouts stand in `docs/format.md`.
//!
//! The hierarchy: an unlock key (a key file, or a passphrase through Argon2id)
//! wraps the store key, which wraps the master key of each volume. From the
//! master key come, by HKDF, the keys of ids and tags and the key that wraps
//! the sealing keys; those are random, one for each epoch.

pub mod frame;
pub mod key_file;
mod locked;
pub mod nonce;
pub mod passphrase;
pub mod record;
pub mod secret;
pub mod volume_keys;
pub mod wrap;

#[cfg(test)]
mod known_answers;

pub use frame::{FRAME, MAX_CHUNK, TAG, frame_span, plain_len, sealed_len};
pub use passphrase::Argon2Params;
pub use record::{RECORD_OVERHEAD, RecordContext};
pub use secret::Secret;
pub use volume_keys::VolumeKeys;
pub use wrap::{Wrapped, Wraps};
