//! Contents that no file system has seen before: incompressible, without
//! repetition, and computable anew from seed, page and version, so that every
//! byte read can be compared with what was written.

/// Unit in which contents are made, in bytes.
pub const PAGE: usize = 4096;

/// `SplitMix64`: small, fast, and good enough that nothing compresses it.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence that depends on nothing but `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: u64) -> u64 {
        // The bias of the remainder is below 2^-30 for every use here.
        self.bits() % end
    }

    /// A number of the range, both ends included.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            word.copy_from_slice(&self.bits().to_le_bytes()[..word.len()]);
        }
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes);
        bytes
    }
}

/// A seed for a part of what another seed stands for.
#[must_use]
pub fn derive(seed: u64, part: u64) -> u64 {
    Random::new(seed ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93)).bits()
}

/// Fills one page of the file that `seed` names; `version` counts rewrites.
pub fn fill_page(page: &mut [u8], seed: u64, number: u64, version: u32) {
    Random::new(derive(derive(seed, number), u64::from(version))).fill(page);
}

/// Fills `bytes`, which begin at the page-aligned `offset` of a file never
/// rewritten.
pub fn fill(bytes: &mut [u8], seed: u64, offset: u64) {
    let first = offset / PAGE as u64;
    for (page, number) in bytes.chunks_mut(PAGE).zip(first..) {
        fill_page(page, seed, number, 0);
    }
}

/// Whether `page` begins as it should: cheap enough to be inside a measured
/// loop, and enough to notice pages in the wrong place.
#[must_use]
pub fn begins_right(page: &[u8], seed: u64, number: u64, version: u32) -> bool {
    let mut start = [0; 8];
    fill_page(&mut start, seed, number, version);
    page.get(..8) == Some(&start[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_differ_by_seed_number_and_version() {
        let page = |seed, number, version| {
            let mut page = vec![0; PAGE];
            fill_page(&mut page, seed, number, version);
            page
        };
        let all = [page(1, 0, 0), page(2, 0, 0), page(1, 1, 0), page(1, 0, 1)];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert_ne!(a, b);
            }
        }
        assert_eq!(page(7, 3, 2), page(7, 3, 2));
        assert!(begins_right(&page(7, 3, 2), 7, 3, 2));
        assert!(!begins_right(&page(7, 3, 2), 7, 3, 1));
    }

    #[test]
    fn bytes_are_spread_evenly() {
        let mut bytes = vec![0; 1 << 20];
        fill(&mut bytes, 5, 0);
        let mut counts = [0u32; 256];
        for byte in bytes {
            counts[usize::from(byte)] += 1;
        }
        assert!(counts.iter().all(|count| (3_600..4_600).contains(count)));
    }
}
