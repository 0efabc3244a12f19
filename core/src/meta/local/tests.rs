#![allow(clippy::unwrap_used)]

mod image;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;

use super::{LocalMeta, MetaOptions};
use crate::{
    Error, Result,
    host::{Disk, disk::OsDisk},
    ids::{Ino, Revision, VolumeId},
    kv::{Backend, MemoryBackend},
    log::SyncPolicy,
    meta::{
        Answer, MetaService,
        command::{AttrChange, Command, Reply},
        inode::Kind,
        machine::tests::{
            at, create,
            generate::{command, number},
            tag,
        },
        transaction::Read,
    },
};

const VOLUME: VolumeId = VolumeId([5; 16]);

fn now<T>(answer: Answer<T>) -> Result<T> {
    match answer {
        Answer::Ready(result) => result,
        Answer::Pending(_) => panic!("not answered at once"),
    }
}

fn disk(dir: &TempDir) -> Arc<dyn Disk> {
    Arc::new(OsDisk::open(dir.path().to_path_buf()).unwrap())
}

fn options(sync: SyncPolicy) -> MetaOptions {
    MetaOptions {
        sync,
        ..MetaOptions::default()
    }
}

fn over(backend: Arc<dyn Backend>, dir: &TempDir) -> Result<Arc<LocalMeta>> {
    LocalMeta::open_over(backend, disk(dir), "v", VOLUME, options(SyncPolicy::Os))
}

fn in_memory(dir: &TempDir) -> Arc<LocalMeta> {
    over(Arc::new(MemoryBackend::new()), dir).unwrap()
}

fn on_disk(dir: &TempDir) -> Arc<LocalMeta> {
    LocalMeta::open(disk(dir), "v", VOLUME, options(SyncPolicy::EveryBatch)).unwrap()
}

fn format(meta: &LocalMeta) {
    let format = Command::Format {
        uid: 0,
        gid: 0,
        mode: 0o755,
        time: at(0),
    };
    now(meta.apply(format)).unwrap();
}

fn dump(meta: &LocalMeta) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    meta.inner
        .tables
        .scan(&[0], &[255], &mut |key, value| {
            all.push((key.to_vec(), value.to_vec()));
            Ok(std::ops::ControlFlow::Continue(()))
        })
        .unwrap();
    all
}

fn assert_sound(meta: &LocalMeta) {
    meta.check(&mut |problem| panic!("{problem}")).unwrap();
}

