//! Data that the file system has already.

use std::{fs, time::Instant};

use anyhow::Result;

use super::{Bench, stream};
use crate::sample::{Durability::FsyncAtEnd, Row, Unit::Megabytes};

const FIRST: Row = Row::new("write of new data", Megabytes, FsyncAtEnd);
const AGAIN: Row = Row::new("write of data stored already", Megabytes, FsyncAtEnd);
const COPY: Row = Row::new("cp of a stored file", Megabytes, FsyncAtEnd);

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let (seed, len) = (bench.seed, bench.scale.stored);
    let path = |name| bench.site.path(name);
    let (first, again, copy) = (path("first"), path("again"), path("copy"));
    let elapsed = stream::write(&first, seed, len)?;
    bench.record(FIRST, len, elapsed)?;
    let elapsed = stream::write(&again, seed, len)?;
    bench.record(AGAIN, len, elapsed)?;
    // `fs::copy` uses copy_file_range, as cp does.
    let start = Instant::now();
    fs::copy(&first, &copy)?;
    fs::File::open(&copy)?.sync_all()?;
    bench.record(COPY, len, start.elapsed())?;
    bench.site.cold()?;
    for path in [&first, &again, &copy] {
        stream::verify(path, seed, len)?;
    }
    Ok(())
}
