//! A mixed load for a while: memory, descriptors and inodes do not grow, contents stay right, also over kills and remounts.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use kiseki_tests::{
    Content, Mount, Result, Setup, content::Dice, daemon, env_number, load::Ledger,
};

const WORKERS: u64 = 3;
/// Files of a worker, at most.
const SLOTS: u64 = 24;
/// Larger than the memory of the mount, so that its caches are full early.
const LARGE: u64 = 160 << 20;

/// How long each of the two tests goes on.
fn span() -> Duration {
    Duration::from_secs(env_number("KISEKI_SOAK_SECONDS", 50) / 2)
}

fn setup() -> Setup {
    Setup {
        memory: Some("64M".into()),
        ..Setup::default()
    }
}

/// A directory in which files come, change and go.
struct Worker {
    dir: PathBuf,
    dice: Dice,
    /// Seed and length of what is in each file.
    files: Vec<Option<(u64, u64)>>,
    steps: u64,
}

impl Worker {
    fn new(mount: &Mount, number: u64) -> Result<Worker> {
        let dir = mount.path(format!("worker{number}"));
        fs::create_dir(&dir)?;
        Ok(Worker {
            dir,
            dice: Dice::new(number),
            files: vec![None; SLOTS as usize],
            steps: 0,
        })
    }

    fn path(&self, slot: usize) -> PathBuf {
        self.dir.join(format!("file{slot}"))
    }

    fn step(&mut self) -> Result {
        self.steps += 1;
        let slot = self.dice.below(SLOTS) as usize;
        let path = self.path(slot);
        match (self.dice.below(10), self.files[slot]) {
            (0..4, _) | (_, None) => {
                let len = 1 + match self.dice.below(4) {
                    0 => self.dice.below(4000),
                    1 | 2 => self.dice.below(200_000),
                    _ => self.dice.below(2 << 20),
                };
                let seed = self.steps << 8 | slot as u64;
                Content(seed).create(&path, len)?;
                self.files[slot] = Some((seed, len));
            }
            (4..7, Some((seed, len))) => Content(seed).verify(&path, len)?,
            (7, Some((seed, len))) => {
                // The same bytes in another place: a copy, renamed over it.
                let new = self.dir.join("new");
                fs::copy(&path, &new)?;
                fs::rename(&new, &path)?;
                Content(seed).verify(&path, len)?;
            }
            (8, Some((seed, len))) => {
                let file = OpenOptions::new().write(true).open(&path)?;
                let at = self.dice.below(len);
                let part = (len - at).min(9000) as usize;
                Content(seed).write_at(&file, at, part)?;
                file.set_len(len)?;
            }
            (_, Some(_)) => {
                fs::remove_file(&path)?;
                self.files[slot] = None;
                ensure!(!path.exists());
                let left = fs::read_dir(&self.dir)?.count();
                ensure!(left == self.files.iter().flatten().count());
            }
        }
        Ok(())
    }

