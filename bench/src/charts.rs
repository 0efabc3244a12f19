//! Charts, each as SVG and as PNG beside the figures it shows, as CSV.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::*,
    style::{FontStyle, register_font},
};

use crate::{
    compare::{Cell, Comparison},
    growth::Point,
    round_trips::short,
    table::number,
};

const SIZE: (u32, u32) = (900, 520);

/// Points of a line that are shown as such.
const DOTS: usize = 20;

const COLOURS: [RGBColor; 6] = [
    RGBColor(0x00, 0x5f, 0xb8),
    RGBColor(0xd9, 0x53, 0x19),
    RGBColor(0x2e, 0x8b, 0x57),
    RGBColor(0x80, 0x80, 0x80),
    RGBColor(0x7e, 0x2f, 0x8e),
    RGBColor(0xb8, 0x86, 0x0b),
];

/// Lines in one pair of axes.
struct Chart<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    /// Where the second axis ends, which begins at 0; the first is logarithmic.
    top: f64,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// For each row with latencies, how many operations took at most how long, for
/// all contenders; into `dir`.
///
/// # Errors
/// The directory cannot be written.
pub fn latencies(comparison: &Comparison, dir: &Path) -> Result<()> {
    for line in &comparison.rows {
        let columns = comparison.columns.iter().map(String::as_str);
        let cells: Vec<_> = columns.zip(&line.cells).collect();
        shares(line.row.name, &cells, dir)?;
    }
    Ok(())
}

/// The same for one row, called `title`: names of contenders and their cells.
///
/// # Errors
/// The directory cannot be written.
pub fn shares(title: &str, cells: &[(&str, &Option<Cell>)], dir: &Path) -> Result<()> {
    let steps = |(name, cell): &(&str, &Option<Cell>)| {
        let latency = cell.as_ref()?.histogram.as_ref()?;
        Some(((*name).to_owned(), latency.steps()))
    };
    let lines: Vec<_> = cells.iter().filter_map(steps).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let chart = Chart {
        title,
        x: "microseconds",
        y: "share of operations",
        top: 1.0,
        lines,
    };
    chart.write(dir, &format!("latency-{}", file_name(title)))
}

/// A chart for each figure of `growth`, against files or bytes; into `dir`.
///
/// # Errors
/// The directory cannot be written.
pub fn growth(what: &str, unit: u64, points: &[Point], dir: &Path) -> Result<()> {
    let names = points.first().map(|point| point.figures.clone());
    for (index, (name, _)) in names.into_iter().flatten().enumerate() {
        let at = |point: &Point| (point.size as f64 / unit as f64, point.figures[index].1);
        let most = points.iter().map(|point| at(point).1).fold(0.0, f64::max);
        let chart = Chart {
            title: name,
            x: what,
            y: name,
            top: (most * 1.2).max(1.0),
            lines: vec![(name.to_owned(), points.iter().map(at).collect())],
        };
        chart.write(
            dir,
            &format!("growth-{}-{}", file_name(what), file_name(name)),
        )?;
    }
    Ok(())
}

/// Letters and digits, with hyphens between them.
fn file_name(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-").to_ascii_lowercase()
}

impl Chart<'_> {
    fn write(&self, dir: &Path, name: &str) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let path = |extension: &str| dir.join(format!("{name}.{extension}"));
        fs::write(path("csv"), self.csv()).with_context(|| format!("cannot write {name}.csv"))?;
        let font_is_known = font();
        let failed = |path: PathBuf, error: String| anyhow!("{}: {error}", path.display());
        let svg = path("svg");
        if !font_is_known {
            return Err(failed(svg, "the font could not be read".into()));
        }
        self.draw(SVGBackend::new(&svg, SIZE).into_drawing_area())
            .map_err(|error| failed(svg.clone(), error))?;
        let png = path("png");
        self.draw(BitMapBackend::new(&png, SIZE).into_drawing_area())
            .map_err(|error| failed(png.clone(), error))
    }

    fn csv(&self) -> String {
        let mut text = format!("of,{},{}\n", self.x, self.y.replace(',', ""));
        for (name, points) in &self.lines {
            for (x, y) in points {
                text += &format!("{},{x},{y}\n", name.replace(',', ""));
            }
        }
        text
    }

    fn draw<B: DrawingBackend>(&self, area: DrawingArea<B, Shift>) -> Result<(), String> {
        self.try_draw(&area).map_err(|error| error.to_string())
    }

    fn try_draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d(self.width().log_scale(), 0.0..self.top)?;
        chart
            .configure_mesh()
            .x_desc(self.x)
            .y_desc(self.y)
            .x_label_formatter(&|x| label(*x))
            .y_label_formatter(&|y| label(*y))
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (number, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            chart.draw_series(line)?.label(name).legend(move |(x, y)| {
                PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3))
            });
            if points.len() <= DOTS {
                let dot = |point: &(f64, f64)| Circle::new(*point, 4, colour.filled());
                chart.draw_series(points.iter().map(dot))?;
            }
        }
        if self.lines.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerRight)
                .background_style(WHITE)
                .border_style(BLACK)
                .draw()?;
        }
        area.present()
    }

    /// From the smallest to the largest value, and some room on both sides.
    fn width(&self) -> std::ops::Range<f64> {
        let values = || {
            self.lines
                .iter()
                .flat_map(|(_, points)| points)
                .map(|p| p.0)
        };
        let least = values().fold(f64::MAX, f64::min).max(1e-3);
        let most = values().fold(least, f64::max);
        least * 0.8..most * 1.25
    }
}

/// A value beside an axis.
fn label(value: f64) -> String {
    match value {
        value if value < 10.0 && value.fract() != 0.0 => short(value),
        value => number(value).trim_end_matches(".0").to_owned(),
    }
}

/// Makes letters known; whether they are.
fn font() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular()).is_ok()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_chart_is_written_in_three_forms() {
        let dir = tempfile::tempdir().unwrap();
        let points = [10_000, 100_000, 1_000_000].map(|size| Point {
            size,
            figures: vec![("create, op/s", 5_000.0), ("mount, ms", size as f64 / 1e3)],
        });
        growth("files", 1, &points, dir.path()).unwrap();
        let path = |name: &str| dir.path().join(name);
        let csv = fs::read_to_string(path("growth-files-mount-ms.csv")).unwrap();
        assert!(csv.ends_with("mount ms,1000000,1000\n"), "{csv}");
        let svg = fs::read_to_string(path("growth-files-create-op-s.svg")).unwrap();
        assert!(svg.contains("<svg") && svg.contains("create, op/s"));
        let png = fs::read(path("growth-files-create-op-s.png")).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 2_000);
    }
}
