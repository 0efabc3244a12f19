//! How costs grow: the same operations beside more and more files, and beside
//! more and more bytes.

mod bytes;
mod files;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{contender::Contender, payload::Random, site::Site};

pub use bytes::measure as by_bytes;
pub use files::measure as by_files;

/// One size, and what things cost there.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Files, or bytes of contents.
    pub size: u64,
    /// Names and figures, the same at every point.
    pub figures: Vec<(&'static str, f64)>,
}

/// A fresh mount to grow, removed when dropped.
pub struct Subject {
    home: PathBuf,
    site: Site,
}

impl Subject {
    /// Mounts `contender` on a fresh store in a new directory below `disk`.
    ///
    /// # Errors
    /// The disk cannot be used, or the contender refuses.
    pub fn start(contender: Contender, disk: &Path, kiseki: &Path) -> Result<Subject> {
        let home = disk.join(format!("kiseki-growth-{}", std::process::id()));
        fs::create_dir(&home).with_context(|| format!("cannot use {}", disk.display()))?;
        let site = contender.start(&home, kiseki)?;
        Ok(Subject { home, site })
    }

    /// Unmounts, drops the page cache and mounts: how long mounting took.
    fn mount_cold(&mut self) -> Result<Duration> {
        let started = self.site.cold_start()?;
        started.context("only root may drop the page cache, and cold costs are measured here")
    }

    /// Resident memory of the process behind the mount.
    fn resident(&self) -> Result<u64> {
        let point = self.site.dir().as_os_str().as_encoded_bytes();
        let mut most = 0;
        for process in fs::read_dir("/proc")?.flatten() {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if !line.split(|byte| *byte == 0).any(|word| word == point) {
                continue;
            }
            let status = fs::read_to_string(process.path().join("status")).unwrap_or_default();
            let kib = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .and_then(|value| value.trim().strip_suffix(" kB"))
                .and_then(|value| value.parse::<u64>().ok());
            most = most.max(kib.unwrap_or(0) << 10);
        }
        Ok(most)
    }

    /// Bytes that the store takes on the disk.
    fn stored(&self) -> Result<u64> {
        let mut total = 0;
        let mut dirs = vec![self.home.join("store")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir)? {
                let (path, data) = entry.and_then(|e| Ok((e.path(), e.metadata()?)))?;
                total += data.blocks() * 512;
                if data.is_dir() {
                    dirs.push(path);
                }
            }
        }
        Ok(total)
    }

    /// What is asked at every size, behind the operations' own figures.
    fn totals(&self, mount: Duration) -> Result<[(&'static str, f64); 3]> {
        Ok([
            ("mount, ms", mount.as_secs_f64() * 1e3),
            (
                "resident, MiB",
                self.resident()? as f64 / f64::from(1 << 20),
            ),
            ("store, MiB", self.stored()? as f64 / f64::from(1 << 20)),
        ])
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // The mount first: a store cannot be removed from under it.
        self.site = Site::directory(&self.home);
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// `count` operations per second of `operation`, which is given its number.
fn rate(count: u64, mut operation: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    for number in 0..count {
        operation(number)?;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// `count` numbers below `end`.
fn picks(seed: u64, count: u64, end: u64) -> Vec<u64> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.below(end)).collect()
}
