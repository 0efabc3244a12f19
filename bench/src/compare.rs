//! Runs contenders in turn and puts their figures side by side.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::{
    contender::Contender,
    machine::Machine,
    payload::derive,
    round_trips::{Counter, RoundTrips},
    sample::{Latency, Percentiles, Row, Sample, median},
    scale::Scale,
    site::Site,
    workload::{Bench, GROUPS, Group, names_of_groups},
};

/// What to compare.
#[derive(Clone, Debug)]
pub struct Options {
    /// In the order of the columns; the first is divided by the others.
    pub contenders: Vec<Contender>,
    /// Directory on the disk to measure; a directory of this run is made in it
    /// and removed again.
    pub disk: PathBuf,
    /// The kiseki binary.
    pub kiseki: PathBuf,
    /// How much.
    pub scale: Scale,
    /// Names of groups; all when empty.
    pub only: Vec<String>,
    /// Of everything that is chosen or made up.
    pub seed: u64,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The machine, as far as figures depend on it.
    pub machine: Machine,
    /// How much was done.
    pub scale: Scale,
    /// Every row went through system calls on a directory.
    pub crosses_kernel: bool,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows, in the order of the workloads.
    pub rows: Vec<Line>,
    /// What could not be measured, with the reason.
    pub notes: Vec<String>,
}

/// A row with a cell for each column.
#[derive(Debug, Serialize)]
pub struct Line {
    /// What was measured.
    #[serde(flatten)]
    pub row: Row,
    /// In the order of the columns; `null` where it was not measured.
    pub cells: Vec<Option<Cell>>,
}

/// The rounds of one contender.
#[derive(Debug, Serialize)]
pub struct Cell {
    /// The figure.
    pub median: f64,
    /// All rounds.
    pub values: Vec<f64>,
    /// Of the round nearest to the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Percentiles>,
    /// Of all rounds together, for charts.
    #[serde(skip)]
    pub histogram: Option<Latency>,
    /// Of the round nearest to the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trips: Option<RoundTrips>,
}

impl Line {
    /// The first column over column `index`.
    #[must_use]
    pub fn ratio(&self, index: usize) -> Option<f64> {
        let first = self.cells.first()?.as_ref()?.median;
        let other = self.cells.get(index)?.as_ref()?.median;
        (other > 0.0).then(|| first / other)
    }
}

/// Everything measured so far.
struct Collected {
    columns: usize,
    rows: Vec<(Row, Vec<Vec<Sample>>)>,
    notes: Vec<String>,
}

/// Each group in each round by each contender in turn, on fresh stores; the
/// order rotates from round to round.
///
/// # Errors
/// The disk cannot be used. What goes wrong with a contender becomes a note.
pub fn compare(options: &Options) -> Result<Comparison> {
    let groups = groups(&options.only)?;
    let machine = Machine::here();
    let home = options
        .disk
        .join(format!("kiseki-bench-{}", std::process::id()));
    let mut collected = Collected::new(options.contenders.len());
    for group in groups {
        for round in 0..options.scale.rounds {
            for turn in 0..options.contenders.len() {
                let column = (turn + round as usize) % options.contenders.len();
                let contender = options.contenders[column];
                eprintln!(
                    "{} {}/{} {}",
                    group.name,
                    round + 1,
                    options.scale.rounds,
                    contender.name()
                );
                fs::create_dir_all(&home)
                    .with_context(|| format!("cannot use {}", home.display()))?;
                let seed = derive(options.seed, round);
                let started = contender.start(&home, &options.kiseki);
                let done = started.and_then(|mut site| {
                    collected.run(
                        group,
                        column,
                        contender.name(),
                        &mut site,
                        &options.scale,
                        seed,
                    )
                });
                if let Err(error) = done {
                    collected.note(format!(
                        "{} failed in {}: {error:#}",
                        contender.name(),
                        group.name
                    ));
                }
                remove(&home)?;
            }
        }
    }
    let columns = options
        .contenders
        .iter()
        .map(|c| c.name().to_owned())
        .collect();
    Ok(collected.finish(machine, columns, options.scale))
}

