//! Damage to every kind of file of a store: nothing crashes, hangs or answers
//! with other data, the rest stays readable, and repair keeps what is sound.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use kiseki_tests::{
    Content, Mount, Output, Result,
    store::{snapshot, store_files},
};

const LARGE: u64 = 3 << 20;
const SMALL: u64 = 700;

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// One bit, at a share of the length in percent.
    Flip(u64),
    /// 4 KiB of zeros, at a share of the length in percent.
    Zero(u64),
    /// What is behind a share of the length in percent.
    Cut(u64),
    Delete,
}

use Damage::{Cut, Delete, Flip, Zero};

const ALL: [Damage; 10] = [
    Flip(1),
    Flip(30),
    Flip(50),
    Flip(99),
    Zero(0),
    Zero(50),
    Zero(95),
    Cut(0),
    Cut(60),
    Delete,
];

impl Damage {
    fn does(self, path: &Path) -> Result {
        let len = fs::metadata(path)?.len();
        let file = File::options().read(true).write(true).open(path)?;
        match self {
            Flip(share) => {
                let at = len * share / 100;
                let mut byte = [0];
                file.read_exact_at(&mut byte, at)?;
                file.write_all_at(&[byte[0] ^ 0x10], at)?;
            }
            Zero(share) => {
                let at = len * share / 100 / 4096 * 4096;
                file.write_all_at(&vec![0; 4096.min(len - at) as usize], at)?;
            }
            Cut(share) => file.set_len(len * share / 100)?,
            Delete => fs::remove_file(path)?,
        }
        Ok(())
    }
}

/// A store with known files, unmounted, and a copy of it.
struct Victim {
    mount: Mount,
    good: PathBuf,
}

impl Victim {
    fn make() -> Result<Option<Victim>> {
        let Some(mut mount) = Mount::fresh()? else {
            return Ok(None);
        };
        Content(0).create(&mount.path("large0"), LARGE)?;
        Content(1).create(&mount.path("large1"), LARGE)?;
        fs::create_dir(mount.path("dir"))?;
        mount.remount()?;
        for n in 2..60 {
            fs::write(
                mount.path(format!("dir/small{n}")),
                Content(n).bytes(0, SMALL as usize),
            )?;
        }
        mount.umount()?;
        let good = mount.base().join("good");
        copy(mount.store(), &good)?;
        Ok(Some(Victim { mount, good }))
    }

    /// The file of the store whose path ends like this.
    fn file(&self, ending: &str) -> Result<PathBuf> {
        let files = store_files(self.mount.store())?;
        files
            .into_iter()
            .find(|path| path.to_str().is_some_and(|path| path.ends_with(ending)))
            .with_context(|| format!("no file {ending}"))
    }

    fn reset(&self) -> Result {
        fs::remove_dir_all(self.mount.store())?;
        copy(&self.good, self.mount.store())
    }

    /// Runs fsck and holds it to what it promises of every store.
    fn fsck(&self, words: &[&str]) -> Result<Output> {
        let said = self.mount.on_store(words)?;
        ensure!(matches!(said.code, 0 | 1 | 3), "{words:?}: {said:?}");
        ensure!(!said.stderr.contains("panicked"), "{words:?}: {said:?}");
        Ok(said)
    }

    /// Reads everything: the names of files that answer with an error. Other
    /// data than was written fails.
    fn read(&self) -> Result<Vec<String>> {
        let mut failed = Vec::new();
        let names = (0..2).map(|n| (n, format!("large{n}"), LARGE));
        let names = names.chain((2..60).map(|n| (n, format!("dir/small{n}"), SMALL)));
        for (n, name, len) in names {
            match fs::read(self.mount.path(&name)) {
                Ok(found) => ensure!(
                    found == Content(n).bytes(0, len as usize),
                    "{name} holds other data"
                ),
                Err(error) => {
                    ensure!(
                        error.raw_os_error() == Some(nix::libc::EIO),
                        "{name}: {error}"
                    );
                    failed.push(name);
                }
            }
        }
        Ok(failed)
    }

