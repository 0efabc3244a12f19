//! File contents that a seed determines.
//!
//! Incompressible, different for every seed, and computable at any offset, so
//! that a file of any size can be verified without keeping a copy.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use anyhow::{Context, bail, ensure};

use crate::Result;

/// Bytes written and compared at once.
const PIECE: usize = 1 << 20;

/// An endless stream of bytes, determined by its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content(pub u64);

impl Content {
    /// The bytes of the stream at `offset`.
    pub fn fill(self, offset: u64, buffer: &mut [u8]) {
        let skew = (offset % 8) as usize;
        let mut word = offset / 8;
        let (head, rest) = buffer.split_at_mut(((8 - skew) % 8).min(buffer.len()));
        if !head.is_empty() {
            let len = head.len();
            head.copy_from_slice(&self.word(word)[skew..skew + len]);
            word += 1;
        }
        for piece in rest.chunks_mut(8) {
            piece.copy_from_slice(&self.word(word)[..piece.len()]);
            word += 1;
        }
    }

    /// The `len` bytes at `offset`.
    #[must_use]
    pub fn bytes(self, offset: u64, len: usize) -> Vec<u8> {
        let mut buffer = vec![0; len];
        self.fill(offset, &mut buffer);
        buffer
    }

    /// Makes a file of the first `len` bytes and syncs it.
    pub fn create(self, path: &Path, len: u64) -> Result {
        let mut file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        let mut buffer = vec![0; PIECE];
        let mut offset = 0;
        while offset < len {
            let piece = &mut buffer[..PIECE.min((len - offset) as usize)];
            self.fill(offset, piece);
            file.write_all(piece)
                .with_context(|| format!("write {} at {offset}", path.display()))?;
            offset += piece.len() as u64;
        }
        file.sync_all()
            .with_context(|| format!("sync {}", path.display()))
    }

    /// Fails unless the file holds the first `len` bytes and nothing else.
    pub fn verify(self, path: &Path, len: u64) -> Result {
        let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut offset = 0;
        let (mut found, mut wanted) = (vec![0; PIECE], vec![0; PIECE]);
        loop {
            let count = file
                .read(&mut found)
                .with_context(|| format!("read {} at {offset}", path.display()))?;
            if count == 0 {
                break;
            }
            self.fill(offset, &mut wanted[..count]);
            // As a whole first: byte by byte takes as long as all the rest, in a debug build.
            if found[..count] != wanted[..count]
                && let Some(at) = (0..count).find(|&at| found[at] != wanted[at])
            {
                bail!("{} differs at {}", path.display(), offset + at as u64);
            }
            offset += count as u64;
        }
        ensure!(
            offset == len,
            "{} has {offset} bytes, not {len}",
            path.display()
        );
        Ok(())
    }

    /// Writes the stream's bytes of one range to the same place in the file.
    pub fn write_at(self, file: &File, offset: u64, len: usize) -> Result {
        Ok(file.write_all_at(&self.bytes(offset, len), offset)?)
    }

    fn word(self, index: u64) -> [u8; 8] {
        mix(self
            .0
            .wrapping_mul(0xd134_2543_de82_ef95)
            .wrapping_add(mix(index)))
        .to_le_bytes()
    }
}

/// A repeatable source of choices for a test.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Equal seeds give equal choices.
    #[must_use]
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % limit.max(1)
    }
}

/// A bijection on 64 bits whose output looks random.
fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
