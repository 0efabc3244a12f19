//! Power loss: what was synced is there, and nothing else is taken for it.

use super::*;

/// Runs a history on a disk that loses power after each number of operations
/// in turn. The history tells which chunks have to be there from then on.
fn at_every_operation(history: impl Fn(&LocalChunks, &mut dyn FnMut(BTreeSet<u64>)) -> Result<()>) {
    let whole = MemoryDisk::new();
    drop(history(&open(&whole), &mut |_| {}));
    let operations = whole.operations();
    for last in 1..=operations {
        let disk = MemoryDisk::new();
        disk.power_off_after(last);
        let mut kept = BTreeSet::new();
        if let Ok(store) = open_with(&disk, options()) {
            let _ = history(&store, &mut |numbers| kept = numbers);
        }
        for seed in 0..2 {
            let image = disk.crash(last * 31 + seed);
            let store = open(&image);
            kept.iter()
                .for_each(|number| assert_readable(&store, *number));
            // Whatever it says is there can be read: a probe may find it.
            for number in 0..60 {
                if store.info(&id(number)).unwrap().is_some() {
                    assert_readable(&store, number);
                }
            }
            assert_sound(&image);
            store.put(&chunks(0..60)).unwrap();
            store.checkpoint().unwrap();
            drop(store);
            let store = open(&image);
            (0..60).for_each(|number| assert_readable(&store, number));
            assert_sound(&image);
        }
    }
}

#[test]
fn synced_chunks_survive_power_loss_at_every_operation() {
    at_every_operation(|store, keep| {
        for first in (0..24).step_by(4) {
            store.put(&chunks(first..first + 4))?;
            store.put(&chunks(first + 2..first + 3))?;
            store.sync()?;
            keep((0..first + 4).collect());
            store.put(&chunks(30 + first..32 + first))?;
            if first == 8 {
                store.checkpoint()?;
            }
        }
        Ok(())
    });
}

#[test]
fn live_chunks_survive_power_loss_at_every_operation_of_a_collection() {
    at_every_operation(|store, keep| {
        store.put(&chunks(0..30))?;
        store.sync()?;
        let live: BTreeSet<u64> = (0..30).filter(|number| number % 3 == 0).collect();
        keep(live.clone());
        let alive = |id: &ChunkId| Ok(live.iter().any(|number| super::id(*number) == *id));
        store.collect(&alive, &|| Ok(()), &mut |_, _| {})?;
        store.collect(&alive, &|| Ok(()), &mut |_, _| {})?;
        Ok(())
    });
}

#[test]
fn a_torn_tail_is_stepped_over() {
    for (garbage, tail) in [(0, 3), (0x5a, 50), (0, 4096), (0xff, 100_000)] {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        store.put(&chunks(0..3)).unwrap();
        drop(store);
        let file = disk.open(&segment_path(1), OpenMode::Write).unwrap();
        file.write_at(&vec![garbage; tail], file.len().unwrap())
            .unwrap();
        let store = open(&disk);
        assert_sound(&disk);
        store.put(&chunks(3..6)).unwrap();
        drop(store);
        let store = open(&disk);
        (0..6).for_each(|number| assert_readable(&store, number));
        assert_sound(&disk);
    }
}

#[test]
fn an_entry_that_was_never_finished_hides_none_behind_it() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.put(&chunks([0, 1, 2, 3])).unwrap();
    drop(store);
    let span = |number| (80 + chunk(number).frames.len() as u64).next_multiple_of(16);
    let file = disk.open(&segment_path(1), OpenMode::Write).unwrap();
    // One without its header, one with half of its bytes.
    file.write_at(&[0; 80], 64 + span(0)).unwrap();
    let third = 64 + span(0) + span(1);
    let half = chunk(2).frames.len() / 2;
    file.write_at(&vec![0; half], third + 80 + half as u64)
        .unwrap();
    let store = open(&disk);
    for number in [0, 3] {
        assert_readable(&store, number);
    }
    for number in [1, 2] {
        assert_eq!(store.info(&id(number)).unwrap(), None);
    }
    assert_sound(&disk);
}
