//! A process dies, and the next one goes on with what it finds in the journal.
//! Dropping a volume without closing it stands for the death: what the process
//! had in memory is gone, what it gave to the kernel is not.

use std::{
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    ROOT, accounts::PATIENCE, block_on, create, noise, open, open_with, options, read_all,
    write_all,
};
use crate::{
    Error,
    engine::{Caller, RenameFlags, SetAttr, SetTime, Volume, VolumeOptions, XattrSet},
    ids::{Ino, RequestId, Timestamp},
    journal::Journal,
};

/// A volume with memory that outlives it.
pub(super) struct Mount<'a> {
    dir: &'a Path,
    memory: OwnedFd,
    pub volume: Volume,
}

impl<'a> Mount<'a> {
    pub fn new(dir: &'a Path) -> Mount<'a> {
        block_on(create(dir).close()).unwrap();
        let memory = Journal::memory().unwrap();
        let volume = adopt(dir, &memory);
        Mount {
            dir,
            memory,
            volume,
        }
    }

    pub fn die_and_take_over(&mut self) {
        // A volume without a journal takes the place for a moment, so that the
        // one that dies is gone before the next is opened.
        let other = tempfile::tempdir().unwrap();
        let dying = Arc::downgrade(&self.volume.inner);
        self.volume = create(other.path());
        while dying.strong_count() > 0 {
            // A pass that is under way, which a real death would have ended.
            std::thread::sleep(Duration::from_millis(1));
        }
        self.volume = adopt(self.dir, &self.memory);
    }
}

fn adopt(dir: &Path, memory: &OwnedFd) -> Volume {
    open_with(dir, |record| VolumeOptions {
        journal: Some(Journal::open(memory.try_clone().unwrap(), record.id, 64 << 20).unwrap()),
        ..options()
    })
}

fn asking(request: u64) -> Caller {
    Caller {
        request: RequestId(request),
        ..ROOT
    }
}

async fn file(volume: &Volume, name: &[u8]) -> Ino {
    volume
        .create(&ROOT, Ino::ROOT, name, 0o644)
        .await
        .unwrap()
        .ino
}

#[test]
fn nothing_that_was_answered_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut mount = Mount::new(dir.path());
    let (small, large) = (noise(1, 3000), noise(2, 20 << 20));
    let (one, two) = block_on(async {
        let volume = &mount.volume;
        let one = file(volume, b"small").await;
        write_all(volume, one, 0, &small).await;
        let two = file(volume, b"large").await;
        write_all(volume, two, 0, &large).await;
        volume
            .rename(
                &ROOT,
                Ino::ROOT,
                b"small",
                Ino::ROOT,
                b"moved",
                RenameFlags::Replace,
            )
            .await
            .unwrap();
        volume
            .setxattr(&ROOT, two, b"user.a", b"b", XattrSet::Any)
            .await
            .unwrap();
        (one, two)
    });
    for _ in 0..3 {
        mount.die_and_take_over();
        block_on(async {
            let volume = &mount.volume;
            assert_eq!(volume.lookup(Ino::ROOT, b"moved").await.unwrap().ino, one);
            assert!(matches!(
                volume.lookup(Ino::ROOT, b"small").await,
                Err(Error::NotFound)
            ));
            assert!(read_all(volume, one).await == small);
            assert!(read_all(volume, two).await == large);
            assert_eq!(&volume.getxattr(two, b"user.a").await.unwrap()[..], b"b");
        });
    }
    block_on(mount.volume.close()).unwrap();
    let volume = open(dir.path());
    assert!(block_on(read_all(&volume, two)) == large);
    block_on(volume.close()).unwrap();
}

#[test]
fn commands_of_several_lives_are_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut mount = Mount::new(dir.path());
    let mut inos = Vec::new();
    for life in 0..4 {
        block_on(async {
            for index in 0..200 {
                let name = format!("{life}-{index}");
                inos.push(file(&mount.volume, name.as_bytes()).await);
            }
            if life % 2 == 0 {
                mount.volume.sync().await.unwrap();
            }
        });
        mount.die_and_take_over();
    }
    let mut unique = inos.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), 800, "an inode number was given out twice");
    block_on(async {
        for (at, ino) in inos.into_iter().enumerate() {
            let name = format!("{}-{}", at / 200, at % 200);
            let found = mount
                .volume
                .lookup(Ino::ROOT, name.as_bytes())
                .await
                .unwrap();
            assert_eq!(found.ino, ino, "{name}");
        }
        mount.volume.close().await.unwrap();
    });
}

