//! Several threads on the same files. Each owns ranges that no one else
//! touches, and must always read there what it wrote last, whatever sealing
//! passes, truncations behind it, copies and collections go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    ROOT,
    accounts::{PATIENCE, assert_nothing_is_held},
    block_on, create, noise, open,
};
use crate::{
    engine::{Allocate, Attr, Entry, RenameFlags, SetAttr, Volume},
    ids::Ino,
    meta::{Kind, MetaService},
};
use bytes::Bytes;

const THREADS: usize = 4;
const FILES: usize = 3;
const STEPS: usize = 150;

/// Bytes of a file that one thread owns.
const SLICE: usize = 150_000;

/// The splitmix64 generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// One thread's slices of all files, as it left them.
struct Owner {
    volume: Volume,
    random: Random,
    index: usize,
    files: Vec<Ino>,
    expected: Vec<Vec<u8>>,
}

impl Owner {
    fn base(&self) -> u64 {
        (self.index * SLICE) as u64
    }

    fn range(&mut self) -> (usize, usize) {
        let from = self.random.below(SLICE);
        let longest = [30, 5000, 80_000][self.random.below(3)];
        let len = 1 + self.random.below(longest.min(SLICE - from));
        (from, len)
    }

    async fn step(&mut self) {
        let at = self.random.below(FILES);
        let (from, len) = self.range();
        let (ino, offset) = (self.files[at], self.base() + from as u64);
        let volume = self.volume.clone();
        match self.random.below(20) {
            0..8 => {
                let data = noise(self.random.next(), len);
                self.expected[at][from..from + len].copy_from_slice(&data);
                let written = volume.write(&ROOT, ino, offset, data.into()).await;
                assert_eq!(written.unwrap() as usize, len);
            }
            8..14 => {
                let read = volume.read(ino, offset, len as u32).await.unwrap();
                let expected = &self.expected[at][from..from + len];
                assert!(read == expected, "{len} at {offset} of file {at}");
            }
            14..16 => {
                self.expected[at][from..from + len].fill(0);
                let hole = volume.allocate(&ROOT, ino, Allocate::Punch, offset, len as u64);
                hole.await.unwrap();
            }
            16 | 17 => self.copy(at).await,
            18 => volume.fsync(ino, false).await.unwrap(),
            _ => {
                volume.open(ino).await.unwrap();
                volume.release(ino).await.unwrap();
            }
        }
    }

    async fn copy(&mut self, to: usize) {
        let from = self.random.below(FILES);
        let (a, len) = self.range();
        let b = self.random.below(SLICE - len + 1);
        let (source, target) = (self.base() + a as u64, self.base() + b as u64);
        if from == to && a < b + len && b < a + len {
            return;
        }
        let (from_ino, to_ino) = (self.files[from], self.files[to]);
        let copied = self
            .volume
            .copy_range(&ROOT, from_ino, source, to_ino, target, len as u64);
        assert_eq!(copied.await.unwrap() as usize, len);
        let data = self.expected[from][a..a + len].to_vec();
        self.expected[to][b..b + len].copy_from_slice(&data);
    }

    async fn check(&self, volume: &Volume) {
        for (at, ino) in self.files.iter().enumerate() {
            let read = volume.read(*ino, self.base(), SLICE as u32).await.unwrap();
            assert!(read == self.expected[at], "file {at} of {}", self.index);
        }
    }
}

/// Goes on with `step` until told to stop.
fn meanwhile(done: &Arc<AtomicBool>, mut step: impl FnMut() + Send + 'static) -> JoinHandle<()> {
    let done = done.clone();
    std::thread::spawn(move || {
        while !done.load(Ordering::Relaxed) {
            step();
        }
    })
}

