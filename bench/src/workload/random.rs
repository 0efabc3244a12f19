//! Pages of a large file in random order.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};

use super::{Bench, stream};
use crate::{
    payload::{self, PAGE, Random},
    sample::{
        Durability::{FsyncEvery32, Reads},
        Latency, Row,
        Unit::Operations,
    },
};

const READ: Row = Row::new("random 4 KiB read, cold, 1 job", Operations, Reads);
const READ_16: Row = Row::new("random 4 KiB read, cold, 16 jobs", Operations, Reads);
const WRITE: Row = Row::new("random 4 KiB write", Operations, FsyncEvery32);

/// Threads of the second row.
const JOBS: u64 = 16;

/// Writes between two syncs.
const BATCH: u64 = 32;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let (seed, len, count) = (bench.seed, bench.scale.file, bench.scale.random);
    let path = bench.site.path("random");
    stream::write(&path, seed, len)?;
    for (row, jobs, count) in [(READ, 1, count), (READ_16, JOBS, count * 2)] {
        if bench.cold(row)? {
            let (elapsed, latency) = read(&path, seed, len, jobs, count / jobs)?;
            bench.record_with(row, count / jobs * jobs, elapsed, &latency)?;
        }
    }
    bench.begin()?;
    let mut versions = vec![0; (len / PAGE as u64) as usize];
    let (elapsed, latency) = write(&path, seed, count / 4, &mut versions)?;
    bench.record_with(WRITE, count / 4, elapsed, &latency)?;
    bench.site.cold()?;
    verify(&path, seed, &versions)
}

fn read(path: &Path, seed: u64, len: u64, jobs: u64, each: u64) -> Result<(Duration, Latency)> {
    let file = File::open(path)?;
    let job = |number: u64| -> Result<Latency> {
        let mut latency = Latency::default();
        let mut random = Random::new(payload::derive(seed, 1_000 + number));
        let mut buffer = [0; PAGE];
        for _ in 0..each {
            let page = random.below(len / PAGE as u64);
            latency.time(|| file.read_exact_at(&mut buffer, page * PAGE as u64))?;
            ensure!(
                payload::begins_right(&buffer, seed, page, 0),
                "page {page} has wrong contents"
            );
        }
        Ok(latency)
    };
    let start = Instant::now();
    let mut all = Latency::default();
    thread::scope(|scope| -> Result<()> {
        let job = &job;
        let threads: Vec<_> = (0..jobs).map(|n| scope.spawn(move || job(n))).collect();
        for thread in threads {
            let latency = thread.join().map_err(|_| anyhow!("a reader panicked"))??;
            all.add(&latency);
        }
        Ok(())
    })?;
    Ok((start.elapsed(), all))
}

/// Latencies include the sync that ends each batch.
fn write(path: &Path, seed: u64, count: u64, versions: &mut [u32]) -> Result<(Duration, Latency)> {
    let mut random = Random::new(payload::derive(seed, 2_000));
    let plan: Vec<(u64, Vec<u8>)> = (0..count)
        .map(|_| {
            let page = random.below(versions.len() as u64);
            let version = &mut versions[page as usize];
            *version += 1;
            let mut bytes = vec![0; PAGE];
            payload::fill_page(&mut bytes, seed, page, *version);
            (page, bytes)
        })
        .collect();
    let mut latency = Latency::default();
    let start = Instant::now();
    let file = File::options().write(true).open(path)?;
    for ((page, bytes), number) in plan.iter().zip(1..) {
        latency.time(|| {
            file.write_all_at(bytes, page * PAGE as u64)?;
            if number % BATCH == 0 || number == count {
                file.sync_data()?;
            }
            anyhow::Ok(())
        })?;
    }
    Ok((start.elapsed(), latency))
}

fn verify(path: &Path, seed: u64, versions: &[u32]) -> Result<()> {
    let file = File::open(path)?;
    let (mut is, mut expected) = ([0; PAGE], [0; PAGE]);
    for (page, version) in (0..).zip(versions) {
        file.read_exact_at(&mut is, page * PAGE as u64)?;
        payload::fill_page(&mut expected, seed, page, *version);
        ensure!(
            is == expected,
            "page {page} has wrong contents after writes"
        );
    }
    Ok(())
}
