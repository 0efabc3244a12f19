//! Four programs on one project at the same time: an editor that saves, a
//! watcher that looks for changes, a build that reads all and writes one, a
//! terminal that lists and shows files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};

use super::documents::save;
use crate::{
    payload::{Random, derive},
    sample::{Durability::FsyncPerWrite, Row, Unit::Operations},
    workload::Bench,
};

pub const ROW: Row = Row::new("concurrent access, 4 programs", Operations, FsyncPerWrite);

const FILES: u64 = 30;

/// A watcher that never waits would be most of what is counted.
const WATCH_EVERY: Duration = Duration::from_millis(10);

/// How often a program looks for a file that is always there.
const TRIES: usize = 100;

struct Project {
    dir: PathBuf,
    seed: u64,
    over: AtomicBool,
}

/// Measures the group.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let project = Project {
        dir: bench.site.path("project"),
        seed: derive(bench.seed, 14),
        over: false.into(),
    };
    fs::create_dir(&project.dir)?;
    for n in 0..FILES {
        save(&project.source(n), &project.contents(n, 0))?;
    }
    bench.begin()?;
    let length = Duration::from_secs(30 * bench.scale.desktop / 100);
    let start = Instant::now();
    let operations = thread::scope(|scope| {
        let programs = [Project::edit, Project::watch, Project::build, Project::show];
        let project = &project;
        let threads: Vec<_> = programs
            .into_iter()
            .map(|program| scope.spawn(move || program(project)))
            .collect();
        thread::sleep(length);
        project.over.store(true, Ordering::Relaxed);
        threads.into_iter().try_fold(0, |sum, thread| {
            let done = thread.join().map_err(|_| anyhow!("a program panicked"))??;
            anyhow::Ok(sum + done)
        })
    })?;
    bench.record(ROW, operations, start.elapsed())?;
    Ok(())
}

impl Project {
    fn source(&self, n: u64) -> PathBuf {
        self.dir.join(format!("source-{n}"))
    }

    /// 5 to 15 KiB that begin with the number of the version.
    fn contents(&self, n: u64, version: u64) -> Vec<u8> {
        let mut random = Random::new(derive(self.seed, n));
        let len = random.within(5 << 10, 15 << 10);
        let mut contents = Random::new(derive(derive(self.seed, n), version)).bytes(len);
        contents[..8].copy_from_slice(&version.to_le_bytes());
        contents
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Saves as editors do: a new file under another name, moved over the old.
    fn edit(&self) -> Result<u64> {
        let mut random = Random::new(derive(self.seed, 1_000));
        let mut saved = 0;
        let draft = self.dir.join(".draft");
        while self.goes_on() {
            saved += 1;
            let n = random.below(FILES);
            save(&draft, &self.contents(n, saved))?;
            fs::rename(&draft, self.source(n))?;
        }
        Ok(saved)
    }

    fn watch(&self) -> Result<u64> {
        let mut rounds = 0;
        while self.goes_on() {
            for n in 0..FILES {
                let len = persist(|| fs::metadata(self.source(n)))?.len();
                ensure!(len >= 5 << 10, "a source of {len} bytes");
            }
            rounds += 1;
            thread::sleep(WATCH_EVERY);
        }
        Ok(rounds)
    }

    fn build(&self) -> Result<u64> {
        let mut built = 0;
        let output = self.dir.join("output");
        while self.goes_on() {
            let mut all = Vec::new();
            for n in 0..FILES {
                all.extend_from_slice(&self.check(&self.source(n), n)?[..1024]);
            }
            save(&output, &all)?;
            built += 1;
        }
        Ok(built)
    }

    fn show(&self) -> Result<u64> {
        let mut random = Random::new(derive(self.seed, 1_001));
        let mut shown = 0;
        while self.goes_on() {
            let listed = fs::read_dir(&self.dir)?.filter(Result::is_ok).count();
            ensure!(listed as u64 >= FILES, "{listed} files are listed");
            let n = random.below(FILES);
            self.check(&self.source(n), n)?;
            shown += 1;
        }
        Ok(shown)
    }

    /// Reads a source, which must be of one version, whole.
    fn check(&self, path: &Path, n: u64) -> Result<Vec<u8>> {
        let seen = persist(|| fs::read(path))?;
        let version = seen.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let version = version.ok_or_else(|| anyhow!("{} is cut off", path.display()))?;
        ensure!(
            seen == self.contents(n, version),
            "{} mixes versions",
            path.display()
        );
        Ok(seen)
    }
}

/// Tries again while a file is not found. None is ever missing, but peers that
/// turn each request into a path miss one that is being replaced, and would
/// have no figure at all.
fn persist<T>(attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    attempt()
}
