//! What the key-value store costs by itself.

use std::{hint::black_box, time::Instant};

use super::*;

const COUNT: u64 = 1_000_000;

fn report(what: &str, count: u64, since: Instant) {
    let each = since.elapsed().as_nanos() as f64 / count as f64;
    println!("{what}: {each:.0} ns each, {:.0}/s", 1e9 / each);
}

fn key(n: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key
}

/// Applies a million keys, four to a revision, in an order.
fn bulk(order: &str, key: impl Fn(u64) -> [u8; 24]) -> (Arc<RedbBackend>, Projection) {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn crate::host::Disk> =
        Arc::new(crate::host::disk::OsDisk::open(dir.path().into()).unwrap());
    let backend = Arc::new(RedbBackend::open(&disk, "projection", OWNER, 256 << 20).unwrap());
    let projection = Projection::open(backend.clone(), ProjectionOptions::default()).unwrap();
    let mut batch = Batch::default();
    let begin = Instant::now();
    for n in 0..COUNT {
        batch.put(key(n), vec![0; 120]);
        if n % 4 == 3 {
            projection.apply(Revision(n), &mut batch);
        }
    }
    report(&format!("apply, {order} keys"), COUNT, begin);
    projection.checkpoint().unwrap();
    report(&format!("apply and checkpoint, {order} keys"), COUNT, begin);
    (backend, projection)
}
#[test]
#[ignore = "prints times and checks nothing; docs/testing.md, Measures"]
fn reads_and_writes() {
    drop(bulk("ascending", |n| {
        let mut key = [0; 24];
        key[..8].copy_from_slice(&n.to_be_bytes());
        key
    }));
    let (_, projection) = bulk("random", key);
    let begin = Instant::now();
    for n in 0..COUNT {
        black_box(projection.get(&key(n * 7919 % COUNT)).unwrap());
    }
    report("get from the backend", COUNT, begin);
    let begin = Instant::now();
    for n in 0..COUNT / 100 {
        black_box(collect(&projection, &key(n), &[255; 24], 100));
    }
    report("scan of 100 from the backend", COUNT / 100, begin);

    let mut batch = Batch::default();
    for n in 0..4000 {
        batch.put(key(n), vec![1; 120]);
    }
    projection.close().unwrap();
    projection.apply(Revision(COUNT * 2), &mut batch);
    let begin = Instant::now();
    for n in 0..COUNT {
        black_box(projection.get(&key(n * 7919 % 4000)).unwrap());
    }
    report("get from the overlay", COUNT, begin);
}
