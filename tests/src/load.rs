//! Writers that note what was promised to them, for tests that kill.
//!
//! Each writer owns a directory with a few files and repeats small jobs:
//! append, overwrite blocks, replace by rename, delete. Before a change it
//! notes what may now be found, after a successful `fsync` what must be. After
//! a kill and a new mount [`Ledger::check`] compares the notes with the files.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::{Content, Result, content::Dice};

/// Files of each kind that a writer works on.
const SLOTS: u64 = 6;
/// Size of the units in which files are overwritten.
const BLOCK: usize = 4096;
/// Blocks of an overwritten file.
const BLOCKS: u64 = 64;

/// What a writer was promised.
pub struct Ledger {
    dir: PathBuf,
    dice: Dice,
    next_seed: u64,
    appended: BTreeMap<u64, Appended>,
    blocks: BTreeMap<u64, Vec<Versions>>,
    replaced: BTreeMap<u64, Versions>,
    /// Changes acknowledged by a successful fsync.
    pub promises: u64,
}

/// A file that only grows: any prefix of its stream from what was synced to
/// what was written.
struct Appended {
    content: Content,
    synced: u64,
    written: u64,
}

/// Seeds of the contents that may be found: the synced one and later ones.
/// Seed 0 stands for zeros or for no file.
struct Versions(Vec<u64>);

impl Versions {
    fn settle(&mut self) {
        self.0.drain(..self.0.len() - 1);
    }
}

impl Ledger {
    /// A writer in a new directory.
    pub fn new(dir: PathBuf, seed: u64) -> Result<Ledger> {
        fs::create_dir_all(&dir)?;
        File::open(&dir)?.sync_all()?;
        Ok(Ledger {
            dir,
            dice: Dice::new(seed),
            next_seed: (seed << 32) + 1,
            appended: BTreeMap::new(),
            blocks: BTreeMap::new(),
            replaced: BTreeMap::new(),
            promises: 0,
        })
    }

    /// Works until the filesystem goes away, and returns what it said.
    pub fn work(&mut self) -> io::Error {
        loop {
            let slot = self.dice.below(SLOTS);
            let done = match self.dice.below(5) {
                0 | 1 => self.append(slot),
                2 => self.overwrite(slot),
                3 => self.replace(slot),
                _ => self.delete(slot),
            };
            match done {
                Ok(()) => self.promises += 1,
                Err(e) => return e,
            }
        }
    }

    fn seed(&mut self) -> u64 {
        self.next_seed += 1;
        self.next_seed
    }

    fn path(&self, kind: &str, slot: u64) -> PathBuf {
        self.dir.join(format!("{kind}{slot}"))
    }

    fn append(&mut self, slot: u64) -> io::Result<()> {
        let path = self.path("append", slot);
        let content = Content(self.seed());
        let sizes: Vec<_> = (0..1 + self.dice.below(6))
            .map(|_| match self.dice.below(3) {
                0 => 1 + self.dice.below(200),
                1 => 1 + self.dice.below(8_000),
                _ => 1 + self.dice.below(120_000),
            })
            .collect();
        let note = self.appended.entry(slot).or_insert(Appended {
            content,
            synced: 0,
            written: 0,
        });
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        for size in sizes {
            let piece = note.content.bytes(note.written, size as usize);
            note.written += size;
            file.write_all(&piece)?;
        }
        file.sync_data()?;
        note.synced = note.written;
        Ok(())
    }

    fn overwrite(&mut self, slot: u64) -> io::Result<()> {
        let path = self.path("blocks", slot);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let picks: Vec<_> = (0..1 + self.dice.below(8))
            .map(|_| (self.dice.below(BLOCKS), self.seed()))
            .collect();
        let fresh = || (0..BLOCKS).map(|_| Versions(vec![0])).collect();
        let notes = self.blocks.entry(slot).or_insert_with(fresh);
        for (block, seed) in picks {
            notes[block as usize].0.push(seed);
            let data = Content(seed).bytes(0, BLOCK);
            file.write_all_at(&data, block * BLOCK as u64)?;
        }
        file.sync_all()?;
        notes.iter_mut().for_each(Versions::settle);
        Ok(())
    }

