//! Where a byte stream is cut into chunks.
//!
//! Promises the engine that a cut depends on nothing but the bytes since the
//! cut before it, so that equal streams have equal chunks, however they arrive
//! and in however many pieces they are looked at.

/// Length of a block when cutting at fixed offsets, and about the average
/// length of a content-defined chunk. Powers of two keep every bound a whole
/// number of pages and of the 16 KiB frames that chunks are sealed in.
pub const BLOCK: usize = 64 << 10;

/// Content-defined chunks, but for the last of a stream, are longer than this.
/// The search skips these bytes, which is where a good part of the speed comes
/// from. A quarter of the average: more would make more cuts fall on the bound
/// instead of on content.
pub const MIN_CHUNK: usize = BLOCK / 4;

/// No chunk is longer. Four times the average: random content reaches it once
/// in forty chunks, so nearly all cuts are found by content, and what a reader
/// or a write buffer has to hold for one chunk stays small.
pub const MAX_CHUNK: usize = BLOCK * 4;

/// Ones in the high bits, one for each halving of the rate of cuts: the high
/// bits of a gear hash are the ones that depend on all of the last 64 bytes.
/// With the skipped quarter and the bound, sixteen ones make the measured
/// average 79 KiB; fifteen would make it 48.
const MASK: u64 = !(u64::MAX >> BLOCK.trailing_zeros());

/// The hash knows the last 64 bytes; so many are fed to it before the search.
const WINDOW: usize = 64;

/// Finds the end of one content-defined chunk after the other. Remembers how
/// far it looked, so that a stream that comes in small pieces is still hashed
/// only once.
#[derive(Debug, Default)]
pub struct Cutter {
    hasher: gearhash::Hasher<'static>,
    /// Bytes of the current chunk that hold no cut.
    searched: usize,
}

impl Cutter {
    /// A cutter at the beginning of a chunk.
    #[must_use]
    pub fn new() -> Cutter {
        Cutter::default()
    }

    /// The length of the chunk that begins at the beginning of `data`, or
    /// nothing when more bytes have to be seen first. Asked again for the same
    /// chunk, `data` begins with all the bytes it had before. After an answer
    /// the next chunk begins. `last`: the stream ends with `data`, so what is
    /// left becomes a chunk.
    pub fn next_cut(&mut self, data: &[u8], last: bool) -> Option<usize> {
        let cut = self
            .search(&data[..data.len().min(MAX_CHUNK)])
            .or_else(|| (last && !data.is_empty()).then_some(data.len()));
        if cut.is_some() {
            *self = Cutter::new();
        }
        cut
    }

    fn search(&mut self, data: &[u8]) -> Option<usize> {
        if self.searched == 0 {
            if data.len() < MIN_CHUNK {
                return None;
            }
            self.hasher.set_hash(0);
            self.hasher.update(&data[MIN_CHUNK - WINDOW..MIN_CHUNK]);
            self.searched = MIN_CHUNK;
        }
        let fresh = data.get(self.searched..)?;
        let found = self.hasher.next_match(fresh, MASK);
        match found {
            Some(end) => Some(self.searched + end),
            None if data.len() == MAX_CHUNK => Some(MAX_CHUNK),
            None => {
                self.searched = data.len();
                None
            }
        }
    }
}

