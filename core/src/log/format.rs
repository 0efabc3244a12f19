//! The bytes of log files: the header of a file, the header of a batch, and
//! the records in a batch. Drawn in `docs/format.md`, section "Log".
//!
//! Decoders take bytes from the disk: they never panic and check every length
//! against what is there.

use sha2::{Digest, Sha256};

use crate::ids::VolumeId;

/// A link of the hash chain: everything up to a batch, in 32 bytes.
pub type Chain = [u8; 32];

/// The version in file headers that this code writes and reads.
pub const VERSION: u32 = 1;
/// Length of the header of a file.
pub const FILE_HEADER: usize = 128;
/// Length of the header of a batch.
pub const BATCH_HEADER: usize = 64;
/// Most bytes a batch can have behind its header.
pub const MAX_PAYLOAD: usize = 32 << 20;
/// Length of what stands before each record.
pub const RECORD_HEADER: usize = 4;

const FILE_MAGIC: [u8; 8] = *b"KISEKLOG";
const BATCH_MAGIC: [u8; 8] = *b"KISEKBAT";

/// The chain before the first batch of a volume.
pub fn genesis(volume: VolumeId) -> Chain {
    let mut hash = Sha256::new();
    hash.update(b"kiseki log of volume ");
    hash.update(volume.0);
    hash.finalize().into()
}

/// The chain before a log that begins anew behind `revision`, when the one
/// that led there is lost.
pub fn restart(volume: VolumeId, revision: u64) -> Chain {
    if revision == 0 {
        return genesis(volume);
    }
    let mut hash = Sha256::new();
    hash.update(b"kiseki log restarted in volume ");
    hash.update(volume.0);
    hash.update(revision.to_le_bytes());
    hash.finalize().into()
}

/// What stands at the start of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// Whose log it is.
    pub volume: VolumeId,
    /// Revision of the first record in the file.
    pub first: u64,
    /// The chain before that record.
    pub chain: Chain,
}

/// Why a file header does not decode.
#[derive(Debug, PartialEq, Eq)]
pub enum FileHeaderFault {
    /// The bytes are not what was written, or not a log file.
    Damaged,
    /// Written by another version of the format.
    Version(u32),
}

impl FileHeader {
    pub fn encode(&self) -> [u8; FILE_HEADER] {
        let mut bytes = [0; FILE_HEADER];
        bytes[..8].copy_from_slice(&FILE_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.volume.0);
        bytes[32..40].copy_from_slice(&self.first.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.chain);
        let sum = Sha256::digest(&bytes[..96]);
        bytes[96..].copy_from_slice(&sum);
        bytes
    }

    pub fn decode(bytes: &[u8; FILE_HEADER]) -> Result<FileHeader, FileHeaderFault> {
        if bytes[..8] != FILE_MAGIC || bytes[96..] != Sha256::digest(&bytes[..96])[..] {
            return Err(FileHeaderFault::Damaged);
        }
        let version = u32::from_le_bytes(array(bytes, 8));
        if version != VERSION {
            return Err(FileHeaderFault::Version(version));
        }
        Ok(FileHeader {
            volume: VolumeId(array(bytes, 16)),
            first: u64::from_le_bytes(array(bytes, 32)),
            chain: array(bytes, 40),
        })
    }
}

/// What stands before the records of one group commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Bytes behind the header, at most [`MAX_PAYLOAD`].
    pub payload: u32,
    /// Records in those bytes, at least 1.
    pub count: u32,
    /// Revision of the first of them.
    pub first: u64,
    /// The chain up to and with this batch.
    pub chain: Chain,
}

impl BatchHeader {
    /// Revision of the last record.
    pub fn last(&self) -> u64 {
        self.first + (u64::from(self.count) - 1)
    }

    /// Length of header and records.
    pub fn len(&self) -> u64 {
        BATCH_HEADER as u64 + u64::from(self.payload)
    }

    /// The header in these bytes, if they are one: magic, checksum and limits
    /// hold. Says nothing about the records behind it.
    pub fn decode(bytes: &[u8; BATCH_HEADER]) -> Option<BatchHeader> {
        if bytes[..8] != BATCH_MAGIC || bytes[56..] != checksum(&bytes[..56]) {
            return None;
        }
        let header = BatchHeader {
            payload: u32::from_le_bytes(array(bytes, 8)),
            count: u32::from_le_bytes(array(bytes, 12)),
            first: u64::from_le_bytes(array(bytes, 16)),
            chain: array(bytes, 24),
        };
        let sane = header.payload as usize <= MAX_PAYLOAD
            && header.count > 0
            && header.first > 0
            && header.first.checked_add(u64::from(header.count)).is_some();
        sane.then_some(header)
    }

    /// The chain with a batch of these fields and records behind `before`.
    fn link(before: &Chain, fields: &[u8], payload: &[u8]) -> Chain {
        let mut hash = Sha256::new();
        hash.update(before);
        hash.update(fields);
        hash.update(payload);
        hash.finalize().into()
    }

    /// Whether `payload` is what was written behind `before`.
    pub fn agrees(&self, before: &Chain, payload: &[u8]) -> bool {
        let fields = Self::fields(self.payload, self.count, self.first);
        Self::link(before, &fields, payload) == self.chain
    }

