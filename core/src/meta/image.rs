//! The image of the tables: all of them at one revision, in a file that is
//! never changed.
//!
//! Promises whoever lost `tables.redb`: an image and the log from its revision
//! on make the same tables again. So the log is cut behind an image only, and
//! the two files never lie in the same pages. It is read from one end to the
//! other, its hash covers every byte, and the hash is signed. The bytes are
//! drawn in `docs/format.md`, "Image of the tables".

mod read;
mod write;

#[cfg(test)]
mod tests;

pub use read::{Found, look, restore, verify};
pub use write::write;

use crate::{
    Error,
    ids::{Revision, VolumeId},
};

/// Name of the image in the directory of its volume.
const NAME: &str = "tables.image";

/// Where the image of a volume is.
#[must_use]
pub fn path(dir: &str) -> String {
    format!("{dir}/{NAME}")
}

/// Whether an image of a volume begins with these bytes.
pub(crate) fn is_one(begin: &[u8], volume: VolumeId) -> bool {
    begin.starts_with(&header(volume))
}

const MAGIC: [u8; 8] = *b"KISEKIMG";
const END_MAGIC: [u8; 8] = *b"KISEKEND";
const VERSION: u32 = 1;

/// Length of what stands before the records.
const HEADER: usize = 32;

/// Length of what stands behind them.
const END: usize = 128;

/// How much of [`END`] is signed.
const SIGNED: usize = 64;

/// Length of what stands before each key: its length and that of the value.
const RECORD_HEADER: usize = 6;

/// Longer values are not written by anyone.
const MAX_VALUE: usize = 32 << 20;

fn header(volume: VolumeId) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..].copy_from_slice(&volume.0);
    bytes
}

/// What stands behind the records: which state this is, and that it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    revision: Revision,
    records: u64,
    /// SHA-256 of header and records.
    hash: [u8; 32],
}

impl End {
    /// The bytes that are signed.
    fn encode(&self) -> [u8; SIGNED] {
        let mut bytes = [0; SIGNED];
        bytes[..8].copy_from_slice(&END_MAGIC);
        bytes[8..16].copy_from_slice(&self.revision.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.records.to_le_bytes());
        bytes[32..].copy_from_slice(&self.hash);
        bytes
    }

    fn decode(bytes: &[u8; END]) -> Option<End> {
        let mut end = End {
            revision: Revision(0),
            records: 0,
            hash: [0; 32],
        };
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (revision, rest) = rest.split_first_chunk::<8>()?;
        let (records, _) = rest.split_first_chunk::<8>()?;
        end.revision = Revision(u64::from_le_bytes(*revision));
        end.records = u64::from_le_bytes(*records);
        end.hash.copy_from_slice(&bytes[32..SIGNED]);
        // What is not kept must be zeros, or a flipped bit would go unnoticed.
        (*magic == END_MAGIC && end.encode()[..] == bytes[..SIGNED]).then_some(end)
    }
}

fn damaged(path: &str, what: impl Into<std::sync::Arc<str>>) -> Error {
    Error::damaged(path, what)
}
