//! What the first release must show, and what a run showed of it.

use crate::{
    compare::{Cell, Comparison, Line},
    round_trips::short,
    table::align,
    workload::DESKTOP,
};

/// What kiseki's figure is compared with.
enum Against {
    /// The same row of this contender.
    Contender(&'static str),
    /// This row of kiseki's own.
    Row(&'static str),
}
use Against::{Contender, Row};

const GOALS: &[(&str, f64, Against)] = &[
    ("sequential write, 1 MiB", 1.5, Contender("gocryptfs")),
    (
        "sequential read, remounted, store in page cache",
        1.2,
        Contender("gocryptfs"),
    ),
    (
        "random 4 KiB read, cold, 1 job",
        1.0,
        Contender("gocryptfs"),
    ),
    (
        "random 4 KiB read, cold, 16 jobs",
        1.0,
        Contender("gocryptfs"),
    ),
    ("random 4 KiB write", 1.0, Contender("gocryptfs")),
    (
        "create 2 KiB files, 1 directory",
        4.0,
        Contender("gocryptfs"),
    ),
    ("create 2 KiB files, 1 directory", 1.0, Contender("bindfs")),
    ("untar + sync", 4.0, Contender("gocryptfs")),
    ("untar + sync", 1.0, Contender("bindfs")),
    ("git clone + status", 2.0, Contender("gocryptfs")),
    ("git clone + status", 1.0, Contender("bindfs")),
    ("rm -rf", 1.0, Contender("bindfs")),
    ("create + fsync, 1 writer", 2.0, Contender("gocryptfs")),
    ("create + fsync, 8 writers", 2.0, Contender("gocryptfs")),
    (
        "write of data stored already",
        2.0,
        Row("write of new data"),
    ),
    ("cp of a stored file", 20.0, Contender("gocryptfs")),
];

/// Rows that the kernel answers by itself.
const NO_ROUND_TRIPS: [&str; 2] = ["sequential read, warm", "stat, warm"];

/// Of the ten desktop workloads: at least so fast, and how many at least as
/// fast as gocryptfs.
const SLOWEST_DESKTOP: f64 = 0.8;
const FASTER_DESKTOP: usize = 8;

/// The goals that a run has figures for, as a table; nothing when it has none.
#[must_use]
pub fn text(comparison: &Comparison) -> Option<String> {
    let mut rows: Vec<Vec<String>> = GOALS
        .iter()
        .filter_map(|(name, factor, against)| {
            let line = line(comparison, name)?;
            let (other, of) = match against {
                Contender(name) => (cell(comparison, line, name)?, *name),
                Row(name) => (first(self::line(comparison, name)?)?, *name),
            };
            let mine = first(line)?;
            Some(vec![
                (*name).to_owned(),
                format!("{factor}x {of}"),
                format!("{:.2}x", mine.median / other.median),
                verdict(mine, other, *factor).to_owned(),
            ])
        })
        .collect();
    rows.extend(NO_ROUND_TRIPS.iter().filter_map(|name| {
        let trips = first(line(comparison, name)?)?.round_trips.as_ref()?;
        // A request or two belong to the run as a whole: opening the file.
        let none = trips.per_unit < 0.01;
        Some(vec![
            (*name).to_owned(),
            "no requests".to_owned(),
            short(trips.per_unit),
            if none { "met" } else { "missed" }.to_owned(),
        ])
    }));
    rows.extend(desktop(comparison));
    let heading = ["work", "wanted", "got", ""].map(str::to_owned);
    (!rows.is_empty()).then(|| align(&heading, rows))
}

/// The ten together.
fn desktop(comparison: &Comparison) -> Option<Vec<String>> {
    let ratios: Vec<f64> = DESKTOP
        .iter()
        .filter_map(|name| {
            let line = line(comparison, name)?;
            Some(first(line)?.median / cell(comparison, line, "gocryptfs")?.median)
        })
        .collect();
    if ratios.len() < DESKTOP.len() {
        return None;
    }
    let faster = ratios.iter().filter(|ratio| **ratio > 1.0).count();
    let slowest = ratios.iter().copied().fold(f64::MAX, f64::min);
    let met = faster >= FASTER_DESKTOP && slowest >= SLOWEST_DESKTOP;
    Some(vec![
        "the ten desktop workloads".to_owned(),
        format!("{FASTER_DESKTOP} of 10 faster than gocryptfs, none below {SLOWEST_DESKTOP}x"),
        format!("{faster} faster, slowest {slowest:.2}x"),
        if met { "met" } else { "missed" }.to_owned(),
    ])
}

/// Whether all rounds say the same.
fn verdict(mine: &Cell, other: &Cell, factor: f64) -> &'static str {
    let least = |cell: &Cell| cell.values.iter().copied().fold(f64::MAX, f64::min);
    let most = |cell: &Cell| cell.values.iter().copied().fold(0.0, f64::max);
    if least(mine) >= most(other) * factor {
        "met"
    } else if most(mine) < least(other) * factor {
        "missed"
    } else if mine.median >= other.median * factor {
        "met by medians; rounds disagree"
    } else {
        "missed by medians; rounds disagree"
    }
}

/// For each other contender: how many rows are faster, and the slower ones.
#[must_use]
pub fn wins_and_losses(comparison: &Comparison) -> String {
    let mut text = String::new();
    for (index, name) in comparison.columns.iter().enumerate().skip(1) {
        let mut ratios: Vec<(f64, &str)> = comparison
            .rows
            .iter()
            .filter_map(|line| Some((line.ratio(index)?, line.row.name)))
            .collect();
        ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
        let slower: Vec<String> = ratios
            .iter()
            .filter(|(ratio, _)| *ratio < 1.0)
            .map(|(ratio, name)| format!("{name} ({ratio:.2})"))
            .collect();
        let faster = ratios.len() - slower.len();
        text += &format!(
            "Against {name}, faster in {faster} of {} rows.",
            ratios.len()
        );
        if !slower.is_empty() {
            text += &format!(" Slower: {}.", slower.join("; "));
        }
        text += "\n\n";
    }
    text
}

fn line<'a>(comparison: &'a Comparison, name: &str) -> Option<&'a Line> {
    comparison.rows.iter().find(|line| line.row.name == name)
}

fn first(line: &Line) -> Option<&Cell> {
    line.cells.first()?.as_ref()
}

fn cell<'a>(comparison: &Comparison, line: &'a Line, contender: &str) -> Option<&'a Cell> {
    let column = comparison
        .columns
        .iter()
        .position(|name| name == contender)?;
    line.cells.get(column)?.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(values: [f64; 3]) -> Cell {
        Cell {
            median: values[1],
            values: values.to_vec(),
            latency: None,
            histogram: None,
            round_trips: None,
        }
    }

    #[test]
    fn a_goal_is_met_when_every_round_says_so() {
        let peer = cell([9.0, 10.0, 11.0]);
        let judge = |values| verdict(&cell(values), &peer, 2.0);
        assert_eq!(judge([22.0, 23.0, 24.0]), "met");
        assert_eq!(judge([15.0, 16.0, 17.0]), "missed");
        assert_eq!(judge([15.0, 21.0, 23.0]), "met by medians; rounds disagree");
        assert_eq!(
            judge([15.0, 19.0, 23.0]),
            "missed by medians; rounds disagree"
        );
    }
}
