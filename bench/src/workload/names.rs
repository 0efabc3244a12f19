//! Many small files in one directory.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};

use super::Bench;
use crate::{
    payload::{Random, derive},
    sample::{
        Durability::{FsyncPerFile, None, Reads},
        Latency, Row,
        Unit::Operations,
    },
};

const CREATE: Row = Row::new("create 2 KiB files, 1 directory", Operations, None);
const CREATE_SYNC: Row = Row::new("create + fsync, 1 writer", Operations, FsyncPerFile);
const CREATE_SYNC_8: Row = Row::new("create + fsync, 8 writers", Operations, FsyncPerFile);
const LIST: Row = Row::new("list + stat, cold", Operations, Reads);
const STAT: Row = Row::new("stat, warm", Operations, Reads);
const UNLINK: Row = Row::new("unlink", Operations, None);

/// Bytes of a file.
const SIZE: u64 = 2048;

/// Times all names are looked at in the warm row.
const PASSES: u64 = 20;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let (seed, count, synced) = (bench.seed, bench.scale.small, bench.scale.synced);
    let dir = bench.site.path("small");
    create(bench, CREATE, &dir, seed, count, 1)?;
    let one = bench.site.path("synced-1");
    create(bench, CREATE_SYNC, &one, derive(seed, 1), synced, 1)?;
    let eight = bench.site.path("synced-8");
    create(bench, CREATE_SYNC_8, &eight, derive(seed, 8), synced * 2, 8)?;

    if bench.cold(LIST)? {
        bench.time(LIST, |_| list(&dir))?;
    } else {
        list(&dir)?;
    }
    let paths: Vec<_> = (0..count).map(|n| dir.join(name(n))).collect();
    bench.time(STAT, |_| {
        for _ in 0..PASSES {
            for path in &paths {
                fs::symlink_metadata(path)?;
            }
        }
        Ok(count * PASSES)
    })?;
    for (dir, seed, count) in [
        (&dir, seed, count),
        (&one, derive(seed, 1), synced),
        (&eight, derive(seed, 8), synced * 2),
    ] {
        verify(dir, seed, count)?;
    }
    bench.begin()?;
    let mut latency = Latency::default();
    let start = Instant::now();
    for path in &paths {
        latency.time(|| fs::remove_file(path))?;
    }
    bench.record_with(UNLINK, count, start.elapsed(), &latency)?;
    ensure!(list(&dir)? == 0, "removed files are still listed");
    Ok(())
}

fn name(number: u64) -> String {
    format!("file-{number:06}")
}

fn contents(seed: u64, number: u64) -> Vec<u8> {
    Random::new(derive(seed, number)).bytes(SIZE)
}

/// Shares the files among `writers` and records `row`.
fn create(
    bench: &mut Bench<'_>,
    row: Row,
    dir: &Path,
    seed: u64,
    count: u64,
    writers: u64,
) -> Result<()> {
    fs::create_dir(dir)?;
    let all: Vec<_> = (0..count).map(|n| (name(n), contents(seed, n))).collect();
    let sync = row.durability == FsyncPerFile;
    bench.begin()?;
    let start = Instant::now();
    let mut latency = Latency::default();
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = all
            .chunks(all.len().div_ceil(writers as usize))
            .map(|share| scope.spawn(move || create_share(dir, share, sync)))
            .collect();
        for thread in threads {
            latency.add(&thread.join().map_err(|_| anyhow!("a writer panicked"))??);
        }
        Ok(())
    })?;
    let elapsed: Duration = start.elapsed();
    bench.record_with(row, count, elapsed, &latency)?;
    Ok(())
}

fn create_share(dir: &Path, share: &[(String, Vec<u8>)], sync: bool) -> Result<Latency> {
    let mut latency = Latency::default();
    for (name, contents) in share {
        latency.time(|| {
            let mut file = File::create_new(dir.join(name))?;
            file.write_all(contents)?;
            if sync {
                file.sync_all()?;
            }
            anyhow::Ok(())
        })?;
    }
    Ok(latency)
}

fn list(dir: &Path) -> Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let metadata = entry?.metadata()?;
        ensure!(metadata.len() == SIZE, "a file has a wrong length");
        count += 1;
    }
    Ok(count)
}

fn verify(dir: &Path, seed: u64, count: u64) -> Result<()> {
    for number in 0..count {
        ensure!(
            fs::read(dir.join(name(number)))? == contents(seed, number),
            "{} has wrong contents",
            name(number)
        );
    }
    Ok(())
}
