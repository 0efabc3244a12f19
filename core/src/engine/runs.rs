//! Runs of bytes that a sealing pass cuts into chunks.

use bytes::{Bytes, BytesMut};

use crate::{
    chunk::{
        CutPolicy,
        cut::{self, Cutter},
    },
    engine::{buffer::LONG, dirty::FrozenMap},
};

/// Small overwrites are widened to multiples of this, which bounds how many
/// extents a file can have.
pub(super) const BLOCK: u64 = 4096;

/// An overwrite of this length is cut like a stream.
const STREAM: usize = 1 << 20;

/// Chunks with their offsets in the file.
pub(super) type Chunks = Vec<(u64, Bytes)>;

/// Neighbouring bytes of a file.
pub(super) struct Run {
    pub offset: u64,
    /// The bytes, one part behind the other. They are shared, not copied; only
    /// a chunk that lies across two parts is.
    pub parts: Vec<Bytes>,
    /// It continues the file, rather than overwriting a part of it.
    pub append: bool,
}

impl Run {
    fn is_stream(&self, policy: CutPolicy) -> bool {
        match policy {
            CutPolicy::Cdc => true,
            CutPolicy::Fixed => false,
            CutPolicy::Auto => {
                self.append || self.parts.iter().map(Bytes::len).sum::<usize>() >= STREAM
            }
        }
    }

    /// Cuts the run into chunks. Unless it `ends` here, the bytes behind the
    /// last decided cut come back, to be cut with those that follow; if no cut
    /// is decided at all, everything becomes chunks.
    pub fn cut(self, policy: CutPolicy, ends: bool) -> (Chunks, Option<(u64, Bytes)>) {
        let mut finder = if self.is_stream(policy) {
            Finder::Content(Cutter::new())
        } else {
            Finder::Block(self.offset)
        };
        let mut cut = Cut {
            chunks: Vec::new(),
            at: self.offset,
            carry: BytesMut::new(),
        };
        for part in self.parts {
            cut.part(part, &mut finder);
        }
        let rest = cut.carry.freeze();
        if rest.is_empty() {
            return (cut.chunks, None);
        }
        if ends || cut.chunks.is_empty() {
            cut.chunks.push((cut.at, rest));
            return (cut.chunks, None);
        }
        (cut.chunks, Some((cut.at, rest)))
    }
}

enum Finder {
    Content(Cutter),
    /// The offset in the file where the next chunk begins.
    Block(u64),
}

impl Finder {
    fn next(&mut self, data: &[u8]) -> Option<usize> {
        match self {
            Finder::Content(cutter) => cutter.next_cut(data, false),
            Finder::Block(offset) => {
                let block = cut::BLOCK as u64;
                let len = block - *offset % block;
                let found = (data.len() as u64 >= len).then_some(len as usize);
                *offset += found.map_or(0, |_| len);
                found
            }
        }
    }
}

struct Cut {
    chunks: Chunks,
    /// Offset of the first byte that is in no chunk yet.
    at: u64,
    /// Bytes behind the last cut, of parts before this one.
    carry: BytesMut,
}

impl Cut {
    fn part(&mut self, mut part: Bytes, finder: &mut Finder) {
        if !self.carry.is_empty() {
            let before = self.carry.len();
            let more = part.len().min(cut::MAX_CHUNK - before);
            self.carry.extend_from_slice(&part[..more]);
            // No cut was found in what was carried, so the next one is behind it.
            let Some(len) = finder.next(&self.carry) else {
                return;
            };
            let mut chunk = std::mem::take(&mut self.carry);
            chunk.truncate(len);
            self.push(chunk.freeze());
            part = part.split_off(len - before);
        }
        while let Some(len) = finder.next(&part) {
            self.push(part.split_to(len));
        }
        self.carry.extend_from_slice(&part);
    }

    fn push(&mut self, chunk: Bytes) {
        let at = self.at;
        self.at += chunk.len() as u64;
        self.chunks.push((at, chunk));
    }
}

/// Groups of chunks of about `share` bytes, for one worker each.
pub(super) fn shares(chunks: Chunks, share: usize) -> Vec<Chunks> {
    let mut shares: Vec<Chunks> = Vec::new();
    let mut room = 0;
    for chunk in chunks {
        if room == 0 {
            shares.push(Vec::new());
            room = share;
        }
        room = room.saturating_sub(chunk.1.len());
        if let Some(share) = shares.last_mut() {
            share.push(chunk);
        }
    }
    shares
}

/// Runs of unsealed bytes. Pieces within one block belong to one run, so that
/// widened runs never overlap.
pub(super) fn runs(data: &FrozenMap) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (start, piece) in data.pieces() {
        let end = start + piece.len() as u64;
        match runs.last_mut() {
            Some((from, to))
                if start / BLOCK <= to.saturating_sub(1) / BLOCK
                    || (*to == start && end - *from <= 8 * LONG as u64) =>
            {
                *to = end;
            }
            _ => runs.push((start, end)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noise(len: usize) -> Bytes {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes.into()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn parts_are_cut_like_the_whole(
            mut at in prop::collection::vec(0..1_000_000usize, 0..6),
            policy in prop_oneof![Just(CutPolicy::Cdc), Just(CutPolicy::Fixed)],
            offset in 0..100_000u64,
            ends: bool,
        ) {
            let whole = noise(1_000_000);
            at.push(0);
            at.push(whole.len());
            at.sort_unstable();
            let parts = at.windows(2).map(|pair| whole.slice(pair[0]..pair[1])).collect();
            let run = |parts| Run { offset, parts, append: true };
            let (expected, rest) = run(vec![whole.clone()]).cut(policy, ends);
            let (chunks, kept) = run(parts).cut(policy, ends);
            prop_assert_eq!(&chunks, &expected);
            prop_assert_eq!(&kept, &rest);
            let mut joined: Vec<u8> = chunks.iter().flat_map(|(_, c)| c.to_vec()).collect();
            joined.extend(kept.iter().flat_map(|(_, c)| c.to_vec()));
            prop_assert_eq!(joined, whole);
            prop_assert!(!ends || kept.is_none());
        }
    }
}