    /// Mounts if that is possible, reads, and unmounts.
    fn look(&mut self) -> Result<Option<Vec<String>>> {
        let said = self.mount.try_mount()?;
        ensure!(!said.stderr.contains("panicked"), "{said:?}");
        if said.code != 0 {
            ensure!(matches!(said.code, 1 | 3), "{said:?}");
            ensure!(!said.stderr.is_empty(), "no word of why");
            return Ok(None);
        }
        let failed = self.read()?;
        self.mount.umount()?;
        Ok(Some(failed))
    }
}

fn copy(from: &Path, to: &Path) -> Result {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => copy(&entry.path(), &target)?,
            kind if kind.is_file() => drop(fs::copy(entry.path(), &target)?),
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn damaged_segments_hit_the_files_in_them_alone() -> Result {
    let Some(mut victim) = Victim::make()? else {
        return Ok(());
    };
    let segment = victim.file(".seg")?;
    for damage in ALL {
        victim.reset()?;
        damage.does(&segment)?;
        let found = victim.fsck(&["fsck"])?;
        ensure!(found.code == 3, "{damage:?}: {found:?}");
        let failed = victim.look()?.context("not mountable")?;
        ensure!(failed.iter().all(|name| name.starts_with("large")));
        if matches!(damage, Cut(0) | Delete) {
            ensure!(failed.len() == 2, "{damage:?}: {failed:?}");
        }
        let text = &found.stdout;
        for name in &failed {
            ensure!(text.contains(&format!("/{name}")), "{damage:?}: {text}");
        }
        ensure!(text.contains("00000001.seg"), "{damage:?}: {text}");
        ensure!(!text.contains("small"), "{damage:?}: {text}");
        // Repair makes nothing worse and ends; the same content heals.
        let mended = victim.fsck(&["fsck", "--repair"])?;
        ensure!(mended.code == 0, "{damage:?}: {mended:?}");
        ensure!(victim.look()? == Some(failed.clone()), "{damage:?}");
        let again = victim.fsck(&["fsck"])?;
        ensure!(again.code == 0, "{damage:?}: {again:?}");
        for name in &failed {
            let told = format!("lost before         /{name}: ");
            ensure!(again.stdout.contains(&told), "{damage:?}: {again:?}");
        }
        victim.mount.mount()?;
        for n in 0..2 {
            let again = victim.mount.path("again");
            Content(n).create(&again, LARGE)?;
            fs::remove_file(&again)?;
        }
        let left = victim.read()?;
        ensure!(left.is_empty(), "{damage:?}: not healed: {left:?}");
        victim.mount.umount()?;
    }
    Ok(())
}

/// Blocks of 4 KiB of a file that cannot be read.
fn unreadable(path: &Path) -> Result<Vec<u64>> {
    let file = File::open(path)?;
    let mut failed = Vec::new();
    let mut block = [0; 4096];
    for at in (0..file.metadata()?.len()).step_by(block.len()) {
        if file.read_at(&mut block, at).is_err() {
            failed.push(at / 4096);
        }
    }
    Ok(failed)
}

/// The range in "16384 bytes from 0 to 16383 cannot be read".
fn told_range(line: &str) -> Result<(u64, u64)> {
    let (_, range) = line.split_once(" bytes from ").context("no range")?;
    let mut words = range.split(' ');
    let from = words.next().context("no begin")?.parse()?;
    let to = words.nth(1).context("no end")?.parse()?;
    Ok((from, to))
}

#[test]
fn a_flipped_bit_costs_one_frame_before_and_after_repair() -> Result {
    let Some(mut victim) = Victim::make()? else {
        return Ok(());
    };
    let segment = victim.file(".seg")?;
    for share in [20, 45, 70] {
        victim.reset()?;
        Flip(share).does(&segment)?;
        let found = victim.fsck(&["fsck"])?;
        let lines = found.stdout.lines();
        let line = lines.clone().find(|line| line.contains("/large"));
        let line = line.with_context(|| format!("no path in {}", found.stdout))?;
        let (from, to) = told_range(line)?;
        ensure!(to - from < 16 << 10, "more than a frame: {line}");
        let name = if line.contains("/large0") {
            "large0"
        } else {
            "large1"
        };
        let told: Vec<u64> = (from / 4096..=to / 4096).collect();
        victim.mount.mount()?;
        ensure!(unreadable(&victim.mount.path(name))? == told, "{line}");
        victim.mount.umount()?;
        victim.fsck(&["fsck", "--repair"])?.ok()?;
        victim.mount.mount()?;
        ensure!(
            unreadable(&victim.mount.path(name))? == told,
            "after repair: {line}"
        );
        victim.read()?;
        victim.mount.umount()?;
    }
    Ok(())
}

#[test]
fn a_deleted_segment_is_noticed_without_the_key() -> Result {
    let Some(victim) = Victim::make()? else {
        return Ok(());
    };
    fs::remove_file(victim.file(".seg")?)?;
    let store = victim.mount.store().to_str().unwrap();
    let found = victim.mount.kiseki(&["fsck", "--store", store])?;
    ensure!(found.code == 3, "{found:?}");
    for words in [
        "00000001.seg: the file is missing",
        "cannot be read",
        "inode ",
    ] {
        ensure!(found.stdout.contains(words), "{words}: {found:?}");
    }
    Ok(())
}

#[test]
fn damaged_headers_of_entries_cost_nothing() -> Result {
    let Some(mut victim) = Victim::make()? else {
        return Ok(());
    };
    let segment = victim.file(".seg")?;
    let bytes = fs::read(&segment)?;
    let entries = bytes.windows(8).enumerate();
    let entries: Vec<usize> = entries
        .filter(|(_, bytes)| bytes == b"kskCHNK\n")
        .map(|(at, _)| at)
        .collect();
    for at in [entries[0], entries[entries.len() / 2]] {
        let file = File::options().write(true).open(&segment)?;
        file.write_all_at(&[0xff; 8], at as u64 + 20)?;
    }
    ensure!(victim.fsck(&["fsck"])?.code == 3);
    let mended = victim.fsck(&["fsck", "--repair"])?;
    ensure!(mended.code == 0, "{mended:?}");
    ensure!(
        mended.stdout.contains("2 chunks are stored anew"),
        "{mended:?}"
    );
    let clean = victim.fsck(&["fsck"])?;
    ensure!(
        clean.code == 0 && !clean.stdout.contains("lost"),
        "{clean:?}"
    );
    ensure!(victim.look()? == Some(vec![]));
    Ok(())
}

/// Files of the store at random, damaged, swapped or made longer.
#[test]
fn damage_to_any_file_is_survived() -> Result {
    let Some(mut victim) = Victim::make()? else {
        return Ok(());
    };
    let files = store_files(victim.mount.store())?;
    let files: Vec<_> = files
        .into_iter()
        .filter(|path| !path.ends_with("lock"))
        .collect();
    for (round, path) in files.iter().enumerate() {
        for swapped in [false, true] {
            victim.reset()?;
            let what = match swapped {
                false => {
                    let garbage = Content(round as u64).bytes(0, 5000);
                    let mut file = File::options().append(true).open(path)?;
                    std::io::Write::write_all(&mut file, &garbage)?;
                    format!("garbage behind {}", path.display())
                }
                true => {
                    let other = &files[(round + 1) % files.len()];
                    let between = path.with_extension("between");
                    fs::rename(path, &between)?;
                    fs::rename(other, path)?;
                    fs::rename(&between, other)?;
                    format!("{} and {} swapped", path.display(), other.display())
                }
            };
            victim.fsck(&["fsck"])?;
            victim.look().with_context(|| what.clone())?;
            let mended = victim.fsck(&["fsck", "--repair"])?;
            if mended.code == 0 {
                ensure!(victim.look()? == Some(vec![]), "{what}: {mended:?}");
                let clean = victim.fsck(&["fsck"])?;
                ensure!(clean.code == 0, "{what}: {clean:?}");
            }
        }
    }
    Ok(())
}

/// Damages a file that can be made anew in all ways.
fn is_made_anew(ending: &str) -> Result {
    let Some(mut victim) = Victim::make()? else {
        return Ok(());
    };
    let path = victim.file(ending)?;
    for damage in ALL {
        // As a mount finds it.
        victim.reset()?;
        damage.does(&path)?;
        victim.look()?;
        // As repair finds it.
        victim.reset()?;
        damage.does(&path)?;
        let before = victim.fsck(&["fsck"])?;
        let mended = victim.fsck(&["fsck", "--repair"])?;
        ensure!(mended.code == 0, "{damage:?}: {before:?} {mended:?}");
        let failed = victim.look()?.context("not mountable")?;
        ensure!(failed.is_empty(), "{damage:?}: {failed:?}");
        victim.mount.fsck_clean()?;
    }
    Ok(())
}

#[test]
fn a_damaged_index_is_made_anew() -> Result {
    is_made_anew("index.redb")
}

#[test]
fn damaged_tables_are_made_anew() -> Result {
    is_made_anew("tables.redb")
}

#[test]
fn a_damaged_log_is_mended() -> Result {
    is_made_anew("0000000000000001.log")
}

#[test]
fn a_damaged_checkpoint_is_signed_anew() -> Result {
    is_made_anew("checkpoint")
}

#[test]
fn lost_index_and_tables_do_not_keep_a_volume_from_being_mounted() -> Result {
    let Some(mut victim) = Victim::make()? else {
        return Ok(());
    };
    for damage in [Delete, Cut(0), Cut(60), Zero(0)] {
        victim.reset()?;
        for ending in ["index.redb", "tables.redb"] {
            damage.does(&victim.file(ending)?)?;
        }
        ensure!(victim.look()? == Some(vec![]), "{damage:?}");
        victim.mount.fsck_clean()?;
    }
    Ok(())
}

#[test]
fn damaged_records_of_the_store_are_refused_by_name() -> Result {
    let Some(mut victim) = Victim::make()? else {
        return Ok(());
    };
    for name in ["volume.json", "keyring.json", "kiseki.json"] {
        let path = victim.file(name)?;
        for damage in [Flip(50), Zero(0), Cut(0), Cut(60), Delete] {
            victim.reset()?;
            damage.does(&path)?;
            let before = snapshot(victim.mount.store())?;
            let found = victim.fsck(&["fsck"])?;
            let said = format!("{}{}", found.stdout, found.stderr);
            let lost = (name, damage) == ("kiseki.json", Delete);
            ensure!(found.code == if lost { 1 } else { 3 }, "{name}: {said}");
            ensure!(lost || said.contains(name), "{name}: {said}");
            ensure!(victim.look()?.is_none(), "{name} {damage:?} was mounted");
            let after = snapshot(victim.mount.store())?;
            // Who has the lock is noted in it.
            for (path, hash) in before
                .into_iter()
                .filter(|(path, _)| !path.ends_with("lock"))
            {
                ensure!(
                    after.get(&path) == Some(&hash),
                    "{} changed",
                    path.display()
                );
            }
        }
    }
    Ok(())
}

#[test]
fn log_verify_names_the_place_and_changes_nothing() -> Result {
    let Some(victim) = Victim::make()? else {
        return Ok(());
    };
    ensure!(victim.fsck(&["log", "verify"])?.code == 0);
    let path = victim.file("0000000000000001.log")?;
    for damage in [Flip(1), Flip(50), Flip(99), Zero(50), Cut(60)] {
        victim.reset()?;
        damage.does(&path)?;
        let before = snapshot(victim.mount.store())?;
        let store = victim.mount.store().to_str().unwrap();
        let keyless = victim.mount.kiseki(&["log", "verify", "--store", store])?;
        ensure!(matches!(keyless.code, 0 | 3), "{keyless:?}");
        let found = victim.fsck(&["log", "verify"])?;
        ensure!(found.code == 3, "{damage:?}: {found:?}");
        let place = "0000000000000001.log:";
        ensure!(found.stdout.contains(place), "{damage:?}: {found:?}");
        ensure!(snapshot(victim.mount.store())? == before, "{damage:?}");
    }
    Ok(())
}
