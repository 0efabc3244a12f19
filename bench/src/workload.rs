//! The workloads: a file for each group of rows that share preparation.
//!
//! A group gets an empty directory, measures its rows in order, compares
//! contents with what it wrote outside of the measured time, and fails when
//! they differ.

mod desktop;
mod names;
mod random;
mod stored;
mod stream;
mod tree;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    sample::{Latency, Row, Sample},
    scale::Scale,
    site::Site,
};

/// What a group is given and fills.
pub struct Bench<'a> {
    /// Where to run.
    pub site: &'a mut Site,
    /// How much.
    pub scale: &'a Scale,
    /// Of payloads and choices; the same for all contenders in a round.
    pub seed: u64,
    /// What was measured.
    pub samples: Vec<Sample>,
    /// Rows that could not be measured here, with the reason.
    pub skipped: Vec<(&'static str, &'static str)>,
}

/// A group of rows.
pub struct Group {
    /// Chooses it on the command line.
    pub name: &'static str,
    /// Measures it.
    pub run: fn(&mut Bench<'_>) -> Result<()>,
}

/// All groups, in the order of the table.
pub const GROUPS: &[Group] = &[
    group("stream", stream::run),
    group("random", random::run),
    group("stored", stored::run),
    group("names", names::run),
    group("tree", tree::run),
    group("ide", desktop::ide::run),
    group("working-set", desktop::working_set::run),
    group("tree-walk", desktop::tree_walk::run),
    group("concurrent", desktop::concurrent::run),
    group("database", desktop::database::run),
    group("media", desktop::media::run),
    group("photos", desktop::photos::run),
    group("archive", desktop::archive::run),
    group("backup", desktop::backup::run),
    group("cold-start", desktop::cold_start::run),
];

const fn group(name: &'static str, run: fn(&mut Bench<'_>) -> Result<()>) -> Group {
    Group { name, run }
}

/// Names of all groups, for help and errors.
#[must_use]
pub fn names_of_groups() -> String {
    let names: Vec<_> = GROUPS.iter().map(|group| group.name).collect();
    names.join(", ")
}

const NOT_ROOT: &str = "only root may drop the page cache";
const NOT_MOUNTED: &str = "a directory that is not mounted by this tool cannot be mounted anew";

impl Bench<'_> {
    /// Notes `amount` in `elapsed`.
    pub fn record(&mut self, row: Row, amount: u64, elapsed: Duration) {
        self.samples.push(row.sample(amount, elapsed, None));
    }

    /// The same with latencies.
    pub fn record_with(&mut self, row: Row, amount: u64, elapsed: Duration, latency: &Latency) {
        self.samples
            .push(row.sample(amount, elapsed, Some(latency)));
    }

    /// Runs and records `work`, which returns its amount.
    pub fn time(&mut self, row: Row, work: impl FnOnce(&Site) -> Result<u64>) -> Result<()> {
        let start = Instant::now();
        let amount = work(self.site)?;
        self.record(row, amount, start.elapsed());
        Ok(())
    }

    /// Cold caches for `row`, or a note why not.
    pub fn cold(&mut self, row: Row) -> Result<bool> {
        let cold = self.site.cold()?;
        if !cold {
            self.skipped.push((row.name, NOT_ROOT));
        }
        Ok(cold)
    }

    /// A new mount for `row`, or a note why not.
    pub fn remount(&mut self, row: Row) -> Result<bool> {
        let mounted = self.site.remount()?;
        if !mounted {
            self.skipped.push((row.name, NOT_MOUNTED));
        }
        Ok(mounted)
    }
}
