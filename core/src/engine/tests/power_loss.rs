//! The power goes off at any operation of the disk, and the whole volume is
//! opened from what that may leave: what `fsync` promised is there, names are
//! those of one moment of history, and nothing contradicts itself.

use std::collections::BTreeMap;

use super::*;
use crate::{
    engine::RenameFlags,
    host::{Clock, Entropy, MemoryDisk},
    ids::Timestamp,
    meta::Kind,
};

/// Histories, and images that are made of each.
const HISTORIES: u64 = 60;
const IMAGES: u64 = 5;

/// Operations of a history, unless the power goes off before.
const OPERATIONS: usize = 150;

/// Files are written in units of this many bytes.
const UNIT: usize = 3_000;
const UNITS: u64 = 24;

/// Decides what happens; the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

struct SeededEntropy(parking_lot::Mutex<Dice>);

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        let mut dice = self.0.lock();
        buffer.fill_with(|| dice.below(256) as u8);
    }
}

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp {
            secs: 1_000_000,
            nanos: 0,
        }
    }
}

/// Paths and what they name.
type Names = BTreeMap<Vec<u8>, (Ino, Kind)>;

/// Versions of a unit that may be found: the promised one and later ones.
/// Version 0 is zeros, or a file that ends before.
type Versions = Vec<u64>;

#[derive(Default)]
struct Model {
    names: Names,
    /// The names after every change of them, and when they were last promised.
    history: Vec<Names>,
    promised: usize,
    files: BTreeMap<Ino, Vec<Versions>>,
    version: u64,
}

impl Model {
    fn changed(&mut self) {
        self.history.push(self.names.clone());
    }

    /// Some sync succeeded: all names up to now are promised.
    fn names_are_promised(&mut self) {
        self.promised = self.history.len() - 1;
    }

    fn contents_are_promised(&mut self, ino: Ino) {
        for versions in self.files.get_mut(&ino).into_iter().flatten() {
            versions.drain(..versions.len() - 1);
        }
    }

    /// The inode of a directory, `""` the root.
    fn dir(&self, path: &[u8]) -> Ino {
        self.names.get(path).map_or(Ino::ROOT, |(ino, _)| *ino)
    }

