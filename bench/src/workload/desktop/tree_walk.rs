//! A deep tree, walked again and again with a look at every file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

use crate::{
    payload::{Random, derive},
    sample::{Durability::Reads, Row, Unit::Operations},
    workload::Bench,
};

pub const ROW: Row = Row::new("tree: 4 walks with stat", Operations, Reads);

const LEVELS: u32 = 5;
const FAN_OUT: u64 = 6;
const FILES: u64 = 5;
const WALKS: u64 = 4;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let levels = if bench.scale.desktop < 100 {
        LEVELS - 1
    } else {
        LEVELS
    };
    let root = bench.site.path("tree");
    let mut random = Random::new(derive(bench.seed, 13));
    let made = make(&root, levels, &mut random)?;
    bench.site.sync()?;
    bench.time(ROW, |_| {
        let mut seen = 0;
        for _ in 0..WALKS {
            let entries = walk(&root)?;
            ensure!(entries == made, "{entries} entries instead of {made}");
            seen += entries;
        }
        Ok(seen)
    })
}

/// Makes a directory of `levels` levels; how many entries are below it.
fn make(dir: &Path, levels: u32, random: &mut Random) -> Result<u64> {
    fs::create_dir(dir)?;
    for n in 0..FILES {
        let len = random.within(256, 1279);
        fs::write(dir.join(format!("file-{n}")), random.bytes(len))?;
    }
    let mut made = FILES;
    if levels > 1 {
        for n in 0..FAN_OUT {
            made += 1 + make(&dir.join(format!("dir-{n}")), levels - 1, random)?;
        }
    }
    Ok(made)
}

fn walk(root: &Path) -> Result<u64> {
    let mut seen = 0;
    let mut dirs: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let metadata = fs::symlink_metadata(entry.path())?;
            seen += 1;
            if metadata.is_dir() {
                dirs.push(entry.path());
            } else {
                ensure!((256..1280).contains(&metadata.len()), "a wrong length");
            }
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_walk_meets_what_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        let made = make(&root, 3, &mut Random::new(1)).unwrap();
        // 43 directories, the root not counted, with 5 files each.
        assert_eq!(made, 42 + 43 * 5);
        assert_eq!(walk(&root).unwrap(), made);
    }
}
