//! What the engine answers from memory, and what finding a chunk costs, on the
//! disk that holds the temporary directory.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt;
use kiseki_bench::payload::Random;
use kiseki_core::{
    Result,
    chunk::{ChunkService, CutPolicy, LocalChunks, LocalOptions, SealedChunk},
    crypto::{Secret, VolumeKeys},
    engine::{Caller, Volume, VolumeOptions, open_volume},
    host::{OsDisk, SystemClock, SystemEntropy},
    ids::{ChunkId, Epoch, Ino, VolumeId},
    store::{Store, Unlock},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const PAGE: u64 = 4096;
/// Bytes of the file that is read and written.
const FILE: u64 = 8 << 20;
const CHUNKS: u64 = 20_000;

fn disk() -> (TempDir, Arc<OsDisk>) {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::open(dir.path().to_owned()).unwrap();
    (dir, Arc::new(disk))
}

fn volume(disk: Arc<OsDisk>) -> Volume {
    let key = Unlock::KeyFile(Secret::random(&SystemEntropy));
    let clock = Arc::new(SystemClock);
    let store = Store::create(disk.clone(), Arc::new(SystemEntropy), clock.clone(), &key).unwrap();
    store.create_volume("v", CutPolicy::Auto, 0, 0).unwrap();
    let record = store.volume("v").unwrap();
    open_volume(disk, clock, &store, &record, VolumeOptions::default()).unwrap()
}

/// An answer that is there at once, as it must be for these operations.
fn now<T>(operation: impl Future<Output = Result<T>>) -> T {
    operation
        .now_or_never()
        .expect("an answer at once")
        .unwrap()
}

fn hits(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let inside = runtime.enter();
    let (_dir, disk) = disk();
    let volume = volume(disk);
    let who = Caller::default();
    let file = now(volume.create(&who, Ino::ROOT, b"file", 0o600)).ino;
    let contents = Bytes::from(Random::new(1).bytes(FILE));
    for at in (0..FILE).step_by(1 << 20) {
        let part = contents.slice(at as usize..at as usize + (1 << 20));
        runtime
            .block_on(volume.write(&who, file, at, part))
            .unwrap();
    }
    runtime.block_on(volume.fsync(file, false)).unwrap();

    let mut group = criterion.benchmark_group("volume");
    group.bench_function("getattr", |b| b.iter(|| now(volume.getattr(file))));
    group.bench_function("lookup", |b| {
        b.iter(|| now(volume.lookup(Ino::ROOT, black_box(b"file"))));
    });
    group.throughput(Throughput::Bytes(PAGE));
    group.bench_function("read 4 KiB, opened before", |b| {
        runtime.block_on(volume.read(file, 0, PAGE as u32)).unwrap();
        b.iter(|| now(volume.read(file, 0, PAGE as u32)));
    });
    group.bench_function("read 4 KiB, sealed in the page cache", |b| {
        let mut random = Random::new(2);
        b.iter(|| {
            let at = random.below(FILE / PAGE) * PAGE;
            volume.wipe_caches();
            runtime
                .block_on(volume.read(file, at, PAGE as u32))
                .unwrap()
        });
    });
    group.bench_function("write 4 KiB, one place", |b| {
        let page = contents.slice(..PAGE as usize);
        b.iter(|| {
            runtime
                .block_on(volume.write(&who, file, 0, page.clone()))
                .unwrap()
        });
    });
    group.finish();
    drop(inside);
    runtime.block_on(volume.close()).unwrap();
}

/// Among 20,000 chunks of 4 KiB.
fn chunks(criterion: &mut Criterion) {
    let (_dir, disk) = disk();
    let (master, sealing) = (
        Secret::random(&SystemEntropy),
        Secret::random(&SystemEntropy),
    );
    let id = VolumeId([7; 16]);
    let entropy = Arc::new(SystemEntropy);
    let keys = VolumeKeys::new(id, &master, &[(Epoch(1), sealing)], entropy).unwrap();
    let options = LocalOptions::default();
    let chunks = LocalChunks::open(disk, "chunks", id, options, &mut |_, _| {}).unwrap();
    let made: Vec<ChunkId> = (0..CHUNKS)
        .map(|number| {
            let plain = Random::new(number).bytes(PAGE);
            let id = keys.chunk_id(&plain);
            let (info, frames) = keys.seal_chunk(&id, &plain).unwrap();
            let frames = frames.into();
            let _hold = chunks.hold();
            chunks.put(&[SealedChunk { id, info, frames }]).unwrap();
            id
        })
        .collect();
    chunks.sync().unwrap();
    let mut random = Random::new(9);
    let mut any = || made[random.below(CHUNKS) as usize];

    let mut group = criterion.benchmark_group("chunk store");
    group.bench_function("find by id", |b| {
        b.iter(|| chunks.info(&any()).unwrap().unwrap());
    });
    group.bench_function("find none", |b| {
        let mut absent = Random::new(10);
        b.iter(|| {
            let mut id = [0; 32];
            absent.fill(&mut id);
            assert!(chunks.info(&ChunkId(id)).unwrap().is_none());
        });
    });
    group.throughput(Throughput::Bytes(PAGE));
    group.bench_function(BenchmarkId::new("read by id", PAGE), |b| {
        let mut buffer = vec![0; PAGE as usize];
        b.iter(|| chunks.read(&any(), 0, &mut buffer).unwrap());
    });
    group.finish();
}

criterion_group!(engine, hits, chunks);
criterion_main!(engine);