#[test]
fn a_file_without_a_name_lives_until_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut mount = Mount::new(dir.path());
    let (before, after) = block_on(async {
        let volume = &mount.volume;
        let before = file(volume, b"before").await;
        let after = file(volume, b"after").await;
        for ino in [before, after] {
            volume.remember(ino);
            write_all(volume, ino, 0, b"still here").await;
        }
        volume.unlink(&ROOT, Ino::ROOT, b"before").await.unwrap();
        (before, after)
    });
    mount.die_and_take_over();
    block_on(async {
        let volume = &mount.volume;
        volume.unlink(&ROOT, Ino::ROOT, b"after").await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        for ino in [before, after] {
            assert_eq!(read_all(volume, ino).await, b"still here");
            volume.forget(ino, 1);
        }
        let began = Instant::now();
        for ino in [before, after] {
            while !matches!(volume.getattr(ino).await, Err(Error::NotFound)) {
                assert!(began.elapsed() < PATIENCE, "it stays when it is forgotten");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        volume.close().await.unwrap();
    });
}

#[test]
fn attributes_that_wait_with_unsealed_bytes_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut mount = Mount::new(dir.path());
    let time = Timestamp {
        secs: 1234,
        nanos: 5,
    };
    let ino = block_on(async {
        let volume = &mount.volume;
        let ino = file(volume, b"f").await;
        let user = Caller {
            uid: 1,
            privileged: false,
            ..ROOT
        };
        let mode = |mode| SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        };
        volume.setattr(&ROOT, ino, mode(0o4755)).await.unwrap();
        let data = Bytes::from_static(b"x");
        volume.write(&user, ino, 0, data).await.unwrap();
        volume.setattr(&ROOT, ino, mode(0o4711)).await.unwrap();
        let times = SetAttr {
            mtime: Some(SetTime::At(time)),
            ..SetAttr::default()
        };
        volume.setattr(&ROOT, ino, times).await.unwrap();
        ino
    });
    mount.die_and_take_over();
    block_on(async {
        let attr = mount.volume.getattr(ino).await.unwrap();
        assert_eq!((attr.mtime, attr.size), (time, 1));
        assert_eq!(
            attr.mode & 0o7777,
            0o4711,
            "the mode was set after the write"
        );
        mount.volume.fsync(ino, false).await.unwrap();
        let attr = mount.volume.getattr(ino).await.unwrap();
        assert_eq!((attr.mtime, attr.mode & 0o7777), (time, 0o4711));
        mount.volume.close().await.unwrap();
    });
}

#[test]
fn a_request_that_was_done_is_known_to_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut mount = Mount::new(dir.path());
    let made = block_on(async {
        let made = mount
            .volume
            .mkdir(&asking(8), Ino::ROOT, b"d", 0o755)
            .await
            .unwrap();
        let refused = mount
            .volume
            .mkdir(&asking(10), Ino::ROOT, b"d", 0o755)
            .await;
        assert!(matches!(refused, Err(Error::Exists)));
        made.ino
    });
    for _ in 0..3 {
        mount.die_and_take_over();
        assert_eq!(mount.volume.done(RequestId(8)), Some(made));
        assert_eq!(mount.volume.done(RequestId(10)), None);
        assert_eq!(mount.volume.done(RequestId::NONE), None);
    }
    block_on(mount.volume.close()).unwrap();
}

#[test]
fn the_journal_of_another_volume_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mount = Mount::new(one.path());
    block_on(create(two.path()).close()).unwrap();
    open_with(two.path(), |record| {
        let memory = mount.memory.try_clone().unwrap();
        let refused = Journal::open(memory, record.id, 1 << 20);
        assert!(matches!(refused, Err(Error::Damaged { .. })));
        options()
    });
}
