//! The keys that a volume works with while it is open.

use std::{fmt, sync::Arc};

use ed25519_dalek::{SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    Error, Result,
    chunk::ChunkInfo,
    crypto::{
        Secret,
        frame::{self, ChunkKey},
        nonce::NoncePool,
        record::{self, RecordContext, RecordKey},
        secret::wipe_stack,
    },
    host::Entropy,
    ids::{ChunkId, Epoch, Ino, NameTag, VolumeId},
};

/// Longest name whose tag is hashed without a second buffer.
const SHORT_NAME: usize = 255;

/// All keys of one volume. Shared by `Arc`; every method takes `&self` and may
/// be called from any thread.
pub struct VolumeKeys {
    volume: VolumeId,
    id_key: Secret,
    name_key: Secret,
    xattr_key: Secret,
    front_key: Secret,
    log_key: Arc<SigningKey>,
    newest: EpochKeys,
    older: Vec<EpochKeys>,
    nonces: NoncePool,
}

struct EpochKeys {
    epoch: Epoch,
    chunks: Hkdf<Sha256>,
    records: RecordKey,
}

impl EpochKeys {
    fn new(epoch: Epoch, sealing: &Secret) -> EpochKeys {
        EpochKeys {
            epoch,
            chunks: sealing.hkdf(),
            records: RecordKey::new(sealing, epoch),
        }
    }
}

impl VolumeKeys {
    /// The keys of a volume from its master key and the sealing keys of its
    /// epochs, in any order.
    ///
    /// # Errors
    /// `Invalid` when there is no epoch or one comes twice.
    pub fn new(
        volume: VolumeId,
        master: &Secret,
        epochs: &[(Epoch, Secret)],
        entropy: Arc<dyn Entropy>,
    ) -> Result<VolumeKeys> {
        let mut older: Vec<_> = epochs
            .iter()
            .map(|(epoch, sealing)| EpochKeys::new(*epoch, sealing))
            .collect();
        older.sort_by_key(|keys| keys.epoch);
        if older.windows(2).any(|pair| pair[0].epoch == pair[1].epoch) {
            return Err(Error::Invalid("an epoch of the volume comes twice"));
        }
        let newest = older
            .pop()
            .ok_or(Error::Invalid("the volume has no sealing key"))?;
        Ok(VolumeKeys {
            volume,
            id_key: master.derive(b"kiseki chunk id v1"),
            name_key: master.derive(b"kiseki name tag v1"),
            xattr_key: master.derive(b"kiseki xattr tag v1"),
            front_key: master.derive(b"kiseki front end v1"),
            log_key: Arc::new(SigningKey::from_bytes(
                master.derive(b"kiseki log checkpoint v1").expose(),
            )),
            newest,
            older,
            nonces: NoncePool::new(entropy),
        })
    }

    /// The key that wraps the sealing keys of a volume's epochs.
    #[must_use]
    pub fn epoch_wrapping_key(master: &Secret) -> Secret {
        master.derive(b"kiseki epoch wrapping v1")
    }

    /// The key that signs checkpoints of the volume's log.
    #[must_use]
    pub fn log_signing_key(&self) -> Arc<SigningKey> {
        Arc::clone(&self.log_key)
    }

    /// The key that checks what [`VolumeKeys::log_signing_key`] signed.
    #[must_use]
    pub fn log_verifying_key(&self) -> VerifyingKey {
        self.log_key.verifying_key()
    }

    /// The volume these keys belong to.
    #[must_use]
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// A key for what a front end hands out and wants to recognize; the same
    /// for as long as the volume lives. `purpose` must be distinct for each use.
    #[must_use]
    pub fn front_key(&self, purpose: &[u8]) -> Secret {
        self.front_key.derive(purpose)
    }

