#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const FILE: Ino = Ino(3);
const BOTH: u32 = READ | WRITE;

fn share(access: u32, deny: u32) -> Share {
    Share::new(access, deny).unwrap()
}

fn opens() -> Opens {
    Opens::new(77)
}

fn newest(stateid: StateId) -> StateId {
    StateId {
        sequence: 0,
        ..stateid
    }
}

#[test]
fn opening_again_widens_and_moves_the_stateid() {
    let mut opens = opens();
    let first = opens.open(1, b"o", FILE, share(WRITE, 0)).unwrap();
    assert!(first.new && first.stateid.sequence == 1);
    let second = opens.open(1, b"o", FILE, share(READ, 0)).unwrap();
    assert!(!second.new && second.stateid.sequence == 2);
    assert_eq!(second.stateid.other, first.stateid.other);
    assert_eq!(
        opens.check(&first.stateid, 1).unwrap_err(),
        Status::OldStateId
    );
    let ahead = StateId {
        sequence: 3,
        ..first.stateid
    };
    assert_eq!(opens.check(&ahead, 1).unwrap_err(), Status::BadStateId);
    opens
        .may_access(&newest(first.stateid), 1, FILE, BOTH)
        .unwrap();
    assert_eq!(
        opens.check(&second.stateid, 2).unwrap_err(),
        Status::BadStateId,
        "another's"
    );
    let elsewhere = opens.of_file(&second.stateid, 1, Ino(4)).unwrap_err();
    assert_eq!(elsewhere, Status::BadStateId);
}

#[test]
fn reservations_keep_others_out_also_of_the_same_client() {
    let mut opens = opens();
    let held = opens.open(1, b"a", FILE, share(READ, WRITE)).unwrap();
    for client in [1, 2] {
        let refused = opens.open(client, b"b", FILE, share(BOTH, 0));
        assert_eq!(refused.unwrap_err(), Status::ShareDenied);
        let refused = opens.open(client, b"b", FILE, share(READ, READ));
        assert_eq!(refused.unwrap_err(), Status::ShareDenied);
    }
    opens.open(2, b"b", FILE, share(READ, 0)).unwrap();
    opens.open(1, b"a", FILE, share(READ, 0)).unwrap();
    assert_eq!(opens.check_denied(FILE, WRITE), Err(Status::Locked));
    assert_eq!(opens.check_denied(FILE, READ), Ok(()));
    let closed = opens.close(&newest(held.stateid), 1, FILE).unwrap();
    assert_eq!((closed.client, closed.file), (1, FILE));
    opens.open(2, b"c", FILE, share(WRITE, 0)).unwrap();
    assert_eq!(
        opens.close(&newest(held.stateid), 1, FILE).unwrap_err(),
        Status::BadStateId
    );
}

#[test]
fn a_downgrade_is_to_what_was_asked() {
    let mut opens = opens();
    let opened = opens.open(1, b"o", FILE, share(BOTH, 0)).unwrap();
    let id = newest(opened.stateid);
    let refused = opens.downgrade(&id, 1, FILE, share(READ, 0));
    assert_eq!(
        refused.unwrap_err(),
        Status::Inval,
        "no OPEN asked for that alone"
    );
    opens.open(1, b"o", FILE, share(READ, 0)).unwrap();
    let narrowed = opens.downgrade(&id, 1, FILE, share(READ, 0)).unwrap();
    assert_eq!(narrowed.sequence, 3);
    assert_eq!(opens.may_access(&id, 1, FILE, WRITE), Err(Status::OpenMode));
    let refused = opens.downgrade(&id, 1, FILE, share(BOTH, 0));
    assert_eq!(refused.unwrap_err(), Status::Inval);
}

#[test]
fn an_open_that_failed_later_leaves_nothing() {
    let mut opens = opens();
    let first = opens.open(1, b"o", FILE, share(READ, 0)).unwrap();
    let wider = opens.open(1, b"o", FILE, share(WRITE, READ)).unwrap();
    opens.undo(&wider);
    opens.open(2, b"p", FILE, share(READ, WRITE)).unwrap();
    let id = newest(first.stateid);
    assert_eq!(opens.may_access(&id, 1, FILE, WRITE), Err(Status::OpenMode));
    opens.undo(&first);
    assert_eq!(opens.check(&id, 1).unwrap_err(), Status::BadStateId);
    assert_eq!(opens.len(), 1);
}

