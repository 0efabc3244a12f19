//! The workloads: a file for each group of rows that share preparation.
//!
//! A group gets an empty directory, measures its rows in order, compares
//! contents with what it wrote outside of the measured time, and fails when
//! they differ.

mod desktop;
mod names;
mod paced;
mod programs;
mod random;
mod stored;
mod stream;
mod tree;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    round_trips::{Moment, RoundTrips},
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
    /// What had been asked of the mount when the row began.
    pub began: Option<Moment>,
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
    group("programs", programs::run),
    group("paced", paced::run),
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

/// The rows of the ten desktop workloads.
pub const DESKTOP: [&str; 10] = [
    desktop::ide::ROW.name,
    desktop::working_set::ROW.name,
    desktop::tree_walk::ROW.name,
    desktop::concurrent::ROW.name,
    desktop::database::ROW.name,
    desktop::media::ROW.name,
    desktop::photos::ROW.name,
    desktop::archive::ROW.name,
    desktop::backup::ROW.name,
    desktop::cold_start::ROW.name,
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
    /// Begins to count what the next row asks of the mount. A row that follows
    /// work of its own group that is not measured says so; the first one, those
    /// behind another row and those behind [`Bench::cold`] need not.
    pub fn begin(&mut self) -> Result<()> {
        self.began = self.site.moment()?;
        Ok(())
    }

    /// Notes `amount` in `elapsed`.
    pub fn record(&mut self, row: Row, amount: u64, elapsed: Duration) -> Result<()> {
        self.keep(row.sample(amount, elapsed, None))
    }

    /// The same with latencies.
    pub fn record_with(
        &mut self,
        row: Row,
        amount: u64,
        elapsed: Duration,
        latency: &Latency,
    ) -> Result<()> {
        self.keep(row.sample(amount, elapsed, Some(latency)))
    }

    fn keep(&mut self, mut sample: Sample) -> Result<()> {
        let now = self.site.moment()?;
        let both = self.began.as_ref().zip(now.as_ref());
        sample.round_trips = both.and_then(|(began, now)| {
            RoundTrips::between(began, now, sample.row.unit, sample.amount)
        });
        self.began = now;
        self.samples.push(sample);
        Ok(())
    }

    /// Runs and records `work`, which returns its amount.
    pub fn time(&mut self, row: Row, work: impl FnOnce(&Site) -> Result<u64>) -> Result<()> {
        self.begin()?;
        let start = Instant::now();
        let amount = work(self.site)?;
        self.record(row, amount, start.elapsed())
    }

    /// Cold caches for `row`, or a note why not.
    pub fn cold(&mut self, row: Row) -> Result<bool> {
        let cold = self.site.cold()?;
        if !cold {
            self.skipped.push((row.name, NOT_ROOT));
        }
        self.begin()?;
        Ok(cold)
    }

    /// A new mount for `row`, or a note why not.
    pub fn remount(&mut self, row: Row) -> Result<bool> {
        let mounted = self.site.remount()?;
        if !mounted {
            self.skipped.push((row.name, NOT_MOUNTED));
        }
        self.begin()?;
        Ok(mounted)
    }
}
