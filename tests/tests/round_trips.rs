//! What a system call asks of the daemon, counted by the daemon itself: what
//! the kernel answers from its caches costs no round trip.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt,
};

use anyhow::ensure;
use kiseki_tests::{Mount, Result};

/// Files that each test works on.
const FILES: u64 = 200;

/// How often a test looks again: under pressure the kernel may drop a name or
/// a page that it would otherwise keep.
const TRIES: u32 = 5;

/// Requests of each kind.
type Asked = BTreeMap<String, u64>;

/// What `work` asks of the daemon. Closing is told later, and forgetting needs
/// no answer, so neither is counted.
fn asked(mount: &Mount, work: impl FnOnce() -> Result) -> Result<Asked> {
    let before = mount.operations()?;
    work()?;
    let mut asked = mount.operations()?;
    for (name, count) in &mut asked {
        *count -= before.get(name).copied().unwrap_or(0);
    }
    asked.retain(|name, count| {
        *count > 0 && !matches!(name.as_str(), "forget" | "release" | "releasedir")
    });
    Ok(asked)
}

/// Fails unless some try of `work` asks nothing of the kinds in `never`.
fn asks_none(mount: &Mount, what: &str, never: &[&str], work: impl Fn() -> Result) -> Result {
    let mut seen = Asked::new();
    for _ in 0..TRIES {
        seen = asked(mount, &work)?;
        let count = |name: &&str| seen.get(*name).copied().unwrap_or(0);
        if never.iter().map(count).sum::<u64>() == 0 {
            println!("{what}: {seen:?}");
            return Ok(());
        }
    }
    anyhow::bail!("{what} asks the daemon every time: {seen:?}");
}

fn with_files(test: impl FnOnce(&Mount) -> Result) -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    fs::create_dir(mount.path("dir"))?;
    for number in 0..FILES {
        fs::write(file(&mount, number), [b'x'; 2048])?;
    }
    test(&mount)?;
    mount.umount()?;
    mount.fsck_clean()
}

fn file(mount: &Mount, number: u64) -> std::path::PathBuf {
    mount.path(format!("dir/{number}"))
}

#[test]
fn warm_stat_asks_nothing() -> Result {
    with_files(|mount| {
        asks_none(mount, "stat", &["lookup", "getattr", "open"], || {
            for number in 0..FILES {
                ensure!(fs::metadata(file(mount, number))?.len() == 2048);
            }
            Ok(())
        })
    })
}

#[test]
fn absent_name_is_asked_for_once() -> Result {
    with_files(|mount| {
        asks_none(mount, "stat of an absent name", &["lookup"], || {
            for number in 0..FILES {
                ensure!(!fs::exists(mount.path(format!("dir/no-{number}")))?);
            }
            Ok(())
        })
    })
}

#[test]
fn warm_reread_asks_nothing() -> Result {
    with_files(|mount| {
        let open: Vec<File> = (0..FILES)
            .map(|number| File::open(file(mount, number)))
            .collect::<Result<_, _>>()?;
        let read = || {
            for file in &open {
                let mut contents = [0; 2048];
                file.read_exact_at(&mut contents, 0)?;
                ensure!(contents == [b'x'; 2048], "wrong contents");
            }
            Ok(())
        };
        asks_none(mount, "read", &["read", "getattr", "lookup", "open"], read)
    })
}

#[test]
fn opening_again_reads_from_the_page_cache() -> Result {
    with_files(|mount| {
        let kinds = ["read", "getattr", "lookup"];
        asks_none(mount, "open + read + close", &kinds, || {
            for number in 0..FILES {
                ensure!(fs::read(file(mount, number))? == [b'x'; 2048]);
            }
            Ok(())
        })
    })
}

#[test]
fn listing_asks_once_for_many_names() -> Result {
    with_files(|mount| {
        let list = || {
            let names = fs::read_dir(mount.path("dir"))?.count() as u64;
            ensure!(names == FILES, "{names} names");
            Ok(())
        };
        list()?;
        let again = asked(mount, list)?;
        println!("list {FILES} names: {again:?}");
        let sum: u64 = again.values().sum();
        ensure!(sum < FILES / 10, "{FILES} names cost {again:?}");
        Ok(())
    })
}

#[test]
fn small_file_is_made_in_few_round_trips() -> Result {
    with_files(|mount| {
        let made = asked(mount, || {
            for number in FILES..2 * FILES {
                fs::write(file(mount, number), [b'y'; 2048])?;
            }
            Ok(())
        })?;
        println!("create + write + close of {FILES} files: {made:?}");
        let of = |name: &str| made.get(name).copied().unwrap_or(0);
        ensure!(
            of("create") == FILES && of("write") <= FILES + FILES / 10,
            "{made:?}"
        );
        // Beside these two: whether the name is free, the attributes of the
        // directory, which the kernel forgets with each change in it, and
        // whether the first write has to take a capability away.
        let sum: u64 = made.values().sum();
        ensure!(sum <= 5 * FILES + FILES / 10, "{made:?}");
        Ok(())
    })
}