#[test]
fn lockers_live_with_their_open() {
    let mut opens = opens();
    let opened = opens.open(1, b"o", FILE, share(BOTH, 0)).unwrap().stateid;
    let locker = opens.locker(&opened, 1, FILE, b"l").unwrap();
    assert_eq!(opens.locker(&opened, 1, FILE, b"l").unwrap(), locker);
    let stateid = opens.locks_changed(locker).unwrap();
    assert_eq!(stateid.sequence, 1);
    opens.may_access(&stateid, 1, FILE, BOTH).unwrap();
    assert!(!opens.check(&stateid, 1).unwrap().is_open());
    assert_eq!(
        opens.close(&stateid, 1, FILE).unwrap_err(),
        Status::BadStateId
    );
    let closed = opens.close(&opened, 1, FILE).unwrap();
    assert_eq!(closed.lockers, [Arc::from(&b"l"[..])]);
    assert_eq!(opens.check(&stateid, 1).unwrap_err(), Status::BadStateId);
    assert_eq!(opens.len(), 0);
}

#[test]
fn a_locker_that_got_no_lock_goes() {
    let mut opens = opens();
    let opened = opens.open(1, b"o", FILE, share(BOTH, 0)).unwrap().stateid;
    let locker = opens.locker(&opened, 1, FILE, b"l").unwrap();
    opens.forget_unused(locker);
    assert_eq!(opens.len(), 1);
    let locker = opens.locker(&opened, 1, FILE, b"l").unwrap();
    opens.locks_changed(locker).unwrap();
    opens.forget_unused(locker);
    assert_eq!(opens.len(), 2);
}

#[test]
fn stateids_of_another_start_are_nobodys() {
    let stateid = Opens::new(1)
        .open(1, b"o", FILE, share(READ, 0))
        .unwrap()
        .stateid;
    let mut after = Opens::new(2);
    after.open(1, b"o", FILE, share(READ, 0)).unwrap();
    assert_eq!(after.check(&stateid, 1).unwrap_err(), Status::BadStateId);
}

#[test]
fn rights_that_make_no_sense_are_refused() {
    for (access, deny) in [(0, 0), (4, 0), (READ, 4), (READ | 0x10_0000, 0)] {
        assert_eq!(Share::new(access, deny), Err(Status::Inval));
    }
    assert!(Share::new(READ | 0x400, WRITE).is_ok());
}

proptest! {
    /// No two opens that are there at the same time deny each other, and what
    /// a client is done with leaves nothing.
    #[test]
    fn opens_never_deny_each_other(
        steps in prop::collection::vec((0u64..3, 0u8..2, 1u32..4, 0u32..4, any::<bool>()), 1..80))
    {
        let mut opens = opens();
        let mut held: HashMap<(u64, u8), (StateId, Share)> = HashMap::new();
        for (client, owner, access, deny, close) in steps {
            let key = (client, owner);
            if close {
                if let Some((stateid, _)) = held.remove(&key) {
                    opens.close(&newest(stateid), client, FILE).unwrap();
                }
                continue;
            }
            let asked = share(access, deny);
            let others = held.iter().filter(|(other, _)| **other != key);
            let denied = others.clone().any(|(_, (_, other))| other.conflicts(asked));
            match opens.open(client, &[owner], FILE, asked) {
                Ok(opened) => {
                    prop_assert!(!denied);
                    let entry = held.entry(key).or_insert((opened.stateid, asked));
                    entry.1.access |= access;
                    entry.1.deny |= deny;
                }
                Err(error) => {
                    prop_assert_eq!(error, Status::ShareDenied);
                    prop_assert!(denied);
                }
            }
            prop_assert_eq!(opens.len(), held.len());
        }
        for client in 0..3 {
            opens.remove_client(client);
        }
        prop_assert_eq!(opens.len(), 0);
        prop_assert!(opens.by_file.is_empty() && opens.owned.is_empty());
    }
}
