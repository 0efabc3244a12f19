//! Real trees through real programs: copied in, compared, remounted, compared.
#![allow(clippy::unwrap_used)]

use std::{ffi::OsStr, fs, path::Path};

use kiseki_tests::{
    Place, Result, need_tools, run,
    run::{run_in, sh},
    skip,
    sources::{git_repository, source_tree},
    tree,
};

/// A real tree, or none when the test was skipped.
fn real_tree() -> Result<Option<std::path::PathBuf>> {
    let found = source_tree()?;
    if found.is_none() {
        skip("no tree: apt-get cannot download, and cargo has no sources");
    }
    Ok(found)
}

fn run_ok(program: &str, args: &[&OsStr]) -> Result<String> {
    run(program, args)?.ok()
}

#[test]
fn source_tree_copied_in_is_the_same_after_remount() -> Result {
    let Some(from) = real_tree()? else {
        return Ok(());
    };
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let to = place.path("copy");
    run_ok("cp", &["-a".as_ref(), from.as_ref(), to.as_ref()])?;
    let wanted = tree::read(&from)?;
    assert!(wanted.len() > 500);
    tree::assert_same(&wanted, &tree::read(&to)?)?;
    place.remount()?;
    tree::assert_same(&wanted, &tree::read(&to)?)?;
    run_ok("rm", &["-rf".as_ref(), to.as_ref()])?;
    assert!(tree::names(place.dir())?.is_empty());
    place.finish()
}

#[test]
fn tar_unpacks_and_packs_the_same_tree() -> Result {
    let Some(from) = real_tree()? else {
        return Ok(());
    };
    if !need_tools(&["tar", "xz"]) {
        return Ok(());
    }
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    // Part of a large tree: compressing it all proves nothing more.
    let part = place.outside().join("part");
    part_of(&from, &part, 3000)?;
    let archive = place.path("part.tar.xz");
    // The format that holds nanoseconds.
    let posix = "--format=posix".as_ref();
    let tar = |args: &[&OsStr]| run_ok("tar", args);
    let (c, x, at) = ("-cJf".as_ref(), "-xJpf".as_ref(), "-C".as_ref());
    tar(&[posix, c, archive.as_ref(), at, part.as_ref(), ".".as_ref()])?;
    fs::create_dir(place.path("out"))?;
    tar(&[x, archive.as_ref(), at, place.path("out").as_ref()])?;
    let wanted = tree::read(&part)?;
    for _ in 0..2 {
        tree::assert_same(&wanted, &tree::read(&place.path("out"))?)?;
        place.remount()?;
    }
    let differs = sh(
        place.dir(),
        "tar -cf again.tar -C out . && tar --compare -f again.tar -C out",
    )?;
    assert_eq!(differs, "");
    place.finish()
}

/// Copies about `count` files of a tree.
fn part_of(from: &Path, to: &Path, count: usize) -> Result {
    fs::create_dir_all(to)?;
    let script = "cd \"$1\"; find . -type f -o -type l | sort | head -n \"$3\" \
        | tar -cf - --no-recursion -T - | tar -xpf - -C \"$2\"";
    let count = count.to_string();
    let (sh, name): (&OsStr, &OsStr) = ("-euc".as_ref(), "sh".as_ref());
    let args = [
        sh,
        script.as_ref(),
        name,
        from.as_ref(),
        to.as_ref(),
        count.as_ref(),
    ];
    run_ok("sh", &args)?;
    Ok(())
}

/// By default rsync compares whole seconds.
const NANOSECONDS: &str = "--modify-window=-1";

#[test]
fn rsync_twice_transfers_nothing_the_second_time() -> Result {
    let Some(tree) = real_tree()? else {
        return Ok(());
    };
    if !need_tools(&["rsync"]) {
        return Ok(());
    }
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let part = place.outside().join("part");
    part_of(&tree, &part, 3000)?;
    sh(
        &part,
        "ln \"$(find . -type f | head -1)\" hard-link; setfattr -n user.x -v y hard-link || true",
    )?;
    let (from, to) = (format!("{}/", part.display()), place.path("copy"));
    let rsync = || {
        run_ok(
            "rsync",
            &[
                NANOSECONDS.as_ref(),
                "-aHAXi".as_ref(),
                from.as_ref(),
                to.as_ref(),
            ],
        )
    };
    assert!(rsync()?.lines().count() > 1000);
    assert_eq!(rsync()?, "", "right after the first run");
    place.remount()?;
    assert_eq!(rsync()?, "", "after a remount");
    tree::assert_same(&tree::read(&part)?, &tree::read(&to)?)?;
    let checked = [
        NANOSECONDS.as_ref(),
        "-aHAXic".as_ref(),
        from.as_ref(),
        to.as_ref(),
    ];
    assert_eq!(run_ok("rsync", &checked)?, "", "compared by checksum");
    place.finish()
}

#[test]
fn git_works_on_the_mount() -> Result {
    if !need_tools(&["git"]) {
        return Ok(());
    }
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let origin = place.outside().join("origin");
    git_repository(&origin)?;
    let clone = ["clone", "-q", origin.to_str().unwrap(), "clone"];
    run_in(place.dir(), "git", &clone)?.ok()?;
    let copy = place.path("clone");
    let status = || sh(&copy, "git status --porcelain");
    assert_eq!(status()?, "");
    place.remount()?;
    assert_eq!(status()?, "", "after a remount");
    sh(
        &copy,
        "git fsck --full --strict; git checkout -q -b work
        for n in $(seq 1 50); do echo new > dir$((n % 17))/new$n; done
        git add -A; git commit -qm new; git mv dir1 moved; git commit -qm moved
        git checkout -q main; git checkout -q work; git rebase -q main
        git gc -q --prune=now; git fsck --full --strict; git stash list",
    )?;
    assert_eq!(status()?, "");
    sh(&copy, "git push -q origin work")?;
    place.remount()?;
    assert_eq!(status()?, "");
    sh(
        &copy,
        "git fsck --full --strict; git log --stat > /dev/null",
    )?;
    sh(
        place.dir(),
        "git init -q here; cd here; git pull -q ../clone work; git status --porcelain",
    )?;
    place.finish()
}

#[test]
fn repository_made_elsewhere_and_copied_in_is_unchanged() -> Result {
    if !need_tools(&["git"]) {
        return Ok(());
    }
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let origin = place.outside().join("origin");
    git_repository(&origin)?;
    let to = place.path("copy");
    run_ok("cp", &["-a".as_ref(), origin.as_ref(), to.as_ref()])?;
    let wanted = tree::read(&origin)?;
    tree::assert_same(&wanted, &tree::read(&to)?)?;
    place.remount()?;
    tree::assert_same(&wanted, &tree::read(&to)?)?;
    assert_eq!(sh(&to, "git status --porcelain; git fsck --full")?, "");
    place.finish()
}