/// The workloads in a directory below `dir`, which is removed afterwards.
/// `counter` counts what they ask of a mount that `dir` lies in.
///
/// # Errors
/// The directory cannot be used, or contents were not what was written.
pub fn measure_directory(
    dir: &Path,
    scale: Scale,
    only: &[String],
    seed: u64,
    counter: Option<fn(&Path) -> Option<Counter>>,
) -> Result<Comparison> {
    let groups = groups(only)?;
    let machine = Machine::here();
    let home = dir.join(format!("kiseki-bench-{}", std::process::id()));
    let mut collected = Collected::new(1);
    for group in groups {
        for round in 0..scale.rounds {
            eprintln!("{} {}/{}", group.name, round + 1, scale.rounds);
            // Fresh contents each round, as the store remembers the last.
            let seed = derive(seed, round);
            fs::create_dir(&home).with_context(|| format!("cannot use {}", dir.display()))?;
            let mut site = Site::counted(&home, counter.and_then(|of| of(dir)));
            let done = collected.run(group, 0, "directory", &mut site, &scale, seed);
            fs::remove_dir_all(&home)?;
            done?;
        }
    }
    let columns = vec![dir.display().to_string()];
    Ok(collected.finish(machine, columns, scale))
}

fn groups(only: &[String]) -> Result<Vec<&'static Group>> {
    for name in only {
        ensure!(
            GROUPS.iter().any(|group| group.name == name),
            "there is no group {name}; the groups are {}",
            names_of_groups()
        );
    }
    let chosen = |group: &&Group| only.is_empty() || only.iter().any(|name| name == group.name);
    Ok(GROUPS.iter().filter(chosen).collect())
}

/// Removes the store of a run and lets the disk come to rest.
///
/// # Errors
/// It cannot be removed.
pub fn remove(home: &Path) -> Result<()> {
    fs::remove_dir_all(home).with_context(|| format!("cannot remove {}", home.display()))?;
    rustix::fs::sync();
    Ok(())
}

impl Collected {
    fn new(columns: usize) -> Collected {
        Collected {
            columns,
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn run(
        &mut self,
        group: &Group,
        column: usize,
        name: &str,
        site: &mut Site,
        scale: &Scale,
        seed: u64,
    ) -> Result<()> {
        let mut bench = Bench {
            site,
            scale,
            seed,
            samples: Vec::new(),
            skipped: Vec::new(),
            began: None,
        };
        let done = bench.begin().and_then(|()| (group.run)(&mut bench));
        let Bench {
            samples, skipped, ..
        } = bench;
        // Rows of a group whose contents proved wrong count for nothing.
        if done.is_ok() {
            for sample in samples {
                self.cells(sample.row)[column].push(sample);
            }
        }
        for (row, reason) in skipped {
            self.note(format!("{name}: no \"{row}\": {reason}"));
        }
        done
    }

    fn cells(&mut self, row: Row) -> &mut Vec<Vec<Sample>> {
        let known = self.rows.iter().position(|(other, _)| *other == row);
        let index = known.unwrap_or_else(|| {
            let empty = (0..self.columns).map(|_| Vec::new()).collect();
            self.rows.push((row, empty));
            self.rows.len() - 1
        });
        &mut self.rows[index].1
    }

    fn finish(self, machine: Machine, columns: Vec<String>, scale: Scale) -> Comparison {
        let line = |(row, cells): (Row, Vec<Vec<Sample>>)| Line {
            row,
            cells: cells.iter().map(|samples| Cell::of(samples)).collect(),
        };
        Comparison {
            machine,
            scale,
            crosses_kernel: true,
            columns,
            rows: self.rows.into_iter().map(line).collect(),
            notes: self.notes,
        }
    }
}

/// The latencies of all rounds.
fn merged(samples: &[Sample]) -> Option<Latency> {
    let mut all = samples
        .iter()
        .filter_map(|sample| sample.histogram.as_ref());
    let mut sum = all.next()?.clone();
    all.for_each(|more| sum.add(more));
    Some(sum)
}

impl Cell {
    /// Of a row's samples; none when there are none.
    #[must_use]
    pub fn of(samples: &[Sample]) -> Option<Cell> {
        let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
        let median = median(&values);
        let distance = |sample: &&Sample| (sample.value - median).abs();
        let nearest = samples
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
        Some(Cell {
            median,
            values,
            latency: nearest.latency,
            histogram: merged(samples),
            round_trips: nearest.round_trips.clone(),
        })
    }
}
