//! More and more bytes. Most of them repeat, so that many fit on the disk; the
//! bytes that are measured do not.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Result, ensure};

use super::{Point, Subject, picks, rate};
use crate::payload::{self, PAGE, derive};

/// Bytes of a file.
const FILE: u64 = 1 << 30;
/// Bytes that are written and read to measure.
const PROBE: u64 = 256 << 20;
/// Single pages read.
const PAGES: u64 = 5_000;
const BLOCK: usize = 1 << 20;

/// Grows `subject` to each of `sizes` in bytes, which ascend, and measures
/// there.
///
/// # Errors
/// An operation failed, or contents were not what was written.
pub fn measure(subject: &mut Subject, sizes: &[u64], seed: u64) -> Result<Vec<Point>> {
    let mut files = 0;
    let mut points = Vec::new();
    for &size in sizes {
        while (files + 1) * FILE <= size {
            write(&path(subject, files), seed, FILE)?;
            files += 1;
        }
        let probe = subject.site.path(format!("probe-{size}"));
        let own = derive(seed, size);
        let start = Instant::now();
        write(&probe, own, PROBE)?;
        let write_rate = PROBE as f64 / start.elapsed().as_secs_f64() / 1e6;
        let mount = subject.mount_cold()?;
        let chosen = picks(own, PAGES, files.max(1) * FILE / PAGE as u64);
        let per_file = FILE / PAGE as u64;
        let random_rate = rate(PAGES, |n| {
            let page = chosen[n as usize];
            let file = File::open(path(subject, page / per_file))?;
            let mut seen = [0; PAGE];
            let within = page % per_file;
            file.read_exact_at(&mut seen, within * PAGE as u64)?;
            let right = payload::begins_right(&seen, seed, within, 0);
            ensure!(right, "page {page} is wrong");
            Ok(())
        })?;
        let start = Instant::now();
        verify(&probe, own)?;
        let read_rate = PROBE as f64 / start.elapsed().as_secs_f64() / 1e6;
        let mut figures = vec![
            ("write of new data, MB/s", write_rate),
            ("sequential read, MB/s", read_rate),
            ("random 4 KiB read, op/s", random_rate),
        ];
        figures.extend(subject.totals(mount)?);
        points.push(Point { size, figures });
    }
    Ok(points)
}

fn path(subject: &Subject, number: u64) -> PathBuf {
    subject.site.path(format!("bytes-{number}"))
}

fn write(path: &Path, seed: u64, len: u64) -> Result<()> {
    let mut file = File::create_new(path)?;
    let mut block = vec![0; BLOCK];
    for at in (0..len).step_by(BLOCK) {
        payload::fill(&mut block, seed, at);
        file.write_all(&block)?;
    }
    Ok(file.sync_all()?)
}

fn verify(path: &Path, seed: u64) -> Result<()> {
    let mut file = File::open(path)?;
    let (mut seen, mut wanted) = (vec![0; BLOCK], vec![0; PAGE]);
    for at in (0..PROBE).step_by(BLOCK) {
        file.read_exact(&mut seen)?;
        payload::fill(&mut wanted, seed, at);
        ensure!(seen[..PAGE] == wanted, "wrong contents at {at}");
    }
    Ok(())
}
