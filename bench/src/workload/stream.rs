//! One large file from end to end.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::Bench;
use crate::{
    payload::{self, PAGE},
    sample::{
        Durability::{FsyncAtEnd, Reads},
        Row,
        Unit::Megabytes,
    },
};

const WRITE: Row = Row::new("sequential write, 1 MiB", Megabytes, FsyncAtEnd);
const COLD: Row = Row::new("sequential read, cold", Megabytes, Reads);
const REMOUNTED: Row = Row::new(
    "sequential read, remounted, store in page cache",
    Megabytes,
    Reads,
);
const WARM: Row = Row::new("sequential read, warm", Megabytes, Reads);

/// Bytes per system call.
const BLOCK: usize = 1 << 20;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let (seed, len) = (bench.seed, bench.scale.file);
    let path = bench.site.path("stream");
    let elapsed = write(&path, seed, len)?;
    bench.record(WRITE, len, elapsed)?;
    if bench.cold(COLD)? {
        bench.record(COLD, len, read(&path, seed, len)?)?;
    }
    if bench.remount(REMOUNTED)? {
        bench.record(REMOUNTED, len, read(&path, seed, len)?)?;
    }
    // The first pass fills the cache where none of the rows above did.
    read(&path, seed, len)?;
    bench.begin()?;
    bench.record(WARM, len, read(&path, seed, len)?)?;
    bench.site.cold()?;
    verify(&path, seed, len)
}

/// Writes and syncs a new file; contents are made before the clock starts.
pub fn write(path: &Path, seed: u64, len: u64) -> Result<Duration> {
    let mut contents = vec![0; len as usize];
    payload::fill(&mut contents, seed, 0);
    let start = Instant::now();
    let file = File::create_new(path)?;
    for (block, offset) in contents.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
        file.write_all_at(block, offset)?;
    }
    file.sync_all()?;
    Ok(start.elapsed())
}

fn read(path: &Path, seed: u64, len: u64) -> Result<Duration> {
    let mut buffer = vec![0; BLOCK];
    let start = Instant::now();
    let file = File::open(path)?;
    for offset in (0..len).step_by(BLOCK) {
        file.read_exact_at(&mut buffer, offset)?;
        ensure!(
            payload::begins_right(&buffer, seed, offset / PAGE as u64, 0),
            "{} has wrong contents at {offset}",
            path.display()
        );
    }
    Ok(start.elapsed())
}

/// Compares every byte.
pub fn verify(path: &Path, seed: u64, len: u64) -> Result<()> {
    let file = File::open(path)?;
    ensure!(
        file.metadata()?.len() == len,
        "{} has a wrong length",
        path.display()
    );
    let (mut is, mut expected) = (vec![0; BLOCK], vec![0; BLOCK]);
    for offset in (0..len).step_by(BLOCK) {
        file.read_exact_at(&mut is, offset)?;
        payload::fill(&mut expected, seed, offset);
        ensure!(
            is == expected,
            "{} has wrong contents within 1 MiB after {offset}",
            path.display()
        );
    }
    Ok(())
}
