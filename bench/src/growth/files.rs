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
        let probes = PROBES.min(size / 2);
        for number in made..size - probes {
            create(subject, seed, number)?;
        }
        let first = size - probes;
        let create_rate = rate(probes, |n| create(subject, seed, first + n))?;
        made = size;
        let mount = subject.mount_cold()?;
        let chosen = picks(derive(seed, size), probes, size);
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
        let mut figures = vec![
            ("create, op/s", create_rate),
            ("stat, first, op/s", stat_rate),
            ("read, first, op/s", read_rate),
        ];
        figures.extend(subject.totals(mount)?);
        points.push(Point { size, figures });
    }
    Ok(points)
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
