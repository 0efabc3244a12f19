//! Kills: what was promised is there afterwards, and nothing is torn.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use kiseki_tests::{
    Content, Mount, Result, Setup, content::Dice, daemon, env_number, load::Ledger, store::snapshot,
};

const WRITERS: u64 = 4;

/// One round: writers work, the daemon dies in the middle, all is checked.
fn round(mount: &mut Mount, ledgers: &mut [Ledger], dice: &mut Dice) -> Result {
    let delay = Duration::from_millis(20 + dice.below(600));
    let store = mount.store().to_path_buf();
    thread::scope(|scope| -> Result {
        let writers: Vec<_> = ledgers
            .iter_mut()
            .map(|ledger| scope.spawn(|| ledger.work()))
            .collect();
        thread::sleep(delay);
        daemon::kill(&store)?;
        for writer in writers {
            let error = writer.join().unwrap();
            assert!(
                matches!(
                    error.raw_os_error(),
                    Some(
                        nix::libc::ENOTCONN
                            | nix::libc::ECONNABORTED
                            | nix::libc::EIO
                            | nix::libc::ENODEV
                    )
                ),
                "a writer failed before the kill: {error}"
            );
        }
        Ok(())
    })?;
    mount.clear()?;
    if dice.below(3) == 0 {
        mount.fsck_clean().context("right after the kill")?;
    }
    mount.mount()?;
    for ledger in ledgers {
        ledger.check()?;
    }
    Ok(())
}

#[test]
fn every_fsynced_byte_survives_kills_under_load() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    let rounds = env_number("KISEKI_KILL_ROUNDS", 50);
    let seed = env_number("KISEKI_SEED", 1);
    let mut dice = Dice::new(seed);
    let mut ledgers = (0..WRITERS)
        .map(|n| Ledger::new(mount.path(format!("writer{n}")), seed * 100 + n))
        .collect::<Result<Vec<_>>>()?;
    for n in 0..rounds {
        round(&mut mount, &mut ledgers, &mut dice)
            .with_context(|| format!("round {n}, KISEKI_SEED={seed}"))?;
        if n % 5 == 4 {
            mount.umount()?;
            mount.fsck_clean().with_context(|| format!("round {n}"))?;
            mount.mount()?;
        }
    }
    let promises: u64 = ledgers.iter().map(|ledger| ledger.promises).sum();
    println!("{rounds} kills, {promises} promises kept");
    assert!(
        promises > rounds,
        "only {promises} promises in {rounds} rounds"
    );
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn kill_during_collection_loses_nothing() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    let mut dice = Dice::new(3);
    for n in 0..40 {
        Content(n).create(&mount.path(format!("file{n}")), 500_000)?;
    }
    for n in (0..40).step_by(2) {
        fs::remove_file(mount.path(format!("file{n}")))?;
    }
    File::open(mount.dir())?.sync_all()?;
    for round in 0..8 {
        let point = mount.dir().to_str().unwrap().to_owned();
        let mut collector = mount.command(&["gc", &point]).spawn()?;
        thread::sleep(Duration::from_millis(dice.below(60)));
        mount.crash()?;
        collector.wait()?;
        mount.mount()?;
        for n in (1..40).step_by(2) {
            Content(n)
                .verify(&mount.path(format!("file{n}")), 500_000)
                .with_context(|| format!("round {round}"))?;
        }
    }
    mount.gc()?;
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn without_fsync_a_kill_leaves_a_prefix_of_history() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    for round in 0..5_u64 {
        let dir = mount.path(format!("round{round}"));
        fs::create_dir(&dir)?;
        let store = mount.store().to_path_buf();
        let made = thread::scope(|scope| {
            let writer = scope.spawn(|| make_until_dead(&dir));
            thread::sleep(Duration::from_millis(200 + 100 * round));
            daemon::kill(&store).unwrap();
            writer.join().unwrap()
        });
        mount.clear()?;
        mount.mount()?;
        if dir.exists() {
            check_prefix(&dir, made)?;
        }
    }
    mount.umount()?;
    mount.fsck_clean()
}

/// Makes numbered files, one after the other, and says how many were begun.
fn make_until_dead(dir: &Path) -> u64 {
    for n in 0.. {
        let made = File::create(dir.join(n.to_string()))
            .and_then(|mut file| file.write_all(&Content(n).bytes(0, file_len(n))));
        if made.is_err() {
            return n + 1;
        }
    }
    unreachable!("the daemon is killed before 2^64 files")
}

/// Files 0 to some number are there; only the last may be short.
fn check_prefix(dir: &Path, made: u64) -> Result {
    let count = fs::read_dir(dir)?.count() as u64;
    assert!(count <= made);
    for n in 0..count {
        let found = fs::read(dir.join(n.to_string())).with_context(|| format!("{n} of {count}"))?;
        let wanted = Content(n).bytes(0, file_len(n));
        assert!(
            found.len() == wanted.len() || n + 1 == count,
            "file {n} of {count} has {} bytes of {}",
            found.len(),
            wanted.len()
        );
        assert!(wanted.starts_with(&found), "file {n} holds other data");
    }
    Ok(())
}

fn file_len(n: u64) -> usize {
    [50, 3_000, 9_000, 70_000][n as usize % 4]
}

#[test]
fn data_reaches_the_disk_without_fsync_in_a_bounded_time() -> Result {
    let Some(mut mount) = Mount::with(Setup::default())? else {
        return Ok(());
    };
    fs::write(mount.path("small"), "small")?;
    File::create(mount.path("large"))?.write_all(&Content(1).bytes(0, 3 << 20))?;
    thread::sleep(Duration::from_secs(12));
    mount.crash()?;
    mount.mount()?;
    assert_eq!(fs::read(mount.path("small"))?, b"small");
    Content(1).verify(&mount.path("large"), 3 << 20)
}

#[test]
fn mount_and_umount_clear_away_what_a_killed_daemon_left() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    let path = mount.path("file");
    Content(1).create(&path, 100_000)?;
    // Somebody still uses the mount when its daemon is gone.
    let open = File::open(&path)?;
    daemon::kill(mount.store())?;
    assert!(mount.is_mounted(), "nothing is left to clear away");
    let said = mount.try_mount()?;
    ensure!(said.code == 0 && said.stderr.contains("died"), "{said:?}");
    Content(1).verify(&path, 100_000)?;
    drop(open);

    let open = File::open(&path)?;
    daemon::kill(mount.store())?;
    mount.umount()?;
    drop(open);
    mount.fsck_clean()?;
    mount.mount()?;
    Content(1).verify(&path, 100_000)
}

#[test]
fn reading_and_checking_after_a_kill_changes_nothing() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    Content(1).create(&mount.path("file"), 5 << 20)?;
    for n in 0..50 {
        fs::write(mount.path(format!("small{n}")), Content(n).bytes(0, 20_000))?;
    }
    mount.crash()?;
    let stored = |mount: &Mount| -> Result<_> {
        let mut files = snapshot(mount.store())?;
        // Who has the store open is written there.
        files.remove(&mount.store().join("lock"));
        Ok(files)
    };
    let before = stored(&mount)?;
    mount.fsck_clean()?;
    let mut args = mount.mount_args();
    args.splice(1..1, ["-o", "ro"]);
    mount.logged(&args)?.ok()?;
    Content(1).verify(&mount.path("file"), 5 << 20)?;
    mount.umount()?;
    assert_eq!(before, stored(&mount)?, "the store was touched");
    mount.mount()?;
    Content(1).verify(&mount.path("file"), 5 << 20)
}