#[test]
fn each_thread_reads_what_it_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    let files: Vec<Ino> = block_on(async {
        let mut files = Vec::new();
        for at in 0..FILES {
            let name = format!("f{at}");
            let made = volume.create(&ROOT, Ino::ROOT, name.as_bytes(), 0o644);
            let ino = made.await.unwrap().ino;
            let whole = SetAttr {
                size: Some((THREADS * SLICE) as u64),
                ..SetAttr::default()
            };
            volume.setattr(&ROOT, ino, whole).await.unwrap();
            files.push(ino);
        }
        files
    });
    let done = Arc::new(AtomicBool::new(false));
    let collector = {
        let volume = volume.clone();
        meanwhile(&done, move || {
            block_on(volume.collect(Box::new(|_, _| {}))).unwrap();
        })
    };
    let resizer = {
        let (volume, files) = (volume.clone(), files.clone());
        let mut size = (THREADS * SLICE) as u64;
        meanwhile(&done, move || {
            size = (THREADS * SLICE) as u64 + (size * 7) % 9000;
            let change = SetAttr {
                size: Some(size),
                ..SetAttr::default()
            };
            let ino = files[size as usize % FILES];
            block_on(volume.setattr(&ROOT, ino, change)).unwrap();
        })
    };
    let owners: Vec<_> = (0..THREADS)
        .map(|index| {
            let mut owner = Owner {
                volume: volume.clone(),
                random: Random(index as u64),
                index,
                files: files.clone(),
                expected: vec![vec![0; SLICE]; FILES],
            };
            std::thread::spawn(move || {
                block_on(async {
                    for _ in 0..STEPS {
                        owner.step().await;
                    }
                });
                owner
            })
        })
        .collect();
    let owners: Vec<Owner> = owners.into_iter().map(|o| o.join().unwrap()).collect();
    done.store(true, Ordering::Relaxed);
    collector.join().unwrap();
    resizer.join().unwrap();
    block_on(async {
        for owner in &owners {
            owner.check(&volume).await;
        }
        for ino in files {
            volume.release(ino).await.unwrap();
        }
        volume.sync().await.unwrap();
        assert_nothing_is_held(&volume);
        volume.close().await.unwrap();
        let volume = open(dir.path());
        for owner in &owners {
            owner.check(&volume).await;
        }
        volume.close().await.unwrap();
    });
}

