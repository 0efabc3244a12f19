#![allow(clippy::unwrap_used)]

use super::*;
use crate::nfs::v4::xdr::{Array, Blob, Channel};

const LEASE: Duration = Duration::from_secs(60);
const ALICE: Principal = Principal { flavor: 1, uid: 1 };
const BOB: Principal = Principal { flavor: 1, uid: 2 };
const UPDATE: u32 = exchange::UPD_CONFIRMED_REC_A;

struct Table {
    clients: Clients,
    now: Instant,
}

impl Table {
    fn new() -> Table {
        Table {
            clients: Clients::new(LEASE, 9),
            now: Instant::now(),
        }
    }

    fn exchange(&mut self, verifier: u8, flags: u32, who: &Principal) -> Result<Exchange, Status> {
        let owner = ClientOwner {
            verifier: [verifier; 8],
            name: Blob(b"client".to_vec()),
        };
        let exchanged = self
            .clients
            .exchange(&owner, flags, who.clone(), self.now)?;
        if let Some(gone) = exchanged.gone {
            self.clients.remove(gone);
        }
        Ok(exchanged)
    }

    fn session(&mut self, id: u64, sequence: u32, who: &Principal) -> Result<bool, Status> {
        match self.clients.create_session(id, sequence, who)? {
            Creation::Replay(answer) => {
                assert_eq!(answer, answered(sequence));
                Ok(false)
            }
            Creation::Make(old) => {
                old.and_then(|old| self.clients.remove(old));
                self.clients.created(id, &answered(sequence), self.now);
                Ok(true)
            }
        }
    }

    /// A confirmed client that alice made with the verifier 1.
    fn confirmed() -> (Table, u64) {
        let mut table = Table::new();
        let id = table.exchange(1, 0, &ALICE).unwrap().client;
        assert_eq!(table.session(id, 1, &ALICE), Ok(true));
        (table, id)
    }
}

fn answered(sequence: u32) -> CreatedSession {
    let channel = Channel {
        header_pad: 0,
        max_request: 1,
        max_response: 1,
        max_cached: 1,
        max_operations: 1,
        max_requests: 1,
        rdma_ird: Array(vec![]),
    };
    CreatedSession {
        session: [sequence as u8; 16],
        sequence,
        flags: 0,
        fore: channel.clone(),
        back: channel,
    }
}

#[test]
fn an_unconfirmed_record_is_replaced_whoever_asks() {
    for (verifier, who) in [(1, ALICE), (1, BOB), (2, ALICE), (2, BOB)] {
        let mut table = Table::new();
        let first = table.exchange(1, 0, &ALICE).unwrap().client;
        let second = table.exchange(verifier, 0, &who).unwrap().client;
        assert_ne!(first, second);
        assert_eq!(table.session(first, 1, &ALICE), Err(Status::StaleClientId));
        assert_eq!(table.clients.len(), 1);
    }
}

#[test]
fn a_client_that_asks_again_gets_its_record() {
    let (mut table, id) = Table::confirmed();
    for flags in [0, UPDATE] {
        let again = table.exchange(1, flags, &ALICE).unwrap();
        assert_eq!(
            (again.client, again.sequence, again.confirmed),
            (id, 2, true)
        );
    }
}

#[test]
fn updates_need_a_confirmed_record_of_the_same_client() {
    let mut table = Table::new();
    assert_eq!(table.exchange(1, UPDATE, &ALICE), Err(Status::NoEnt));
    table.exchange(1, 0, &ALICE).unwrap();
    assert_eq!(table.exchange(1, UPDATE, &ALICE), Err(Status::NoEnt));
    let (mut table, _) = Table::confirmed();
    assert_eq!(table.exchange(1, UPDATE, &BOB), Err(Status::Perm));
    assert_eq!(table.exchange(2, UPDATE, &ALICE), Err(Status::NotSame));
    assert_eq!(table.exchange(2, UPDATE, &BOB), Err(Status::NotSame));
}

