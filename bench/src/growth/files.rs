//! More and more small files.

use std::{fs, path::PathBuf};

use anyhow::{Result, ensure};

use super::{Point, Subject, picks, rate};
use crate::payload::{Random, derive};

/// Files in a directory.
const PER_DIR: u64 = 1_000;
/// Bytes of a file.
const LEN: u64 = 1 << 10;
/// Operations of which a rate is taken.
const PROBES: u64 = 5_000;

/// Grows `subject` to each of `sizes`, which ascend, and measures there.
///
/// # Errors
/// An operation failed, or contents were not what was written.
pub fn measure(subject: &mut Subject, sizes: &[u64], seed: u64) -> Result<Vec<Point>> {
    let mut made = 0;
    let mut points = Vec::new();
    for &size in sizes {
        // All of them: a burst is faster, and what it leaves to be done in the
        // background slows the next one down.
        let create_rate = rate(size - made, |n| create(subject, seed, made + n))?;
        made = size;
        let mount = subject.mount_cold()?;
        let (cold_stat, cold_read) = look(subject, seed, size, derive(seed, size))?;
        let mut figures = vec![
            ("create, op/s", create_rate),
            ("stat, cold, op/s", cold_stat),
            ("read, cold, op/s", cold_read),
        ];
        if subject.site.remount()? {
            let (stat, read) = look(subject, seed, size, derive(seed, size + 1))?;
            figures.extend([
                ("stat, remounted, op/s", stat),
                ("read, remounted, op/s", read),
            ]);
        }
        figures.extend(subject.totals(mount)?);
        points.push(Point { size, figures });
    }
    Ok(points)
}

/// Rates of `stat` and of reading whole files, among `size` of them: the first
/// time that this mount is asked for most of these.
fn look(subject: &Subject, seed: u64, size: u64, choice: u64) -> Result<(f64, f64)> {
    let probes = PROBES.min(size / 2);
    let chosen = picks(choice, probes, size);
    let stat_rate = rate(probes, |n| {
        let len = fs::metadata(path(subject, chosen[n as usize]))?.len();
        ensure!(len == LEN, "a file of {len} bytes");
        Ok(())
    })?;
    let read_rate = rate(probes, |n| {
        let number = chosen[n as usize];
        let seen = fs::read(path(subject, number))?;
        ensure!(seen == contents(seed, number), "file {number} is wrong");
        Ok(())
    })?;
    Ok((stat_rate, read_rate))
}

fn path(subject: &Subject, number: u64) -> PathBuf {
    let dir = number / PER_DIR;
    subject.site.path(format!("dir-{dir}/file-{number}"))
}

fn contents(seed: u64, number: u64) -> Vec<u8> {
    Random::new(derive(seed, number)).bytes(LEN)
}

fn create(subject: &Subject, seed: u64, number: u64) -> Result<()> {
    let path = path(subject, number);
    if number.is_multiple_of(PER_DIR)
        && let Some(dir) = path.parent()
    {
        fs::create_dir(dir)?;
    }
    Ok(fs::write(path, contents(seed, number))?)
}
