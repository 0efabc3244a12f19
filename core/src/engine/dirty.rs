//! Bytes written to a file and not sealed yet.
//!
//! A map of pieces that never overlap: the newest write wins. Neighbouring
//! writes grow one piece, so that a stream of small writes is one buffer.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::engine::buffer::{Buffer, LONG};

/// Bytes by file offset, in pieces that never overlap.
pub(super) struct Pieces<P> {
    pieces: BTreeMap<u64, P>,
    bytes: usize,
}

/// Unsealed bytes that still change.
pub(super) type DirtyMap = Pieces<Buffer>;

/// Unsealed bytes that a pass has taken: shared, and not changing.
pub(super) type FrozenMap = Pieces<Bytes>;

impl<P> Default for Pieces<P> {
    fn default() -> Self {
        Pieces {
            pieces: BTreeMap::new(),
            bytes: 0,
        }
    }
}

impl DirtyMap {
    /// Puts `data` at `offset`, over whatever was there.
    pub fn insert(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if let Some((&start, piece)) = self.pieces.range_mut(..=offset).next_back() {
            let at = (offset - start) as usize;
            if at + data.len() <= piece.len() {
                piece.as_mut()[at..at + data.len()].copy_from_slice(data);
                return;
            }
        }
        self.remove(offset, offset + data.len() as u64);
        self.bytes += data.len();
        if let Some((&start, piece)) = self.pieces.range_mut(..offset).next_back()
            && start + piece.len() as u64 == offset
            && piece.len() + data.len() <= LONG
        {
            piece.extend(data);
            return;
        }
        self.pieces.insert(offset, data.into());
    }

    /// Puts `data` at `offset` where nothing is held, leaving what is.
    pub fn insert_under(&mut self, offset: u64, data: &[u8]) {
        for (from, to) in self.gaps(offset, offset + data.len() as u64) {
            self.insert(
                from,
                &data[(from - offset) as usize..(to - offset) as usize],
            );
        }
    }

    /// Drops what is held of `from..to`.
    pub fn remove(&mut self, from: u64, to: u64) {
        let touched: Vec<u64> = self.overlapping(from, to).map(|(start, _)| start).collect();
        for start in touched {
            let Some(mut piece) = self.pieces.remove(&start) else {
                continue;
            };
            self.bytes -= piece.len();
            let end = start + piece.len() as u64;
            if end > to {
                let tail = Buffer::from(&piece.as_ref()[(to - start) as usize..]);
                self.bytes += tail.len();
                self.pieces.insert(to, tail);
            }
            if start < from {
                piece.truncate((from - start) as usize);
                self.bytes += piece.len();
                self.pieces.insert(start, piece);
            }
        }
    }

    /// The same bytes, no longer changing.
    pub fn freeze(self) -> FrozenMap {
        let pieces = self.pieces.into_iter();
        Pieces {
            pieces: pieces
                .map(|(start, piece)| (start, Bytes::from_owner(piece)))
                .collect(),
            bytes: self.bytes,
        }
    }
}

impl FrozenMap {
    /// Pieces in offset order.
    pub fn shared(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        self.pieces.iter().map(|(start, piece)| (*start, piece))
    }
}

impl<P: AsRef<[u8]>> Pieces<P> {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether anything of `from..to` is held.
    pub fn touches(&self, from: u64, to: u64) -> bool {
        self.overlapping(from, to).next().is_some()
    }

    /// Copies what is held of the range at `offset` over `buffer`.
    pub fn copy_into(&self, offset: u64, buffer: &mut [u8]) {
        let end = offset + buffer.len() as u64;
        for (start, piece) in self.overlapping(offset, end) {
            let from = start.max(offset);
            let to = (start + piece.len() as u64).min(end);
            buffer[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&piece[(from - start) as usize..(to - start) as usize]);
        }
    }

    /// What is held of `from..to`, trimmed to it.
    pub fn range(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &[u8])> {
        self.overlapping(from, to).map(move |(start, piece)| {
            let skip = from.saturating_sub(start) as usize;
            let stop = piece.len().min((to - start) as usize);
            (start + skip as u64, &piece[skip..stop])
        })
    }

    /// Pieces in offset order.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.pieces
            .iter()
            .map(|(start, piece)| (*start, piece.as_ref()))
    }

    /// Ranges of `from..to` of which nothing is held.
    pub fn gaps(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = from;
        for (start, piece) in self.range(from, to) {
            if start > at {
                gaps.push((at, start));
            }
            at = start + piece.len() as u64;
        }
        if at < to {
            gaps.push((at, to));
        }
        gaps
    }

    fn overlapping(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let first = self
            .pieces
            .range(..=from)
            .next_back()
            .filter(|(start, piece)| *start + piece.as_ref().len() as u64 > from)
            .map_or(from, |(start, _)| *start);
        let empty = from >= to;
        self.pieces
            .range(first..to.max(first))
            .take_while(move |_| !empty)
            .map(|(start, piece)| (*start, piece.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const SPAN: usize = 96;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64, Vec<u8>),
        Under(u64, Vec<u8>),
        Remove(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let data = prop::collection::vec(1u8.., 0..24);
        prop_oneof![
            (0..72u64, data.clone()).prop_map(|(at, d)| Step::Insert(at, d)),
            (0..72u64, data).prop_map(|(at, d)| Step::Under(at, d)),
            (0..96u64, 0..30u64).prop_map(|(at, n)| Step::Remove(at, at + n)),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_an_array_of_optional_bytes(steps in prop::collection::vec(step(), 1..40)) {
            let mut map = DirtyMap::default();
            let mut model = [None::<u8>; SPAN + 64];
            for step in steps {
                match step {
                    Step::Insert(at, data) => {
                        map.insert(at, &data);
                        for (i, b) in data.iter().enumerate() { model[at as usize + i] = Some(*b); }
                    }
                    Step::Under(at, data) => {
                        map.insert_under(at, &data);
                        for (i, b) in data.iter().enumerate() { model[at as usize + i].get_or_insert(*b); }
                    }
                    Step::Remove(from, to) => {
                        map.remove(from, to);
                        for slot in &mut model[from as usize..to as usize] { *slot = None; }
                    }
                }
                let mut seen = [0u8; SPAN + 64];
                map.copy_into(0, &mut seen);
                for (i, slot) in model.iter().enumerate() {
                    prop_assert_eq!(seen[i], slot.unwrap_or(0));
                    prop_assert_eq!(map.touches(i as u64, i as u64 + 1), slot.is_some());
                }
                let missing: u64 = map.gaps(0, SPAN as u64).iter().map(|(a, b)| b - a).sum();
                prop_assert_eq!(missing as usize, model[..SPAN].iter().filter(|s| s.is_none()).count());
                prop_assert_eq!(map.bytes(), model.iter().flatten().count());
            }
        }
    }
}
