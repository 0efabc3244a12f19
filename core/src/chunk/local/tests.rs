#![allow(clippy::unwrap_used)]

mod collecting;
mod crashes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{LocalChunks, LocalOptions};
use crate::{
    Error, Result,
    chunk::{ChunkInfo, ChunkService, Collected, Problem, SealedChunk, Verified, verify},
    host::{
        Disk, OpenMode,
        disk::{Fault, MemoryDisk},
    },
    ids::{ChunkId, Epoch, VolumeId},
};

const DIR: &str = "volumes/1/chunks";
const INDEX: &str = "volumes/1/chunks/index.redb";
const VOLUME: VolumeId = VolumeId([5; 16]);

fn options() -> LocalOptions {
    LocalOptions {
        segment_bytes: 256 << 10,
        index_bytes: 1 << 20,
        locations: 64,
        open_files: 4,
        ..LocalOptions::default()
    }
}

fn open_with(disk: &MemoryDisk, options: LocalOptions) -> Result<Arc<LocalChunks>> {
    LocalChunks::open(Arc::new(disk.clone()), DIR, VOLUME, options, &mut |_, _| {})
}

fn open(disk: &MemoryDisk) -> Arc<LocalChunks> {
    open_with(disk, options()).unwrap()
}

/// The chunk of a number: the same id, length and bytes every time.
fn chunk(number: u64) -> SealedChunk {
    let mut xof = blake3::Hasher::new()
        .update(&number.to_le_bytes())
        .finalize_xof();
    let mut seed = [0; 8];
    xof.fill(&mut seed);
    let plain_len = match u64::from_le_bytes(seed) % 4 {
        0 => 1 + seed[0] as u32,
        1 => 16 << 10,
        2 => 40_000 + u32::from(seed[1]),
        _ => 5_000 + u32::from(seed[1]) * 16,
    };
    let mut frames = vec![0; plain_len as usize + 16 * plain_len.div_ceil(16 << 10) as usize];
    xof.fill(&mut frames);
    SealedChunk {
        id: id(number),
        info: ChunkInfo {
            plain_len,
            epoch: Epoch(number as u32 % 3),
        },
        frames: frames.into(),
    }
}

fn id(number: u64) -> ChunkId {
    ChunkId(*blake3::hash(&number.to_be_bytes()).as_bytes())
}

fn chunks(numbers: impl IntoIterator<Item = u64>) -> Vec<SealedChunk> {
    numbers.into_iter().map(chunk).collect()
}

fn try_read(store: &LocalChunks, number: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; chunk(number).frames.len()];
    store.read(&id(number), 0, &mut bytes)?;
    Ok(bytes)
}

fn assert_readable(store: &LocalChunks, number: u64) {
    let expected = chunk(number);
    assert_eq!(
        store.info(&expected.id).unwrap(),
        Some(expected.info),
        "chunk {number}"
    );
    assert!(
        try_read(store, number).unwrap() == expected.frames,
        "chunk {number}"
    );
}

fn problems(disk: &MemoryDisk) -> (Verified, Vec<Problem>) {
    let mut problems = Vec::new();
    let verified = verify(disk, DIR, VOLUME, None, &mut |_, _| {}, &mut |problem| {
        problems.push(problem);
    });
    (verified.unwrap(), problems)
}

fn assert_sound(disk: &MemoryDisk) -> Verified {
    let (verified, problems) = problems(disk);
    assert_eq!(problems, []);
    verified
}

/// The totals are those of the files, but for the room between the last entry
/// of a segment and the next multiple of sixteen.
fn assert_counted(disk: &MemoryDisk, store: &LocalChunks) {
    let (found, told) = (assert_sound(disk), store.usage());
    assert_eq!(found.segments, told.segments);
    let off = found.bytes.abs_diff(told.stored_bytes);
    assert!(off < 16 * told.segments.max(1), "{found:?} {told:?}");
}

fn collect(store: &LocalChunks, live: &BTreeSet<u64>) -> Collected {
    let live: BTreeSet<ChunkId> = live.iter().map(|number| id(*number)).collect();
    store
        .collect(&|id| Ok(live.contains(id)), &|| Ok(()), &mut |_, _| {})
        .unwrap()
}

fn segment_path(number: u32) -> String {
    format!("{DIR}/{number:08x}.seg")
}

fn flip(disk: &MemoryDisk, path: &str, offset: u64) {
    let file = disk.open(path, OpenMode::Write).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_at(&[byte[0] ^ 0x40], offset).unwrap();
}

