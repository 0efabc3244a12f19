//! A folder backed up: copied, changed in part, compared, restored.

use std::fs;

use anyhow::{Result, ensure};

use super::{
    Clock,
    documents::{Document, copy},
};
use crate::{
    payload::{Random, derive},
    sample::{Durability::FsyncPerFile, Row, Unit::Runs},
    workload::Bench,
};

pub const ROW: Row = Row::new("backup and sync", Runs, FsyncPerFile);

const FILES: u64 = 1_025;
/// One file of so many changes.
const CHANGED: usize = 20;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut random = Random::new(derive(bench.seed, 19));
    let (folder, backup) = (bench.site.path("folder"), bench.site.path("backup"));
    fs::create_dir(&folder)?;
    fs::create_dir(&backup)?;
    let mut files = Vec::new();
    for n in 0..FILES * bench.scale.desktop / 100 {
        let len = random.within(4 << 10, 512 << 10);
        let file = Document::new(folder.join(format!("file-{n}")), random.bits(), len);
        fs::write(&file.path, file.contents())?;
        files.push(file);
    }
    bench.site.sync()?;
    let originals = files.clone();
    let copy_of = |file: &Document| backup.join(file.path.file_name().unwrap_or_default());
    let mut clock = Clock::default();
    clock.time(|| {
        for file in &files {
            copy(&file.path, &copy_of(file))?;
        }
        for file in files.iter_mut().step_by(CHANGED) {
            file.rewrite()?;
        }
        let mut differ = Vec::new();
        for file in &files {
            if file.read()? != fs::read(copy_of(file))? {
                differ.push(file);
            }
        }
        ensure!(
            differ.len() == files.len().div_ceil(CHANGED),
            "{} files differ",
            differ.len()
        );
        for file in differ {
            copy(&copy_of(file), &file.path)?;
        }
        Ok(())
    })?;
    for file in &originals {
        file.verify(&file.path)?;
    }
    bench.record(ROW, 1, clock.0)?;
    Ok(())
}
