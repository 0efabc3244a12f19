//! A folder packed and unpacked.

use std::{fs, process::Command};

use anyhow::Result;

use super::{Clock, documents::Document};
use crate::{
    contender::run as run_program,
    payload::{Random, derive},
    sample::{Durability::SyncAtEnd, Row, Unit::Runs},
    workload::Bench,
};

pub const ROW: Row = Row::new("archive: tar.gz of 1,250 files", Runs, SyncAtEnd);

const FILES: u64 = 1_250;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut random = Random::new(derive(bench.seed, 18));
    let (folder, restored) = (bench.site.path("folder"), bench.site.path("restored"));
    let archive = bench.site.path("archive.tar.gz");
    fs::create_dir(&folder)?;
    fs::create_dir(&restored)?;
    let mut files = Vec::new();
    for n in 0..FILES * bench.scale.desktop / 100 {
        let len = random.within(1 << 10, 40 << 10);
        let file = Document::new(folder.join(format!("file-{n}")), random.bits(), len);
        fs::write(&file.path, file.contents())?;
        files.push(file);
    }
    bench.site.sync()?;
    let mut clock = Clock::default();
    clock.time(|| {
        let tar = |what: &str| {
            let mut tar = Command::new("tar");
            // The lowest level: compression is the same for all.
            tar.env("GZIP", "-1").arg(what).arg(&archive);
            tar
        };
        run_program(tar("-czf").arg("-C").arg(&folder).arg("."))?;
        run_program(tar("-xzf").arg("-C").arg(&restored))?;
        bench.site.sync()
    })?;
    for file in &files {
        let name = file.path.file_name().unwrap_or_default();
        file.verify(&restored.join(name))?;
    }
    bench.record(ROW, 1, clock.0)?;
    Ok(())
}