#[test]
fn chunks_come_back_whole_and_in_part() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks(0..40)).unwrap();
    (0..40).for_each(|number| assert_readable(&store, number));
    let whole = chunk(2).frames;
    let mut part = vec![0; 16];
    store.read(&id(2), 7, &mut part).unwrap();
    assert_eq!(part, whole[7..23]);
    assert!(store.read_cached(&id(2), 7, &mut part).unwrap());
    let end = whole.len() as u32;
    assert!(matches!(
        store.read(&id(2), end - 1, &mut part),
        Err(Error::Invalid(_))
    ));
    assert!(matches!(try_read(&store, 99), Err(Error::MissingChunk(_))));
    assert_eq!(store.info(&id(99)).unwrap(), None);
    assert!(store.usage().segments > 1);
    assert_counted(&disk, &store);
}

#[test]
fn a_chunk_that_is_there_is_not_stored_again() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks([1, 2, 1])).unwrap();
    let before = store.usage();
    assert_eq!(before.chunks, 2);
    store.put(&chunks([2, 1])).unwrap();
    assert_eq!(store.usage(), before);
    drop(store);
    let store = open(&disk);
    store.put(&chunks([2, 1, 3])).unwrap();
    assert_eq!(store.usage().chunks, 3);
}

#[test]
fn totals_survive_a_reopen() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks(0..40)).unwrap();
    let before = store.usage();
    store.checkpoint().unwrap();
    drop(store);
    let store = open(&disk);
    assert_eq!(store.usage(), before);
    // Little segments of many short mounts would never be full.
    store.put(&chunks([50])).unwrap();
    assert_eq!(store.usage().segments, before.segments);
}

#[test]
fn a_lost_or_damaged_index_is_built_anew() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks(0..40)).unwrap();
    store.checkpoint().unwrap();
    let before = store.usage();
    drop(store);
    for round in 0..3 {
        if round == 0 {
            disk.remove(INDEX).unwrap();
        } else {
            let file = disk.open(INDEX, OpenMode::Write).unwrap();
            let len = if round == 1 { 100 } else { file.len().unwrap() };
            file.set_len(len).unwrap();
            file.write_at(&vec![round; len as usize], 0).unwrap();
        }
        let mut told = (0, 0);
        let store = LocalChunks::open(
            Arc::new(disk.clone()),
            DIR,
            VOLUME,
            options(),
            &mut |done, total| told = (done, total),
        )
        .unwrap();
        assert!(told.0 == told.1 && told.1 > 0, "{told:?}");
        (0..40).for_each(|number| assert_readable(&store, number));
        assert_eq!(store.usage().chunks, before.chunks);
        assert_counted(&disk, &store);
    }
}

#[test]
fn damage_is_found_without_a_key_and_hurts_one_chunk() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks(0..10)).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    assert_sound(&disk);
    // The second entry: once its sealed bytes, once its header.
    let second = 64 + (80 + chunk(0).frames.len() as u64).next_multiple_of(16);
    for at in [second + 80, second + 20] {
        flip(&disk, &segment_path(1), at);
        let (verified, problems) = problems(&disk);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(u64::from(problems[0].offset), second);
        assert_eq!(verified.chunks, 9);
        let named = (at == second + 80).then_some(id(1));
        assert_eq!(problems[0].chunk, named);
        disk.remove(INDEX).unwrap();
        let store = open(&disk);
        assert!(matches!(try_read(&store, 1), Err(Error::MissingChunk(_))));
        (0..10)
            .filter(|number| *number != 1)
            .for_each(|number| assert_readable(&store, number));
        drop(store);
        flip(&disk, &segment_path(1), at);
    }
}

#[test]
fn a_segment_that_is_cut_or_gone_is_named() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks(0..60)).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    let cut = disk.open(&segment_path(1), OpenMode::Write).unwrap();
    cut.set_len(100).unwrap();
    disk.remove(&segment_path(2)).unwrap();
    let store = open(&disk);
    let mut named = BTreeMap::new();
    for number in 0..60 {
        if let Err(Error::Damaged { place, what }) = try_read(&store, number) {
            named.insert(place[..DIR.len() + 13].to_owned(), what.to_string());
        }
    }
    let ends = "the segment file ends within the chunk".to_owned();
    let gone = "the segment file is missing".to_owned();
    let expected = [(segment_path(1), ends), (segment_path(2), gone)];
    assert_eq!(named, expected.into());
}

#[test]
fn a_newer_segment_format_is_refused() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks(0..1)).unwrap();
    store.checkpoint().unwrap();
    drop(store);
    let header = newer_header();
    disk.open(&segment_path(2), OpenMode::CreateNew)
        .unwrap()
        .write_at(&header, 0)
        .unwrap();
    let error = open_with(&disk, options()).map(drop).unwrap_err();
    assert!(matches!(
        error,
        Error::FormatVersion {
            found: 2,
            supported: 1
        }
    ));
}