    fn verify(&self) -> Result {
        for (slot, file) in self.files.iter().enumerate() {
            if let Some((seed, len)) = file {
                Content(*seed).verify(&self.path(slot), *len)?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    resident: u64,
    descriptors: usize,
    threads: usize,
}

fn sample(store: &Path) -> Result<Sample> {
    let mut total = Sample {
        resident: daemon::resident(store)?.0,
        descriptors: 0,
        threads: 0,
    };
    for pid in daemon::of_store(store) {
        // Segments are kept open in a cache of its own, with a bound of its own.
        let open = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
        total.descriptors += open
            .filter_map(|one| fs::read_link(one.path()).ok())
            .filter(|path| path.extension().is_none_or(|ending| ending != "seg"))
            .count();
        total.threads += fs::read_dir(format!("/proc/{pid}/task"))?.count();
    }
    Ok(total)
}

fn middle(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> u64 {
    let mut numbers: Vec<u64> = samples.iter().map(of).collect();
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
}

#[test]
fn memory_descriptors_and_inodes_do_not_grow() -> Result {
    let Some(mut mount) = Mount::with(setup())? else {
        return Ok(());
    };
    let large = mount.path("large");
    Content(1).create(&large, LARGE)?;
    Content(1).verify(&large, LARGE)?;
    let mut workers = (0..WORKERS)
        .map(|number| Worker::new(&mount, number))
        .collect::<Result<Vec<_>>>()?;
    let inodes = mount.status_number("inodes")?;
    let end = Instant::now() + span();
    let stop = AtomicBool::new(false);
    let mut samples = Vec::new();
    thread::scope(|scope| -> Result {
        let running: Vec<_> = workers
            .iter_mut()
            .map(|worker| {
                let stop = &stop;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        worker.step()?;
                    }
                    Result::<()>::Ok(())
                })
            })
            .collect();
        let mut dice = Dice::new(7);
        let mut buffer = vec![0; 16 << 10];
        while Instant::now() < end && running.iter().all(|worker| !worker.is_finished()) {
            samples.push(sample(mount.store())?);
            let file = File::open(&large)?;
            for _ in 0..20 {
                let at = dice.below(LARGE - buffer.len() as u64);
                file.read_exact_at(&mut buffer, at)?;
                ensure!(buffer == Content(1).bytes(at, buffer.len()), "at {at}");
            }
            thread::sleep(Duration::from_millis(200));
        }
        stop.store(true, Ordering::Relaxed);
        for worker in running {
            worker.join().unwrap()?;
        }
        Ok(())
    })?;
    let half = &samples[samples.len() / 2..];
    let (early, late) = half.split_at(half.len() / 2);
    ensure!(!early.is_empty(), "too short: {samples:?}");
    let (before, after) = (
        middle(early, |one| one.resident),
        middle(late, |one| one.resident),
    );
    let steps: u64 = workers.iter().map(|worker| worker.steps).sum();
    let eighths: Vec<u64> = samples
        .chunks(samples.len().div_ceil(8))
        .map(|part| middle(part, |one| one.resident) >> 20)
        .collect();
    println!(
        "{steps} steps, resident MiB by eighths of the time {eighths:?}; {:?}",
        samples.last().unwrap()
    );
    // A few MiB come and go with what is being written.
    ensure!(
        after <= before + before / 20 + (6 << 20),
        "resident memory grew from {before} to {after}"
    );
    for (what, of) in [
        (
            "descriptors",
            (|one| one.descriptors as u64) as fn(&Sample) -> u64,
        ),
        ("threads", |one| one.threads as u64),
    ] {
        let (before, after) = (middle(early, of), middle(late, of));
        ensure!(after <= before + 8, "{what} grew from {before} to {after}");
    }
    for worker in &workers {
        worker.verify()?;
    }
    for worker in &workers {
        fs::remove_dir_all(&worker.dir)?;
    }
    // Orphans are reaped by and by.
    let start = Instant::now();
    while mount.status_number("inodes")? > inodes - WORKERS {
        ensure!(
            start.elapsed() < Duration::from_secs(30),
            "inodes are left: {}",
            mount.status()?
        );
        thread::sleep(Duration::from_millis(200));
    }
    Content(1).verify(&large, LARGE)?;
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn kills_and_remounts_at_random_lose_nothing() -> Result {
    let Some(mut mount) = Mount::with(setup())? else {
        return Ok(());
    };
    let mut dice = Dice::new(env_number("KISEKI_SEED", 1));
    let mut ledgers = (0..WORKERS)
        .map(|n| Ledger::new(mount.path(format!("writer{n}")), 900 + n))
        .collect::<Result<Vec<_>>>()?;
    let end = Instant::now() + span();
    let (mut kills, mut remounts) = (0, 0);
    while Instant::now() < end {
        let store = mount.store().to_path_buf();
        let delay = Duration::from_millis(200 + dice.below(3000));
        thread::scope(|scope| -> Result {
            let writers: Vec<_> = ledgers
                .iter_mut()
                .map(|ledger| scope.spawn(|| ledger.work()))
                .collect();
            thread::sleep(delay);
            daemon::kill(&store)?;
            writers
                .into_iter()
                .for_each(|writer| drop(writer.join().unwrap()));
            Ok(())
        })?;
        kills += 1;
        mount.clear()?;
        mount.mount()?;
        for ledger in &mut ledgers {
            ledger.check().with_context(|| format!("kill {kills}"))?;
        }
        if dice.below(3) == 0 {
            mount.umount()?;
            mount
                .fsck_clean()
                .with_context(|| format!("kill {kills}"))?;
            mount.mount()?;
            remounts += 1;
        }
    }
    println!("{kills} kills, {remounts} remounts");
    mount.umount()?;
    mount.fsck_clean()
}