    fn fields(payload: u32, count: u32, first: u64) -> [u8; 24] {
        let mut fields = [0; 24];
        fields[..8].copy_from_slice(&BATCH_MAGIC);
        fields[8..12].copy_from_slice(&payload.to_le_bytes());
        fields[12..16].copy_from_slice(&count.to_le_bytes());
        fields[16..].copy_from_slice(&first.to_le_bytes());
        fields
    }

    /// Fills in the header at the start of `batch`, whose records stand behind
    /// [`BATCH_HEADER`] bytes of room, and returns the chain with it.
    pub fn seal(batch: &mut [u8], count: u32, first: u64, before: &Chain) -> Chain {
        let (header, payload) = batch.split_at_mut(BATCH_HEADER);
        // The writer bounds a batch to MAX_PAYLOAD, which fits.
        let fields = Self::fields(payload.len() as u32, count, first);
        let chain = Self::link(before, &fields, payload);
        header[..24].copy_from_slice(&fields);
        header[24..56].copy_from_slice(&chain);
        let sum = checksum(&header[..56]);
        header[56..].copy_from_slice(&sum);
        chain
    }
}

/// Appends a record to the payload of a batch.
pub fn push_record(batch: &mut Vec<u8>, record: &[u8]) {
    // Callers bound a record to MAX_PAYLOAD, which fits.
    batch.extend_from_slice(&(record.len() as u32).to_le_bytes());
    batch.extend_from_slice(record);
}

/// The records of a payload, in order. Ends at the first length that does not
/// fit, so that a payload holds `n` sound records if this gives `n` and
/// [`Records::rest`] is empty then.
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub fn new(payload: &'a [u8]) -> Records<'a> {
        Records { rest: payload }
    }

    /// Whether a payload is exactly `count` records.
    pub fn sound(payload: &[u8], count: u32) -> bool {
        let mut records = Records::new(payload);
        records.by_ref().count() == count as usize && records.rest.is_empty()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.rest.split_first_chunk::<RECORD_HEADER>()?;
        let len = u32::from_le_bytes(*len) as usize;
        let (record, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(record)
    }
}

/// Offset of the first whole, valid batch header in `bytes` at or behind `from`.
pub fn find_batch(bytes: &[u8], from: usize) -> Option<(usize, BatchHeader)> {
    let starts = bytes.windows(BATCH_HEADER).enumerate().skip(from);
    for (offset, window) in starts {
        // One byte first: this runs over megabytes.
        if window[0] == BATCH_MAGIC[0]
            && let Some(bytes) = window.first_chunk()
            && let Some(header) = BatchHeader::decode(bytes)
        {
            return Some((offset, header));
        }
    }
    None
}

/// The first 8 bytes of the SHA-256 of `bytes`.
pub fn checksum(bytes: &[u8]) -> [u8; 8] {
    array(&Sha256::digest(bytes), 0)
}

/// `N` bytes from `at`, all of which the caller knows to be there.
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// The name of the file whose first record has revision `first`.
pub fn file_name(first: u64) -> String {
    format!("{first:016x}.log")
}

/// The first revision a file's name says, if it is the name of a log file.
pub fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let first = u64::from_str_radix(digits, 16).ok()?;
    // Refuses signs, capitals and other lengths, which we never write.
    (file_name(first) == name && first > 0).then_some(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const VOLUME: VolumeId = VolumeId([7; 16]);

    fn batch(records: &[Vec<u8>]) -> Vec<u8> {
        let mut batch = vec![0; BATCH_HEADER];
        for record in records {
            push_record(&mut batch, record);
        }
        BatchHeader::seal(&mut batch, records.len() as u32, 9, &genesis(VOLUME));
        batch
    }

    #[test]
    fn a_flipped_bit_in_a_file_header_is_noticed() {
        let header = FileHeader {
            volume: VOLUME,
            first: 5,
            chain: [3; 32],
        };
        let bytes = header.encode();
        assert_eq!(FileHeader::decode(&bytes), Ok(header));
        for bit in 0..FILE_HEADER * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::decode(&bytes), Err(FileHeaderFault::Damaged));
        }
    }

    #[test]
    fn names_are_exact() {
        assert_eq!(parse_file_name("00000000000000ff.log"), Some(255));
        for name in [
            "checkpoint",
            "ff.log",
            "00000000000000FF.log",
            "+0000000000000ff.log",
            "0000000000000000.log",
            "00000000000000ff.log~",
        ] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn batches_come_back(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20)) {
            let bytes = batch(&records);
            let (offset, header) = find_batch(&bytes, 0).unwrap();
            prop_assert_eq!(offset, 0);
            prop_assert_eq!((header.first, header.last()), (9, 8 + records.len() as u64));
            let payload = &bytes[BATCH_HEADER..];
            prop_assert!(header.agrees(&genesis(VOLUME), payload));
            prop_assert!(!header.agrees(&[0; 32], payload));
            prop_assert!(Records::sound(payload, header.count));
            prop_assert!(!Records::sound(payload, header.count + 1));
            let found: Vec<_> = Records::new(payload).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(found, records);
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(find_batch(&bytes, 0).is_none());
            let _ = Records::sound(&bytes, 3);
            if let Some(bytes) = bytes.first_chunk() {
                prop_assert!(FileHeader::decode(bytes).is_err());
            }
        }
    }
}
