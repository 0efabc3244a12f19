//! What a change and a question cost the log and the metadata service, on the
//! disk that holds the temporary directory.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kiseki_bench::payload::Random;
use kiseki_core::{
    host::{Disk, OsDisk},
    ids::{Ino, NameTag, Revision, Timestamp, VolumeId},
    log::{Log, LogOptions, SyncPolicy},
    meta::{Command, Kind, LocalMeta, MetaOptions, MetaService, NewInode},
};
use tempfile::TempDir;

const VOLUME: VolumeId = VolumeId([7; 16]);
const POLICIES: [(&str, SyncPolicy); 4] = [
    ("every record", SyncPolicy::EveryRecord),
    ("every batch", SyncPolicy::EveryBatch),
    ("group 1 s", SyncPolicy::Group(Duration::from_secs(1))),
    ("unsynced", SyncPolicy::Os),
];

fn disk() -> (TempDir, Arc<dyn Disk>) {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::open(dir.path().to_owned()).unwrap();
    (dir, Arc::new(disk))
}

/// Batches of records of 128 bytes. `every record` syncs each of them; for the
/// others, "durable" waits for one sync at the end of a batch.
fn log(criterion: &mut Criterion) {
    let record = Random::new(1).bytes(128);
    let mut group = criterion.benchmark_group("log append");
    for (name, policy) in POLICIES {
        let (_dir, disk) = disk();
        let options = LogOptions {
            policy,
            ..LogOptions::default()
        };
        let log = Log::open(
            disk,
            "log",
            VOLUME,
            options,
            Revision(0),
            &mut |_, _| Ok(()),
        )
        .unwrap();
        for batch in [1, 100] {
            group.throughput(Throughput::Elements(batch));
            group.bench_function(BenchmarkId::new(name, batch), |b| {
                b.iter(|| append(&log, &record, batch));
            });
            group.bench_function(BenchmarkId::new(format!("{name}, durable"), batch), |b| {
                b.iter(|| log.sync_blocking(append(&log, &record, batch)).unwrap());
            });
        }
        log.close().unwrap();
    }
    group.finish();
}

fn append(log: &Log, record: &[u8], batch: u64) -> Revision {
    (0..batch).fold(Revision(0), |_, _| log.append(record).unwrap())
}

const TIME: Timestamp = Timestamp { secs: 1, nanos: 0 };

fn create(meta: &LocalMeta, kind: Kind) -> (Ino, NameTag) {
    let ino = meta.allocate_ino();
    let mut tag = [0; 16];
    Random::new(ino.0).fill(&mut tag);
    let command = Command::Create {
        parent: Ino::ROOT,
        tag: NameTag(tag),
        name: vec![7; 48].into(),
        inode: NewInode {
            ino,
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            rdev: 0,
            target: None,
            xattrs: Vec::new(),
        },
        time: TIME,
    };
    meta.apply(command).wait().unwrap();
    (ino, NameTag(tag))
}

/// In a directory of 100,000 files.
fn service(criterion: &mut Criterion) {
    let (_dir, disk) = disk();
    let meta = LocalMeta::open(disk, "meta", VOLUME, MetaOptions::default()).unwrap();
    let format = Command::Format {
        uid: 0,
        gid: 0,
        mode: 0o755,
        time: TIME,
    };
    meta.apply(format).wait().unwrap();
    let made: Vec<_> = (0..100_000).map(|_| create(&meta, Kind::File)).collect();
    let mut random = Random::new(9);
    let mut any = || made[random.below(made.len() as u64) as usize];

    let mut group = criterion.benchmark_group("metadata");
    group.bench_function("inode", |b| {
        b.iter_batched(&mut any, |(ino, _)| meta.inode(ino).wait().unwrap(), SMALL);
    });
    group.bench_function("lookup", |b| {
        let look = |(_, tag)| meta.lookup(Ino::ROOT, tag).wait().unwrap();
        b.iter_batched(&mut any, look, SMALL);
    });
    group.bench_function("lookup of an absent name", |b| {
        let mut absent = Random::new(10);
        b.iter(|| {
            let mut tag = [0; 16];
            absent.fill(&mut tag);
            black_box(meta.lookup(Ino::ROOT, NameTag(tag)).wait().is_err())
        });
    });
    for count in [100, 1000] {
        group.bench_function(BenchmarkId::new("entries", count), |b| {
            let list = |(_, tag)| meta.entries(Ino::ROOT, Some(tag), count).wait().unwrap();
            b.iter_batched(&mut any, list, SMALL);
        });
    }
    group.bench_function("create", |b| b.iter(|| create(&meta, Kind::File)));
    group.finish();
    meta.close().unwrap();
}

const SMALL: criterion::BatchSize = criterion::BatchSize::SmallInput;

criterion_group!(metadata, log, service);
criterion_main!(metadata);
