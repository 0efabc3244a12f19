//! The volume in process, over real files.

#![allow(clippy::unwrap_used)]

mod accounts;
mod compared;
mod faults;
mod files;
mod garbage;
mod model;
mod power_loss;
mod reference;
mod shared;
mod takeover;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    chunk::CutPolicy,
    crypto::Secret,
    engine::{AtimePolicy, Caller, Volume, VolumeOptions, open_volume},
    host::{Disk, SystemClock, SystemEntropy, disk::OsDisk},
    ids::Ino,
    store::{Store, Unlock, VolumeRecord},
};

const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    umask: 0o022,
    privileged: true,
    front: crate::engine::FrontId(0),
    request: crate::ids::RequestId::NONE,
};

const KEY: [u8; 32] = [7; 32];

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn unlock() -> Unlock {
    Unlock::KeyFile(Secret::from_bytes(&KEY))
}

fn options() -> VolumeOptions {
    VolumeOptions {
        memory: 64 << 20,
        read_only: false,
        atime: AtimePolicy::Relative,
        sync_delay: Duration::from_secs(1),
        ..VolumeOptions::default()
    }
}

fn create(dir: &Path) -> Volume {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(dir.to_owned()).unwrap());
    let clock = Arc::new(SystemClock);
    let store = Store::create(disk, Arc::new(SystemEntropy), clock, &unlock()).unwrap();
    store
        .create_volume("default", CutPolicy::Auto, 0, 0)
        .unwrap();
    open(dir)
}

fn open(dir: &Path) -> Volume {
    open_with(dir, |_| options())
}

/// Opens with options that may depend on the volume.
fn open_with(dir: &Path, options: impl FnOnce(&VolumeRecord) -> VolumeOptions) -> Volume {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(dir.to_owned()).unwrap());
    let store = Store::open(disk.clone())
        .unwrap()
        .unlock(&unlock())
        .unwrap();
    let record = store.volume("default").unwrap();
    open_volume(
        disk,
        Arc::new(SystemClock),
        &store,
        &record,
        options(&record),
    )
    .unwrap()
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

async fn write_all(volume: &Volume, ino: Ino, offset: u64, data: &[u8]) {
    for (index, part) in data.chunks(1 << 20).enumerate() {
        let at = offset + (index << 20) as u64;
        let part = Bytes::copy_from_slice(part);
        volume.write(&ROOT, ino, at, part).await.unwrap();
    }
}

async fn read_all(volume: &Volume, ino: Ino) -> Vec<u8> {
    let size = volume.getattr(ino).await.unwrap().size;
    let mut out = Vec::new();
    while (out.len() as u64) < size {
        let part = volume.read(ino, out.len() as u64, 1 << 20).await.unwrap();
        assert!(!part.is_empty(), "short read at {} of {size}", out.len());
        out.extend_from_slice(&part);
    }
    out
}