    fn pick(&self, dice: &mut Dice, wanted: impl Fn(Kind) -> bool) -> Option<(Vec<u8>, Ino)> {
        let fitting: Vec<_> = self
            .names
            .iter()
            .filter(|(_, (_, kind))| wanted(*kind))
            .collect();
        let at = dice.below(fitting.len().max(1) as u64) as usize;
        fitting
            .get(at)
            .map(|(path, (ino, _))| (path.to_vec(), *ino))
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

struct Run {
    volume: Volume,
    model: Model,
    dice: Dice,
}

impl Run {
    fn free_path(&mut self) -> Vec<u8> {
        let below = match self
            .model
            .pick(&mut self.dice, |kind| kind == Kind::Directory)
        {
            Some((path, _)) if self.dice.below(2) == 0 => [&path[..], b"/"].concat(),
            _ => Vec::new(),
        };
        let name = format!("n{}", self.dice.below(12));
        [&below[..], name.as_bytes()].concat()
    }

    /// One operation; an error ends the history.
    async fn step(&mut self) -> crate::Result<()> {
        match self.dice.below(20) {
            0..3 => self.make(Kind::File).await,
            3 => self.make(Kind::Directory).await,
            4..11 => self.write().await,
            11..14 => self.fsync().await,
            14 | 15 => self.rename().await,
            16 => self.remove().await,
            17 => {
                self.volume.sync().await?;
                let inos: Vec<Ino> = self.model.files.keys().copied().collect();
                inos.into_iter()
                    .for_each(|ino| self.model.contents_are_promised(ino));
                self.model.names_are_promised();
                Ok(())
            }
            18 => match self.dice.below(3) {
                0 => self.volume.collect(Box::new(|_, _| {})).await.map(drop),
                1 => self.volume.inner.meta.checkpoint(),
                _ => self.volume.inner.chunks.checkpoint(),
            },
            _ => {
                tokio::time::sleep(Duration::from_millis(self.dice.below(30))).await;
                Ok(())
            }
        }
    }

    async fn make(&mut self, kind: Kind) -> crate::Result<()> {
        let path = self.free_path();
        if self.model.names.contains_key(&path) {
            return Ok(());
        }
        let (dir, name) = split(&path);
        let dir = self.model.dir(dir);
        let made = match kind {
            Kind::Directory => self.volume.mkdir(&ROOT, dir, name, 0o755).await?,
            _ => self.volume.create(&ROOT, dir, name, 0o644).await?,
        };
        if kind == Kind::File {
            self.volume.release(made.ino).await?;
            let fresh = (0..UNITS).map(|_| vec![0]).collect();
            self.model.files.insert(made.ino, fresh);
        }
        self.model.names.insert(path, (made.ino, kind));
        self.model.changed();
        Ok(())
    }

    async fn write(&mut self) -> crate::Result<()> {
        let Some((_, ino)) = self.model.pick(&mut self.dice, |kind| kind == Kind::File) else {
            return Ok(());
        };
        let first = self.dice.below(UNITS);
        let count = (1 + self.dice.below(6)).min(UNITS - first);
        for unit in first..first + count {
            self.model.version += 1;
            let version = self.model.version;
            // Before the call: one that fails may have got somewhere.
            if let Some(file) = self.model.files.get_mut(&ino) {
                file[unit as usize].push(version);
            }
            let data = Bytes::from(noise(version, UNIT));
            self.volume
                .write(&ROOT, ino, unit * UNIT as u64, data)
                .await?;
        }
        Ok(())
    }

    async fn fsync(&mut self) -> crate::Result<()> {
        let ino = match self.model.pick(&mut self.dice, |kind| kind == Kind::File) {
            Some((_, ino)) => ino,
            None => Ino::ROOT,
        };
        self.volume.fsync(ino, false).await?;
        self.model.contents_are_promised(ino);
        self.model.names_are_promised();
        Ok(())
    }

    async fn rename(&mut self) -> crate::Result<()> {
        let Some((from, ino)) = self.model.pick(&mut self.dice, |kind| kind == Kind::File) else {
            return Ok(());
        };
        let to = self.free_path();
        if self
            .model
            .names
            .get(&to)
            .is_some_and(|(_, kind)| *kind == Kind::Directory)
            || from == to
        {
            return Ok(());
        }
        let ((from_dir, from_name), (to_dir, to_name)) = (split(&from), split(&to));
        let (from_dir, to_dir) = (self.model.dir(from_dir), self.model.dir(to_dir));
        self.volume
            .rename(
                &ROOT,
                from_dir,
                from_name,
                to_dir,
                to_name,
                RenameFlags::Replace,
            )
            .await?;
        self.model.names.remove(&from);
        self.model.names.insert(to, (ino, Kind::File));
        self.model.changed();
        Ok(())
    }

    async fn remove(&mut self) -> crate::Result<()> {
        let Some((path, _)) = self.model.pick(&mut self.dice, |kind| kind == Kind::File) else {
            return Ok(());
        };
        let (dir, name) = split(&path);
        self.volume.unlink(&ROOT, self.model.dir(dir), name).await?;
        self.model.names.remove(&path);
        self.model.changed();
        Ok(())
    }
}

pub(super) fn open_on(disk: &MemoryDisk) -> crate::Result<Volume> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let entropy = Arc::new(SeededEntropy(Dice(99).into()));
    let store = Store::open_with(disk.clone(), entropy, Arc::new(Noon))?.unlock(&unlock())?;
    let record = store.volume("default")?;
    let options = VolumeOptions {
        sync_delay: Duration::from_millis(40),
        ..options()
    };
    open_volume(disk, Arc::new(Noon), &store, &record, options)
}

/// Everything below a directory.
async fn walk(volume: &Volume, dir: Ino, path: &[u8], found: &mut Names) {
    for entry in volume.readdir(dir, 0, 1_000).await.unwrap() {
        if matches!(&entry.name[..], b"." | b"..") {
            continue;
        }
        let below = match path {
            b"" => entry.name.to_vec(),
            path => [path, b"/", &entry.name[..]].concat(),
        };
        if entry.kind == Kind::Directory {
            Box::pin(walk(volume, entry.ino, &below, found)).await;
        }
        found.insert(below, (entry.ino, entry.kind));
    }
}

/// Fails unless the file holds, unit by unit, a version that may be found.
fn check_contents(versions: &[Versions], found: &[u8]) -> Result<(), String> {
    for (at, versions) in versions.iter().enumerate() {
        let start = (at * UNIT).min(found.len());
        let unit = &found[start..(start + UNIT).min(found.len())];
        let fits = |version: &u64| match *version {
            0 => unit.iter().all(|byte| *byte == 0),
            version => unit == noise(version, UNIT),
        };
        if !versions.iter().any(fits) {
            let len = unit.len();
            return Err(format!("unit {at} ({len} bytes) is none of {versions:?}"));
        }
    }
    Ok(())
}

async fn check_image(disk: &MemoryDisk, model: &Model) {
    let volume = open_on(disk).unwrap();
    let mut names = Names::new();
    walk(&volume, Ino::ROOT, b"", &mut names).await;
    let possible = &model.history[model.promised..];
    assert!(
        possible.contains(&names),
        "the names are of no moment: {names:?}"
    );
    for (path, (ino, kind)) in &names {
        if *kind == Kind::File {
            let found = read_all(&volume, *ino).await;
            if let Err(what) = check_contents(&model.files[ino], &found) {
                panic!("{}, {ino:?}: {what}", String::from_utf8_lossy(path));
            }
        }
    }
    let inner = &volume.inner;
    inner
        .meta
        .check(&mut |problem| panic!("{problem:?}"))
        .unwrap();
    inner
        .meta
        .for_each_reference(&mut |chunk, _| {
            assert!(
                inner.chunks.info(&chunk).unwrap().is_some(),
                "{chunk} is gone"
            );
        })
        .unwrap();
    // It goes on from there.
    let new = volume
        .create(&ROOT, Ino::ROOT, b"afterwards", 0o644)
        .await
        .unwrap();
    write_all(&volume, new.ino, 0, &noise(1, 10_000)).await;
    volume.fsync(new.ino, false).await.unwrap();
    volume.close().await.unwrap();
}

#[test]
fn power_loss_at_any_operation_leaves_what_was_promised() {
    let fresh = MemoryDisk::new();
    let entropy = Arc::new(SeededEntropy(Dice(98).into()));
    let store = Store::create(Arc::new(fresh.clone()), entropy, Arc::new(Noon), &unlock()).unwrap();
    store
        .create_volume("default", CutPolicy::Auto, 0, 0)
        .unwrap();
    let mut promises = 0;
    for seed in 0..HISTORIES {
        // A copy: all of it is durable.
        let disk = fresh.crash(0);
        block_on(async {
            let mut dice = Dice(seed);
            // Half of the histories begin before the first open has ended.
            let last =
                disk.operations() + dice.below(60 + 30 * (seed % 2) * OPERATIONS as u64 / 10);
            disk.power_off_after(last);
            let mut model = Model::default();
            model.changed();
            if let Ok(volume) = open_on(&disk) {
                let mut run = Run {
                    volume,
                    model,
                    dice,
                };
                for _ in 0..OPERATIONS {
                    if run.step().await.is_err() {
                        break;
                    }
                }
                model = run.model;
            }
            promises += model.promised;
            for image in 0..IMAGES {
                println!("history {seed}, image {image}, {last} operations");
                check_image(&disk.crash(image), &model).await;
            }
        });
    }
    assert!(
        promises > HISTORIES as usize,
        "only {promises} names promised"
    );
}
