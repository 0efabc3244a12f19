#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    crypto::{VolumeKeys, volume_keys::tests::fixed_keys},
    host::SystemEntropy,
    ids::Epoch,
};

fn keys() -> VolumeKeys {
    fixed_keys(Arc::new(SystemEntropy))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn sealed(keys: &VolumeKeys, plain: &[u8]) -> (ChunkId, ChunkInfo, Vec<u8>) {
    let id = keys.chunk_id(plain);
    let (info, sealed) = keys.seal_chunk(&id, plain).unwrap();
    (id, info, sealed)
}

fn is_damage(result: Result<()>) -> bool {
    matches!(result, Err(Error::Damaged { .. }))
}

#[test]
fn lengths_at_the_edges() {
    for (plain, frames) in [
        (1, 1),
        (FRAME - 1, 1),
        (FRAME, 1),
        (FRAME + 1, 2),
        (3 * FRAME, 3),
        (MAX_CHUNK, MAX_CHUNK / FRAME),
    ] {
        let sealed = sealed_len(plain as u32);
        assert_eq!(sealed as usize, plain + frames * TAG);
        assert_eq!(plain_len(sealed) as usize, plain);
    }
    assert_eq!((sealed_len(0), plain_len(0)), (0, 0));
    assert_eq!(sealed_len(u32::MAX), u32::MAX);
}

#[test]
fn a_span_covers_whole_frames() {
    let info = ChunkInfo {
        plain_len: 40_000,
        epoch: Epoch(1),
    };
    let sealed_frame = SEALED_FRAME as u32;
    let last = 40_000 - 2 * FRAME as u32 + TAG as u32;
    assert_eq!(frame_span(info, 0, 1), (0, 0, sealed_frame));
    assert_eq!(frame_span(info, 0, 16_384), (0, 0, sealed_frame));
    assert_eq!(frame_span(info, 16_383, 16_385), (0, 0, 2 * sealed_frame));
    assert_eq!(
        frame_span(info, 16_384, 16_385),
        (1, sealed_frame, sealed_frame)
    );
    assert_eq!(
        frame_span(info, 39_999, 40_000),
        (2, 2 * sealed_frame, last)
    );
    assert_eq!(frame_span(info, 0, u32::MAX), (0, 0, sealed_len(40_000)));
    assert_eq!(frame_span(info, 5, 5).2, 0);
    assert_eq!(frame_span(info, 40_000, 50_000).2, 0);
    assert_eq!(frame_span(info, u32::MAX, u32::MAX).2, 0);
}

#[test]
fn equal_plaintext_seals_to_equal_bytes() {
    let keys = keys();
    let plain = pattern(50_000);
    assert_eq!(sealed(&keys, &plain), sealed(&keys, &plain));
}

#[test]
fn empty_and_oversized_chunks_are_refused() {
    let keys = keys();
    for plain in [vec![], vec![0; MAX_CHUNK + 1]] {
        let id = keys.chunk_id(&plain);
        assert!(matches!(
            keys.seal_chunk(&id, &plain),
            Err(Error::Invalid(_))
        ));
    }
}

#[test]
fn a_damaged_frame_fails_alone_and_is_named() {
    let keys = keys();
    let plain = pattern(3 * FRAME);
    let (id, info, mut bytes) = sealed(&keys, &plain);
    bytes[SEALED_FRAME + 100] ^= 1;
    let mut out = vec![0; plain.len()];
    let Err(error) = keys.open_frames(&id, info, 0, &bytes, &mut out) else {
        panic!("opened")
    };
    assert!(error.to_string().contains("frame 1 does not authenticate"));
    for good in [0, 2] {
        let from = good * SEALED_FRAME;
        let out = &mut out[..FRAME];
        keys.open_frames(
            &id,
            info,
            good as u32,
            &bytes[from..from + SEALED_FRAME],
            out,
        )
        .unwrap();
        assert_eq!(out, &plain[good * FRAME..(good + 1) * FRAME]);
    }
}

#[test]
fn swapped_frames_do_not_open() {
    let keys = keys();
    let plain = vec![9; 2 * FRAME];
    let (id, info, bytes) = sealed(&keys, &plain);
    let (one, two) = bytes.split_at(SEALED_FRAME);
    let swapped = [two, one].concat();
    let mut out = vec![0; plain.len()];
    assert!(is_damage(
        keys.open_frames(&id, info, 0, &swapped, &mut out)
    ));
    let out = &mut out[..FRAME];
    assert!(is_damage(keys.open_frames(&id, info, 0, two, out)));
}

#[test]
fn a_chunk_under_another_id_length_or_epoch_does_not_open() {
    let keys = keys();
    let (id, info, bytes) = sealed(&keys, &pattern(FRAME));
    let mut out = vec![0; FRAME];
    let mut other = id;
    other.0[0] ^= 1;
    assert!(is_damage(
        keys.open_frames(&other, info, 0, &bytes, &mut out)
    ));
    let epoch = ChunkInfo {
        epoch: Epoch(1),
        ..info
    };
    assert!(is_damage(keys.open_frames(&id, epoch, 0, &bytes, &mut out)));
    let longer = ChunkInfo {
        plain_len: info.plain_len + 1,
        ..info
    };
    assert!(is_damage(
        keys.open_frames(&id, longer, 0, &bytes, &mut out)
    ));
}

#[test]
fn cut_and_lengthened_frames_are_damage() {
    let keys = keys();
    let plain = pattern(FRAME + 100);
    let (id, info, mut bytes) = sealed(&keys, &plain);
    let mut out = vec![0; plain.len()];
    for cut in [1, 15, 16, 17, 99, SEALED_FRAME - 1, bytes.len() - 1] {
        let out = &mut out[..plain_len(cut as u32) as usize];
        assert!(
            is_damage(keys.open_frames(&id, info, 0, &bytes[..cut], out)),
            "cut at {cut}"
        );
    }
    bytes.push(0);
    assert!(is_damage(keys.open_frames(&id, info, 0, &bytes, &mut out)));
    for first in [1, 2, u32::MAX] {
        assert!(is_damage(
            keys.open_frames(&id, info, first, &bytes, &mut out)
        ));
    }
}

#[test]
fn impossible_lengths_from_disk_are_damage() {
    let keys = keys();
    let (id, info, bytes) = sealed(&keys, b"x");
    for plain_len in [0, 2, MAX_CHUNK as u32 + 1, u32::MAX] {
        let info = ChunkInfo { plain_len, ..info };
        assert!(is_damage(keys.open_frames(&id, info, 0, &bytes, &mut [0])));
    }
    assert!(matches!(
        keys.open_frames(&id, info, 0, &bytes, &mut [0; 2]),
        Err(Error::Invalid(_))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_range_reads_back(
        len in prop_oneof![1..200usize, 16_000..17_000usize, 1..200_000usize],
        a in any::<proptest::sample::Index>(),
        b in any::<proptest::sample::Index>(),
    ) {
        let keys = keys();
        let plain = pattern(len);
        let (id, info, bytes) = sealed(&keys, &plain);
        prop_assert_eq!(bytes.len(), sealed_len(info.plain_len) as usize);
        let (a, b) = (a.index(len), b.index(len));
        let (from, to) = (a.min(b), a.max(b) + 1);

        let (first, offset, span) = frame_span(info, from as u32, to as u32);
        let span = &bytes[offset as usize..][..span as usize];
        let mut out = vec![0; plain_len(span.len() as u32) as usize];
        keys.open_frames(&id, info, first, span, &mut out).unwrap();
        let start = from - first as usize * FRAME;
        prop_assert_eq!(&out[start..start + to - from], &plain[from..to]);
    }
}
