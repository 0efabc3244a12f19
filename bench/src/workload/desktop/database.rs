//! SQLite with a write-ahead log: many small transactions, then questions.

use std::{
    fmt::Write as _,
    fs::{self, File},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::Clock;
use crate::{
    payload::{Random, derive},
    sample::{Durability::FsyncPerWrite, Row, Unit::Runs},
    workload::Bench,
};

pub const ROW: Row = Row::new("database: SQLite, WAL", Runs, FsyncPerWrite);

const ROWS: u64 = 60_000;
const ROWS_PER_COMMIT: u64 = 100;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let rows = ROWS * bench.scale.desktop / 100;
    let script = std::env::temp_dir().join(format!("kiseki-bench-{}.sql", std::process::id()));
    fs::write(&script, statements(derive(bench.seed, 15), rows)?)?;
    let database = bench.site.path("base.db");
    let mut clock = Clock::default();
    let said = clock.time(|| {
        let said = Command::new("sqlite3")
            .arg("-bail")
            .arg(&database)
            .stdin(File::open(&script)?)
            .output()
            .context("cannot start sqlite3")?;
        ensure!(
            said.status.success(),
            "sqlite3 failed: {}",
            String::from_utf8_lossy(&said.stderr)
        );
        Ok(said.stdout)
    });
    fs::remove_file(&script)?;
    let said = String::from_utf8(said?)?;
    ensure!(
        said.ends_with(&format!("{rows}\nok\n")),
        "sqlite3 found something else than it stored: {said}"
    );
    bench.record(ROW, 1, clock.0)?;
    Ok(())
}

fn statements(seed: u64, rows: u64) -> Result<String> {
    let mut random = Random::new(seed);
    let mut text = String::from(
        "pragma journal_mode=wal; pragma synchronous=full;\n\
         create table item(id integer primary key, owner integer, name text);\n\
         create index item_owner on item(owner);\n",
    );
    for id in 0..rows {
        if id % ROWS_PER_COMMIT == 0 {
            text.push_str("begin;\n");
        }
        let (owner, name) = (random.below(1_000), random.bits());
        writeln!(
            text,
            "insert into item values({id},{owner},'{name:016x}{name:016x}');"
        )?;
        if id % ROWS_PER_COMMIT == ROWS_PER_COMMIT - 1 || id == rows - 1 {
            text.push_str("commit;\n");
        }
    }
    for owner in 0..200 {
        writeln!(
            text,
            "update item set name = name || 'x' where owner = {owner};"
        )?;
        writeln!(
            text,
            "select sum(length(name)) from item where owner = {owner};"
        )?;
    }
    text.push_str("select count(*) from item; pragma integrity_check;\n");
    Ok(text)
}