    /// The epoch under which everything new is sealed.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.newest.epoch
    }

    /// The id of a chunk with this plaintext; the same for as long as the
    /// volume lives.
    #[must_use]
    pub fn chunk_id(&self, plain: &[u8]) -> ChunkId {
        let hash = blake3::keyed_hash(self.id_key.expose(), plain);
        wipe_stack::<8192>();
        ChunkId(*hash.as_bytes())
    }

    /// The tag of a name in a directory.
    #[must_use]
    pub fn name_tag(&self, parent: Ino, name: &[u8]) -> NameTag {
        tag(&self.name_key, parent, name)
    }

    /// The tag of an extended attribute's name on an inode.
    #[must_use]
    pub fn xattr_tag(&self, ino: Ino, name: &[u8]) -> NameTag {
        tag(&self.xattr_key, ino, name)
    }

    /// Seals a small record to its place, under the newest epoch. It grows by
    /// [`crate::crypto::RECORD_OVERHEAD`] bytes.
    ///
    /// # Errors
    /// `Invalid` beyond 64 GiB.
    pub fn seal_record(&self, context: RecordContext, plain: &[u8]) -> Result<Vec<u8>> {
        let nonce = self.nonces.next();
        self.newest.records.seal(self.volume, context, nonce, plain)
    }

    /// Opens a record that was sealed to this place.
    ///
    /// # Errors
    /// `Damaged` when the bytes are not what was sealed there.
    pub fn open_record(&self, context: RecordContext, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let epoch = record::epoch_of(context, sealed)?;
        self.keys(epoch)
            .ok_or_else(|| context.damaged(no_key(epoch)))?
            .records
            .open(self.volume, context, sealed)
    }

    /// Seals a chunk under the newest epoch. `id` must be the
    /// [`VolumeKeys::chunk_id`] of `plain`: safety of the cipher depends on it.
    ///
    /// # Errors
    /// `Invalid` when the chunk is empty or longer than
    /// [`crate::crypto::MAX_CHUNK`].
    pub fn seal_chunk(&self, id: &ChunkId, plain: &[u8]) -> Result<(ChunkInfo, Vec<u8>)> {
        debug_assert_eq!(*id, self.chunk_id(plain));
        let info = ChunkInfo {
            plain_len: frame::checked_len(plain)?,
            epoch: self.newest.epoch,
        };
        let key = ChunkKey::new(&self.newest.chunks, id, info.plain_len);
        Ok((info, key.seal(plain)))
    }

    /// Opens the whole frames in `sealed`, of which the first is frame
    /// `first_frame`, into `out`, which must be exactly as long as their
    /// plaintext (see [`crate::crypto::frame_span`] and
    /// [`crate::crypto::plain_len`]).
    ///
    /// # Errors
    /// `Damaged` when a frame does not authenticate or is cut; what `out` holds
    /// then must not be used.
    pub fn open_frames(
        &self,
        id: &ChunkId,
        info: ChunkInfo,
        first_frame: u32,
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        let keys = self
            .keys(info.epoch)
            .ok_or_else(|| Error::damaged(format!("chunk {id}"), no_key(info.epoch)))?;
        frame::open_frames(&keys.chunks, id, info, first_frame, sealed, out)
    }

    fn keys(&self, epoch: Epoch) -> Option<&EpochKeys> {
        if epoch == self.newest.epoch {
            return Some(&self.newest);
        }
        let found = self.older.binary_search_by_key(&epoch, |keys| keys.epoch);
        found.ok().map(|at| &self.older[at])
    }
}

impl fmt::Debug for VolumeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VolumeKeys of volume {}", self.volume)
    }
}

fn no_key(epoch: Epoch) -> String {
    format!("it says sealed under {epoch:?}, for which the volume has no key")
}

fn tag(key: &Secret, parent: Ino, name: &[u8]) -> NameTag {
    let parent = parent.0.to_le_bytes();
    let hash = if name.len() <= SHORT_NAME {
        let mut input = Zeroizing::new([0; 8 + SHORT_NAME]);
        input[..8].copy_from_slice(&parent);
        input[8..8 + name.len()].copy_from_slice(name);
        blake3::keyed_hash(key.expose(), &input[..8 + name.len()])
    } else {
        let mut hasher = blake3::Hasher::new_keyed(key.expose());
        hasher.update(&parent).update(name).finalize()
    };
    wipe_stack::<2048>();
    let mut tag = [0; 16];
    tag.copy_from_slice(&hash.as_bytes()[..16]);
    NameTag(tag)
}

#[cfg(test)]
pub(crate) mod tests;
