#![allow(clippy::unwrap_used)]

mod crash;
mod disk;
mod full;
mod layers;
mod model;
mod speed;

use std::{sync::Arc, time::Duration};

use self::disk::TestDisk;
use super::*;

/// Whose the files of these tests are.
const OWNER: Owner = Owner(7);

/// Options under which changes move at every opportunity.
fn restless() -> ProjectionOptions {
    ProjectionOptions {
        move_entries: 3,
        move_after: Duration::from_micros(200),
        checkpoint_every: Duration::from_millis(2),
        ..ProjectionOptions::default()
    }
}

/// Options under which nothing moves unless asked for.
fn resting() -> ProjectionOptions {
    ProjectionOptions {
        move_entries: usize::MAX,
        move_after: Duration::from_secs(3600),
        checkpoint_every: Duration::from_secs(3600),
        ..ProjectionOptions::default()
    }
}

fn redb(disk: &TestDisk) -> Result<RedbBackend> {
    let disk: Arc<dyn crate::host::Disk> = Arc::new(disk.clone());
    RedbBackend::open(&disk, "meta/projection", OWNER, 1 << 20)
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn collect(projection: &Projection, from: &[u8], to: &[u8], limit: usize) -> Pairs {
    let mut found = Pairs::new();
    projection
        .scan(from, to, &mut |key, value| {
            found.push((key.into(), value.into()));
            if found.len() == limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    found
}

fn put(projection: &Projection, revision: u64, key: &[u8], value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(key, value);
    projection.apply(Revision(revision), &mut batch);
}
