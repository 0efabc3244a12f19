//! Programs that ask much of a filesystem, working on the mount.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use kiseki_tests::{
    Mount, Place, Result, need_tools,
    run::{run_in, sh},
};

const SCHEMA: &str = "create table t(id integer primary key, body blob, sum text);";

/// SQL that inserts rows, a transaction each.
fn inserts(from: u32, count: u32) -> String {
    (from..from + count)
        .map(|n| {
            format!(
                "insert into t values({n}, randomblob({}), 'row {n}');",
                50 + n % 3000
            )
        })
        .collect()
}

fn sqlite(dir: &Path, sql: &str) -> Result<String> {
    run_in(dir, "sqlite3", &["-bail", "base.db", sql])?.ok()
}

#[test]
fn sqlite_keeps_its_database_in_both_journal_modes() -> Result {
    if !need_tools(&["sqlite3"]) {
        return Ok(());
    }
    for mode in ["delete", "wal"] {
        let Some(mut place) = Place::open()? else {
            return Ok(());
        };
        sqlite(
            place.dir(),
            &format!("pragma journal_mode={mode}; {SCHEMA}"),
        )?;
        sqlite(place.dir(), &inserts(0, 300))?;
        let bulk = format!("begin; {} commit;", inserts(300, 2000));
        sqlite(place.dir(), &bulk)?;
        sqlite(place.dir(), "delete from t where id % 3 = 0; vacuum;")?;
        place.remount()?;
        assert_eq!(sqlite(place.dir(), "pragma integrity_check")?, "ok\n");
        assert_eq!(sqlite(place.dir(), "select count(*) from t")?, "1533\n");
        place.finish()?;
    }
    Ok(())
}