    /// The way editors save: write beside, rename over. Half the time without
    /// a sync before the rename, which must not leave a torn file either.
    fn replace(&mut self, slot: u64) -> io::Result<()> {
        let (path, beside) = (self.path("replace", slot), self.path("beside", slot));
        let (seed, careful) = (self.seed(), self.dice.below(2) == 0);
        let note = self.replaced.entry(slot).or_insert(Versions(vec![0]));
        let mut file = File::create(&beside)?;
        file.write_all(&Content(seed).bytes(0, replaced_len(seed)))?;
        if careful {
            file.sync_all()?;
        }
        note.0.push(seed);
        fs::rename(&beside, &path)?;
        if !careful {
            file.sync_all()?;
        }
        File::open(&self.dir)?.sync_all()?;
        note.settle();
        Ok(())
    }

    fn delete(&mut self, slot: u64) -> io::Result<()> {
        let path = self.path("replace", slot);
        let note = self.replaced.entry(slot).or_insert(Versions(vec![0]));
        if note.0 == [0] {
            return Ok(());
        }
        note.0.push(0);
        fs::remove_file(path)?;
        File::open(&self.dir)?.sync_all()?;
        note.settle();
        Ok(())
    }

    /// Fails unless all that was promised is there and nothing is torn. What
    /// is found becomes what must be found from now on.
    pub fn check(&mut self) -> Result {
        for (slot, note) in &mut self.appended {
            let path = self.dir.join(format!("append{slot}"));
            let len = found_len(&path)?;
            ensure!(
                note.synced <= len && len <= note.written,
                "{} has {len} bytes; {} were synced, {} written",
                path.display(),
                note.synced,
                note.written
            );
            if len > 0 {
                note.content.verify(&path, len)?;
            }
            (note.synced, note.written) = (len, len);
        }
        for (slot, notes) in &mut self.blocks {
            check_blocks(&self.dir.join(format!("blocks{slot}")), notes)?;
        }
        for (slot, note) in &mut self.replaced {
            let path = self.dir.join(format!("replace{slot}"));
            let seed = match fs::read(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Some(0),
                Err(e) => return Err(e).context(format!("read {}", path.display())),
                Ok(found) => note.0.iter().copied().find(|seed| {
                    *seed != 0 && found == Content(*seed).bytes(0, replaced_len(*seed))
                }),
            };
            let allowed = seed.is_some_and(|seed| note.0.contains(&seed));
            ensure!(
                allowed,
                "{} is none of the versions {:?}: {seed:?}, {} bytes",
                path.display(),
                note.0,
                found_len(&path)?
            );
            note.0 = seed.into_iter().collect();
        }
        Ok(())
    }
}

fn check_blocks(path: &Path, notes: &mut [Versions]) -> Result {
    let found = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.with_context(|| format!("read {}", path.display()))?,
    };
    for (at, note) in notes.iter_mut().enumerate() {
        let start = (at * BLOCK).min(found.len());
        let block = &found[start..(start + BLOCK).min(found.len())];
        let seed = note.0.iter().copied().find(|seed| match *seed {
            0 => block.iter().all(|byte| *byte == 0),
            seed => block == Content(seed).bytes(0, BLOCK),
        });
        let seed = seed.with_context(|| {
            format!(
                "block {at} of {} is none of {:?} whole",
                path.display(),
                note.0
            )
        })?;
        note.0 = vec![seed];
    }
    Ok(())
}

fn replaced_len(seed: u64) -> usize {
    let sizes = [300, 5_000, 40_000, 300_000];
    sizes[seed as usize % 4] + (seed as usize % 97)
}

fn found_len(path: &Path) -> Result<u64> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        other => Ok(other?.len()),
    }
}
