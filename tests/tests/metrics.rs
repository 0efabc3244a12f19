//! What a mount and a server tell Prometheus, read by the reference parser.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::Write,
    net::TcpListener,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use kiseki_fs::nfs::v4::xdr::{
    Data, Operation, Read as Reading, Stability, Status, Write as Writing,
};
use kiseki_tests::{
    Mount, Output, Result, Setup, daemon, nfs_client, nfs4_client, run::limited, served::Served,
    skip,
};
use nfs3_types::nfs3::stable_how;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// A mount with an address for Prometheus, or none when the test was skipped.
fn mount() -> Result<Option<Mount>> {
    if !has_parser() {
        return Ok(None);
    }
    Mount::with(Setup {
        args: vec!["--metrics".into(), "0".into()],
        ..Setup::default()
    })
}

/// A Python that has the parser: that of the system, where its packages are, is
/// not always the first one.
fn parser() -> Option<&'static str> {
    let imports = |python: &&str| {
        let mut command = Command::new(python);
        command.args(["-c", "import prometheus_client.openmetrics.parser"]);
        command.output().is_ok_and(|output| output.status.success())
    };
    ["python3", "/usr/bin/python3"].into_iter().find(imports)
}

fn has_parser() -> bool {
    if parser().is_none() {
        skip("not installed: prometheus_client for python3 (package python3-prometheus-client)");
        return false;
    }
    true
}

/// Everything that the address tells.
fn told(url: &str) -> Result<Value> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/metrics.py");
    let python = parser().context("no parser")?;
    let output = limited(python).arg(script).arg(url).output()?;
    Ok(serde_json::from_str(&Output::of(&output).ok()?)?)
}

fn url(status: &Value) -> Result<&str> {
    status["metrics"].as_str().context("no address for metrics")
}

fn number(told: &Value, name: &str) -> Result<f64> {
    told[name]
        .as_f64()
        .with_context(|| format!("no {name} in {told}"))
}

fn operations(told: &Value, front: &str, op: &str) -> Result<f64> {
    let name = format!("kiseki_operation_duration_seconds_count{{front={front},op={op}}}");
    number(told, &name)
}

