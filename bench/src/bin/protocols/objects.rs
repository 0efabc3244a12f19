//! What is put, and what must come back.

use bytes::Bytes;
use kiseki_bench::payload::{PAGE, begins_right, derive, fill, fill_page};

/// The directory, or bucket, that holds all objects.
pub const ROOT: &str = "objects";

/// Directories in it over which objects are spread.
pub const DIRECTORIES: usize = 16;

/// Bytes of a page that no other page has.
const STAMP: usize = 8;

/// Name of a directory of [`ROOT`].
pub fn directory_name(directory: usize) -> String {
    format!("{directory:02}")
}

/// In which directory an object is.
pub fn directory(number: u64) -> usize {
    (number % DIRECTORIES as u64) as usize
}

/// The name of an object there.
pub fn file_name(number: u64) -> String {
    format!("{number:016x}")
}

/// The path of an object below [`ROOT`].
pub fn path(number: u64) -> String {
    format!(
        "{}/{}",
        directory_name(directory(number)),
        file_name(number)
    )
}

/// Objects of one size: random bytes, the same for all, with a stamp in each
/// page, so that making one costs no more than copying. Chunks and blocks are
/// not smaller than a page, so none is found twice.
pub struct Objects {
    seed: u64,
    common: Vec<u8>,
}

impl Objects {
    /// Of `size` bytes, whole pages.
    pub fn new(seed: u64, size: usize) -> Objects {
        let seed = derive(seed, size as u64);
        let mut common = vec![0; size];
        fill(&mut common, seed, 0);
        Objects { seed, common }
    }

    /// Bytes of each.
    pub fn size(&self) -> usize {
        self.common.len()
    }

    /// What an object holds.
    pub fn contents(&self, number: u64) -> Bytes {
        let mut contents = self.common.clone();
        let seed = derive(self.seed, number);
        for (page, at) in contents.chunks_mut(PAGE).zip(0..) {
            fill_page(&mut page[..STAMP], seed, at, 0);
        }
        contents.into()
    }

    /// Whether an object has its length and its stamps: cheap enough to be
    /// asked while others are measured.
    pub fn seems(&self, number: u64, got: &[u8]) -> bool {
        let seed = derive(self.seed, number);
        let mut pages = got.chunks(PAGE).zip(0..);
        got.len() == self.size() && pages.all(|(page, at)| begins_right(page, seed, at, 0))
    }

    /// Whether an object holds what it should, every byte of it.
    pub fn is(&self, number: u64, got: &[u8]) -> bool {
        let mut pages = got.chunks(PAGE).zip(self.common.chunks(PAGE));
        self.seems(number, got) && pages.all(|(page, common)| page[STAMP..] == common[STAMP..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_apart() {
        let objects = Objects::new(1, 2 * PAGE);
        let mut one = objects.contents(1).to_vec();
        assert!(objects.is(1, &one));
        assert!(!objects.seems(2, &one));
        assert!(!objects.seems(1, &one[..PAGE]));
        one[PAGE + 100] ^= 1;
        assert!(objects.seems(1, &one));
        assert!(!objects.is(1, &one));
    }
}
