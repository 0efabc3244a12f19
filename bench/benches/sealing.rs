//! What a byte costs on its way through the engine: cutting, hashing, sealing,
//! opening.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kiseki_bench::payload::Random;
use kiseki_core::{
    chunk::cut::cut_points,
    crypto::{RecordContext, Secret, VolumeKeys},
    host::SystemEntropy,
    ids::{Epoch, Ino, VolumeId},
};

const SIZES: [usize; 3] = [1 << 10, 16 << 10, 64 << 10];

fn keys() -> VolumeKeys {
    let entropy = Arc::new(SystemEntropy);
    let (master, sealing) = (
        Secret::random(&SystemEntropy),
        Secret::random(&SystemEntropy),
    );
    VolumeKeys::new(VolumeId([7; 16]), &master, &[(Epoch(1), sealing)], entropy).unwrap()
}

fn chunks(criterion: &mut Criterion) {
    let keys = keys();
    let mut group = criterion.benchmark_group("chunk");
    for size in SIZES {
        let plain = Random::new(1).bytes(size as u64);
        let id = keys.chunk_id(&plain);
        let (info, sealed) = keys.seal_chunk(&id, &plain).unwrap();
        let mut opened = vec![0; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("id", size), |b| {
            b.iter(|| keys.chunk_id(black_box(&plain)));
        });
        group.bench_function(BenchmarkId::new("seal", size), |b| {
            b.iter(|| keys.seal_chunk(&id, black_box(&plain)).unwrap());
        });
        group.bench_function(BenchmarkId::new("open", size), |b| {
            b.iter(|| keys.open_frames(&id, info, 0, black_box(&sealed), &mut opened));
        });
    }
    group.finish();
}

fn cutting(criterion: &mut Criterion) {
    let data = Random::new(2).bytes(8 << 20);
    let mut group = criterion.benchmark_group("cut");
    group.throughput(Throughput::Bytes(data.len() as u64));
    for (name, by_content) in [("by content", true), ("fixed", false)] {
        group.bench_function(name, |b| {
            b.iter(|| cut_points(by_content, black_box(&data), true));
        });
    }
    group.finish();
}

/// Names and the contents of small files.
fn records(criterion: &mut Criterion) {
    let keys = keys();
    let mut group = criterion.benchmark_group("record");
    for size in [32, 4096] {
        let plain = Random::new(3).bytes(size);
        let place = RecordContext::Inline(Ino(5));
        let sealed = keys.seal_record(place, &plain).unwrap();
        group.throughput(Throughput::Bytes(size));
        group.bench_function(BenchmarkId::new("seal", size), |b| {
            b.iter(|| keys.seal_record(place, black_box(&plain)).unwrap());
        });
        group.bench_function(BenchmarkId::new("open", size), |b| {
            b.iter(|| keys.open_record(place, black_box(&sealed)).unwrap());
        });
    }
    group.bench_function("tag of a name", |b| {
        b.iter(|| keys.name_tag(Ino(1), black_box(b"a-name-of-a-file.rs")));
    });
    group.finish();
}

criterion_group!(sealing, chunks, cutting, records);
criterion_main!(sealing);