#[test]
fn a_restarted_client_replaces_its_record_with_its_first_session() {
    let (mut table, old) = Table::confirmed();
    let new = table.exchange(2, 0, &ALICE).unwrap();
    assert!(new.client != old && !new.confirmed);
    assert!(
        table.clients.get(old).is_some(),
        "it may be somebody's mistake"
    );
    assert_eq!(table.session(new.client, 1, &ALICE), Ok(true));
    assert!(table.clients.get(old).is_none());
    assert_eq!(table.exchange(2, 0, &ALICE).unwrap().client, new.client);
}

#[test]
fn a_name_is_taken_as_long_as_its_owner_has_something() {
    let (mut table, old) = Table::confirmed();
    assert_eq!(table.exchange(1, 0, &BOB), Err(Status::ClidInUse));
    table.clients.get_mut(old).unwrap().sessions.clear();
    assert_ne!(table.exchange(1, 0, &BOB).unwrap().client, old);
    assert!(table.clients.get(old).is_none());

    let (mut table, old) = Table::confirmed();
    table.now += LEASE;
    assert_ne!(
        table.exchange(1, 0, &BOB).unwrap().client,
        old,
        "or until its lease ends"
    );
}

#[test]
fn flags_that_mean_nothing_are_refused() {
    for flags in [4, exchange::CONFIRMED_R] {
        assert_eq!(Table::new().exchange(1, flags, &ALICE), Err(Status::Inval));
    }
}

#[test]
fn create_session_is_done_once() {
    let (mut table, id) = Table::confirmed();
    assert_eq!(table.session(id, 1, &ALICE), Ok(false));
    assert_eq!(table.session(id, 3, &ALICE), Err(Status::SeqMisordered));
    assert_eq!(table.session(id, 0, &ALICE), Err(Status::SeqMisordered));
    assert_eq!(
        table.session(id, 2, &BOB),
        Ok(true),
        "a confirmed client may change its credential"
    );
    assert_eq!(table.session(id, 2, &BOB), Ok(false));
    assert_eq!(table.session(id + 1, 1, &ALICE), Err(Status::StaleClientId));
}

#[test]
fn who_confirms_is_who_came() {
    let mut table = Table::new();
    let id = table.exchange(1, 0, &ALICE).unwrap().client;
    assert_eq!(table.session(id, 0, &ALICE), Err(Status::SeqMisordered));
    assert_eq!(table.session(id, 1, &BOB), Err(Status::ClidInUse));
    assert_eq!(table.session(id, 1, &BOB), Err(Status::ClidInUse));
    assert_eq!(table.session(id, 1, &ALICE), Ok(true));
}

#[test]
fn leases_end_unless_they_are_renewed() {
    let (mut table, id) = Table::confirmed();
    let start = table.now;
    assert!(table.clients.expired(start + LEASE / 2).is_empty());
    table.clients.renew(id, start + LEASE / 2);
    assert!(table.clients.expired(start + LEASE).is_empty());
    assert_eq!(
        table.clients.next_deadline(),
        Some(start + LEASE / 2 + LEASE)
    );
    assert_eq!(table.clients.expired(start + LEASE * 2), [id]);
    assert!(
        table.clients.expired(start + LEASE * 2).is_empty(),
        "told once"
    );
    table.clients.remove(id);
    assert!(table.clients.expired(start + LEASE * 9).is_empty());
    assert_eq!(table.clients.next_deadline(), None);
}

#[test]
fn clients_are_bounded() {
    let mut table = Table::new();
    for n in 0..=CLIENTS_MAX {
        let owner = ClientOwner {
            verifier: [0; 8],
            name: Blob(n.to_string().into_bytes()),
        };
        let made = table.clients.exchange(&owner, 0, ALICE, table.now);
        assert_eq!(made.is_ok(), n < CLIENTS_MAX);
    }
    assert_eq!(table.clients.expired(table.now + LEASE).len(), CLIENTS_MAX);
}
