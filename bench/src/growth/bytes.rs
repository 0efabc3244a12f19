//! More and more bytes. Most of them repeat, so that many fit on the disk; the
//! bytes that are measured do not.

use std::{
    fs::File,
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{Point, Subject, picks, rate};
use crate::{
    payload::{self, PAGE, derive},
    sample::median,
};

/// Bytes of a file.
const FILE: u64 = 1 << 30;
/// Bytes that are written and read to measure.
const PROBE: u64 = 256 << 20;
/// Probes at each size, of which the medians are taken.
const PROBES: u64 = 3;
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
        let probes = (0..PROBES)
            .map(|number| probe(subject, seed, files, derive(size, number)))
            .collect::<Result<Vec<_>>>()?;
        let figure = |of: fn(&Probe) -> f64| median(&probes.iter().map(of).collect::<Vec<_>>());
        let mut figures = vec![
            ("write of new data, MB/s", figure(|probe| probe.write)),
            ("sequential read, MB/s", figure(|probe| probe.read)),
            ("random 4 KiB read, op/s", figure(|probe| probe.random)),
        ];
        let mount = Duration::from_secs_f64(figure(|probe| probe.mount));
        figures.extend(subject.totals(mount)?);
        points.push(Point { size, figures });
    }
    Ok(points)
}

/// What one look found: rates, and seconds that mounting took.
struct Probe {
    write: f64,
    mount: f64,
    random: f64,
    read: f64,
}

/// Writes a file of its own, mounts cold, reads pages of the `files` and that
/// file.
fn probe(subject: &mut Subject, seed: u64, files: u64, own: u64) -> Result<Probe> {
    let path = subject.site.path(format!("probe-{own}"));
    let start = Instant::now();
    write(&path, own, PROBE)?;
    let write = PROBE as f64 / start.elapsed().as_secs_f64() / 1e6;
    let mount = subject.mount_cold()?.as_secs_f64();
    let random = pages(subject, seed, files, own)?;
    let start = Instant::now();
    verify(&path, own)?;
    let read = PROBE as f64 / start.elapsed().as_secs_f64() / 1e6;
    Ok(Probe {
        write,
        mount,
        random,
        read,
    })
}

/// Pages per second, each of a file that is opened for it.
fn pages(subject: &Subject, seed: u64, files: u64, choice: u64) -> Result<f64> {
    let per_file = FILE / PAGE as u64;
    let chosen = picks(choice, PAGES, files.max(1) * per_file);
    rate(PAGES, |n| {
        let page = chosen[n as usize];
        let file = File::open(self::path(subject, page / per_file))?;
        let mut seen = [0; PAGE];
        let within = page % per_file;
        file.read_exact_at(&mut seen, within * PAGE as u64)?;
        let right = payload::begins_right(&seen, seed, within, 0);
        ensure!(right, "page {page} is wrong");
        Ok(())
    })
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
