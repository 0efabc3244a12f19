//! Figures as people read them, in Markdown that is also readable as it is.

use std::fmt::Write;

use crate::{
    compare::{Cell, Comparison, Line},
    round_trips::short,
};

/// The table, the latencies and the notes.
#[must_use]
pub fn text(comparison: &Comparison) -> String {
    let mut text = figures(comparison);
    let latencies = latencies(comparison);
    if latencies.lines().count() > 2 {
        let _ = write!(
            text,
            "\nLatency of single operations, p50 / p99 / p99.9 in us\n\n{latencies}"
        );
    }
    let round_trips = round_trips(comparison);
    if round_trips.lines().count() > 2 {
        let _ = write!(
            text,
            "\nRequests that the mount answered, per operation (MiB where the unit is MB/s)\n\n{round_trips}"
        );
    }
    if !comparison.notes.is_empty() {
        text.push('\n');
        for note in &comparison.notes {
            let _ = writeln!(text, "- {note}");
        }
    }
    text
}

fn figures(comparison: &Comparison) -> String {
    let columns = &comparison.columns;
    let mut heading = vec!["work".to_owned(), "unit".to_owned(), "durable".to_owned()];
    heading.extend(columns.iter().cloned());
    heading.extend(columns.iter().skip(1).map(|name| format!("/ {name}")));
    let row = |line: &Line| {
        let mut cells = vec![
            line.row.name.to_owned(),
            line.row.unit.text().to_owned(),
            line.row.durability.text().to_owned(),
        ];
        cells.extend(line.cells.iter().map(|cell| figure(cell.as_ref())));
        cells.extend((1..columns.len()).map(|index| {
            line.ratio(index)
                .map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
        }));
        cells
    };
    align(&heading, comparison.rows.iter().map(row).collect())
}

fn latencies(comparison: &Comparison) -> String {
    let mut heading = vec!["work".to_owned()];
    heading.extend(comparison.columns.iter().cloned());
    let latency = |cell: &Option<Cell>| {
        cell.as_ref()
            .and_then(|cell| cell.latency)
            .map_or("-".to_owned(), |of| {
                format!(
                    "{} / {} / {}",
                    number(of.p50_us),
                    number(of.p99_us),
                    number(of.p999_us)
                )
            })
    };
    let has = |line: &&Line| {
        line.cells
            .iter()
            .flatten()
            .any(|cell| cell.latency.is_some())
    };
    let row = |line: &Line| {
        let mut cells = vec![line.row.name.to_owned()];
        cells.extend(line.cells.iter().map(latency));
        cells
    };
    align(
        &heading,
        comparison.rows.iter().filter(has).map(row).collect(),
    )
}

/// Who counts its requests is the first contender or nobody.
fn round_trips(comparison: &Comparison) -> String {
    let heading = ["work", "requests", "which"].map(str::to_owned);
    let row = |line: &Line| {
        let trips = line.cells.first()?.as_ref()?.round_trips.as_ref()?;
        let name = line.row.name.to_owned();
        Some(vec![name, short(trips.per_unit), trips.text()])
    };
    align(&heading, comparison.rows.iter().filter_map(row).collect())
}

fn figure(cell: Option<&Cell>) -> String {
    cell.map_or("-".to_owned(), |cell| number(cell.median))
}

/// Three digits that count, thousands apart.
#[must_use]
pub fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A Markdown table, the first column to the left, the others to the right.
#[must_use]
pub fn align(heading: &[String], rows: Vec<Vec<String>>) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.chain([heading[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        for (index, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            // Words to the left, figures to the right.
            let _ = match index {
                0 => write!(text, "| {cell:<width$} |"),
                _ => write!(text, " {cell:>width$} |"),
            };
        }
        text.push('\n');
    };
    line(heading);
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    line(&rule);
    for row in &rows {
        line(row);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        assert_eq!(number(2.25), "2.2");
        assert_eq!(number(999.6), "1,000");
        assert_eq!(number(1_234_567.0), "1,234,567");
    }

    #[test]
    fn columns_are_aligned() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let text = align(&row("work", "x"), vec![row("a", "1,000")]);
        assert_eq!(
            text,
            "| work |     x |\n| ---- | ----- |\n| a    | 1,000 |\n"
        );
    }
}
