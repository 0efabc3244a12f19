//! The table of what was measured.

use std::collections::BTreeMap;

use crate::scene::Run;

/// Figures by row and column, one of each round.
#[derive(Default)]
pub struct Table {
    rows: Vec<String>,
    columns: Vec<String>,
    cells: BTreeMap<(usize, usize), Vec<f64>>,
}

impl Table {
    pub fn add(&mut self, row: &str, column: &str, figure: f64) {
        let place = |names: &mut Vec<String>, name: &str| {
            names
                .iter()
                .position(|known| known == name)
                .unwrap_or_else(|| {
                    names.push(name.into());
                    names.len() - 1
                })
        };
        let place = (place(&mut self.rows, row), place(&mut self.columns, column));
        self.cells.entry(place).or_default().push(figure);
    }

    /// Operations: how many in a second, and the processor time of each.
    pub fn both(&mut self, row: &str, column: &str, run: Run) {
        self.add(&format!("{row}, op/s"), column, run.done.per_second());
        let cpu = run.cpu.as_secs_f64() * 1e6 / run.done.count as f64;
        self.add(&format!("{row}, CPU us/op"), column, cpu);
    }

    /// Bytes: as above, for each MiB.
    pub fn bytes(&mut self, row: &str, column: &str, run: Run) {
        self.add(&format!("{row}, MB/s"), column, run.done.per_second() / 1e6);
        let mib = run.done.count as f64 / f64::from(1 << 20);
        self.add(
            &format!("{row}, CPU us/MiB"),
            column,
            run.cpu.as_secs_f64() * 1e6 / mib,
        );
    }

    /// Medians, with the least and the greatest; then the ratio of each round to the first column's.
    pub fn print(mut self) {
        println!("| | {} |", self.columns.join(" | "));
        println!("|---|{}", "---:|".repeat(self.columns.len()));
        for (row, name) in self.rows.iter().enumerate() {
            let first = self.cells.get(&(row, 0)).cloned().unwrap_or_default();
            print!("| {name} |");
            for column in 0..self.columns.len() {
                let Some(cell) = self.cells.get_mut(&(row, column)) else {
                    print!(" |");
                    continue;
                };
                let mut ratios: Vec<f64> = cell.iter().zip(&first).map(|(a, b)| a / b).collect();
                cell.sort_by(f64::total_cmp);
                ratios.sort_by(f64::total_cmp);
                print!(
                    " {} ({} - {})",
                    short(middle(cell)),
                    short(cell[0]),
                    short(cell[cell.len() - 1])
                );
                if column > 0 {
                    print!(" x{:.2}", middle(&ratios));
                }
                print!(" |");
            }
            println!();
        }
    }
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

fn short(figure: f64) -> String {
    if figure < 100.0 {
        format!("{figure:.2}")
    } else {
        format!("{figure:.0}")
    }
}