#[test]
fn a_mount_tells_what_it_did() -> Result {
    let Some(mut mount) = mount()? else {
        return Ok(());
    };
    for number in 0..10_u8 {
        let mut file = fs::File::create(mount.path(format!("file-{number}")))?;
        file.write_all(&vec![number; 100_000])?;
        // What is not synced may lie in a write buffer, which is not counted.
        file.sync_all()?;
    }
    let status = mount.status()?;
    ensure!(url(&status)?.starts_with("http://127.0.0.1:"), "{status}");
    let told = told(url(&status)?)?;
    assert_eq!(operations(&told, "fuse", "create")?, 10.0);
    let written = number(&told, "kiseki_operation_bytes_total{front=fuse,op=write}")?;
    assert_eq!(written, 1e6);
    // All of them lie below the last bound.
    let all = "kiseki_operation_duration_seconds_bucket{front=fuse,le=+Inf,op=create}";
    assert_eq!(number(&told, all)?, 10.0);
    assert_eq!(number(&told, "kiseki_files")?, 10.0);
    assert_eq!(number(&told, "kiseki_logical_bytes")?, 1e6);
    assert_eq!(number(&told, "kiseki_read_only")?, 0.0);
    ensure!(number(&told, "kiseki_log_syncs_total")? >= 1.0, "{told}");
    let revision = number(&told, "kiseki_revision")?;
    ensure!(revision >= 10.0, "{told}");
    ensure!(
        number(&told, "kiseki_durable_revision")? <= revision,
        "{told}"
    );
    for gauge in ["dirty_bytes", "cache_bytes", "stored_bytes", "chunks"] {
        number(&told, &format!("kiseki_{gauge}"))?;
    }
    assert_eq!(number(&told, "status of another path")?, 404.0);
    assert_eq!(number(&told, "status of POST")?, 405.0);
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn the_daemon_that_takes_over_tells_as_well() -> Result {
    let Some(mut mount) = mount()? else {
        return Ok(());
    };
    let first = daemon::serving(mount.store()).context("no daemon")?;
    kill(Pid::from_raw(first), Signal::SIGKILL)?;
    // Waits for the next daemon.
    fs::write(mount.path("file"), "contents")?;
    let start = Instant::now();
    let told = loop {
        let answer = mount.status().and_then(|status| told(url(&status)?));
        match answer {
            Ok(told) => break told,
            Err(error) if start.elapsed() > Duration::from_secs(60) => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    };
    assert_eq!(number(&told, "kiseki_files")?, 1.0);
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn an_address_that_is_taken_refuses_the_mount() -> Result {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let Some(mount) = Mount::prepare(Setup {
        args: vec!["--metrics".into(), address.clone()],
        ..Setup::default()
    })?
    else {
        return Ok(());
    };
    let refused = mount.try_mount()?;
    ensure!(refused.code != 0, "it was mounted");
    ensure!(refused.stderr.contains(&address), "{}", refused.stderr);
    ensure!(!mount.is_mounted(), "still mounted");
    daemon::wait_gone(mount.store())
}

#[test]
fn a_server_tells_of_both_versions_of_nfs() -> Result {
    if !has_parser() {
        return Ok(());
    }
    let Some(served) = Served::by_nfs(&["--metrics", "0"])? else {
        return Ok(());
    };
    let mut client = nfs_client::Client::mount(served.nfs()?, "/")?;
    let root = client.root.clone();
    let file = client.create_new(&root, "by-3")?;
    client.write(&file, 0, &[3; 300], stable_how::FILE_SYNC)?;
    ensure!(client.read_all(&file)? == [3; 300]);
    let mut session = nfs4_client::Session::fresh(served.nfs()?, "one")?;
    let (handle, stateid) = session.open_file("by-4")?;
    let write = Operation::Write(Writing {
        stateid,
        offset: 0,
        stability: Stability::File,
        data: Data::from(&[4; 400][..]),
    });
    let read = Operation::Read(Reading {
        stateid,
        offset: 0,
        count: 1000,
    });
    let both = vec![Operation::PutHandle(handle), write, read];
    ensure!(session.status(both)? == Status::Ok);
    let told = told(url(&served.mount().status()?)?)?;
    for (front, op, bytes) in [
        ("nfs3", "write", 300.0),
        ("nfs3", "read", 300.0),
        ("nfs4", "write", 400.0),
        ("nfs4", "read", 400.0),
    ] {
        assert_eq!(operations(&told, front, op)?, 1.0, "{front} {op}");
        let moved = format!("kiseki_operation_bytes_total{{front={front},op={op}}}");
        assert_eq!(number(&told, &moved)?, bytes, "{front} {op}");
    }
    assert_eq!(operations(&told, "nfs4", "open")?, 1.0);
    // Those that make the session are requests as well.
    ensure!(operations(&told, "nfs4", "compound")? >= 4.0, "{told}");
    served.finish()
}

#[test]
fn a_server_tells_of_each_front_end() -> Result {
    if !has_parser() {
        return Ok(());
    }
    let Some(served) = Served::fresh(&["--metrics", "0"])? else {
        return Ok(());
    };
    fs::create_dir(served.mount().path("bucket"))?;
    served.check(&["put_and_get", "1000"])?;
    let status = served.mount().on_store(&["status", "--json"])?.ok()?;
    let told = told(url(&serde_json::from_str(&status)?)?)?;
    assert_eq!(operations(&told, "s3", "put_object")?, 1.0);
    let received = number(
        &told,
        "kiseki_operation_bytes_total{front=s3,op=put_object}",
    )?;
    assert_eq!(received, 1000.0);
    let sent = number(
        &told,
        "kiseki_operation_bytes_total{front=s3,op=get_object}",
    )?;
    assert_eq!(sent, 1000.0);
    ensure!(operations(&told, "fuse", "mkdir")? >= 1.0, "{told}");
    served.finish()
}