/// The ends of the chunks of `data`, as offsets in it: by content, or in
/// blocks of [`BLOCK`] bytes from its beginning (the caller aligns it).
/// Without `last` the bytes behind the last end are not decided yet; give them
/// again in front of those that follow.
#[must_use]
pub fn cut_points(by_content: bool, data: &[u8], last: bool) -> Vec<usize> {
    let mut cuts = Vec::with_capacity(data.len() / BLOCK + 1);
    let mut cutter = Cutter::new();
    let mut begin = 0;
    while begin < data.len() {
        let rest = &data[begin..];
        let cut = if by_content {
            cutter.next_cut(rest, last)
        } else if rest.len() >= BLOCK {
            Some(BLOCK)
        } else {
            last.then_some(rest.len())
        };
        let Some(len) = cut else { break };
        begin += len;
        cuts.push(begin);
    }
    cuts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// Bytes that look random, the same for the same seed.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    fn lengths(cuts: &[usize]) -> Vec<usize> {
        let begins = std::iter::once(0).chain(cuts.iter().copied());
        begins.zip(cuts).map(|(begin, end)| end - begin).collect()
    }

    /// Cuts a stream that arrives in pieces.
    fn cut_in_pieces(by_content: bool, data: &[u8], pieces: &[usize]) -> Vec<usize> {
        let mut cuts = Vec::new();
        let mut begin = 0;
        let mut end = 0;
        for piece in pieces.iter().copied().chain([data.len()]) {
            end = data.len().min(end + piece);
            let last = end == data.len();
            let found = cut_points(by_content, &data[begin..end], last);
            cuts.extend(found.iter().map(|cut| begin + cut));
            begin = cuts.last().copied().unwrap_or(0);
            if last {
                break;
            }
        }
        cuts
    }

    #[test]
    fn content_defined_chunks_keep_their_bounds_and_average() {
        let data = noise(1, 64 << 20);
        let mut lengths = lengths(&cut_points(true, &data, true));
        assert_eq!(lengths.iter().sum::<usize>(), data.len());
        lengths.pop();
        assert!(
            lengths
                .iter()
                .all(|len| (MIN_CHUNK..=MAX_CHUNK).contains(len))
        );
        let average = lengths.iter().sum::<usize>() / lengths.len();
        assert!((56 << 10..96 << 10).contains(&average), "average {average}");
        let bounded = lengths.iter().filter(|len| **len == MAX_CHUNK).count();
        assert!(
            bounded * 20 < lengths.len(),
            "{bounded} of {}",
            lengths.len()
        );
    }

    #[test]
    fn an_insertion_changes_only_the_chunks_around_it() {
        let before = noise(2, 8 << 20);
        let mut after = before.clone();
        after.splice(4 << 20..4 << 20, noise(3, 1000));
        let chunks = |data: &[u8]| {
            let cuts = cut_points(true, data, true);
            let begins = std::iter::once(0).chain(cuts.clone());
            begins
                .zip(cuts)
                .map(|(begin, end)| blake3::hash(&data[begin..end]))
                .collect::<Vec<_>>()
        };
        let old = chunks(&before);
        let new = chunks(&after);
        let changed = new.iter().filter(|chunk| !old.contains(chunk)).count();
        assert!(changed <= 6, "{changed} of {} chunks changed", new.len());
    }

    #[test]
    fn content_without_a_match_is_cut_at_the_bound() {
        let data = vec![0; 1 << 20];
        assert_eq!(lengths(&cut_points(true, &data, true)), [MAX_CHUNK; 4]);
    }

    #[test]
    fn fixed_blocks_leave_the_rest_to_the_last_piece() {
        let data = vec![7; 2 * BLOCK + 5];
        assert_eq!(cut_points(false, &data, false), [BLOCK, 2 * BLOCK]);
        let all = [BLOCK, 2 * BLOCK, 2 * BLOCK + 5];
        assert_eq!(cut_points(false, &data, true), all);
        assert!(cut_points(true, &[], true).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn pieces_are_cut_like_the_whole(
            seed in any::<u64>(),
            len in 0_usize..1_500_000,
            pieces in prop::collection::vec(1_usize..200_000, 0..40),
            by_content in any::<bool>(),
        ) {
            let data = noise(seed, len);
            let whole = cut_points(by_content, &data, true);
            prop_assert_eq!(cut_in_pieces(by_content, &data, &pieces), whole);
        }

        #[test]
        fn a_cutter_fed_bit_by_bit_finds_the_same_cuts(seed in any::<u64>(), step in 1_usize..50_000) {
            let data = noise(seed, 600_000);
            let mut cutter = Cutter::new();
            let (mut begin, mut end, mut cuts) = (0, 0, Vec::new());
            while begin < data.len() {
                end = data.len().min(end + step);
                while let Some(len) = cutter.next_cut(&data[begin..end], end == data.len()) {
                    begin += len;
                    cuts.push(begin);
                }
            }
            prop_assert_eq!(cuts, cut_points(true, &data, true));
        }
    }
}
