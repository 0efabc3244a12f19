//! `kiseki bench`: verified figures of any directory.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use anyhow::{Context, ensure};
use kiseki_tests::{Mount, Result};
use serde_json::Value;

/// Measures `dir` by itself and returns the rows.
fn rows(mount: &Mount, dir: &Path) -> Result<Vec<Value>> {
    let dir = dir.to_str().unwrap();
    let said = mount.kiseki(&["bench", "--quick", "--json", "--only", "names,ide", dir])?;
    let said: Value = serde_json::from_str(&said.ok()?)?;
    ensure!(said["crosses_kernel"] == true, "{said}");
    Ok(said["rows"].as_array().context("no rows")?.clone())
}

fn row<'a>(rows: &'a [Value], name: &str) -> Result<&'a Value> {
    let row = rows.iter().find(|row| row["name"] == name);
    row.map(|row| &row["cells"][0])
        .with_context(|| format!("no row {name}"))
}

#[test]
fn a_flame_graph_shows_the_daemon() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    let graph = mount.base().join("graph.svg");
    let (path, dir) = (graph.to_str().unwrap(), mount.dir().to_str().unwrap());
    let args = [
        "bench",
        "--quick",
        "--only",
        "stored",
        "--profile",
        path,
        dir,
    ];
    mount.kiseki(&args)?.ok()?;
    let svg = fs::read_to_string(&graph)?;
    ensure!(svg.contains("<svg"), "no graph");
    // Sealing is most of what a write costs, and has threads of its own.
    ensure!(svg.contains("kiseki-seal"), "nothing of the engine");
    let plain = mount.base().to_str().unwrap();
    let refused = mount.kiseki(&["bench", "--profile", path, plain])?;
    ensure!(refused.code != 0 && refused.stderr.contains("no mount of kiseki"));
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn a_mount_and_a_directory_are_measured_alike() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    let plain = mount.base().join("plain");
    fs::create_dir(&plain)?;
    let (ours, theirs) = (rows(&mount, mount.dir())?, rows(&mount, &plain)?);
    for name in ["create + fsync, 1 writer", "stat, warm", "unlink", "IDE"] {
        for rows in [&ours, &theirs] {
            let cell = row(rows, name)?;
            ensure!(cell["median"].as_f64().unwrap() > 0.0, "{name}: {cell}");
            ensure!(
                cell["values"].as_array().unwrap().len() == 2,
                "{name}: {cell}"
            );
        }
        ensure!(row(&theirs, name)?["round_trips"].is_null(), "{name}");
    }
    let asked = |name| Ok::<_, anyhow::Error>(row(&ours, name)?["round_trips"].clone());
    let made = asked("create + fsync, 1 writer")?;
    let per_file = made["per_unit"].as_f64().context("nothing was counted")?;
    ensure!((3.0..8.0).contains(&per_file), "{made}");
    ensure!(made["kinds"]["fsync"].as_f64() == Some(1.0), "{made}");
    // What it made is gone again.
    ensure!(fs::read_dir(mount.dir())?.next().is_none());
    ensure!(fs::read_dir(&plain)?.next().is_none());
    mount.umount()?;
    mount.fsck_clean()
}
