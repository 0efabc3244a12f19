//! Work that arrives at a given rate, whether or not what came before is done:
//! latencies count from the time at which an operation should have begun, so
//! that a pause is felt by all that had to wait for it.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};

use super::{Bench, stream};
use crate::{
    payload::{self, PAGE, Random, derive},
    sample::{
        Durability::{FsyncPerFile, None, Reads},
        Latency, Row,
        Unit::Operations,
    },
};

const READ: Row = Row::new("paced: random 4 KiB read, remounted", Operations, Reads);
const CREATE: Row = Row::new("paced: create 2 KiB files", Operations, None);
const CREATE_SYNC: Row = Row::new("paced: create + fsync", Operations, FsyncPerFile);

/// Threads that share the work; more would be waiting at a time than a rate
/// that can be kept asks for.
const WORKERS: u64 = 8;

/// Bytes of a small file.
const SIZE: u64 = 2048;

/// Bytes of the file that is read.
const FILE: u64 = 64 << 20;

/// How much slower than other work the synced row is asked to be.
const SYNCED: u64 = 10;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let (seed, scale) = (bench.seed, *bench.scale);
    let (rate, count) = (scale.rate, scale.rate * scale.paced);
    let path = bench.site.path("paced");
    stream::write(&path, seed, FILE)?;
    // Where nothing can be mounted anew, pages come from the kernel.
    bench.site.remount()?;
    bench.begin()?;
    let file = File::open(&path)?;
    let pages: Vec<u64> = {
        let mut random = Random::new(derive(seed, 1));
        (0..count)
            .map(|_| random.below(FILE / PAGE as u64))
            .collect()
    };
    let (elapsed, latency) = pace(rate, count, |number| {
        let (page, mut buffer) = (pages[number as usize], [0; PAGE]);
        file.read_exact_at(&mut buffer, page * PAGE as u64)?;
        ensure!(
            payload::begins_right(&buffer, seed, page, 0),
            "wrong contents"
        );
        Ok(())
    })?;
    bench.record_with(READ, count, elapsed, &latency)?;
    for (row, rate, count, seed) in [
        (CREATE, rate, count, derive(seed, 2)),
        (
            CREATE_SYNC,
            (rate / SYNCED).max(1),
            (count / SYNCED).max(1),
            derive(seed, 3),
        ),
    ] {
        let dir = bench.site.path(format!("paced-{}", row.durability.text()));
        create(bench, row, &dir, rate, count, seed)?;
    }
    Ok(())
}

fn create(
    bench: &mut Bench<'_>,
    row: Row,
    dir: &Path,
    rate: u64,
    count: u64,
    seed: u64,
) -> Result<()> {
    fs::create_dir(dir)?;
    let contents = |number| Random::new(derive(seed, number)).bytes(SIZE);
    let all: Vec<_> = (0..count).map(contents).collect();
    bench.begin()?;
    let (elapsed, latency) = pace(rate, count, |number| {
        let mut file = File::create_new(dir.join(number.to_string()))?;
        file.write_all(&all[number as usize])?;
        if row.durability == FsyncPerFile {
            file.sync_all()?;
        }
        Ok(())
    })?;
    bench.record_with(row, count, elapsed, &latency)?;
    for (number, contents) in (0..).zip(&all) {
        let seen = fs::read(dir.join(u64::to_string(&number)))?;
        ensure!(seen == *contents, "file {number} is wrong");
    }
    Ok(())
}

/// `count` operations that are due one after the other at `rate` per second,
/// on the threads that are free then. How long all took, and how long each of
/// them from when it was due.
fn pace(
    rate: u64,
    count: u64,
    operation: impl Fn(u64) -> Result<()> + Sync,
) -> Result<(Duration, Latency)> {
    let next = AtomicU64::new(0);
    let start = Instant::now();
    let work = || -> Result<Latency> {
        let mut latency = Latency::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(latency);
            }
            let due = start + Duration::from_nanos(number * 1_000_000_000 / rate);
            if let Some(early) = due.checked_duration_since(Instant::now()) {
                thread::sleep(early);
            }
            operation(number)?;
            latency.note(due.elapsed());
        }
    };
    let mut all = Latency::default();
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            all.add(&thread.join().map_err(|_| anyhow!("a worker panicked"))??);
        }
        Ok(())
    })?;
    Ok((start.elapsed(), all))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pause_counts_for_all_who_wait() {
        let pause = Duration::from_millis(200);
        let stop = std::sync::Barrier::new(WORKERS as usize);
        // All workers stand still at once; what is due meanwhile comes late.
        let (elapsed, latency) = pace(1_000, 200, |number| {
            if number < WORKERS {
                stop.wait();
                thread::sleep(pause);
            }
            Ok(())
        })
        .unwrap();
        assert!(elapsed >= pause);
        let late = latency.steps().into_iter().find(|step| step.0 > 50_000.0);
        let below = latency.steps().into_iter().rfind(|step| step.0 <= 50_000.0);
        assert!(late.is_some());
        // Three quarters of the operations were due in the first 150 ms.
        assert!(below.is_none_or(|step| step.1 < 0.5), "{below:?}");
    }
}