fn newer_header() -> Vec<u8> {
    use crate::chunk::segment::{SegmentHeader, encode_segment_header};
    let mut bytes = encode_segment_header(&SegmentHeader {
        volume: VOLUME,
        number: 2,
    });
    bytes[8] = 2;
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes[..56]);
    bytes[56..].copy_from_slice(&sum.to_le_bytes());
    bytes.to_vec()
}

#[test]
fn a_store_opened_read_only_takes_nothing_and_changes_nothing() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks(0..3)).unwrap();
    store.checkpoint().unwrap();
    store.put(&chunks(3..5)).unwrap();
    store.sync().unwrap();
    drop(store);
    let read_only = LocalOptions {
        read_only: true,
        ..options()
    };
    let store = open_with(&disk, read_only).unwrap();
    (0..5).for_each(|number| assert_readable(&store, number));
    assert!(matches!(store.put(&chunks(9..10)), Err(Error::ReadOnly(_))));
    store.checkpoint().unwrap();
    let nothing = store.collect(&|_| Ok(false), &|| Ok(()), &mut |_, _| {});
    assert!(matches!(nothing, Err(Error::ReadOnly(_))));
}

#[test]
fn a_full_disk_refuses_chunks_and_takes_them_later() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks(0..5)).unwrap();
    store.checkpoint().unwrap();
    disk.fail_after(0, Fault::Enospc);
    assert!(matches!(store.put(&chunks(5..30)), Err(Error::NoSpace)));
    assert!(matches!(store.put(&chunks(30..31)), Err(Error::NoSpace)));
    (0..5).for_each(|number| assert_readable(&store, number));
    disk.clear_faults();
    store.put(&chunks(5..30)).unwrap();
    store.sync().unwrap();
    (0..30).for_each(|number| assert_readable(&store, number));
    assert_sound(&disk);
}

#[test]
fn a_failed_sync_is_never_taken_back() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks(0..5)).unwrap();
    store.checkpoint().unwrap();
    store.put(&chunks(5..7)).unwrap();
    disk.fail_after(0, Fault::Sync);
    assert!(matches!(store.sync(), Err(Error::Io { .. })));
    assert!(matches!(store.sync(), Err(Error::ReadOnly(_))));
    assert!(matches!(store.put(&chunks(7..8)), Err(Error::ReadOnly(_))));
    assert!(store.checkpoint().is_err());
    (0..5).for_each(|number| assert_readable(&store, number));
}

#[test]
fn threads_that_put_the_same_chunks_store_them_once() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for first in (0..60).step_by(3) {
                    store.put(&chunks(first..first + 3)).unwrap();
                    store.sync().unwrap();
                }
            });
        }
    });
    (0..60).for_each(|number| assert_readable(&store, number));
    assert_eq!(store.usage().chunks, 60);
    drop(store);
    assert_sound(&disk);
    assert_eq!(open(&disk).usage().chunks, 60);
}

#[test]
fn a_chunk_that_cannot_be_is_refused() {
    let store = open(&MemoryDisk::new());
    let mut long = chunk(1);
    long.frames = Bytes::from(vec![0; 300 << 10]);
    assert!(matches!(store.put(&[long]), Err(Error::Invalid(_))));
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<u64>),
    Release(u64),
    Collect,
    Sync,
    Reopen,
    Checkpoint,
    LoseIndex,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(0_u64..60, 1..12).prop_map(Step::Put),
        4 => (0_u64..60).prop_map(Step::Release),
        2 => Just(Step::Collect),
        1 => Just(Step::Sync),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
        1 => Just(Step::LoseIndex),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
    #[test]
    fn behaves_like_a_set_of_chunks(steps in prop::collection::vec(step(), 1..60)) {
        let disk = MemoryDisk::new();
        let mut store = Some(open(&disk));
        let mut live = BTreeSet::new();
        for step in steps {
            let current = store.take().unwrap();
            match step {
                Step::Put(numbers) => {
                    current.put(&chunks(numbers.iter().copied())).unwrap();
                    live.extend(numbers);
                }
                Step::Release(number) => drop(live.remove(&number)),
                Step::Collect => {
                    collect(&current, &live);
                    prop_assert_eq!(current.usage().chunks, live.len() as u64);
                }
                Step::Sync => current.sync().unwrap(),
                Step::Checkpoint => current.checkpoint().unwrap(),
                Step::Reopen => {
                    drop(current);
                    store = Some(open(&disk));
                    continue;
                }
                Step::LoseIndex => {
                    drop(current);
                    disk.remove(INDEX).unwrap();
                    store = Some(open(&disk));
                    continue;
                }
            }
            store = Some(current);
        }
        let store = store.unwrap();
        live.iter().for_each(|number| assert_readable(&store, *number));
        assert_sound(&disk);
        collect(&store, &live);
        live.iter().for_each(|number| assert_readable(&store, *number));
        prop_assert_eq!(store.usage().chunks, live.len() as u64);
        assert_counted(&disk, &store);
    }
}
