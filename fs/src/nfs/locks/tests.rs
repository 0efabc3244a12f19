#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const FILE: Ino = Ino(7);

fn owner(n: u8) -> Owner {
    Owner::V4 {
        client: u64::from(n),
        name: Arc::from([n]),
    }
}

fn range(start: u64, last: u64) -> Range {
    Range { start, last }
}

fn held(locks: &Locks, who: &Owner) -> Vec<(u64, u64, bool)> {
    let mut held: Vec<_> = locks.files.get(&FILE).map_or(Vec::new(), |held| {
        let own = held.iter().filter(|held| held.owner == *who);
        own.map(|held| (held.range.start, held.range.last, held.exclusive))
            .collect()
    });
    held.sort_unstable();
    held
}

#[test]
fn lengths_are_those_of_the_protocol() {
    assert_eq!(Range::new(5, 0), None);
    assert_eq!(Range::new(5, 1), Some(range(5, 5)));
    assert_eq!(Range::new(5, u64::MAX), Some(range(5, u64::MAX)));
    assert_eq!(Range::new(5, u64::MAX - 1), None);
    assert_eq!(Range::new(5, u64::MAX - 5), Some(range(5, u64::MAX - 1)));
    assert_eq!(range(5, u64::MAX).length(), u64::MAX);
    assert_eq!(range(5, 5).length(), 1);
}

#[test]
fn unlocking_the_middle_splits() {
    let (mut locks, me) = (Locks::default(), owner(1));
    locks.lock(FILE, &me, range(0, 99), true).unwrap();
    locks.unlock(FILE, &me, range(10, 19));
    assert_eq!(held(&locks, &me), [(0, 9, true), (20, 99, true)]);
    assert_eq!(locks.len(), 2);
    locks.lock(FILE, &me, range(10, 19), true).unwrap();
    assert_eq!(held(&locks, &me), [(0, 99, true)], "neighbours are joined");
    assert_eq!(locks.len(), 1);
}

#[test]
fn an_upgrade_of_a_part_splits_and_conflicts_with_readers() {
    let (mut locks, me, other) = (Locks::default(), owner(1), owner(2));
    locks.lock(FILE, &me, range(0, 99), false).unwrap();
    locks.lock(FILE, &other, range(50, 59), false).unwrap();
    locks.lock(FILE, &me, range(10, 19), true).unwrap();
    assert_eq!(
        held(&locks, &me),
        [(0, 9, false), (10, 19, true), (20, 99, false)]
    );
    let refused = locks.lock(FILE, &me, range(40, 69), true).unwrap_err();
    assert!(matches!(refused, Refused::Conflict(held) if held.owner == other));
    assert_eq!(held(&locks, &me).len(), 3, "a refusal changes nothing");
}

#[test]
fn the_table_is_bounded() {
    let (mut locks, me) = (Locks::default(), owner(1));
    let taken = (0..).map(|n| locks.lock(FILE, &me, range(n * 2, n * 2), true));
    let refused = taken.take_while(Result::is_ok).count();
    assert_eq!(refused, FILE_MAX - 1);
    assert_eq!(
        locks.lock(FILE, &me, range(1 << 40, 1 << 40), true),
        Err(Refused::Full)
    );
    locks.release(FILE, &me);
    assert!(locks.is_empty());
}

#[test]
fn a_client_that_is_gone_leaves_nothing() {
    let mut locks = Locks::default();
    for n in 1..4 {
        locks
            .lock(Ino(u64::from(n)), &owner(n), range(0, 9), true)
            .unwrap();
    }
    locks.release_all(|owner| matches!(owner, Owner::V4 { client: 2, .. }));
    assert_eq!(locks.len(), 2);
    assert!(
        !locks.holds(Ino(2), &owner(2), Range::ALL) && locks.holds(Ino(3), &owner(3), Range::ALL)
    );
}

/// What each owner has on each byte of a short file, and on all behind it.
type Bytes = Vec<[Option<bool>; 3]>;

const BYTES: u64 = 24;

fn model_conflict(bytes: &Bytes, who: usize, range: Range, exclusive: bool) -> bool {
    (range.start..=range.last.min(BYTES)).any(|at| {
        let others = bytes[at as usize].iter().enumerate();
        let mut others = others.filter(|(n, _)| *n != who);
        others.any(|(_, held)| held.is_some_and(|held| held || exclusive))
    })
}

proptest! {
    #[test]
    fn ranges_behave_like_bytes(steps in prop::collection::vec(
        (0usize..3, 0u64..BYTES, 1u64..BYTES, 0u8..3, prop::bool::weighted(0.1)), 1..60))
    {
        let mut locks = Locks::default();
        let mut bytes: Bytes = vec![[None; 3]; BYTES as usize + 1];
        for (who, start, length, what, to_end) in steps {
            let last = if to_end { u64::MAX } else { (start + length - 1).min(BYTES - 1) };
            let range = Range { start, last };
            let me = owner(who as u8);
            let value = match what {
                0 => None,
                kind => Some(kind == 1),
            };
            let refused = match value {
                None => { locks.unlock(FILE, &me, range); false }
                Some(exclusive) => {
                    let expected = model_conflict(&bytes, who, range, exclusive);
                    let refused = locks.lock(FILE, &me, range, exclusive).is_err();
                    prop_assert_eq!(refused, expected);
                    refused
                }
            };
            if !refused {
                for at in start..=last.min(BYTES) {
                    bytes[at as usize][who] = value;
                }
            }
            for who in [0, 1, 2] {
                let mut last_end = None;
                for (start, last, exclusive) in held(&locks, &owner(who as u8)) {
                    prop_assert!(last_end.is_none_or(|end| end < start), "no overlap");
                    last_end = Some(last);
                    for at in start..=last.min(BYTES) {
                        prop_assert_eq!(bytes[at as usize][who], Some(exclusive));
                    }
                }
                let own = held(&locks, &owner(who as u8));
                for at in 0..=BYTES {
                    let covered = own.iter().any(|(start, last, _)| (*start..=*last).contains(&at));
                    prop_assert_eq!(covered, bytes[at as usize][who].is_some());
                }
            }
        }
        let counted: usize = (0..3).map(|who| held(&locks, &owner(who)).len()).sum();
        prop_assert_eq!(locks.len(), counted);
    }
}

#[test]
fn locks_of_before_a_start_stay_apart() {
    let host = Arc::new(Host {
        address: [127, 0, 0, 1].into(),
        name: Arc::from(*b"client"),
    });
    let of = |host: &Arc<Host>| Owner::Nlm {
        host: host.clone(),
        process: 1,
        handle: Arc::from(*b"1@client"),
    };
    let (before, since) = (of(&host), of(&Arc::new(Host::clone(&host))));
    assert_eq!(before, since);
    let mut locks = Locks::default();
    locks.lock(FILE, &before, range(0, 99), true).unwrap();
    locks.lock(FILE, &since, range(100, 199), true).unwrap();
    locks.lock(FILE, &since, range(90, 109), true).unwrap();
    locks.release_all(
        |owner| matches!(owner, Owner::Nlm { host: of, .. } if Arc::ptr_eq(of, &host)),
    );
    assert_eq!(held(&locks, &since), [(90, 199, true)]);
    assert_eq!(locks.len(), 1);
}
