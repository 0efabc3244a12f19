//! A source tree and a git repository, with the programs people use on them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::Bench;
use crate::{
    contender::run as run_program,
    payload::{Random, derive},
    sample::{
        Durability::{None, Reads, SyncAtEnd},
        Row,
        Unit::Runs,
    },
};

const UNTAR: Row = Row::new("untar + sync", Runs, SyncAtEnd);
const GREP: Row = Row::new("grep -r, cold", Runs, Reads);
const CLONE: Row = Row::new("git clone + status", Runs, None);
const REMOVE: Row = Row::new("rm -rf", Runs, None);

/// In one file of the tree; what grep looks for.
const NEEDLE: &str = "the-only-needle";

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let sources = Sources::new()?;
    let (tree, archive) = (sources.0.join("tree"), sources.0.join("tree.tar"));
    let repository = sources.0.join("repository");
    generate(&tree, derive(bench.seed, 1), bench.scale.tree)?;
    run_program(
        Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .args([&tree])
            .arg("."),
    )?;
    generate(&repository, derive(bench.seed, 2), bench.scale.repository)?;
    commit(&repository)?;

    let unpacked = bench.site.path("tree");
    fs::create_dir(&unpacked)?;
    bench.time(UNTAR, |site| {
        run_program(
            Command::new("tar")
                .arg("-xf")
                .arg(&archive)
                .arg("-C")
                .arg(&unpacked),
        )?;
        site.sync()?;
        Ok(1)
    })?;
    if bench.cold(GREP)? {
        bench.time(GREP, |_| grep(&unpacked))?;
    }
    ensure!(
        read_tree(&tree)? == read_tree(&unpacked)?,
        "the unpacked tree differs from the packed one"
    );
    let clone = bench.site.path("clone");
    bench.time(CLONE, |_| {
        run_program(
            git()
                .args(["clone", "-q", "--no-hardlinks"])
                .args([&repository, &clone]),
        )?;
        let status = git()
            .args(["status", "--porcelain"])
            .current_dir(&clone)
            .output()?;
        ensure!(
            status.status.success() && status.stdout.is_empty(),
            "git finds changes in a fresh clone"
        );
        Ok(1)
    })?;
    run_program(git().args(["fsck", "--strict"]).current_dir(&clone))?;
    bench.time(REMOVE, |_| {
        run_program(Command::new("rm").arg("-rf").arg(&unpacked))?;
        Ok(1)
    })?;
    ensure!(!unpacked.exists(), "the removed tree is still there");
    Ok(())
}

/// Where sources are prepared: in memory, so that reading them costs all
/// contenders the same.
struct Sources(PathBuf);

impl Sources {
    fn new() -> Result<Sources> {
        let dir = format!("/dev/shm/kiseki-bench-{}", std::process::id());
        fs::create_dir_all(&dir).context("cannot prepare sources")?;
        Ok(Sources(dir.into()))
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// git without the configuration of the user.
fn git() -> Command {
    let mut git = Command::new("git");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .args(["-c", "user.name=bench", "-c", "user.email=bench@localhost"]);
    git
}

fn commit(repository: &Path) -> Result<()> {
    let steps: [&[&str]; 3] = [
        &["init", "-q"],
        &["add", "-A"],
        &["commit", "-q", "-m", "all"],
    ];
    for step in steps {
        run_program(git().args(step).current_dir(repository))?;
    }
    Ok(())
}

fn grep(dir: &Path) -> Result<u64> {
    let found = Command::new("grep")
        .args(["-rl", NEEDLE])
        .arg(dir)
        .output()?;
    let lines = String::from_utf8_lossy(&found.stdout).lines().count();
    ensure!(lines == 1, "grep found {lines} files instead of one");
    Ok(1)
}

/// Directories of up to 20 files of text, 200 bytes to 24 KiB, most of them
/// small; five of six directories lie in another.
fn generate(root: &Path, seed: u64, files: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let mut dir = root.to_owned();
    let needle = random.below(files);
    for number in 0..files {
        if number % 20 == 0 {
            let parent = if number % 120 == 0 {
                root
            } else {
                dir.parent().unwrap_or(root)
            };
            let parent = if number % 40 == 0 && number % 120 != 0 {
                &dir
            } else {
                parent
            };
            dir = parent.join(format!("part-{number}"));
            fs::create_dir_all(&dir)?;
        }
        let size = 200 << random.below(7);
        let mut text = text(&mut random, size);
        if number == needle {
            text.push_str(NEEDLE);
        }
        fs::write(dir.join(format!("source-{number}.rs")), text)?;
    }
    Ok(())
}

/// Words that look like source and repeat as little as random letters do.
fn text(random: &mut Random, size: u64) -> String {
    let size = random.within(size, size * 2) as usize;
    let mut text = String::with_capacity(size + 80);
    while text.len() < size {
        let letters = random.bits();
        let len = 2 + (letters >> 60) as u32 % 9;
        text.extend((0..len).map(|i| char::from(b'a' + (letters >> (5 * i)) as u8 % 26)));
        text.push(if letters.is_multiple_of(11) {
            '\n'
        } else {
            ' '
        });
    }
    text
}

fn read_tree(root: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut contents = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(root)?.to_owned();
                contents.insert(name, fs::read(entry.path())?);
            }
        }
    }
    Ok(contents)
}
