//! What a volume keeps of files in use is given back, and one node stands for
//! one file.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{ROOT, block_on, create, noise, open, read_all, write_all};
use crate::{
    Error,
    engine::{Caller, SetAttr, Volume, XattrSet, node::Node, seal::Take},
    ids::Ino,
    meta::{AttrChange, Body, Command, Kind, MetaService},
};

const USER: Caller = Caller {
    uid: 1000,
    gid: 1000,
    privileged: false,
    ..ROOT
};

async fn file(volume: &Volume, name: &[u8]) -> Ino {
    let made = volume.create(&ROOT, Ino::ROOT, name, 0o644).await;
    made.unwrap().ino
}

fn node(volume: &Volume, ino: Ino) -> Arc<Node> {
    volume.inner.nodes.with(ino, |node, _| node.clone())
}

/// How long the background may take, on a disk that is busy with other things.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for the background to let go of what it looks at.
pub(super) fn assert_nothing_is_held(volume: &Volume) {
    let inner = &volume.inner;
    let held = || {
        inner.nodes.sweep();
        let nodes: Vec<Ino> = inner.nodes.all().iter().map(|n| n.ino).collect();
        (inner.budget.used(), nodes)
    };
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if held() == (0, vec![]) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(held(), (0, vec![]), "unsealed bytes and nodes");
}

#[test]
fn a_pass_may_leave_more_unsealed_than_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        // Each append is sealed alone; the last takes in those before it, and
        // its undecided end may begin in them.
        for seed in 0..24 {
            let name = format!("f{seed}");
            let ino = file(&volume, name.as_bytes()).await;
            let data = noise(seed, 46_000);
            let mut at = 0;
            for len in [16_000, 14_500] {
                write_all(&volume, ino, at as u64, &data[at..at + len]).await;
                volume.fsync(ino, false).await.unwrap();
                at += len;
            }
            write_all(&volume, ino, at as u64, &data[at..]).await;
            let node = node(&volume, ino);
            volume.inner.seal(&node, Take::Finished).unwrap();
            drop(node);
            assert!(read_all(&volume, ino).await == data, "seed {seed}");
            volume.fsync(ino, false).await.unwrap();
            assert_eq!(volume.inner.budget.used(), 0, "seed {seed}");
            assert!(read_all(&volume, ino).await == data, "seed {seed}");
            volume.release(ino).await.unwrap();
        }
        assert_nothing_is_held(&volume);
        volume.close().await.unwrap();
    });
}

#[test]
fn a_node_somebody_works_on_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        let ino = file(&volume, b"f").await;
        volume.release(ino).await.unwrap();
        let held = node(&volume, ino);
        volume.inner.nodes.release(ino);
        volume.inner.nodes.sweep();
        assert!(Arc::ptr_eq(&held, &node(&volume, ino)));
        drop(held);
        assert_nothing_is_held(&volume);
        volume.close().await.unwrap();
    });
}

#[test]
#[allow(
    clippy::await_holding_lock,
    reason = "the volume has other threads; this one plays the pass that holds it"
)]
fn a_truncation_by_name_reaches_those_who_have_the_file_open() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        let ino = file(&volume, b"f").await;
        write_all(&volume, ino, 0, &noise(1, 100_000)).await;
        volume.release(ino).await.unwrap();
        // The truncation has its node and seals; then somebody opens.
        let node = node(&volume, ino);
        let body = node.body.lock();
        volume.inner.seal_locked(&node, Take::All, &body).unwrap();
        volume.open(ino).await.unwrap();
        assert_eq!(volume.read(ino, 0, 10).await.unwrap().len(), 10);
        let change = AttrChange {
            size: Some(0),
            ..AttrChange::default()
        };
        let cut = Command::SetAttr { ino, change };
        volume.inner.meta.apply(cut).wait().unwrap();
        node.state.lock().contents_changed();
        drop(body);
        drop(node);
        volume
            .write(&ROOT, ino, 9_999, Bytes::from_static(b"x"))
            .await
            .unwrap();
        assert_eq!(&volume.read(ino, 0, 10).await.unwrap()[..], &[0; 10]);
        volume.release(ino).await.unwrap();
        volume.close().await.unwrap();
    });
}

#[test]
fn an_empty_write_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        let ino = file(&volume, b"f").await;
        let empty = volume.write(&ROOT, ino, 5000, Bytes::new()).await;
        assert_eq!(empty.unwrap(), 0);
        assert_eq!(volume.getattr(ino).await.unwrap().size, 0);
        volume.close().await.unwrap();
    });
}

#[test]
fn unsealed_bytes_count_as_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        let ino = file(&volume, b"f").await;
        write_all(&volume, ino, 0, &noise(1, 8192)).await;
        assert_eq!(volume.getattr(ino).await.unwrap().blocks, 16);
        volume.fsync(ino, false).await.unwrap();
        assert_eq!(volume.getattr(ino).await.unwrap().blocks, 16);
        volume.close().await.unwrap();
    });
}

