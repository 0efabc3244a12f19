//! Space comes back without anybody asking.

use std::time::{Duration, Instant};

use super::{ROOT, block_on, create, noise, read_all, write_all};
use crate::ids::Ino;

const FILES: u64 = 1500;

fn name(n: u64) -> Vec<u8> {
    format!("f{n}").into_bytes()
}

#[test]
fn deleted_files_give_their_space_back_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let volume = create(dir.path());
    block_on(async {
        for n in 0..FILES {
            let made = volume.create(&ROOT, Ino::ROOT, &name(n), 0o644).await;
            let ino = made.unwrap().ino;
            write_all(&volume, ino, 0, &noise(n, 8000)).await;
            volume.release(ino).await.unwrap();
        }
        volume.sync().await.unwrap();
        let before = volume.status().await.unwrap().chunks;
        assert!(before.chunks >= FILES && before.stored_bytes > FILES * 8000);
        for n in 10..FILES {
            volume.unlink(&ROOT, Ino::ROOT, &name(n)).await.unwrap();
        }
        let began = Instant::now();
        while volume.status().await.unwrap().chunks.stored_bytes > before.stored_bytes / 4 {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "nothing was collected"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for n in 0..10 {
            let ino = volume.lookup(Ino::ROOT, &name(n)).await.unwrap().ino;
            assert!(read_all(&volume, ino).await == noise(n, 8000));
        }
        volume.close().await.unwrap();
    });
}
