//! Segments, the index of chunks, and sealed frames.

use std::sync::Arc;

use super::split::{Pieces, choice};
use crate::{
    chunk::{
        ChunkInfo, local,
        segment::{
            EntryHeader, EntryKind, Place, SegmentHeader, checksum, decode_entry_header,
            decode_segment_header, encode_entry_header, encode_segment_header, entry_span,
        },
        verify::verify,
    },
    crypto::{Secret, VolumeKeys, frame_span, plain_len, sealed_len},
    host::{Disk, MemoryDisk, OpenMode, SystemEntropy},
    ids::{ChunkId, Epoch, VolumeId},
};

const VOLUME: VolumeId = VolumeId([7; 16]);

/// A segment as it is (0), with sound headers (1), a record of the index (2),
/// frames as they are (3), sealed frames that were changed (4), headers (5).
pub fn chunks(input: &[u8]) {
    let (choice, bytes) = choice(input);
    match choice % 6 {
        0 => segment(bytes),
        1 => segment(&entries(bytes)),
        2 => local::index_decoders(bytes),
        3 => frames(bytes),
        4 => changed_frames(bytes),
        _ => headers(bytes),
    }
}

/// Every byte of a segment is accounted for.
fn segment(bytes: &[u8]) {
    let disk = MemoryDisk::new();
    disk.create_dir("chunks").expect("a directory in memory");
    let file = disk
        .open("chunks/00000001.seg", OpenMode::Create)
        .expect("a file in memory");
    file.write_at(bytes, 0).expect("a file in memory");
    let mut problems = 0;
    let mut report = |_| problems += 1;
    // A version of the future is the one error there is.
    if let Ok(verified) = verify(&disk, "chunks", VOLUME, None, &mut |_, _| {}, &mut report) {
        assert_eq!(verified.problems, problems);
        assert!(verified.bytes <= bytes.len() as u64);
    }
}

/// A segment of entries whose headers are sound. Each piece is one: kind and
/// flaws, what is wrong with its length, and the sealed bytes.
fn entries(bytes: &[u8]) -> Vec<u8> {
    let header = SegmentHeader {
        volume: VOLUME,
        number: 1,
    };
    let mut file = encode_segment_header(&header).to_vec();
    for piece in Pieces(bytes) {
        let (flags, sealed) = choice(piece);
        let place = Place {
            volume: VOLUME,
            segment: 1,
            offset: file.len() as u32,
        };
        let claimed = match flags & 3 {
            0 | 1 => sealed.len() as u32,
            2 => sealed.len() as u32 * 3,
            _ => sealed
                .first_chunk()
                .map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes)),
        };
        let header = EntryHeader {
            kind: if flags & 4 == 0 {
                EntryKind::Chunk
            } else {
                EntryKind::Void
            },
            id: ChunkId([flags; 32]),
            info: ChunkInfo {
                plain_len: claimed,
                epoch: Epoch(1),
            },
            sealed_len: claimed,
            checksum: checksum(sealed) ^ u64::from(flags >> 7),
        };
        file.extend_from_slice(&encode_entry_header(&header, place));
        file.extend_from_slice(sealed);
        let end = u64::from(place.offset) + entry_span(sealed.len() as u32);
        file.resize(end as usize, 0);
    }
    file
}

fn headers(bytes: &[u8]) {
    let place = Place {
        volume: VOLUME,
        segment: 1,
        offset: 64,
    };
    if let Ok(header) = decode_segment_header(bytes) {
        assert_eq!(encode_segment_header(&header), bytes[..64]);
    }
    let _ = decode_entry_header(bytes, place);
}

fn keys() -> VolumeKeys {
    let master = Secret::from_bytes(&[1; 32]);
    let epochs = [(Epoch(1), Secret::from_bytes(&[2; 32]))];
    VolumeKeys::new(VOLUME, &master, &epochs, Arc::new(SystemEntropy)).expect("one epoch")
}

/// Frames that nobody sealed do not open, whatever is said of them.
fn frames(bytes: &[u8]) {
    let Some((said, sealed)) = bytes.split_first_chunk::<16>() else {
        return;
    };
    let word = |at: usize| u32::from_le_bytes([said[at], said[at + 1], said[at + 2], said[at + 3]]);
    let info = ChunkInfo {
        plain_len: word(0),
        epoch: Epoch(word(4) & 1),
    };
    let (first, offset, len) = frame_span(info, word(8), word(12));
    assert!(offset.checked_add(len).is_some() || info.plain_len > crate::crypto::MAX_CHUNK as u32);
    let mut out = vec![0; plain_len(sealed.len() as u32) as usize];
    let opened = keys().open_frames(&ChunkId([3; 32]), info, first, sealed, &mut out);
    assert!(opened.is_err() || out.is_empty(), "a forgery opened");
}

/// A sealed chunk opens as long as it is what was sealed, and no longer.
fn changed_frames(bytes: &[u8]) {
    let Some((change, plain)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    if plain.is_empty() {
        return;
    }
    let keys = keys();
    let id = keys.chunk_id(plain);
    let (info, mut sealed) = keys.seal_chunk(&id, plain).expect("short enough");
    assert_eq!(sealed.len() as u32, sealed_len(info.plain_len));
    let mut out = vec![0; plain.len()];
    keys.open_frames(&id, info, 0, &sealed, &mut out)
        .expect("what was sealed opens");
    assert_eq!(out, plain);
    let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % sealed.len();
    if change[2] != 0 {
        sealed[at] ^= change[2];
    } else {
        sealed.truncate(at);
    }
    let opened = keys.open_frames(&id, info, 0, &sealed, &mut out);
    assert!(opened.is_err(), "a changed chunk opened");
}
