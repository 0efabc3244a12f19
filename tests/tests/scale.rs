//! Size: many files, large files, and the memory they may take.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, time::Instant};

use anyhow::Context;
use kiseki_tests::{
    Content, Mount, Place, Result, Setup, daemon, env_number, need_tools, run::sh,
    sources::count_files, tree,
};

/// Memory beyond `--memory` that a daemon may take.
const BASE_MEMORY: u64 = 256 << 20;

/// Files of the large tree.
const FILES: u64 = 20_000;

/// Makes a tree like that of a large program.
fn make_tree(root: &Path) -> Result {
    for n in 0..FILES {
        let dir = root.join(format!("part{}/module{}", n % 40, n % 400));
        if n < 400 {
            fs::create_dir_all(&dir)?;
        }
        let lines = 5 + n % 150;
        let text: String = (0..lines)
            .map(|line| format!("line {line} of file {n}: {:x}\n", n * 7919 + line))
            .collect();
        fs::write(dir.join(format!("file{n}.c")), text)?;
    }
    Ok(())
}

#[test]
fn tree_of_20_000_files_is_untarred_listed_grepped_and_deleted() -> Result {
    if !need_tools(&["tar"]) {
        return Ok(());
    }
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let source = place.outside().join("source");
    make_tree(&source)?;
    sh(place.outside(), "tar --format=posix -cf source.tar source")?;
    let archive = place.outside().join("source.tar");
    let timed = |what: &str, script: &str| {
        let start = Instant::now();
        let said = sh(place.dir(), script).context(what.to_owned())?;
        println!("{what}: {:.1} s", start.elapsed().as_secs_f64());
        Result::<String>::Ok(said)
    };
    timed("untar", &format!("tar -xf {}", archive.display()))?;
    assert_eq!(timed("list", "find source -type f | wc -l")?, "20000\n");
    assert_eq!(timed("ls -lR", "ls -lR source | grep -c '^-'")?, "20000\n");
    let found = timed("grep", "grep -rl 'line 3 of file 1234:' source")?;
    assert_eq!(found, "source/part34/module34/file1234.c\n");
    place.remount()?;
    assert_eq!(count_files(&place.path("source"))?, FILES);
    tree::assert_same(&tree::read(&source)?, &tree::read(&place.path("source"))?)?;
    let start = Instant::now();
    sh(place.dir(), "rm -rf source")?;
    println!("delete: {:.1} s", start.elapsed().as_secs_f64());
    assert!(tree::names(place.dir())?.is_empty());
    place.finish()
}

#[test]
fn creates_in_one_directory_do_not_slow_down() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    let make = |dir: &Path, range: std::ops::Range<u32>| -> Result<f64> {
        let start = Instant::now();
        for n in range {
            fs::write(dir.join(format!("file{n}")), "a little")?;
        }
        Ok(start.elapsed().as_secs_f64())
    };
    let full = place.path("full");
    fs::create_dir(&full)?;
    make(&full, 0..26_000)?;
    // By turns, so that whatever else this machine does hits both alike.
    let (mut in_full, mut in_empty) = (Vec::new(), Vec::new());
    for turn in 0..8 {
        let empty = place.path(format!("empty{turn}"));
        fs::create_dir(&empty)?;
        in_full.push(make(&full, 26_000 + turn * 500..26_500 + turn * 500)?);
        in_empty.push(make(&empty, 0..500)?);
    }
    let [in_full, in_empty] = [in_full, in_empty].map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    println!("500 creates: {in_empty:.3} s in an empty directory, {in_full:.3} s behind 26,000");
    assert!(
        in_full < in_empty * 4.0 + 0.2,
        "{in_empty:.3} s became {in_full:.3} s"
    );
    assert_eq!(fs::read_dir(&full)?.count(), 30_000);
    place.finish()
}

#[test]
fn large_file_reads_back_after_remount_within_the_memory_budget() -> Result {
    let gib = env_number("KISEKI_BIG_GIB", 2);
    let budget = 256_u64 << 20;
    let setup = Setup {
        memory: Some("256M".into()),
        ..Setup::default()
    };
    let Some(mut mount) = Mount::with(setup)? else {
        return Ok(());
    };
    let check_memory = |mount: &Mount, when: &str| -> Result {
        let (now, highest) = daemon::resident(mount.store())?;
        println!("{when}: {} MiB, at most {} MiB", now >> 20, highest >> 20);
        let limit = budget + BASE_MEMORY;
        assert!(highest <= limit, "{when}: {highest} bytes, limit {limit}");
        Ok(())
    };
    let start = Instant::now();
    Content(1).create(&mount.path("large"), gib << 30)?;
    println!("{gib} GiB written: {:.1} s", start.elapsed().as_secs_f64());
    check_memory(&mount, "after writing")?;
    mount.remount()?;
    let start = Instant::now();
    Content(1).verify(&mount.path("large"), gib << 30)?;
    println!("{gib} GiB read: {:.1} s", start.elapsed().as_secs_f64());
    check_memory(&mount, "after reading")?;
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn many_small_files_stay_within_the_memory_budget() -> Result {
    let setup = Setup {
        memory: Some("64M".into()),
        ..Setup::default()
    };
    let Some(mut mount) = Mount::with(setup)? else {
        return Ok(());
    };
    make_tree(&mount.path("one"))?;
    make_tree(&mount.path("two"))?;
    mount.remount()?;
    assert_eq!(count_files(mount.dir())?, 2 * FILES);
    let (_, highest) = daemon::resident(mount.store())?;
    println!("{} MiB at most for 40,000 files", highest >> 20);
    assert!(highest <= (64 << 20) + BASE_MEMORY, "{highest} bytes");
    Ok(())
}

/// Whether a process may have huge pages, as the kernel says it.
fn may_have_huge_pages(process: &str) -> Result<bool> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    Ok(status.lines().any(|line| line == "THP_enabled:\t1"))
}

#[test]
fn little_memory_goes_without_huge_pages() -> Result {
    for (memory, may) in [("64M", false), ("256M", may_have_huge_pages("self")?)] {
        let Some(mut mount) = Mount::with(Setup {
            memory: Some(memory.into()),
            ..Setup::default()
        })?
        else {
            return Ok(());
        };
        let daemon = daemon::serving(mount.store()).context("no daemon")?;
        assert_eq!(may_have_huge_pages(&daemon.to_string())?, may, "{memory}");
        mount.umount()?;
    }
    Ok(())
}