#[test]
fn bytes_of_a_deleted_file_are_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        let ino = file(&volume, b"f").await;
        write_all(&volume, ino, 0, &noise(1, 100_000)).await;
        volume.unlink(&ROOT, Ino::ROOT, b"f").await.unwrap();
        volume.release(ino).await.unwrap();
        // A client that was late: the file is not gone from the metadata yet.
        let late = volume.write(&ROOT, ino, 0, Bytes::from_static(b"late"));
        let _ = late.await;
        volume.inner.reap();
        volume.sync().await.unwrap();
        assert_nothing_is_held(&volume);
        volume.close().await.unwrap();
    });
}

#[test]
fn a_copy_of_a_long_hole_takes_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        let (from, to) = (file(&volume, b"from").await, file(&volume, b"to").await);
        write_all(&volume, from, 0, b"a few bytes").await;
        let long = SetAttr {
            size: Some(1 << 30),
            ..SetAttr::default()
        };
        volume.setattr(&ROOT, from, long).await.unwrap();
        let copied = volume.copy_range(&ROOT, from, 0, to, 0, 1 << 30).await;
        assert_eq!(copied.unwrap(), 1 << 30);
        assert_eq!(volume.inner.budget.used(), 0);
        assert_eq!(volume.getattr(to).await.unwrap().size, 1 << 30);
        let head = volume.read(to, 0, 100).await.unwrap();
        assert_eq!(&head[..11], b"a few bytes");
        assert!(head[11..].iter().all(|b| *b == 0));
        volume.close().await.unwrap();
    });
}

#[test]
fn a_file_that_cannot_be_sealed_does_not_keep_others_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        let bad = file(&volume, b"bad").await;
        let damage = Command::Write {
            ino: bad,
            body: Body::Inline(vec![0; 40].into(), 10),
            change: AttrChange::default(),
        };
        volume.inner.meta.apply(damage).wait().unwrap();
        let mut files = vec![bad];
        for i in 0..8 {
            files.push(file(&volume, format!("good{i}").as_bytes()).await);
        }
        for ino in &files {
            write_all(&volume, *ino, 20, b"four").await;
        }
        // Under pressure each round of the background begins with it.
        let pressure = 9 << 20;
        assert!(volume.inner.budget.try_take(pressure).unwrap());
        let sealed = || volume.inner.budget.used() == pressure + 4;
        let began = Instant::now();
        while !sealed() && began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(sealed(), "only the damaged file's bytes stay");
        volume.inner.budget.free(pressure);
        assert!(volume.fsync(bad, false).await.is_err());
        assert!(volume.close().await.is_err());
    });
}

#[test]
fn an_acl_set_after_a_write_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        let made = volume.mknod(&ROOT, Ino::ROOT, b"f", Kind::File, 0o4755, 0);
        let ino = made.await.unwrap().ino;
        volume.open(ino).await.unwrap();
        let data = Bytes::from_static(b"x");
        volume.write(&USER, ino, 0, data).await.unwrap();
        assert_eq!(volume.getattr(ino).await.unwrap().mode, 0o755);
        // Owner rw, group and others nothing: it comes down to a mode.
        let mut acl = 2u32.to_le_bytes().to_vec();
        for (tag, perm) in [(1u16, 6u16), (4, 0), (32, 0)] {
            acl.extend_from_slice(&tag.to_le_bytes());
            acl.extend_from_slice(&perm.to_le_bytes());
            acl.extend_from_slice(&u32::MAX.to_le_bytes());
        }
        let name = b"system.posix_acl_access";
        let set = volume.setxattr(&ROOT, ino, name, &acl, XattrSet::Any);
        set.await.unwrap();
        volume.fsync(ino, false).await.unwrap();
        assert_eq!(volume.getattr(ino).await.unwrap().mode, 0o600);
        volume.close().await.unwrap();
    });
}

#[test]
fn what_is_acknowledged_while_closing_is_there_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    let volume = create(dir.path());
    let inos: Vec<Ino> = block_on(async {
        let mut inos = Vec::new();
        for name in [b"a", b"b", b"c"] {
            inos.push(file(&volume, name).await);
        }
        inos
    });
    let writers: Vec<_> = inos
        .iter()
        .map(|ino| {
            let (volume, ino) = (volume.clone(), *ino);
            std::thread::spawn(move || {
                let mut acknowledged = 0u64;
                loop {
                    let data = Bytes::from(noise(acknowledged, 100));
                    let at = acknowledged * 100;
                    match block_on(volume.write(&ROOT, ino, at, data)) {
                        Ok(_) => acknowledged += 1,
                        Err(Error::Closed) => return acknowledged,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(100));
    block_on(volume.close()).unwrap();
    for writer in writers {
        expected.push(writer.join().unwrap());
    }
    drop(volume);
    let volume = open(dir.path());
    for (ino, count) in inos.iter().zip(expected) {
        let size = block_on(volume.getattr(*ino)).unwrap().size;
        assert_eq!(size, count * 100);
    }
    block_on(volume.close()).unwrap();
}