fn sync(meta: &LocalMeta) {
    meta.inner.log.sync_blocking(meta.revision()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn replay_makes_the_same_tables(commands in vec(command(), 0..120)) {
        let dir = TempDir::new().unwrap();
        let meta = in_memory(&dir);
        format(&meta);
        let mut next = 2;
        for command in commands {
            let _ = now(meta.apply(number(command, &mut next)));
        }
        let (before, revision) = (dump(&meta), meta.revision());
        sync(&meta);
        drop(meta);
        let again = in_memory(&dir);
        assert_eq!(again.revision(), revision);
        assert!(dump(&again) == before);
        assert_sound(&again);
    }
}

#[test]
fn what_was_synced_is_there_after_a_drop_without_close() {
    let dir = TempDir::new().unwrap();
    let meta = on_disk(&dir);
    format(&meta);
    for ino in 2..500 {
        now(meta.apply(create(1, ino as u8, ino, Kind::File))).err();
    }
    sync(&meta);
    let before = dump(&meta);
    drop(meta);
    let again = on_disk(&dir);
    assert!(dump(&again) == before);
    assert_sound(&again);
    assert!(again.allocate_ino().0 > 250);
}

#[test]
fn close_and_checkpoint_leave_nothing_to_replay() {
    let dir = TempDir::new().unwrap();
    let meta = on_disk(&dir);
    format(&meta);
    now(meta.apply(create(1, 0, 2, Kind::File))).unwrap();
    meta.checkpoint().unwrap();
    now(meta.apply(create(1, 1, 3, Kind::File))).unwrap();
    meta.close().unwrap();
    meta.close().unwrap();
    let refused = now(meta.apply(create(1, 2, 4, Kind::File)));
    assert!(matches!(refused, Err(Error::Closed)));
    assert!(now(meta.inode(Ino(3))).is_ok());
    drop(meta);
    let again = on_disk(&dir);
    assert_eq!(again.inner.tables.projection().checkpointed(), Revision(3));
    assert!(now(again.lookup(Ino(1), tag(1))).is_ok());
    assert_sound(&again);
}

#[test]
fn a_log_that_fails_leaves_the_volume_readable() {
    let dir = TempDir::new().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let barrier = {
        let broken = Arc::clone(&broken);
        move || match broken.load(Ordering::SeqCst) {
            true => Err(Error::Invalid("broken on purpose")),
            false => Ok(()),
        }
    };
    let options = MetaOptions {
        barrier: Arc::new(barrier),
        ..options(SyncPolicy::EveryBatch)
    };
    let meta = LocalMeta::open(disk(&dir), "v", VOLUME, options).unwrap();
    format(&meta);
    sync(&meta);
    broken.store(true, Ordering::SeqCst);
    now(meta.apply(create(1, 0, 2, Kind::File))).unwrap();
    assert!(meta.inner.log.sync_blocking(meta.revision()).is_err());
    let refused = now(meta.apply(create(1, 1, 3, Kind::File)));
    assert!(matches!(refused, Err(Error::ReadOnly(_))));
    assert!(now(meta.inode(Ino::ROOT)).is_ok());
    assert!(meta.failed().is_some());
    assert!(matches!(meta.close(), Err(Error::ReadOnly(_))));
}

#[test]
fn entries_go_on_behind_a_tag() {
    let dir = TempDir::new().unwrap();
    let meta = in_memory(&dir);
    format(&meta);
    for name in 0..10 {
        now(meta.apply(create(1, name, 2 + u64::from(name), Kind::File))).unwrap();
    }
    let first = now(meta.entries(Ino::ROOT, None, 4)).unwrap();
    assert_eq!(first.len(), 4);
    let rest = now(meta.entries(Ino::ROOT, Some(first[3].tag), 100)).unwrap();
    assert_eq!(rest.len(), 6);
    assert_eq!(rest[0].tag, tag(4));
    assert!(
        now(meta.entries(Ino::ROOT, Some(tag(255)), 5))
            .unwrap()
            .is_empty()
    );
    assert!(now(meta.entries(Ino::ROOT, None, 0)).unwrap().is_empty());
}

#[test]
fn readers_never_see_an_older_inode_than_was_answered() {
    const FILES: u64 = 64;
    let dir = TempDir::new().unwrap();
    let options = MetaOptions {
        // Caches too small for all, so that misses race with commands.
        memory: 0,
        ..options(SyncPolicy::Os)
    };
    let backend = Arc::new(MemoryBackend::new());
    let meta = LocalMeta::open_over(backend, disk(&dir), "v", VOLUME, options).unwrap();
    format(&meta);
    let answered: Vec<_> = (0..FILES)
        .map(|_| std::sync::atomic::AtomicU64::new(0))
        .collect();
    for file in 0..FILES {
        now(meta.apply(create(1, file as u8, 2 + file, Kind::File))).unwrap();
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..3_u64 {
            let (meta, answered, is_over) = (&meta, &answered, &is_over);
            scope.spawn(move || {
                let mut at = seed;
                while !is_over.load(Ordering::Relaxed) {
                    at = at
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(seed | 1);
                    let file = (at >> 33) % FILES;
                    meta.inner.tables.forget(Ino(2 + (at >> 40) % FILES));
                    let least = answered[file as usize].load(Ordering::SeqCst);
                    let inode = now(meta.inode(Ino(2 + file))).unwrap();
                    assert!(inode.size >= least, "an old inode");
                }
            });
        }
        for round in 1..20_000_u64 {
            let file = round % FILES;
            let change = AttrChange {
                size: Some(round),
                ..AttrChange::default()
            };
            let ino = Ino(2 + file);
            now(meta.apply(Command::SetAttr { ino, change })).unwrap();
            answered[file as usize].store(round, Ordering::SeqCst);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_sound(&meta);
}

#[test]
#[ignore = "prints times and checks nothing; docs/testing.md, Measures"]
fn how_long_creates_and_reads_take() {
    const FILES: u64 = 200_000;
    let dir = TempDir::new().unwrap();
    let meta = on_disk(&dir);
    format(&meta);
    let start = Instant::now();
    for ino in 2..FILES {
        let mut command = create(1, 0, ino, Kind::File);
        if let Command::Create { tag, name, .. } = &mut command {
            tag.0[..8].copy_from_slice(&ino.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            *name = Arc::new([7; 48]);
        }
        let (_, reply) = now(meta.apply(command)).unwrap();
        assert!(matches!(reply, Reply::Inode(_)));
    }
    eprintln!("create {:?}", start.elapsed() / FILES as u32);
    let start = Instant::now();
    for _ in 0..FILES {
        std::hint::black_box(now(meta.inode(Ino(FILES - 1))).unwrap());
    }
    eprintln!("inode, cached {:?}", start.elapsed() / FILES as u32);
    let start = Instant::now();
    meta.close().unwrap();
    eprintln!("close {:?}", start.elapsed());
}

#[test]
fn a_crash_before_the_first_command_is_no_problem() {
    let dir = tempfile::tempdir().unwrap();
    let meta = on_disk(&dir);
    meta.check(&mut |problem| panic!("{problem:?}")).unwrap();
}
