#![allow(clippy::unwrap_used)]

use super::*;
use crate::nfs::v4::{
    clients::Principal,
    sessions::negotiate,
    xdr::{Array, Channel},
    xdr::{Blob, ClientOwner, CreatedSession},
};

const LEASE: Duration = Duration::from_secs(60);

fn channel() -> Channel {
    let asked = Channel {
        header_pad: 0,
        max_request: 8192,
        max_response: 8192,
        max_cached: 8192,
        max_operations: 8,
        max_requests: 8,
        rdma_ird: Array(vec![]),
    };
    negotiate(&asked, 1 << 20).unwrap()
}

fn client(state: &mut State, name: &str, now: Instant) -> (u64, SessionId) {
    let owner = ClientOwner {
        verifier: [0; 8],
        name: Blob(name.as_bytes().to_vec()),
    };
    let principal = Principal { flavor: 1, uid: 0 };
    let id = state
        .clients
        .exchange(&owner, 0, principal, now)
        .unwrap()
        .client;
    let session = state.sessions.add(id, channel()).unwrap();
    let answer = CreatedSession {
        session,
        sequence: 1,
        flags: 0,
        fore: channel(),
        back: channel(),
    };
    state.clients.created(id, &answer, now);
    let known = state.grace.knows(name.as_bytes());
    state.clients.get_mut(id).unwrap().may_reclaim = known;
    (id, session)
}

#[test]
fn only_what_was_there_is_given_back_and_nothing_else_meanwhile() {
    let now = Instant::now();
    let known = vec![Arc::from(&b"old"[..]), Arc::from(&b"late"[..])];
    let mut state = State::new(Grace::new(known, false, now, LEASE), 1, LEASE);
    let (old, _) = client(&mut state, "old", now);
    let (new, _) = client(&mut state, "new", now);
    assert_eq!(state.may_have(old, true, now), Ok(()));
    assert_eq!(state.may_have(new, true, now), Err(Status::ReclaimBad));
    assert_eq!(state.may_have(new, false, now), Err(Status::Grace));
    for id in [old, new] {
        state.clients.get_mut(id).unwrap().reclaimed = true;
        assert_eq!(state.may_have(id, true, now), Err(Status::NoGrace));
        assert_eq!(state.may_have(id, false, now), Err(Status::Grace));
    }
    state.grace.done(b"old");
    assert_eq!(state.may_have(new, false, now), Err(Status::Grace));
    assert_eq!(state.may_have(new, false, now + LEASE), Ok(()));
    state.grace.done(b"late");
    assert_eq!(state.may_have(new, false, now), Ok(()));
}

#[test]
fn a_client_that_goes_takes_all_along() {
    let now = Instant::now();
    let mut state = State::new(Grace::new([], false, now, LEASE), 1, LEASE);
    let (id, session) = client(&mut state, "a", now);
    let share = super::super::opens::Share { access: 1, deny: 0 };
    state
        .opens
        .open(id, b"o", kiseki_core::ids::Ino(4), share)
        .unwrap();
    state.count_opens(id, 0, 1);
    assert_eq!(state.clients.may_destroy(id), Err(Status::ClientIdBusy));
    state.remove_session(&session).unwrap();
    assert_eq!(state.clients.may_destroy(id), Err(Status::ClientIdBusy));
    let gone = state.remove_client(id).unwrap();
    assert_eq!((&*gone.owner, gone.closed.len()), (&b"a"[..], 1));
    assert!(!gone.recorded);
    assert_eq!(
        (state.opens.len(), state.sessions.len(), state.clients.len()),
        (0, 0, 0)
    );
}
