//! Chunks as frames: each 16 KiB of plaintext is sealed by itself, so that a
//! small read opens one frame and not a whole chunk.
//!
//! AES-256-GCM with the frame number as nonce is safe here because the key
//! belongs to one plaintext: it is derived from the chunk id, a keyed hash of
//! that plaintext, and from everything else that changes the sealed bytes.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    Error, Result,
    chunk::ChunkInfo,
    crypto::secret::{cipher, expand},
    ids::ChunkId,
};

/// Plaintext bytes of a frame; only the last frame of a chunk is shorter.
pub const FRAME: usize = 16 * 1024;
/// Bytes that sealing adds to each frame.
pub const TAG: usize = 16;
/// Longest plaintext of a chunk, in bytes.
pub const MAX_CHUNK: usize = 16 * 1024 * 1024;

const SEALED_FRAME: usize = FRAME + TAG;
const LABEL: &[u8] = b"kiseki chunk v1";
const VERSION: u8 = 1;
/// No compression: the only codec there is.
const CODEC: u8 = 0;

/// Bytes that a chunk of `plain_len` bytes takes when sealed.
#[must_use]
pub fn sealed_len(plain_len: u32) -> u32 {
    plain_len.saturating_add(plain_len.div_ceil(FRAME as u32) * TAG as u32)
}

/// Plaintext bytes in a run of whole frames of `sealed_len` bytes, of which
/// the last may be short.
#[must_use]
pub fn plain_len(sealed_len: u32) -> u32 {
    sealed_len.saturating_sub(sealed_len.div_ceil(SEALED_FRAME as u32) * TAG as u32)
}

/// Where the frames lie that hold the plaintext `from..to` of a chunk: number
/// of the first frame, offset of its first sealed byte, and how many sealed
/// bytes to read. `to` is cut to the length of the chunk; an empty range has
/// no frames.
#[must_use]
pub fn frame_span(info: ChunkInfo, from: u32, to: u32) -> (u32, u32, u32) {
    let to = to.min(info.plain_len);
    let first = from / FRAME as u32;
    // A frame number is below 2^18, so its sealed offset fits well above any
    // chunk that can exist; saturate for lengths read from a damaged disk.
    let offset = first.saturating_mul(SEALED_FRAME as u32);
    if from >= to {
        return (first, offset, 0);
    }
    let end = to
        .div_ceil(FRAME as u32)
        .saturating_mul(FRAME as u32)
        .min(info.plain_len);
    (first, offset, sealed_len(end).saturating_sub(offset))
}

/// The key of one chunk.
pub(crate) struct ChunkKey(LessSafeKey);

impl ChunkKey {
    /// `epoch` is the extracted sealing key of the epoch.
    pub(crate) fn new(epoch: &Hkdf<Sha256>, id: &ChunkId, plain_len: u32) -> ChunkKey {
        let frame_size = (FRAME as u32).to_le_bytes();
        let mut key = Zeroizing::new([0; 32]);
        expand(
            epoch,
            &[
                LABEL,
                &[VERSION, CODEC],
                &frame_size,
                &plain_len.to_le_bytes(),
                &id.0,
            ],
            &mut key,
        );
        ChunkKey(cipher(&AES_256_GCM, &key))
    }

    /// Seals a whole chunk.
    pub(crate) fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(plain.len() + plain.len().div_ceil(FRAME) * TAG);
        for (number, frame) in (0..).zip(plain.chunks(FRAME)) {
            let start = sealed.len();
            sealed.extend_from_slice(frame);
            let tag = self
                .0
                .seal_in_place_separate_tag(nonce(number), Aad::empty(), &mut sealed[start..])
                .expect("AES-GCM seals any frame of 16 KiB");
            sealed.extend_from_slice(tag.as_ref());
        }
        sealed
    }

    /// Opens whole frames from `first` on into `out`, which has been checked
    /// to match `sealed`; `Err` is the number of the frame that does not
    /// authenticate.
    fn open(&self, first: u32, sealed: &[u8], out: &mut [u8]) -> Result<(), u32> {
        let frames = sealed.chunks(SEALED_FRAME).zip(out.chunks_mut(FRAME));
        for (number, (sealed, out)) in (first..).zip(frames) {
            let (text, tag) = sealed.split_at(out.len());
            self.0
                .open_separate_gather(nonce(number), Aad::empty(), text, tag, out)
                .map_err(|_| number)?;
        }
        Ok(())
    }
}

/// Checks a length before anything is sealed under it.
pub(crate) fn checked_len(plain: &[u8]) -> Result<u32> {
    match plain.len() {
        0 => Err(Error::Invalid("a chunk has at least one byte")),
        len if len > MAX_CHUNK => Err(Error::Invalid("a chunk has at most 16 MiB")),
        len => Ok(len as u32),
    }
}

/// Opens whole frames of a chunk, `first` being the number of the first one;
/// see [`crate::crypto::VolumeKeys::open_frames`].
pub(crate) fn open_frames(
    epoch: &Hkdf<Sha256>,
    id: &ChunkId,
    info: ChunkInfo,
    first: u32,
    sealed: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let damaged = |what: String| Error::damaged(format!("chunk {id}"), what);
    let whole = info.plain_len as usize;
    if whole > MAX_CHUNK {
        return Err(damaged(format!("impossible length of {whole} bytes")));
    }
    let start = (first as usize).saturating_mul(FRAME).min(whole);
    let end = (start + sealed.len().div_ceil(SEALED_FRAME) * FRAME).min(whole);
    let plain = end - start;
    if sealed.len() != plain + plain.div_ceil(FRAME) * TAG {
        return Err(damaged(format!(
            "{} sealed bytes from frame {first} on are not whole frames",
            sealed.len()
        )));
    }
    if out.len() != plain {
        return Err(Error::Invalid("the buffer does not fit the frames"));
    }
    ChunkKey::new(epoch, id, info.plain_len)
        .open(first, sealed, out)
        .map_err(|frame| damaged(format!("frame {frame} does not authenticate")))
}

fn nonce(frame: u32) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&frame.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests;
