//! What work asks of the process behind a mount, by that process's own counters.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use crate::{sample::Unit, table::number};

/// Requests answered since a mount began, by kind.
pub type Counts = BTreeMap<String, u64>;

/// Asks the process behind a mount what it answered so far.
pub type Counter = Box<dyn Fn() -> Result<Counts, String> + Send>;

/// Needs no answer: the kernel only tells that it forgets.
const ONE_WAY: &str = "forget";

/// Counters at a moment, of one life of a mount.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Which time it was mounted; counters begin anew each time.
    pub life: u64,
    /// What was answered by then.
    pub counts: Counts,
}

/// Requests per operation, MiB or run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoundTrips {
    /// All kinds together.
    pub per_unit: f64,
    /// The kinds that occurred.
    pub kinds: BTreeMap<String, f64>,
}

impl RoundTrips {
    /// Those from `before` to `after` for `amount` bytes, operations or runs;
    /// none when the mount was mounted anew in between.
    #[must_use]
    pub fn between(before: &Moment, after: &Moment, unit: Unit, amount: u64) -> Option<RoundTrips> {
        if before.life != after.life || amount == 0 {
            return None;
        }
        let units = match unit {
            Unit::Megabytes => amount as f64 / f64::from(1 << 20),
            Unit::Operations | Unit::Runs => amount as f64,
        };
        let kinds: BTreeMap<_, _> = after
            .counts
            .iter()
            .filter(|(name, _)| *name != ONE_WAY)
            .map(|(name, count)| {
                let earlier = before.counts.get(name).copied().unwrap_or(0);
                (name.clone(), count.saturating_sub(earlier) as f64 / units)
            })
            .filter(|(_, count)| *count > 0.0)
            .collect();
        Some(RoundTrips {
            per_unit: kinds.values().sum(),
            kinds,
        })
    }

    /// The sum, and the kinds that matter, the most frequent first.
    #[must_use]
    pub fn text(&self) -> String {
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by(|a, b| b.1.total_cmp(a.1));
        let mut text = String::new();
        for (name, count) in kinds {
            if *count >= self.per_unit / 20.0 {
                let comma = if text.is_empty() { "" } else { ", " };
                let _ = write!(text, "{comma}{name} {}", short(*count));
            }
        }
        text
    }
}

/// Small numbers with the digits that tell them from none.
#[must_use]
pub fn short(count: f64) -> String {
    match count {
        0.0 => "0".to_owned(),
        count if count < 0.095 => format!("{count:.4}"),
        count if count < 9.95 => format!("{count:.2}"),
        count => number(count),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn moment(life: u64, counts: &[(&str, u64)]) -> Moment {
        let counts = counts.iter().map(|(name, n)| ((*name).to_owned(), *n));
        Moment {
            life,
            counts: counts.collect(),
        }
    }

    #[test]
    fn counts_are_differences_per_unit() {
        let before = moment(1, &[("write", 10), ("forget", 5)]);
        let after = moment(
            1,
            &[("write", 30), ("forget", 50), ("create", 10), ("read", 0)],
        );
        let found = RoundTrips::between(&before, &after, Unit::Operations, 10).unwrap();
        assert!((found.per_unit - 3.0).abs() < 1e-9);
        assert_eq!(found.text(), "write 2.00, create 1.00");
        let per_mib = RoundTrips::between(&before, &after, Unit::Megabytes, 20 << 20).unwrap();
        assert!((per_mib.per_unit - 1.5).abs() < 1e-9);
    }

    #[test]
    fn another_life_counts_anew() {
        let (before, after) = (moment(1, &[("read", 1)]), moment(2, &[("read", 9)]));
        assert_eq!(RoundTrips::between(&before, &after, Unit::Runs, 1), None);
    }
}
