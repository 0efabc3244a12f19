#![allow(clippy::unwrap_used)]

use super::*;
use crate::nfs::xdr::Blob;

const FILE: Ino = Ino(7);
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn owner(machine: u8, process: i32) -> Owner {
    Owner::Nlm {
        host: Arc::new(Host {
            address: HERE,
            name: Arc::from([machine]),
        }),
        process,
        handle: Arc::from([]),
    }
}

fn range(start: u64, last: u64) -> Range {
    Range { start, last }
}

fn wanted(owner: &Owner, range: Range) -> Wanted {
    Wanted {
        file: FILE,
        owner: owner.clone(),
        range,
        exclusive: true,
        asked: Lock {
            host: Blob::default(),
            file: Blob::default(),
            owner: Blob::default(),
            process: 0,
            offset: range.start,
            length: range.length(),
        },
        server: HERE,
    }
}

/// `first` has bytes 0 to 9, and `second` waits for them.
fn blocked(first: &Owner, second: &Owner) -> (Locks, Waiting) {
    let (mut locks, mut waiting) = (Locks::default(), Waiting::default());
    locks.lock(FILE, first, range(0, 9), true).unwrap();
    waiting.add(wanted(second, range(0, 9)), &locks);
    assert!(waiting.grant(&mut locks).is_none());
    (locks, waiting)
}

#[test]
fn the_first_who_can_have_it_gets_it() {
    let (a, b, c) = (owner(1, 1), owner(1, 2), owner(2, 2));
    let (mut locks, mut waiting) = blocked(&a, &b);
    waiting.add(wanted(&c, range(5, 9)), &locks);
    locks.unlock(FILE, &a, range(0, 9));
    let (id, granted) = waiting.grant(&mut locks).unwrap();
    assert_eq!(granted.owner, b);
    assert!(
        waiting.grant(&mut locks).is_none(),
        "the other goes on waiting"
    );
    waiting.taken(id);
    assert!(locks.holds(FILE, &b, range(0, 9)));
    locks.unlock(FILE, &b, range(5, 9));
    assert_eq!(waiting.grant(&mut locks).unwrap().1.owner, c);
}

#[test]
fn what_a_client_does_not_want_is_free_again() {
    let (a, b) = (owner(1, 1), owner(2, 1));
    let (mut locks, mut waiting) = blocked(&a, &b);
    locks.unlock(FILE, &a, range(0, 9));
    let (id, _) = waiting.grant(&mut locks).unwrap();
    waiting.give_back(id, &mut locks);
    assert!(locks.is_empty());
    waiting.give_back(id, &mut locks);
}

#[test]
fn what_the_client_said_meanwhile_counts() {
    let (a, b) = (owner(1, 1), owner(2, 1));
    // It asked again, and was told that it has the lock.
    let (mut locks, mut waiting) = blocked(&a, &b);
    locks.unlock(FILE, &a, range(0, 9));
    let (id, _) = waiting.grant(&mut locks).unwrap();
    waiting.heard(FILE, &b, range(0, 9));
    locks.lock(FILE, &b, range(0, 9), true).unwrap();
    waiting.give_back(id, &mut locks);
    assert!(locks.holds(FILE, &b, Range::ALL));
    // It does not want to wait any more, when it has the lock already.
    let (mut locks, mut waiting) = blocked(&a, &b);
    locks.unlock(FILE, &a, range(0, 9));
    waiting.grant(&mut locks).unwrap();
    assert!(waiting.cancel(FILE, &b, range(0, 9), &mut locks));
    assert!(locks.is_empty());
    assert!(!waiting.cancel(FILE, &b, range(0, 9), &mut locks));
}

#[test]
fn who_has_a_part_is_not_called() {
    let (a, b) = (owner(1, 1), owner(2, 1));
    let (mut locks, mut waiting) = (Locks::default(), Waiting::default());
    locks.lock(FILE, &a, range(0, 4), true).unwrap();
    locks.lock(FILE, &b, range(5, 9), false).unwrap();
    waiting.add(wanted(&b, range(0, 9)), &locks);
    assert!(waiting.entries.is_empty());
    waiting.add(wanted(&b, range(0, 4)), &locks);
    locks.unlock(FILE, &a, range(0, 4));
    locks.lock(FILE, &b, range(0, 0), false).unwrap();
    assert!(waiting.grant(&mut locks).is_none(), "it got a part since");
}

#[test]
fn a_machine_that_started_again_waits_for_nothing() {
    let (a, b) = (owner(1, 1), owner(2, 1));
    let (mut locks, mut waiting) = blocked(&a, &b);
    let Owner::Nlm { host, .. } = &b else {
        panic!()
    };
    waiting.release(|other| other == host);
    locks.unlock(FILE, &a, range(0, 9));
    assert!(waiting.grant(&mut locks).is_none());
}

#[test]
fn there_is_an_end_to_them() {
    let (mut locks, mut waiting) = (Locks::default(), Waiting::default());
    locks.lock(FILE, &owner(0, 0), range(0, 9), true).unwrap();
    for process in 0..1000 {
        waiting.add(wanted(&owner(1, process), range(0, 9)), &locks);
    }
    assert_eq!(waiting.entries.len(), OF_HOST);
    for machine in 2..100 {
        for process in 0..100 {
            waiting.add(wanted(&owner(machine, process), range(0, 9)), &locks);
        }
    }
    assert_eq!(waiting.entries.len(), MOST);
}
