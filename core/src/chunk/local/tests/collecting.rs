//! Collection: space comes back, and nothing that lives goes.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;

use super::*;

#[test]
fn dead_chunks_give_their_space_back() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks(0..120)).unwrap();
    let before = store.usage();
    let live: BTreeSet<u64> = (0..120).filter(|number| number % 5 == 0).collect();
    let collected = collect(&store, &live);
    assert_eq!(collected.chunks, 96);
    assert!(collected.copied_bytes > 0);
    let after = store.usage();
    assert_eq!(after.chunks, 24);
    assert!(
        after.stored_bytes * 2 < before.stored_bytes,
        "{before:?} {after:?}"
    );
    live.iter()
        .for_each(|number| assert_readable(&store, *number));
    assert!(matches!(try_read(&store, 1), Err(Error::MissingChunk(_))));
    let expected = before.stored_bytes + collected.copied_bytes - collected.freed_bytes;
    assert!(
        after.stored_bytes.abs_diff(expected) < 1024,
        "{collected:?}"
    );
    assert_sound(&disk);

    let rest = collect(&store, &BTreeSet::new());
    assert_eq!(rest.chunks, 24);
    assert_eq!(store.usage().chunks, 0);
    assert_eq!(store.usage().segments, 1);
    drop(store);
    assert_eq!(open(&disk).usage().chunks, 0);
}

#[test]
fn a_dead_chunk_can_be_stored_again() {
    let store = open(&MemoryDisk::new());
    store.put(&chunks(0..10)).unwrap();
    collect(&store, &BTreeSet::new());
    store.put(&chunks(0..10)).unwrap();
    (0..10).for_each(|number| assert_readable(&store, number));
    assert_eq!(store.usage().chunks, 10);
}

#[test]
fn a_chunk_stays_in_the_index_until_its_death_is_settled() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks(0..10)).unwrap();
    store.checkpoint().unwrap();
    let failed = store.collect(
        &|_| Ok(false),
        &|| {
            // Gone for a probe, there for a crash.
            assert_eq!(store.info(&id(1)).unwrap(), None);
            store.checkpoint().unwrap();
            let image = disk.crash(7);
            (0..10).for_each(|number| assert_readable(&open(&image), number));
            store.put(&chunks(3..4)).unwrap();
            Err(Error::Closed)
        },
        &mut |_, _| {},
    );
    assert!(matches!(failed, Err(Error::Closed)));
    (0..10).for_each(|number| assert_readable(&store, number));
    assert_eq!(store.usage().chunks, 10);
}

#[test]
fn a_chunk_that_comes_to_life_meanwhile_stays() {
    let store = open(&MemoryDisk::new());
    store.put(&chunks(0..10)).unwrap();
    let asked = Mutex::new(HashMap::<ChunkId, u32>::new());
    let alive = |asked_id: &ChunkId| {
        let mut asked = asked.lock();
        let times = asked.entry(*asked_id).or_default();
        *times += 1;
        Ok(*asked_id == id(4) && *times == 2)
    };
    let collected = store.collect(&alive, &|| Ok(()), &mut |_, _| {}).unwrap();
    assert_eq!(collected.chunks, 9);
    assert_readable(&store, 4);
}

#[test]
fn a_damaged_live_chunk_keeps_its_segment() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks(0..60)).unwrap();
    store.checkpoint().unwrap();
    flip(&disk, &segment_path(1), 64 + 80);
    let live: BTreeSet<u64> = (0..60).filter(|number| number % 10 == 0).collect();
    collect(&store, &live);
    assert!(disk.paths().contains(&segment_path(1)));
    assert!(!disk.paths().contains(&segment_path(2)));
    for number in live.iter().filter(|number| **number != 0) {
        assert_readable(&store, *number);
    }
    assert!(try_read(&store, 0).unwrap() != chunk(0).frames);
    assert_eq!(problems(&disk).1.len(), 1);
}

#[test]
fn a_hold_within_a_hold_does_not_wait_for_a_collection() {
    let store = open(&MemoryDisk::new());
    store.put(&chunks(0..10)).unwrap();
    let outer = store.hold();
    std::thread::scope(|scope| {
        let collection = scope.spawn(|| collect(&store, &BTreeSet::new()));
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(store.hold());
        assert!(store.info(&id(1)).unwrap().is_some());
        drop(outer);
        assert_eq!(collection.join().unwrap().chunks, 10);
    });
}

/// Writers do what the engine does: probe and put under a hold, then refer.
/// Collections run all the while; no chunk that is referred to may go.
#[test]
fn collections_beside_writers_lose_nothing() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let references = Mutex::new(HashMap::<ChunkId, u64>::new());
    let done = AtomicBool::new(false);
    let collections = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3_u64)
            .map(|thread| {
                let (store, references) = (&store, &references);
                let collections = &collections;
                scope.spawn(move || {
                    let mut mine: Vec<u64> = Vec::new();
                    for round in 0..40_000_u64 {
                        // On a busy machine the collector may begin late.
                        if round >= 400 && collections.load(Ordering::Relaxed) > 1 {
                            break;
                        }
                        let number = round.wrapping_mul(thread * 7 + 13) % 80;
                        if !mine.contains(&number) {
                            let _hold = store.hold();
                            if store.info(&id(number)).unwrap().is_none() {
                                store.put(&[chunk(number)]).unwrap();
                            }
                            *references.lock().entry(id(number)).or_default() += 1;
                            mine.push(number);
                        }
                        assert_readable(store, mine[round as usize % mine.len()]);
                        if mine.len() > 12 {
                            let released = mine.remove(0);
                            *references.lock().get_mut(&id(released)).unwrap() -= 1;
                        }
                    }
                    mine
                })
            })
            .collect();
        let collector = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let alive = |id: &ChunkId| Ok(references.lock().get(id).is_some_and(|n| *n > 0));
                store.collect(&alive, &|| Ok(()), &mut |_, _| {}).unwrap();
                collections.fetch_add(1, Ordering::Relaxed);
            }
        });
        let kept: Vec<u64> = writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect();
        done.store(true, Ordering::Relaxed);
        collector.join().unwrap();
        kept.iter()
            .for_each(|number| assert_readable(&store, *number));
    });
    assert!(collections.load(Ordering::Relaxed) > 1);
    assert_sound(&disk);
}
