//! File handles: what clients name files by.
//!
//! A handle says which volume it is of, which export it was handed out under,
//! and which inode it means; inode numbers are never used again within a
//! volume, so no generation is needed beside them. A keyed hash over all of it
//! keeps clients from making handles of their own, and so from leaving the
//! export they were let into. Handles depend on nothing but the keys of the
//! volume, and outlive the server.
//!
//! ```text
//! offset  bytes
//!      0      1  version: 1
//!      1      3  zeros
//!      4      8  front of the volume's identity
//!     12      8  inode of the export's root, big-endian
//!     20      8  inode, big-endian
//!     28     16  front of the keyed BLAKE3 hash of bytes 0 to 27
//! ```

use bytes::Bytes;
use kiseki_core::{crypto::Secret, engine::Volume, ids::Ino};

/// Bytes of a handle.
pub const LEN: usize = 44;

const VERSION: u8 = 1;
const SIGNED: usize = 28;

/// What a handle means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// Root of the export.
    pub root: Ino,
    /// The inode.
    pub ino: Ino,
}

/// Why a handle means nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No handle of ours.
    #[error("no handle of this server")]
    Bad,
    /// One of another volume.
    #[error("a handle of another volume")]
    Stale,
}

/// Makes handles and reads them.
pub struct Handles {
    volume: [u8; 8],
    key: Secret,
}

impl Handles {
    /// Those of a volume.
    #[must_use]
    pub fn of(volume: &Volume) -> Handles {
        Handles::new(volume.id().0, volume.front_key(b"nfs file handle v1"))
    }

    fn new(volume: [u8; 16], key: Secret) -> Handles {
        let mut front = [0; 8];
        front.copy_from_slice(&volume[..8]);
        Handles { volume: front, key }
    }

    /// What tells this volume from others, for `fsid`.
    #[must_use]
    pub fn volume(&self) -> u64 {
        u64::from_be_bytes(self.volume)
    }

    /// The handle of an inode.
    #[must_use]
    pub fn seal(&self, handle: Handle) -> Bytes {
        let mut bytes = [0; LEN];
        bytes[0] = VERSION;
        bytes[4..12].copy_from_slice(&self.volume);
        bytes[12..20].copy_from_slice(&handle.root.0.to_be_bytes());
        bytes[20..28].copy_from_slice(&handle.ino.0.to_be_bytes());
        let hash = blake3::keyed_hash(self.key.expose(), &bytes[..SIGNED]);
        bytes[SIGNED..].copy_from_slice(&hash.as_bytes()[..LEN - SIGNED]);
        Bytes::copy_from_slice(&bytes)
    }

    /// What a handle means.
    ///
    /// # Errors
    /// See [`Unknown`].
    pub fn open(&self, bytes: &[u8]) -> Result<Handle, Unknown> {
        let bytes: &[u8; LEN] = bytes.try_into().map_err(|_| Unknown::Bad)?;
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            number
        };
        if bytes[0] != VERSION {
            return Err(Unknown::Bad);
        }
        if number(4) != self.volume {
            return Err(Unknown::Stale);
        }
        let handle = Handle {
            root: Ino(u64::from_be_bytes(number(12))),
            ino: Ino(u64::from_be_bytes(number(20))),
        };
        // In constant time: how much of a guess is right must not show.
        let right = self.seal(handle);
        let differ = right.iter().zip(bytes).fold(0, |all, (a, b)| all | (a ^ b));
        if differ == 0 {
            Ok(handle)
        } else {
            Err(Unknown::Bad)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handles(volume: u8, key: u8) -> Handles {
        Handles::new([volume; 16], Secret::from_bytes(&[key; 32]))
    }

    const SOME: Handle = Handle {
        root: Ino(1),
        ino: Ino(77),
    };

    #[test]
    fn a_handle_means_the_same_after_a_restart() {
        let sealed = handles(1, 2).seal(SOME);
        assert_eq!(handles(1, 2).open(&sealed), Ok(SOME));
    }

    #[test]
    fn no_bit_of_a_handle_can_be_changed() {
        let handles = handles(1, 2);
        let sealed = handles.seal(SOME);
        for bit in 0..LEN * 8 {
            let mut forged = sealed.to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(handles.open(&forged).is_err(), "bit {bit}");
        }
        for len in 0..LEN {
            assert_eq!(handles.open(&sealed[..len]), Err(Unknown::Bad));
        }
    }

    #[test]
    fn handles_of_other_volumes_are_stale_and_of_other_keys_bad() {
        let sealed = handles(1, 2).seal(SOME);
        assert_eq!(handles(3, 2).open(&sealed), Err(Unknown::Stale));
        assert_eq!(handles(1, 4).open(&sealed), Err(Unknown::Bad));
    }
}
