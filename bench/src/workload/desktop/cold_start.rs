//! The first minutes after a start: nothing is in memory, and everything is
//! listed, looked at, and read in part.

use std::fs;

use anyhow::{Result, ensure};

use super::{Clock, documents::Document};
use crate::{
    payload::{Random, derive},
    sample::{Durability::Reads, Row, Unit::Runs},
    workload::Bench,
};

pub const ROW: Row = Row::new("cold start: 8,000 files", Runs, Reads);

const DIRS: u64 = 400;
const FILES_PER_DIR: u64 = 20;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut random = Random::new(derive(bench.seed, 20));
    let mut files = Vec::new();
    for dir in 0..DIRS * bench.scale.desktop / 100 {
        let dir = bench.site.path(format!("dir-{dir}"));
        fs::create_dir(&dir)?;
        for n in 0..FILES_PER_DIR {
            let len = random.within(1 << 10, 124 << 10);
            let file = Document::new(dir.join(format!("file-{n}")), random.bits(), len);
            fs::write(&file.path, file.contents())?;
            files.push(file);
        }
    }
    if !bench.cold(ROW)? {
        return Ok(());
    }
    let mut clock = Clock::default();
    let read = clock.time(|| {
        let mut found = 0;
        for dir in fs::read_dir(bench.site.dir())? {
            found += fs::read_dir(dir?.path())?.filter(Result::is_ok).count();
        }
        ensure!(found == files.len(), "{found} files are listed");
        for file in &files {
            let len = fs::metadata(&file.path)?.len();
            ensure!(
                len == file.len,
                "{} has a wrong length",
                file.path.display()
            );
        }
        let tenth = files.iter().step_by(10);
        tenth
            .map(|file| Ok((file, file.read()?)))
            .collect::<Result<Vec<_>>>()
    })?;
    for (file, seen) in read {
        ensure!(seen == file.contents(), "{} is wrong", file.path.display());
    }
    bench.record(ROW, 1, clock.0)?;
    Ok(())
}