#[test]
fn names_made_moved_and_removed_by_many_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    let before = block_on(volume.status()).unwrap().usage.inodes;
    let threads: Vec<_> = (0..THREADS)
        .map(|index| {
            let volume = volume.clone();
            let mut random = Random(index as u64);
            std::thread::spawn(move || {
                block_on(async {
                    for _ in 0..STEPS {
                        shuffle(&volume, &mut random).await;
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    block_on(async {
        for entry in volume.readdir(Ino::ROOT, 0, 1000).await.unwrap() {
            let gone = volume.unlink(&ROOT, Ino::ROOT, &entry.name).await;
            gone.unwrap();
        }
        volume.sync().await.unwrap();
        assert_nothing_is_held(&volume);
        // The background may be at it.
        let began = Instant::now();
        while volume.inner.meta.usage().inodes != before && began.elapsed() < PATIENCE {
            volume.inner.reap();
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(volume.inner.meta.usage().inodes, before);
        volume.close().await.unwrap();
    });
}

/// One of the things that happen to a name. Others do the same to it at the
/// same time, so each may find it gone or there again.
async fn shuffle(volume: &Volume, random: &mut Random) {
    let name = |random: &mut Random| format!("n{}", random.below(6)).into_bytes();
    let (a, b) = (name(random), name(random));
    match random.below(5) {
        0 | 1 => {
            let Ok(made) = volume.create(&ROOT, Ino::ROOT, &a, 0o644).await else {
                return;
            };
            let data = noise(random.next(), 1 + random.below(20_000));
            let wrote = volume.write(&ROOT, made.ino, 0, Bytes::from(data.clone()));
            wrote.await.unwrap();
            if random.below(2) == 0 {
                volume.fsync(made.ino, false).await.unwrap();
            }
            let read = volume.read(made.ino, 0, 20_000).await.unwrap();
            assert!(read == data, "unlinked or not, it is open");
            volume.release(made.ino).await.unwrap();
        }
        2 => {
            let _ = volume
                .rename(&ROOT, Ino::ROOT, &a, Ino::ROOT, &b, RenameFlags::Replace)
                .await;
        }
        3 => {
            if let Ok(attr) = volume.lookup(Ino::ROOT, &a).await {
                let _ = volume.link(&ROOT, attr.ino, Ino::ROOT, &b).await;
            }
        }
        _ => {
            let _ = volume.unlink(&ROOT, Ino::ROOT, &a).await;
        }
    }
}

#[test]
fn a_listing_with_attributes_does_not_end_where_others_remove() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        for n in 0..STAYING {
            make(&volume, &format!("stays{n}")).await;
        }
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let others = std::thread::spawn({
        let (volume, is_over) = (volume.clone(), is_over.clone());
        move || block_on(come_and_go(&volume, &is_over))
    });
    let listed: Vec<usize> = block_on(async {
        let mut listed = Vec::new();
        for _ in 0..200 {
            listed.push(count_staying(&volume).await);
        }
        listed
    });
    is_over.store(true, Ordering::Relaxed);
    others.join().unwrap();
    assert!(listed.iter().all(|count| *count == STAYING), "{listed:?}");
    block_on(async { volume.close().await.unwrap() });
}

#[test]
fn what_nobody_uses_is_gone_after_reaping_whoever_did_it() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    let is_over = Arc::new(AtomicBool::new(false));
    // As the background does, only more often.
    let other = std::thread::spawn({
        let (volume, is_over) = (volume.clone(), is_over.clone());
        move || {
            while !is_over.load(Ordering::Relaxed) {
                volume.inner.reap();
            }
        }
    });
    let inodes = || volume.inner.meta.usage().inodes;
    let before = inodes();
    let left = block_on(async {
        let mut left = 0;
        for _ in 0..1000 {
            let made = volume.mknod(&ROOT, Ino::ROOT, b"f", Kind::File, 0o600, 0);
            let gone = match made.await {
                Ok(_) => volume.unlink(&ROOT, Ino::ROOT, b"f").await,
                Err(error) => Err(error),
            };
            if gone.is_err() {
                return gone.map(|()| left);
            }
            volume.inner.reap();
            left += inodes() - before;
        }
        Ok(left)
    });
    is_over.store(true, Ordering::Relaxed);
    other.join().unwrap();
    assert_eq!(left.unwrap(), 0);
    block_on(async { volume.close().await.unwrap() });
}

/// Files that are there all the time.
const STAYING: usize = 200;

async fn make(volume: &Volume, name: &str) {
    let made = volume.mknod(&ROOT, Ino::ROOT, name.as_bytes(), Kind::File, 0o600, 0);
    made.await.unwrap();
}

async fn come_and_go(volume: &Volume, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        for n in 0..200 {
            make(volume, &format!("goes{n}")).await;
        }
        for n in 0..200 {
            let name = format!("goes{n}");
            let gone = volume.unlink(&ROOT, Ino::ROOT, name.as_bytes()).await;
            gone.unwrap();
            // As the background does, only sooner.
            volume.inner.reap();
        }
    }
}

async fn count_staying(volume: &Volume) -> usize {
    let (mut cookie, mut count) = (0, 0);
    loop {
        let page = volume.readdir_plus(Ino::ROOT, cookie, 64).await.unwrap();
        let stays = |(entry, _): &&(Entry, Attr)| entry.name.starts_with(b"stays");
        count += page.iter().filter(stays).count();
        match page.last() {
            Some((last, _)) if page.len() == 64 => cookie = last.cookie,
            _ => return count,
        }
    }
}
