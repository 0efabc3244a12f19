//! Figures for people and for machines.

use std::{fmt::Write, path::Path};

use anyhow::Result;
use kiseki_bench::{
    charts,
    compare::Cell,
    machine::Machine,
    sample::{Durability, Sample},
    table::{align, number},
};
use serde::Serialize;

use crate::{
    case::{Case, Protocol, Side, size_name},
    matrix::{Measured, Scale},
};

/// All figures.
#[derive(Serialize)]
pub struct Report {
    machine: Machine,
    scale: Scale,
    rows: Vec<Line>,
    notes: Vec<String>,
}

/// A case by one protocol.
#[derive(Serialize)]
struct Line {
    protocol: Protocol,
    #[serde(flatten)]
    case: Case,
    kiseki: Entry,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Entry>,
    /// kiseki over the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

/// What one of the two did.
#[derive(Serialize)]
struct Entry {
    name: &'static str,
    durability: Durability,
    /// Objects per second; none where it was not measured.
    operations: Option<Cell>,
    /// The same in 10^6 bytes per second.
    megabytes: Option<f64>,
}

impl Entry {
    fn of(
        name: &'static str,
        (protocol, side, case): (Protocol, Side, Case),
        measured: &Measured,
    ) -> Entry {
        let samples: Vec<Sample> = measured
            .samples
            .iter()
            .filter(|(p, s, c, _)| (*p, *s, *c) == (protocol, side, case))
            .map(|(_, _, _, sample)| sample.clone())
            .collect();
        let operations = Cell::of(&samples);
        let size = case.size as f64;
        Entry {
            name,
            durability: protocol.row(side, case.work).durability,
            megabytes: operations.as_ref().map(|cell| cell.median * size / 1e6),
            operations,
        }
    }

    fn text(&self) -> [String; 3] {
        let Some(cell) = &self.operations else {
            return ["-"; 3].map(str::to_owned);
        };
        let latency = cell.latency.map(|of| {
            let values = [of.p50_us, of.p99_us, of.p999_us].map(number);
            values.join(" / ")
        });
        [
            number(cell.median),
            self.megabytes.map_or_else(String::new, number),
            latency.unwrap_or_default(),
        ]
    }
}

impl Line {
    fn of(protocol: Protocol, case: Case, measured: &Measured) -> Line {
        let entry = |name, side| Entry::of(name, (protocol, side, case), measured);
        let kiseki = entry("kiseki", Side::Kiseki);
        let peer = protocol.peer().map(|name| entry(name, Side::Peer));
        let median = |entry: &Entry| entry.operations.as_ref().map(|cell| cell.median);
        let both = median(&kiseki).zip(peer.as_ref().and_then(median));
        Line {
            protocol,
            case,
            ratio: both.map(|(ours, theirs)| ours / theirs),
            kiseki,
            peer,
        }
    }

    /// One text where both are equally durable.
    fn durability(&self) -> String {
        let ours = self.kiseki.durability;
        match &self.peer {
            Some(peer) if peer.durability != ours => {
                format!("{}; {} {}", ours.text(), peer.name, peer.durability.text())
            }
            _ => ours.text().to_owned(),
        }
    }

    fn name(&self) -> String {
        format!("{} {}", self.case.work.name(), size_name(self.case.size))
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![
            self.name(),
            self.case.clients.to_string(),
            self.durability(),
        ];
        cells.extend(self.kiseki.text());
        if let Some(peer) = &self.peer {
            cells.extend(peer.text());
            let ratio = self.ratio.map(|ratio| format!("{ratio:.2}"));
            cells.push(ratio.unwrap_or("-".to_owned()));
        }
        cells
    }
}

impl Report {
    /// Medians and ratios of what was measured.
    pub fn new(measured: Measured, scale: Scale) -> Report {
        let mut rows: Vec<(Protocol, Case)> = Vec::new();
        for (protocol, _, case, _) in &measured.samples {
            if !rows.contains(&(*protocol, *case)) {
                rows.push((*protocol, *case));
            }
        }
        let line = |(protocol, case)| Line::of(protocol, case, &measured);
        Report {
            rows: rows.into_iter().map(line).collect(),
            scale,
            machine: measured.machine,
            notes: measured.notes,
        }
    }

    /// A table for each protocol.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}\n\nMedians of {} rounds of {} ms for each row, in which kiseki and its peer took turns on fresh stores. The last column divides\n\
             kiseki by the peer. Latencies are p50 / p99 / p99.9 in us.\n",
            self.machine.text(),
            self.scale.rounds,
            self.scale.millis,
        );
        for lines in self.rows.chunk_by(|a, b| a.protocol == b.protocol) {
            let _ = write!(
                text,
                "\n### {}\n\n{}",
                lines[0].protocol.name(),
                table(lines)
            );
        }
        for (index, note) in self.notes.iter().enumerate() {
            let before = if index == 0 { "\n" } else { "" };
            let _ = writeln!(text, "{before}- {note}");
        }
        text
    }

    /// A chart of the latencies of each row, into `dir`.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn draw(&self, dir: &Path) -> Result<()> {
        for line in &self.rows {
            let title = format!(
                "{} {}, {} clients",
                line.protocol.name(),
                line.name(),
                line.case.clients
            );
            let entries = [Some(&line.kiseki), line.peer.as_ref()];
            let cells: Vec<_> = entries
                .into_iter()
                .flatten()
                .map(|entry| (entry.name, &entry.operations))
                .collect();
            charts::shares(&title, &cells, dir)?;
        }
        Ok(())
    }
}

/// Of one protocol.
fn table(lines: &[Line]) -> String {
    let mut heading = ["work", "clients", "durable"].map(str::to_owned).to_vec();
    let first = &lines[0];
    for entry in [Some(&first.kiseki), first.peer.as_ref()]
        .into_iter()
        .flatten()
    {
        heading.extend([
            format!("{} op/s", entry.name),
            "MB/s".to_owned(),
            "latency".to_owned(),
        ]);
    }
    if let Some(peer) = &first.peer {
        heading.push(format!("/ {}", peer.name));
    }
    align(&heading, lines.iter().map(Line::cells).collect())
}
