//! The disk fails at each of its operations in turn: who asked is told, what
//! was acknowledged stays, and reads go on.

use std::collections::BTreeMap;

use super::*;
use crate::{
    Error, Result,
    engine::Tuning,
    host::{Fault, MemoryDisk},
};

/// Files that the workload makes.
const FILES: u64 = 9;

fn open_on(disk: &MemoryDisk) -> Result<Volume> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = Store::open(disk.clone())?.unlock(&unlock())?;
    let record = store.volume("default")?;
    let options = VolumeOptions {
        tuning: Tuning {
            segment_bytes: Some(64 << 10),
            log_file_bytes: 4 << 10,
            sealers: Some(1),
            unasked: false,
        },
        ..options()
    };
    open_volume(disk, Arc::new(SystemClock), &store, &record, options)
}

fn new_disk() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (entropy, clock) = (Arc::new(SystemEntropy), Arc::new(SystemClock));
    let store = Store::create(Arc::new(disk.clone()), entropy, clock, &unlock()).unwrap();
    store
        .create_volume("default", CutPolicy::Auto, 0, 0)
        .unwrap();
    block_on(async { open_on(&disk).unwrap().close().await }).unwrap();
    disk.crash_losing_all()
}

fn name(number: u64) -> String {
    format!("f{number}")
}

fn contents(number: u64) -> Vec<u8> {
    noise(number, [300, 5_000, 50_000][number as usize % 3])
}

/// What was acknowledged by a sync; `None`: that the file is gone.
type Promises = BTreeMap<u64, Option<Ino>>;

/// Works until something fails.
async fn work(volume: &Volume, promises: &mut Promises) -> Result<()> {
    for number in 0..FILES {
        let path = name(number);
        let made = volume.create(&ROOT, Ino::ROOT, path.as_bytes(), 0o644);
        let ino = made.await?.ino;
        let data = Bytes::from(contents(number));
        volume.write(&ROOT, ino, 0, data).await?;
        volume.fsync(ino, false).await?;
        promises.insert(number, Some(ino));
        if number % 3 == 2 {
            let old = number - 2;
            // From here on either may be found, until it is synced.
            promises.remove(&old);
            volume
                .unlink(&ROOT, Ino::ROOT, name(old).as_bytes())
                .await?;
            volume.fsync(Ino::ROOT, false).await?;
            promises.insert(old, None);
            volume.collect(Box::new(|_, _| {})).await?;
            volume.checkpoint().await?;
        }
    }
    Ok(())
}

async fn assert_kept(volume: &Volume, promises: &Promises, when: &str) {
    for (number, promised) in promises {
        let found = volume.lookup(Ino::ROOT, name(*number).as_bytes()).await;
        match promised {
            None => assert!(matches!(found, Err(Error::NotFound)), "{when}: {number}"),
            Some(_) => {
                let ino = found.unwrap_or_else(|error| panic!("{when}: {number}: {error}"));
                let found = read_all(volume, ino.ino).await;
                assert!(found == contents(*number), "{when}: {number}");
            }
        }
    }
}

async fn assert_images(disk: &MemoryDisk, promises: &Promises, when: &str) {
    let images = (0..3).map(|seed| disk.crash(seed));
    for image in images.chain([disk.crash_losing_all()]) {
        let volume = open_on(&image).unwrap_or_else(|error| panic!("{when}: {error}"));
        assert_kept(&volume, promises, when).await;
        let meta = &volume.inner.meta;
        meta.check(&mut |problem| panic!("{when}: {problem:?}"))
            .unwrap();
        let more = volume.create(&ROOT, Ino::ROOT, b"more", 0o644).await;
        volume.fsync(more.unwrap().ino, false).await.unwrap();
        volume.close().await.unwrap();
    }
}

/// Runs the workload with a fault behind each number of operations in turn,
/// until there are fewer operations than that.
fn at_each_operation(fault: Fault, mut after: impl AsyncFnMut(&MemoryDisk, &Volume, &str, Error)) {
    let fresh = new_disk();
    for passes in 0.. {
        let disk = fresh.crash_losing_all();
        let when = format!("{fault:?} after {passes}");
        let done = block_on(async {
            let volume = open_on(&disk).unwrap();
            disk.fail_after(passes, fault);
            let mut promises = Promises::new();
            let worked = work(&volume, &mut promises).await;
            assert_kept(&volume, &promises, &when).await;
            assert_images(&disk, &promises, &when).await;
            match worked {
                Ok(()) => true,
                Err(error) => {
                    after(&disk, &volume, &when, error).await;
                    assert_kept(&volume, &promises, &when).await;
                    assert_images(&disk, &promises, &when).await;
                    false
                }
            }
        });
        if done {
            assert!(passes > 20, "only {passes} operations");
            return;
        }
    }
}

/// The error is one of the disk, and whoever tries again is not told that all
/// is well when it is not.
async fn fails_for_good(disk: &MemoryDisk, volume: &Volume, when: &str, error: Error) {
    assert!(
        matches!(error, Error::Io { .. } | Error::ReadOnly(_)),
        "{when}: {error:?}"
    );
    let made = volume.create(&ROOT, Ino::ROOT, b"again", 0o644).await;
    let synced = match made {
        Ok(made) => {
            volume.release(made.ino).await.unwrap();
            volume.fsync(made.ino, false).await
        }
        Err(error) => Err(error),
    };
    if synced.is_ok() {
        let image = open_on(&disk.crash_losing_all()).unwrap();
        image.lookup(Ino::ROOT, b"again").await.unwrap();
    }
}

#[test]
fn a_failed_write_is_told_and_loses_nothing() {
    at_each_operation(Fault::Write, fails_for_good);
}

#[test]
fn a_failed_sync_is_told_and_never_taken_for_a_good_one() {
    at_each_operation(Fault::Sync, fails_for_good);
}

#[test]
fn a_disk_that_gets_full_is_told_and_works_again_with_room() {
    at_each_operation(Fault::Enospc, async |disk, volume, when, error| {
        assert!(matches!(error, Error::NoSpace), "{when}: {error:?}");
        disk.clear_faults();
        volume
            .sync()
            .await
            .unwrap_or_else(|error| panic!("{when}: {error}"));
        let new = volume.create(&ROOT, Ino::ROOT, b"again", 0o644).await;
        volume.fsync(new.unwrap().ino, false).await.unwrap();
        let image = open_on(&disk.crash_losing_all()).unwrap();
        image.lookup(Ino::ROOT, b"again").await.unwrap();
    });
}

#[test]
fn readers_do_not_wait_for_a_slow_disk() {
    let disk = new_disk();
    block_on(async {
        let volume = open_on(&disk).unwrap();
        let mut promises = Promises::new();
        work(&volume, &mut promises).await.unwrap();
        let takes = Duration::from_millis(300);
        disk.slow_down(takes);
        let file = volume.create(&ROOT, Ino::ROOT, b"slow", 0o644).await;
        let ino = file.unwrap().ino;
        write_all(&volume, ino, 0, &noise(1, 20_000)).await;
        let began = std::time::Instant::now();
        let writer = volume.clone();
        let synced = tokio::spawn(async move { writer.fsync(ino, false).await });
        tokio::task::yield_now().await;
        assert_kept(&volume, &promises, "while a sync is under way").await;
        assert!(!synced.is_finished(), "a sync of 600 ms took none");
        synced.await.unwrap().unwrap();
        assert!(began.elapsed() >= takes);
        disk.slow_down(Duration::ZERO);
        let image = open_on(&disk.crash_losing_all()).unwrap();
        assert_eq!(read_all(&image, ino).await, noise(1, 20_000));
    });
}
