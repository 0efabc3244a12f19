//! An editor at work: a project opened, a few files edited over and over, a
//! build that writes its outputs.

use std::fs;

use anyhow::{Result, ensure};

use super::{
    Clock,
    documents::{patch, read_part, save},
};
use crate::{
    payload::{Random, derive},
    sample::{Durability::FsyncPerWrite, Row, Unit::Runs},
    workload::Bench,
};

pub const ROW: Row = Row::new("IDE", Runs, FsyncPerWrite);

const FILES: u64 = 50;
const HOT: usize = 5;
const ROUNDS: u64 = 20;
const OUTPUTS: u64 = 10;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut random = Random::new(derive(bench.seed, 11));
    let dir = bench.site.path("project");
    fs::create_dir(&dir)?;
    let mut files = Vec::new();
    for n in 0..FILES {
        let len = random.within(10 << 10, 100 << 10);
        files.push((dir.join(format!("source-{n}")), random.bytes(len)));
    }
    let outputs: Vec<_> = (0..OUTPUTS)
        .map(|n| {
            let len = random.within(50 << 10, 100 << 10);
            (dir.join(format!("output-{n}")), random.bytes(len))
        })
        .collect();
    let read_all = |files: &[(_, Vec<u8>)]| -> Result<()> {
        for (path, contents) in files {
            ensure!(fs::read(path)? == *contents, "a source has wrong contents");
        }
        Ok(())
    };
    let mut clock = Clock::default();
    clock.time(|| {
        for (path, contents) in &files {
            save(path, contents)?;
        }
        read_all(&files)?;
        read_all(&files)?;
        for _ in 0..ROUNDS {
            for (path, contents) in &mut files[..HOT] {
                let at = random.below(contents.len() as u64 - 1024);
                let seen = read_part(path, at, 1024)?;
                ensure!(seen == contents[at as usize..][..1024], "wrong contents");
                let near = at + random.below(512);
                let edit = random.bytes(512);
                patch(path, near, &edit)?;
                contents[near as usize..][..512].copy_from_slice(&edit);
                if random.below(5) == 0 {
                    ensure!(fs::read(path)? == *contents, "an edit was lost");
                }
            }
        }
        for (path, contents) in &mut files[..HOT] {
            *contents = random.bytes(contents.len() as u64);
            save(path, contents)?;
        }
        read_all(&files)?;
        for (path, contents) in &outputs {
            save(path, contents)?;
        }
        Ok(())
    })?;
    bench.record(ROW, 1, clock.0)?;
    read_all(&outputs)
}
