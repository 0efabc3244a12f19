//! A library of photos: previews read their heads, tags are written into
//! them, some are copied into an album.

use std::fs;

use anyhow::{Result, ensure};

use super::{
    Clock,
    documents::{Document, copy, patch, read_part},
};
use crate::{
    payload::{Random, derive},
    sample::{Durability::FsyncPerWrite, Row, Unit::Runs},
    workload::Bench,
};

pub const ROW: Row = Row::new("photo library", Runs, FsyncPerWrite);

const PHOTOS: u64 = 80;
const HEAD: usize = 64 << 10;
const TAG: usize = 256;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut random = Random::new(derive(bench.seed, 17));
    let (library, album) = (bench.site.path("library"), bench.site.path("album"));
    fs::create_dir(&library)?;
    fs::create_dir(&album)?;
    let mut clock = Clock::default();
    let mut photos = Vec::new();
    for n in 0..PHOTOS * bench.scale.desktop / 100 {
        let len = random.within(2 << 20, 25 << 20);
        let photo = Document::new(library.join(format!("photo-{n}")), random.bits(), len);
        let contents = photo.contents();
        clock.time(|| super::documents::save(&photo.path, &contents))?;
        photos.push(photo);
    }
    bench.site.cold()?;
    let tag = random.bytes(TAG as u64);
    let chosen = || photos.iter().step_by(4);
    clock.time(|| {
        for photo in &photos {
            read_part(&photo.path, 0, HEAD)?;
        }
        for photo in chosen() {
            patch(&photo.path, HEAD as u64 / 2, &tag)?;
        }
        for photo in chosen() {
            let name = photo.path.file_name().unwrap_or_default();
            copy(&photo.path, &album.join(name))?;
        }
        Ok(())
    })?;
    bench.record(ROW, 1, clock.0)?;
    for photo in chosen() {
        let mut wanted = photo.contents();
        wanted[HEAD / 2..][..TAG].copy_from_slice(&tag);
        let name = photo.path.file_name().unwrap_or_default();
        ensure!(fs::read(album.join(name))? == wanted, "a copy is wrong");
    }
    Ok(())
}
