//! The bytes of a segment file.
//!
//! Promises whoever finds such a file, with nothing else left: every chunk in
//! it can be found again and checked, without a key and whatever has become of
//! the bytes around it. `docs/format.md`, "Chunk segments", draws the layout.

mod scan;

pub(super) use scan::{Found, scan};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{ChunkInfo, cut::MAX_CHUNK};
use crate::{
    Error, Result,
    ids::{ChunkId, Epoch, VolumeId},
};

/// Version of the segment format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// Length of the header of a segment file in bytes; the first entry follows.
pub const SEGMENT_HEADER_LEN: usize = 64;

/// Length of the header of an entry in bytes; the frames follow.
pub const ENTRY_HEADER_LEN: usize = 80;

/// Entries begin at multiples of this, so that a search for the next one has
/// few places to look at.
pub const ALIGN: u64 = 16;

/// The longest chunk, with room for what sealing adds.
pub const MAX_SEALED: usize = MAX_CHUNK + MAX_CHUNK / 64;

const SEGMENT_MAGIC: [u8; 8] = *b"kskSEGM\n";
const CHUNK_MAGIC: [u8; 8] = *b"kskCHNK\n";
const VOID_MAGIC: [u8; 8] = *b"kskVOID\n";

/// What the header of a segment file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose chunks these are.
    pub volume: VolumeId,
    /// Number of the segment, as in its file name.
    pub number: u32,
}

/// Where an entry stands. It is part of every entry's checksum, so that bytes
/// of another volume, file or place are never taken for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The volume of the segment.
    pub volume: VolumeId,
    /// The segment.
    pub segment: u32,
    /// Offset of the entry header in the file.
    pub offset: u32,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A chunk.
    Chunk,
    /// Nothing: a write that never happened, or happened in part.
    Void,
}

/// What the header of an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// Chunk or void. The other fields of a void, but for `sealed_len`, tell
    /// what was to be written, where that is known, and are zero elsewhere.
    pub kind: EntryKind,
    /// The chunk.
    pub id: ChunkId,
    /// Plaintext length and sealing key.
    pub info: ChunkInfo,
    /// Bytes that follow the header.
    pub sealed_len: u32,
    /// [`checksum`] of them.
    pub checksum: u64,
}

/// The checksum of sealed bytes. It guards against decay, not against people:
/// those are kept off by the authenticated encryption of the bytes.
#[must_use]
pub fn checksum(sealed: &[u8]) -> u64 {
    xxh3_64(sealed)
}

/// Bytes from the beginning of an entry to the beginning of the next.
#[must_use]
pub fn entry_span(sealed_len: u32) -> u64 {
    (ENTRY_HEADER_LEN as u64 + u64::from(sealed_len)).next_multiple_of(ALIGN)
}

