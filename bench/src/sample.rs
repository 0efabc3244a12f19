//! What one workload measured once.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::round_trips::RoundTrips;

/// What was on disk when the clock stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Reads only.
    Reads,
    /// Nothing was asked for.
    None,
    /// One `fsync` after the last byte.
    FsyncAtEnd,
    /// One `syncfs` after the last change.
    SyncAtEnd,
    /// `fsync` of each file.
    FsyncPerFile,
    /// `fsync` of each write.
    FsyncPerWrite,
    /// `fdatasync` after every 32 writes.
    FsyncEvery32,
    /// Each change, before it was answered, as the protocol promises.
    WhenAnswered,
}

impl Durability {
    /// As tables show it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Durability::Reads => "-",
            Durability::None => "none",
            Durability::FsyncAtEnd => "fsync at end",
            Durability::SyncAtEnd => "sync at end",
            Durability::FsyncPerFile => "fsync per file",
            Durability::FsyncPerWrite => "fsync per write",
            Durability::FsyncEvery32 => "fsync per 32",
            Durability::WhenAnswered => "when answered",
        }
    }
}

/// What a figure counts; all of them are better when higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Megabytes (10^6) per second.
    #[serde(rename = "MB/s")]
    Megabytes,
    /// Operations per second.
    #[serde(rename = "op/s")]
    Operations,
    /// Runs per minute.
    #[serde(rename = "runs/min")]
    Runs,
}

impl Unit {
    /// As tables show it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Unit::Megabytes => "MB/s",
            Unit::Operations => "op/s",
            Unit::Runs => "runs/min",
        }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was done, with its caches.
    pub name: &'static str,
    /// What is counted.
    pub unit: Unit,
    /// What was made durable within the measured time.
    pub durability: Durability,
}

impl Row {
    /// A row.
    #[must_use]
    pub const fn new(name: &'static str, unit: Unit, durability: Durability) -> Row {
        Row {
            name,
            unit,
            durability,
        }
    }

    /// A figure for `amount` bytes, operations or runs in `elapsed`.
    #[must_use]
    pub fn sample(self, amount: u64, elapsed: Duration, latency: Option<&Latency>) -> Sample {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let factor = match self.unit {
            Unit::Megabytes => 1e-6,
            Unit::Operations => 1.0,
            Unit::Runs => 60.0,
        };
        Sample {
            row: self,
            value: amount as f64 * factor / seconds,
            amount,
            seconds,
            latency: latency.map(Latency::percentiles),
            histogram: latency.cloned(),
            round_trips: None,
        }
    }
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// What it is about.
    #[serde(flatten)]
    pub row: Row,
    /// Amount per time, in the unit of the row.
    pub value: f64,
    /// Bytes, operations or runs.
    pub amount: u64,
    /// Measured time.
    pub seconds: f64,
    /// Of single operations, where that makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Percentiles>,
    /// All of them, for charts.
    #[serde(skip)]
    pub histogram: Option<Latency>,
    /// What it asked of the process behind the mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trips: Option<RoundTrips>,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Percentiles {
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// Latencies of single operations, one histogram per thread, merged at the end.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Latency {
        // From 1 ns to 100 s at three digits; the bounds are constants that the
        // constructor accepts.
        #[allow(clippy::unwrap_used)]
        Latency(Histogram::new_with_bounds(1, 100_000_000_000, 3).unwrap())
    }
}

impl Latency {
    /// Runs and times one operation.
    pub fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let answer = operation();
        self.0.saturating_record(start.elapsed().as_nanos() as u64);
        answer
    }

    /// Notes an operation that somebody else timed.
    pub fn note(&mut self, took: Duration) {
        self.0.saturating_record(took.as_nanos() as u64);
    }

    /// The share of operations that took at most so many microseconds: a step
    /// for each value that occurred.
    #[must_use]
    pub fn steps(&self) -> Vec<(f64, f64)> {
        let (mut below, all) = (0, self.0.len().max(1) as f64);
        let step = |value: hdrhistogram::iterators::IterationValue<u64>| {
            below += value.count_since_last_iteration();
            (value.value_iterated_to() as f64 / 1e3, below as f64 / all)
        };
        self.0.iter_recorded().map(step).collect()
    }

    /// Takes over what another thread measured.
    pub fn add(&mut self, other: &Latency) {
        // Fails only when bounds differ; all histograms here have the same.
        let _ = self.0.add(&other.0);
    }

    fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max() as f64 / 1e3,
        }
    }
}

/// The middle of `values`; the lower middle's mean with the upper when there
/// are two. 0 for none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_amounts_per_time() {
        let row = |unit| Row::new("x", unit, Durability::None);
        let second = Duration::from_secs(2);
        let value = |unit, amount| row(unit).sample(amount, second, None).value;
        assert!((value(Unit::Megabytes, 4_000_000) - 2.0).abs() < 1e-9);
        assert!((value(Unit::Operations, 10) - 5.0).abs() < 1e-9);
        assert!((value(Unit::Runs, 1) - 30.0).abs() < 1e-9);
    }

    #[test]
    fn steps_end_with_all() {
        let mut latency = Latency::default();
        for micros in [10, 10, 20, 40] {
            latency.note(Duration::from_micros(micros));
        }
        let steps = latency.steps();
        let shares: Vec<f64> = steps.iter().map(|step| step.1).collect();
        assert_eq!(shares, [0.5, 0.75, 1.0]);
        assert!((steps[2].0 - 40.0).abs() < 0.1);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
