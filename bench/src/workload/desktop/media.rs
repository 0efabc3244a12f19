//! A film: stored once, then watched with jumps.

use std::{
    fs::File,
    io::{BufReader, Read, Write},
    os::unix::fs::FileExt,
};

use anyhow::{Result, ensure};

use super::Clock;
use crate::{
    payload::{PAGE, Random, derive, fill},
    sample::{Durability::FsyncAtEnd, Row, Unit::Runs},
    workload::Bench,
};

pub const ROW: Row = Row::new("media: 100 MB, seeks", Runs, FsyncAtEnd);

const SEEKS: u64 = 100;
const PLAYED: usize = 256 << 10;
const BLOCK: usize = 1 << 20;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let len = (100 * bench.scale.desktop / 100) << 20;
    let seed = derive(bench.seed, 16);
    let path = bench.site.path("film");
    let mut clock = Clock::default();
    let mut block = vec![0; BLOCK];
    let mut file = File::create(&path)?;
    for at in (0..len).step_by(BLOCK) {
        fill(&mut block, seed, at);
        clock.time(|| Ok(file.write_all(&block)?))?;
    }
    clock.time(|| Ok(file.sync_all()?))?;
    drop(file);
    // Without the right to drop caches all contenders are measured warm.
    bench.site.cold()?;

    let file = File::open(&path)?;
    let mut random = Random::new(seed);
    let mut played = vec![0; PLAYED];
    let mut wanted = vec![0; PLAYED];
    for _ in 0..SEEKS {
        let at = random.below((len - PLAYED as u64) / PAGE as u64) * PAGE as u64;
        clock.time(|| Ok(file.read_exact_at(&mut played, at)?))?;
        fill(&mut wanted, seed, at);
        ensure!(played == wanted, "wrong contents at {at}");
    }
    let mut stream = BufReader::with_capacity(BLOCK, &file);
    let mut wanted = vec![0; BLOCK];
    for at in (0..len).step_by(BLOCK) {
        clock.time(|| Ok(stream.read_exact(&mut block)?))?;
        fill(&mut wanted, seed, at);
        ensure!(block == wanted, "wrong contents at {at}");
    }
    bench.record(ROW, 1, clock.0)?;
    Ok(())
}
