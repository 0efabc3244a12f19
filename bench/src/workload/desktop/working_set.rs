//! A few files that are used all the time among many that are not.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Result, ensure};

use super::documents::{patch, read_part};
use crate::{
    payload::{Random, derive},
    sample::{Durability::FsyncPerWrite, Latency, Row, Unit::Operations},
    workload::Bench,
};

pub const ROW: Row = Row::new("working set", Operations, FsyncPerWrite);

const DIRS: u64 = 10;
const FILES: u64 = 1_000;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut random = Random::new(derive(bench.seed, 12));
    let mut files = prepare(bench, &mut random)?;
    bench.begin()?;
    let operations = 500 * bench.scale.desktop / 100;
    let mut latency = Latency::default();
    let start = Instant::now();
    for _ in 0..operations {
        let (path, contents) = &mut files[choose(&mut random)];
        latency.time(|| operate(&mut random, path, contents))?;
    }
    bench.record_with(ROW, operations, start.elapsed(), &latency)?;
    for (path, contents) in &files {
        ensure!(fs::read(path)? == *contents, "a change was lost");
    }
    Ok(())
}

/// Half of the files are small, few are large.
fn prepare(bench: &Bench<'_>, random: &mut Random) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    for dir in 0..DIRS {
        fs::create_dir(bench.site.path(format!("dir-{dir}")))?;
    }
    let mut files = Vec::new();
    for n in 0..FILES {
        let len = match random.below(100) {
            0..50 => random.within(1 << 10, 10 << 10),
            50..80 => random.within(10 << 10, 100 << 10),
            80..95 => random.within(100 << 10, 500 << 10),
            _ => random.within(500 << 10, 1 << 20),
        };
        let path = bench.site.path(format!("dir-{}/file-{n}", n % DIRS));
        let contents = random.bytes(len);
        fs::write(&path, &contents)?;
        files.push((path, contents));
    }
    bench.site.sync()?;
    Ok(files)
}

/// 80 of 100 choices fall on 50 files, 15 on the next 150, 5 on the rest.
fn choose(random: &mut Random) -> usize {
    let index = match random.below(100) {
        0..80 => random.below(50),
        80..95 => random.within(50, 199),
        _ => random.within(200, FILES - 1),
    };
    index as usize
}

fn operate(random: &mut Random, path: &PathBuf, contents: &mut [u8]) -> Result<()> {
    let len = contents.len() as u64;
    match random.below(10) {
        0..7 => ensure!(fs::read(path)? == contents, "wrong contents"),
        7..9 => {
            let part = len.min(4096);
            let at = random.below(len - part + 1);
            let seen = read_part(path, at, part as usize)?;
            ensure!(seen == contents[at as usize..][..part as usize], "wrong");
        }
        _ => {
            let at = random.below(len - 255);
            read_part(path, at, 256)?;
            let change = random.bytes(256);
            patch(path, at, &change)?;
            contents[at as usize..][..256].copy_from_slice(&change);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_choices_fall_on_few_files() {
        let mut random = Random::new(1);
        let hot = (0..1000).filter(|_| choose(&mut random) < 50).count();
        assert!((750..850).contains(&hot), "{hot}");
    }
}