/// The header of a segment file.
#[must_use]
pub fn encode_segment_header(header: &SegmentHeader) -> [u8; SEGMENT_HEADER_LEN] {
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[12..16].copy_from_slice(&header.number.to_le_bytes());
    bytes[16..32].copy_from_slice(&header.volume.0);
    let sum = xxh3_64(&bytes[..56]);
    bytes[56..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Reads the header of a segment file.
///
/// # Errors
/// `Damaged` when it is none, `FormatVersion` when a newer program wrote it.
pub fn decode_segment_header(bytes: &[u8]) -> Result<SegmentHeader> {
    let damaged = |what: &str| Error::damaged("segment header", what);
    let bytes: &[u8; SEGMENT_HEADER_LEN] = bytes
        .first_chunk()
        .ok_or_else(|| damaged("the file ends within it"))?;
    if bytes[..8] != SEGMENT_MAGIC {
        return Err(damaged("it does not begin like a segment"));
    }
    if u64_at(bytes, 56) != xxh3_64(&bytes[..56]) {
        return Err(damaged("its checksum does not match"));
    }
    let found = u32_at(bytes, 8);
    if found != FORMAT {
        return Err(Error::FormatVersion {
            found,
            supported: FORMAT,
        });
    }
    let mut volume = [0; 16];
    volume.copy_from_slice(&bytes[16..32]);
    Ok(SegmentHeader {
        volume: VolumeId(volume),
        number: u32_at(bytes, 12),
    })
}

/// The name of the segment file of a volume that begins with these bytes.
pub(crate) fn own_name(begin: &[u8], volume: VolumeId) -> Option<String> {
    let header = decode_segment_header(begin).ok()?;
    (header.volume == volume).then(|| file_name(header.number))
}

/// The header of an entry at `place`.
#[must_use]
pub fn encode_entry_header(header: &EntryHeader, place: Place) -> [u8; ENTRY_HEADER_LEN] {
    let mut bytes = [0; ENTRY_HEADER_LEN];
    bytes[..8].copy_from_slice(match header.kind {
        EntryKind::Chunk => &CHUNK_MAGIC,
        EntryKind::Void => &VOID_MAGIC,
    });
    bytes[8..40].copy_from_slice(&header.id.0);
    bytes[40..44].copy_from_slice(&header.info.epoch.0.to_le_bytes());
    bytes[44..48].copy_from_slice(&header.info.plain_len.to_le_bytes());
    bytes[48..52].copy_from_slice(&header.sealed_len.to_le_bytes());
    bytes[52..56].copy_from_slice(&place.segment.to_le_bytes());
    bytes[56..60].copy_from_slice(&place.offset.to_le_bytes());
    bytes[64..72].copy_from_slice(&header.checksum.to_le_bytes());
    let sum = entry_sum(&bytes[..72], place.volume);
    bytes[72..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Reads the header of an entry, expected at `place`.
///
/// # Errors
/// `Damaged` when the bytes are not the header of an entry at that place.
pub fn decode_entry_header(bytes: &[u8], place: Place) -> Result<EntryHeader> {
    let damaged = |what: &str| {
        let Place {
            segment, offset, ..
        } = place;
        Error::damaged(format!("{} offset {offset}", file_name(segment)), what)
    };
    let bytes: &[u8; ENTRY_HEADER_LEN] = bytes
        .first_chunk()
        .ok_or_else(|| damaged("the file ends within the entry header"))?;
    let kind = if bytes[..8] == CHUNK_MAGIC {
        EntryKind::Chunk
    } else if bytes[..8] == VOID_MAGIC {
        EntryKind::Void
    } else {
        return Err(damaged("no entry header"));
    };
    if u64_at(bytes, 72) != entry_sum(&bytes[..72], place.volume) {
        return Err(damaged("the checksum of the entry header does not match"));
    }
    if u32_at(bytes, 52) != place.segment || u32_at(bytes, 56) != place.offset {
        return Err(damaged("the entry header belongs elsewhere"));
    }
    let mut id = [0; 32];
    id.copy_from_slice(&bytes[8..40]);
    let header = EntryHeader {
        kind,
        id: ChunkId(id),
        info: ChunkInfo {
            epoch: Epoch(u32_at(bytes, 40)),
            plain_len: u32_at(bytes, 44),
        },
        sealed_len: u32_at(bytes, 48),
        checksum: u64_at(bytes, 64),
    };
    let too_long =
        header.sealed_len as usize > MAX_SEALED || header.info.plain_len as usize > MAX_CHUNK;
    if kind == EntryKind::Chunk && too_long {
        return Err(damaged(
            "the entry header tells of a chunk that is too long",
        ));
    }
    Ok(header)
}

fn entry_sum(bytes: &[u8], volume: VolumeId) -> u64 {
    let seed = u64_at(&volume.0, 0) ^ u64_at(&volume.0, 8);
    xxh3_64_with_seed(bytes, seed)
}

/// Name of the file of a segment.
#[must_use]
pub fn file_name(segment: u32) -> String {
    format!("{segment:08x}.seg")
}

/// The segment that a file of this name holds, if any.
#[must_use]
pub fn parse_file_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".seg")?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    (file_name(number) == name).then_some(number)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place = Place {
        volume: VolumeId([9; 16]),
        segment: 3,
        offset: 4096,
    };

    fn header() -> EntryHeader {
        EntryHeader {
            kind: EntryKind::Chunk,
            id: ChunkId([7; 32]),
            info: ChunkInfo {
                plain_len: 65_536,
                epoch: Epoch(2),
            },
            sealed_len: 65_600,
            checksum: 42,
        }
    }

    #[test]
    fn headers_come_back() {
        let bytes = encode_entry_header(&header(), PLACE);
        assert_eq!(decode_entry_header(&bytes, PLACE).unwrap(), header());
        let segment = SegmentHeader {
            volume: VolumeId([1; 16]),
            number: 77,
        };
        let bytes = encode_segment_header(&segment);
        assert_eq!(decode_segment_header(&bytes).unwrap(), segment);
    }

    #[test]
    fn an_entry_elsewhere_is_none() {
        let bytes = encode_entry_header(&header(), PLACE);
        for other in [
            Place {
                segment: 4,
                ..PLACE
            },
            Place {
                offset: 4112,
                ..PLACE
            },
            Place {
                volume: VolumeId([8; 16]),
                ..PLACE
            },
        ] {
            // A volume id that differs in one half must change the seed.
            let mut half = other;
            if half.volume != PLACE.volume {
                half.volume.0[8..].copy_from_slice(&[9; 8]);
            }
            assert!(decode_entry_header(&bytes, half).is_err());
        }
    }

    #[test]
    fn a_newer_format_is_told_apart_from_damage() {
        let mut bytes = encode_segment_header(&SegmentHeader {
            volume: VolumeId([1; 16]),
            number: 1,
        });
        bytes[8] = 2;
        let sum = xxh3_64(&bytes[..56]);
        bytes[56..].copy_from_slice(&sum.to_le_bytes());
        let error = decode_segment_header(&bytes).unwrap_err();
        assert!(matches!(error, Error::FormatVersion { found: 2, .. }));
    }

    #[test]
    fn file_names_are_parsed_strictly() {
        assert_eq!(parse_file_name(&file_name(0xabc)), Some(0xabc));
        for name in ["abc.seg", "0000ABCD.seg", "+000abcd.seg", "0000abcd.tmp"] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn decoders_take_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_entry_header(&bytes, PLACE);
            let _ = decode_segment_header(&bytes);
        }

        #[test]
        fn a_flipped_bit_is_noticed(bit in 0..ENTRY_HEADER_LEN * 8) {
            let mut bytes = encode_entry_header(&header(), PLACE);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode_entry_header(&bytes, PLACE).is_err());
        }
    }
}
