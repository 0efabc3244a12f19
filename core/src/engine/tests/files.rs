//! Contents, names and attributes, alone and over a remount.

use std::time::Duration;

use bytes::Bytes;

use super::{ROOT, block_on, create, noise, open, open_with, options, read_all, write_all};
use crate::{
    Error,
    engine::{RenameFlags, VolumeOptions, XattrSet},
    ids::Ino,
    meta::Kind,
};

#[test]
fn files_of_every_size_survive_a_remount() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [
        0,
        1,
        100,
        4095,
        4096,
        4097,
        16384,
        70_000,
        300_000,
        20 << 20,
    ];
    let volume = create(dir.path());
    block_on(async {
        for (i, size) in sizes.into_iter().enumerate() {
            let name = format!("f{i}");
            let attr = volume
                .create(&ROOT, Ino::ROOT, name.as_bytes(), 0o644)
                .await
                .unwrap();
            write_all(&volume, attr.ino, 0, &noise(i as u64, size)).await;
            assert!(
                read_all(&volume, attr.ino).await == noise(i as u64, size),
                "size {size}"
            );
            volume.release(attr.ino).await.unwrap();
        }
        volume.close().await.unwrap();
    });
    let volume = open(dir.path());
    block_on(async {
        for (i, size) in sizes.into_iter().enumerate() {
            let attr = volume
                .lookup(Ino::ROOT, format!("f{i}").as_bytes())
                .await
                .unwrap();
            assert_eq!(attr.size, size as u64);
            assert!(
                read_all(&volume, attr.ino).await == noise(i as u64, size),
                "size {size}"
            );
        }
        volume.close().await.unwrap();
    });
}

#[test]
fn the_same_contents_are_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    block_on(create(dir.path()).close()).unwrap();
    // A pass that begins because a change is old ends a chunk where the writer
    // happens to be.
    let unhurried = VolumeOptions {
        sync_delay: Duration::from_secs(3600),
        ..options()
    };
    let volume = open_with(dir.path(), |_| unhurried);
    block_on(async {
        let data = noise(1, 24 << 20);
        let mut stored = Vec::new();
        for name in [b"a", b"b"] {
            let ino = volume
                .create(&ROOT, Ino::ROOT, name, 0o644)
                .await
                .unwrap()
                .ino;
            write_all(&volume, ino, 0, &data).await;
            volume.fsync(ino, false).await.unwrap();
            volume.release(ino).await.unwrap();
            stored.push(volume.status().await.unwrap().chunks.chunks);
        }
        assert_eq!(stored[0], stored[1]);
        volume.close().await.unwrap();
    });
}

#[test]
fn collection_gives_back_what_nothing_refers_to() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        let keep = noise(2, 3 << 20);
        for (name, data) in [(b"keep", keep.clone()), (b"drop", noise(3, 20 << 20))] {
            let ino = volume
                .create(&ROOT, Ino::ROOT, name, 0o644)
                .await
                .unwrap()
                .ino;
            write_all(&volume, ino, 0, &data).await;
            volume.release(ino).await.unwrap();
        }
        volume.sync().await.unwrap();
        let before = volume.status().await.unwrap().chunks.stored_bytes;
        volume.unlink(&ROOT, Ino::ROOT, b"drop").await.unwrap();
        volume.collect(Box::new(|_, _| {})).await.unwrap();
        let after = volume.status().await.unwrap().chunks.stored_bytes;
        assert!(
            before > 23 << 20 && after < 4 << 20,
            "{before} then {after}"
        );
        let ino = volume.lookup(Ino::ROOT, b"keep").await.unwrap().ino;
        assert!(read_all(&volume, ino).await == keep);
        volume.close().await.unwrap();
    });
}

#[test]
fn an_unlinked_file_lives_while_it_is_open_or_known() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        let ino = volume
            .create(&ROOT, Ino::ROOT, b"f", 0o644)
            .await
            .unwrap()
            .ino;
        volume.remember(ino);
        volume.unlink(&ROOT, Ino::ROOT, b"f").await.unwrap();
        volume
            .write(&ROOT, ino, 0, Bytes::from_static(b"still here"))
            .await
            .unwrap();
        volume.fsync(ino, false).await.unwrap();
        assert_eq!(&volume.read(ino, 0, 100).await.unwrap()[..], b"still here");
        assert_eq!(volume.getattr(ino).await.unwrap().nlink, 0);
        volume.release(ino).await.unwrap();
        assert!(volume.getattr(ino).await.is_ok(), "known until forgotten");
        volume.forget(ino, 1);
        let inodes = volume.status().await.unwrap().usage.inodes;
        volume.inner.reap();
        assert_eq!(volume.status().await.unwrap().usage.inodes, inodes - 1);
        assert!(matches!(
            volume.lookup(Ino::ROOT, b"f").await,
            Err(Error::NotFound)
        ));
        volume.close().await.unwrap();
    });
}

#[test]
fn names_attributes_and_xattrs_survive_a_remount() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        let d = volume.mkdir(&ROOT, Ino::ROOT, b"d", 0o777).await.unwrap();
        assert_eq!(d.mode, 0o755);
        volume
            .symlink(&ROOT, d.ino, b"l", b"../target")
            .await
            .unwrap();
        let f = volume
            .mknod(&ROOT, d.ino, b"\xff\xfe", Kind::File, 0o600, 0)
            .await
            .unwrap();
        volume
            .setxattr(&ROOT, f.ino, b"user.k", b"v", XattrSet::Create)
            .await
            .unwrap();
        volume
            .link(&ROOT, f.ino, Ino::ROOT, b"second")
            .await
            .unwrap();
        volume
            .rename(
                &ROOT,
                d.ino,
                b"\xff\xfe",
                Ino::ROOT,
                b"moved",
                RenameFlags::Replace,
            )
            .await
            .unwrap();
        volume.close().await.unwrap();
        assert!(matches!(
            volume.mkdir(&ROOT, Ino::ROOT, b"x", 0).await,
            Err(Error::Closed)
        ));
    });
    let volume = open(dir.path());
    block_on(async {
        let names: Vec<Bytes> = volume
            .readdir(Ino::ROOT, 0, 100)
            .await
            .unwrap()
            .into_iter()
            .map(|e| e.name)
            .collect();
        assert_eq!(names.len(), 3);
        let moved = volume.lookup(Ino::ROOT, b"moved").await.unwrap();
        assert_eq!(moved.nlink, 2);
        assert_eq!(
            &volume.getxattr(moved.ino, b"user.k").await.unwrap()[..],
            b"v"
        );
        let d = volume.lookup(Ino::ROOT, b"d").await.unwrap();
        let l = volume.lookup(d.ino, b"l").await.unwrap();
        assert_eq!(&volume.readlink(l.ino).await.unwrap()[..], b"../target");
        volume.close().await.unwrap();
    });
}
