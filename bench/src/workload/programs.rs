//! Programs that people run: a compiler, and a database server that makes each
//! transaction durable.

mod postgres;

use std::{fs, process::Command};

use anyhow::{Result, ensure};

use super::Bench;
use crate::{
    contender::run as run_program,
    sample::{
        Durability::{FsyncPerWrite, None},
        Row,
        Unit::{Operations, Runs},
    },
};
use postgres::Server;

const BUILD: Row = Row::new("cargo build, 40 modules", Runs, None);
const TRANSACTIONS: Row = Row::new("PostgreSQL, pgbench, 4 clients", Operations, FsyncPerWrite);

const MODULES: u64 = 40;
const FUNCTIONS: u64 = 25;

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    build(bench)?;
    transact(bench)
}

fn build(bench: &mut Bench<'_>) -> Result<()> {
    if Command::new("cargo").arg("--version").output().is_err() {
        bench
            .skipped
            .push((BUILD.name, "there is no cargo on the search path"));
        return Ok(());
    }
    let project = bench.site.path("crate");
    fs::create_dir_all(project.join("src"))?;
    fs::write(
        project.join("Cargo.toml"),
        "[package]\nname = \"measured\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n",
    )?;
    let mut main = String::new();
    for module in 0..MODULES {
        main += &format!("mod part_{module};\n");
        let path = project.join(format!("src/part_{module}.rs"));
        fs::write(path, functions(bench.seed, module))?;
    }
    let sums = (0..MODULES).map(|module| format!("part_{module}::f0(1)"));
    let sums = sums.collect::<Vec<_>>().join(" ^ ");
    main += &format!("fn main() {{ println!(\"{{}}\", {sums}); }}\n");
    fs::write(project.join("src/main.rs"), main)?;
    bench.time(BUILD, |_| {
        run_program(
            Command::new("cargo")
                .args(["build", "--quiet", "--offline"])
                .env_remove("CARGO_TARGET_DIR")
                .env_remove("RUSTFLAGS")
                .current_dir(&project),
        )?;
        Ok(1)
    })?;
    let said = Command::new(project.join("target/debug/measured")).output()?;
    ensure!(
        said.status.success() && !said.stdout.is_empty(),
        "what was built does not run"
    );
    Ok(())
}

/// A module whose functions call each other.
fn functions(seed: u64, module: u64) -> String {
    let last = FUNCTIONS - 1;
    let calls = (0..last).map(|n| {
        let own = seed.wrapping_mul(31) ^ (module * FUNCTIONS + n);
        let next = n + 1;
        format!("pub fn f{n}(x: u64) -> u64 {{ f{next}(x.rotate_left(5) ^ {own}) }}\n")
    });
    calls
        .chain([format!("pub fn f{last}(x: u64) -> u64 {{ x }}\n")])
        .collect()
}

fn transact(bench: &mut Bench<'_>) -> Result<()> {
    let Some(server) = Server::start(&bench.site.path("cluster"))? else {
        bench.skipped.push((TRANSACTIONS.name, postgres::NOT_THERE));
        return Ok(());
    };
    server.fill()?;
    bench.begin()?;
    let (transactions, elapsed) = server.transact(bench.scale.transactions)?;
    bench.record(TRANSACTIONS, transactions, elapsed)?;
    server.check()?;
    server.stop()
}