/// Waits until the files of a directory have this many bytes together.
fn wait_for_bytes(dir: &Path, bytes: u64) -> Result {
    let start = Instant::now();
    loop {
        let lengths = fs::read_dir(dir)?.map(|file| match file.and_then(|file| file.metadata()) {
            Ok(file) => file.len(),
            // A journal that was removed meanwhile.
            Err(_) => 0,
        });
        if lengths.sum::<u64>() >= bytes {
            return Ok(());
        }
        ensure!(
            start.elapsed() < Duration::from_secs(60),
            "{} does not grow",
            dir.display()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn sqlite_loses_no_committed_row_when_the_daemon_is_killed() -> Result {
    if !need_tools(&["sqlite3"]) {
        return Ok(());
    }
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    for mode in ["delete", "truncate", "persist", "wal"] {
        let dir = mount.path(mode);
        fs::create_dir(&dir)?;
        sqlite(&dir, &format!("pragma journal_mode={mode}; {SCHEMA}"))?;
        let script = mount.base().join("script.sql");
        // The number printed after a commit is a promise. A level below `extra`
        // leaves the unlink of the journal, which commits, without a sync.
        let rows: Vec<_> = (0..20_000)
            .map(|n| format!("{} select {n};", inserts(n, 1)))
            .collect();
        let durable = format!("pragma journal_mode={mode}; pragma synchronous=extra;");
        fs::write(&script, format!("{durable}\n{}", rows.join("\n")))?;
        let printed = mount.base().join("printed");
        let mut client = Command::new("sqlite3")
            .args(["-bail", "base.db"])
            .current_dir(&dir)
            .stdin(fs::File::open(&script)?)
            .stdout(fs::File::create(&printed)?)
            .stderr(Stdio::null())
            .spawn()?;
        wait_for_bytes(&dir, 128 << 10)?;
        thread::sleep(Duration::from_millis(300));
        mount.crash()?;
        client.wait()?;
        mount.mount()?;
        let printed = fs::read_to_string(&printed)?;
        let (said, promised) = printed.split_once('\n').unwrap();
        assert_eq!(said, mode, "the journal is of another kind");
        let mut promised = promised.lines().count() as u32;
        // SQLite commits by an unlink here, and takes a directory that it cannot
        // open to sync, as after the kill, for one that needs none.
        if mode == "delete" {
            promised = promised.saturating_sub(1);
        }
        assert_eq!(sqlite(&dir, "pragma integrity_check")?, "ok\n", "{mode}");
        let kept: u32 = sqlite(&dir, "select count(*) from t")?.trim().parse()?;
        assert!(kept >= promised, "{mode}: {kept} of {promised} rows");
        assert!(kept > 5, "{mode}: killed before it did anything");
    }
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn cargo_builds_a_crate_on_the_mount() -> Result {
    if !need_tools(&["cargo", "cc"]) {
        return Ok(());
    }
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let build = |what: &str| {
        let said = sh(
            &place.path("hello"),
            &format!("unset CARGO_TARGET_DIR RUSTFLAGS; cargo {what} --offline 2>&1"),
        )?;
        Result::<String>::Ok(said)
    };
    fs::create_dir_all(place.path("hello/src"))?;
    // A workspace of its own, wherever the directory under test is.
    fs::write(
        place.path("hello/Cargo.toml"),
        "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    )?;
    for n in 0..30 {
        let module = place.path(format!("hello/src/part{n}.rs"));
        fs::write(module, format!("pub fn number() -> u32 {{ {n} }}\n"))?;
    }
    let parts: String = (0..30).map(|n| format!("mod part{n};\n")).collect();
    let sum: Vec<_> = (0..30).map(|n| format!("part{n}::number()")).collect();
    let main = format!(
        "{parts}fn main() {{ println!(\"{{}}\", {}); }}\n",
        sum.join(" + ")
    );
    fs::write(place.path("hello/src/main.rs"), main)?;
    assert_eq!(build("run -q")?, "435\n");
    assert!(!build("build")?.contains("Compiling"), "built twice");
    place.remount()?;
    let again = sh(&place.path("hello"), "cargo build --offline 2>&1")?;
    assert!(!again.contains("Compiling"), "mtimes moved: {again}");
    fs::write(
        place.path("hello/src/part3.rs"),
        "pub fn number() -> u32 { 1003 }\n",
    )?;
    let changed = sh(&place.path("hello"), "cargo run -q --offline 2>&1")?;
    assert_eq!(changed, "1435\n");
    place.finish()
}

#[test]
fn make_rebuilds_only_what_changed() -> Result {
    if !need_tools(&["make"]) {
        return Ok(());
    }
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    fs::write(
        place.path("Makefile"),
        "all: a.out b.out\n%.out: %.in\n\tcp $< $@; echo made $@ >> log\n",
    )?;
    sh(
        place.dir(),
        "echo a > a.in; echo b > b.in; make -s; make -s",
    )?;
    place.remount()?;
    sh(place.dir(), "make -s; sleep 0.02; echo c > a.in; make -s")?;
    let log = fs::read_to_string(place.path("log"))?;
    assert_eq!(log, "made a.out\nmade b.out\nmade a.out\n");
    place.finish()
}

#[test]
fn fio_verifies_what_it_wrote() -> Result {
    if !need_tools(&["fio"]) {
        return Ok(());
    }
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let common = "--size=48m --verify=crc32c --verify_fatal=1 --do_verify=1 --output=/dev/null \
        --fallocate=none --thread";
    for (name, how) in [
        ("sequential", "--rw=write --bs=1m"),
        ("random", "--rw=randwrite --bs=4k --fsync=64"),
        ("odd", "--rw=randwrite --bsrange=512-200k --bs_unaligned"),
        ("mixed", "--rw=randrw --bs=16k --numjobs=3 --size=16m"),
        ("direct", "--rw=randwrite --bs=64k --direct=1"),
        (
            "mapped",
            "--rw=randwrite --bs=4k --ioengine=mmap --size=16m",
        ),
    ] {
        sh(place.dir(), &format!("fio --name={name} {common} {how}"))?;
    }
    place.remount()?;
    let again = format!("fio --name=sequential {common} --rw=write --bs=1m --verify_only");
    sh(place.dir(), &again)?;
    place.finish()
}
