//! Every action of a store, cut short at each of its steps.

use super::*;

/// Runs `action` with power lost at each of its steps in turn, both keeping
/// and losing what was not synced, and `check` after each; until it succeeds.
fn at_every_step<P>(
    prepare: impl Fn() -> (MemoryDisk, P),
    action: impl Fn(&MemoryDisk, &P) -> Result<()>,
    check: impl Fn(&MemoryDisk, &P, bool),
) {
    for lose in [false, true] {
        let mut steps = 0;
        loop {
            let (disk, prepared) = prepare();
            disk.restart(false);
            disk.fail_after(steps);
            let done = action(&disk, &prepared).is_ok();
            disk.restart(lose);
            check(&disk, &prepared, done);
            if done {
                break;
            }
            steps += 1;
        }
        assert!(steps > 3, "the action had only {steps} steps to fail at");
    }
}

#[test]
fn an_interrupted_creation_can_be_repeated() {
    at_every_step(
        || (MemoryDisk::default(), ()),
        |disk, ()| create_on(disk, &key(1)).map(drop),
        |disk, (), done| match open_on(disk) {
            Ok(store) => drop(store.unlock(&key(1)).unwrap()),
            Err(Error::NoSuchStore(_)) if !done => {
                let store = create_on(disk, &key(2)).unwrap();
                new_volume(&store, "home");
            }
            Err(error) => panic!("{error}"),
        },
    );
}

#[test]
fn an_interrupted_new_volume_is_there_or_not() {
    at_every_step(
        || {
            let (disk, store) = new_store();
            new_volume(&store, "old");
            (disk, store)
        },
        |_, store| {
            let made = store.create_volume("new", CutPolicy::Fixed, 0, 0);
            made.map(drop)
        },
        |_, store, done| {
            let volumes = store.volumes().unwrap();
            assert!(volumes.damaged.is_empty(), "{:?}", volumes.damaged);
            store.volume_keys(&store.volume("old").unwrap()).unwrap();
            match store.volume("new") {
                Ok(record) => drop(store.volume_keys(&record).unwrap()),
                Err(_) if !done => drop(new_volume(store, "new")),
                Err(error) => panic!("{error}"),
            }
            store.destroy_volume("new", &mut silent()).unwrap();
            let left = store.store().disk().list("volumes").unwrap();
            assert_eq!(left.len(), 1);
        },
    );
}

#[test]
fn an_interrupted_rotation_keeps_every_key() {
    at_every_step(
        || {
            let (disk, store) = new_store();
            new_volume(&store, "home");
            (disk, store)
        },
        |_, store| store.rotate("home").map(drop),
        |_, store, done| {
            let record = store.volume("home").unwrap();
            store.volume_keys(&record).unwrap();
            assert!(record.epoch() == Epoch(2) || (!done && record.epoch() == Epoch(1)));
            store.rotate("home").unwrap();
        },
    );
}

#[test]
fn an_interrupted_keyring_change_locks_nobody_out() {
    at_every_step(
        new_store,
        |_, store| store.add_slot(&key(2)).map(drop),
        |disk, _, done| {
            let store = open_on(disk).unwrap();
            store.unlock(&key(1)).unwrap();
            assert!(store.unlock(&key(2)).is_ok() || !done);
        },
    );
}

#[test]
fn an_interrupted_destruction_is_finished_by_the_next() {
    let prepare = || {
        let (disk, store) = new_store();
        let (home, other) = (new_volume(&store, "home"), new_volume(&store, "other"));
        disk.create_dir(&format!("{}/log/old", home.dir())).unwrap();
        for file in ["log/1", "log/old/0", "meta.redb"] {
            disk.write(&format!("{}/{file}", home.dir()), b"data");
        }
        for dir in ["", "/log", "/log/old"] {
            disk.sync_dir(&format!("{}{dir}", home.dir())).unwrap();
        }
        let master = wrapped_master(&disk, &home);
        (disk, (store, other, master))
    };
    at_every_step(
        prepare,
        |_, (store, ..)| store.destroy_volume("home", &mut silent()),
        |disk, (store, other, master), done| {
            let volumes = store.volumes().unwrap();
            assert!(volumes.damaged.is_empty(), "{:?}", volumes.damaged);
            match store.volume("home") {
                // Not decided yet: it is as it was.
                Ok(home) => {
                    assert!(!done);
                    store.volume_keys(&home).unwrap();
                    assert_eq!(disk.text(&format!("{}/meta.redb", home.dir())), "data");
                    store.destroy_volume("home", &mut silent()).unwrap();
                }
                Err(_) => drop(store.destroy_volume("home", &mut silent())),
            }
            assert!(!disk.finds(master.as_bytes()));
            assert_eq!(disk.list("volumes").unwrap(), [other.id.to_string()]);
            store.volume_keys(&store.volume("other").unwrap()).unwrap();
        },
    );
}
