//! Real trees to copy: what a developer has on disk.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::{Result, have, mount::scratch_dir, run::sh};

/// A source tree of some thousand files, unpacked, kept between runs: the
/// source of a Debian package when apt can fetch one, otherwise the sources
/// that cargo has downloaded to build kiseki. `None` when neither is there.
pub fn source_tree() -> Result<Option<PathBuf>> {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = LOCK
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(given) = std::env::var_os("KISEKI_TEST_TREE") {
        return Ok(Some(given.into()));
    }
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-trees/debian");
    if !kept.is_dir() {
        fetch(&kept)?;
    }
    if count_files(&kept)? > 500 {
        return Ok(Some(kept));
    }
    Ok(cargo_sources())
}

/// Unpacks packages of headers and documents from the Debian archive. Binary
/// packages, since a machine need not have source entries for apt.
fn fetch(kept: &Path) -> Result {
    fs::create_dir_all(kept.parent().unwrap())?;
    let work = scratch_dir("fetch")?;
    let script = "apt-get download -q linux-libc-dev perl-modules-5.36 python3-all-dev \
        || apt-get download -q linux-libc-dev || true
        for package in *.deb; do [ ! -e \"$package\" ] || dpkg-deb -x \"$package\" tree; done
        mkdir -p tree";
    if have("apt-get") && have("dpkg-deb") {
        sh(work.path(), script)?;
    } else {
        fs::create_dir(work.path().join("tree"))?;
    }
    let unpacked = work.path().join("tree");
    // Another test binary may have been faster.
    if fs::rename(&unpacked, kept).is_err() {
        ensure!(kept.is_dir(), "cannot keep {}", unpacked.display());
    }
    Ok(())
}

/// The sources of the crates that kiseki is built from.
#[must_use]
pub fn cargo_sources() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry/src")).ok()?;
    registries.flatten().map(|entry| entry.path()).next()
}

/// Files below a directory.
pub fn count_files(dir: &Path) -> Result<u64> {
    let mut count = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        count += match entry.file_type()?.is_dir() {
            true => count_files(&entry.path())?,
            false => 1,
        };
    }
    Ok(count)
}

/// Makes a git repository with some history: commits, branches, a merge, a
/// tag, packed and loose objects.
pub fn git_repository(dir: &Path) -> Result {
    fs::create_dir_all(dir)?;
    sh(
        dir,
        "git init -q -b main .
        for n in $(seq 1 200); do
            mkdir -p dir$((n % 17)); seq $n $((n + 300)) > dir$((n % 17))/file$n
        done
        ln -s dir1 link; chmod +x dir1/file1
        git add -A; git commit -qm one
        for n in $(seq 1 20); do echo $n >> dir$((n % 17))/file$n; git commit -qam change$n; done
        git gc -q
        git checkout -qb side; echo side > side; git add side; git commit -qm side
        git checkout -q main; echo main > main; git add main; git commit -qm main
        git merge -q side -m merged; git tag -a v1 -m v1; git status --porcelain",
    )?;
    Ok(())
}
