#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::nfs::v4::xdr::Array;

fn channel() -> Channel {
    Channel {
        header_pad: 0,
        max_request: 8192,
        max_response: 8192,
        max_cached: 1024,
        max_operations: 16,
        max_requests: 4,
        rdma_ird: Array(vec![]),
    }
}

fn request(session: SessionId, slot: u32, sequence: u32) -> Sequence {
    Sequence {
        session,
        sequence,
        slot,
        highest_slot: slot,
        cache_this: true,
    }
}

fn with_one() -> (Sessions, SessionId) {
    let mut sessions = Sessions::default();
    let id = sessions.add(5, channel()).unwrap();
    (sessions, id)
}

#[test]
fn a_request_is_done_once() {
    let (mut sessions, id) = with_one();
    let first = request(id, 0, 1);
    assert_eq!(sessions.begin(&first, 11), Ok(Begun::Run));
    assert_eq!(sessions.begin(&first, 11), Err(Status::Delay), "under way");
    sessions.finish(&first, b"done");
    assert_eq!(
        sessions.begin(&first, 11),
        Ok(Begun::Replay(b"done"[..].into()))
    );
    assert_eq!(sessions.begin(&first, 12), Err(Status::SeqFalseRetry));
    assert_eq!(sessions.begin(&request(id, 0, 2), 13), Ok(Begun::Run));
}

#[test]
fn numbers_that_are_not_next_are_refused() {
    let (mut sessions, id) = with_one();
    for sequence in [0, 2, 3, u32::MAX] {
        assert_eq!(
            sessions.begin(&request(id, 1, sequence), 0),
            Err(Status::SeqMisordered)
        );
    }
    assert_eq!(sessions.begin(&request(id, 4, 1), 0), Err(Status::BadSlot));
    assert_eq!(
        sessions.begin(&request([7; 16], 0, 1), 0),
        Err(Status::BadSession)
    );
    let first = request(id, 1, 1);
    assert_eq!(sessions.begin(&first, 0), Ok(Begun::Run));
    assert_eq!(
        sessions.begin(&request(id, 1, 2), 0),
        Err(Status::SeqMisordered),
        "under way"
    );
}

#[test]
fn a_reply_nobody_kept_says_so() {
    let (mut sessions, id) = with_one();
    let uncached = Sequence {
        cache_this: false,
        ..request(id, 0, 1)
    };
    sessions.begin(&uncached, 0).unwrap();
    sessions.finish(&uncached, &[0; SMALL + 1]);
    assert_eq!(sessions.begin(&uncached, 0), Err(Status::RetryUncachedRep));
}

#[test]
fn kept_replies_are_bounded_and_given_back() {
    let mut sessions = Sessions::default();
    let wide = Channel {
        max_cached: CACHED_MAX,
        max_requests: SLOTS_MAX,
        ..channel()
    };
    let reply = vec![0; CACHED_MAX as usize];
    let mut ids = Vec::new();
    while sessions.cached + reply.len() <= CACHED_TOTAL {
        let id = sessions.add(1, wide.clone()).unwrap();
        for slot in 0..SLOTS_MAX {
            sessions.begin(&request(id, slot, 1), 0).unwrap();
            sessions.finish(&request(id, slot, 1), &reply);
        }
        ids.push(id);
    }
    let last = sessions.add(1, wide).unwrap();
    let late = request(last, 0, 1);
    sessions.begin(&late, 0).unwrap();
    sessions.finish(&late, &reply);
    assert_eq!(sessions.begin(&late, 0), Err(Status::RetryUncachedRep));
    for id in ids {
        sessions.remove(&id).unwrap();
    }
    assert_eq!(sessions.cached, 0);
}

#[test]
fn a_session_that_is_gone_takes_its_requests_along() {
    let (mut sessions, id) = with_one();
    let first = request(id, 0, 1);
    sessions.begin(&first, 0).unwrap();
    assert_eq!(sessions.remove(&id).unwrap().client, 5);
    sessions.finish(&first, b"late");
    assert_eq!(sessions.begin(&first, 0), Err(Status::BadSession));
    assert_ne!(sessions.add(5, channel()).unwrap(), id);
    assert_eq!(sessions.len(), 1);
}

#[test]
fn channels_are_negotiated() {
    let greedy = Channel {
        max_request: u32::MAX,
        max_response: u32::MAX,
        max_cached: u32::MAX,
        max_operations: u32::MAX,
        max_requests: u32::MAX,
        ..channel()
    };
    let given = negotiate(&greedy, 1 << 20).unwrap();
    assert_eq!(given.max_request, 1 << 20);
    assert_eq!(given.max_cached, CACHED_MAX);
    assert_eq!(
        (given.max_operations, given.max_requests),
        (OPERATIONS_MAX, SLOTS_MAX)
    );
    for small in [
        Channel {
            max_request: 20,
            ..channel()
        },
        Channel {
            max_response: 0,
            ..channel()
        },
        Channel {
            max_operations: 0,
            ..channel()
        },
        Channel {
            max_requests: 0,
            ..channel()
        },
    ] {
        assert_eq!(negotiate(&small, 1 << 20), Err(Status::TooSmall));
    }
}

proptest! {
    /// However requests and retries come, each number of a slot runs at most
    /// once, in order, and a retry gets what the first was answered.
    #[test]
    fn every_request_runs_at_most_once(
        steps in prop::collection::vec((0u32..4, 0u32..3, any::<bool>()), 1..200))
    {
        let (mut sessions, id) = with_one();
        let mut done = [0u32; 4];
        let mut running: [Option<Sequence>; 4] = Default::default();
        for (slot, ahead, end) in steps {
            let at = slot as usize;
            if end && let Some(running) = running[at].take() {
                sessions.finish(&running, &running.sequence.to_be_bytes());
                done[at] = running.sequence;
            }
            let request = request(id, slot, done[at] + ahead);
            match sessions.begin(&request, u64::from(request.sequence)) {
                Ok(Begun::Run) => {
                    prop_assert!(running[at].is_none());
                    prop_assert_eq!(request.sequence, done[at] + 1);
                    running[at] = Some(request);
                }
                Ok(Begun::Replay(reply)) => {
                    prop_assert!(running[at].is_none());
                    prop_assert_eq!(request.sequence, done[at]);
                    prop_assert_eq!(&*reply, &request.sequence.to_be_bytes());
                }
                Err(Status::Delay) => {
                    prop_assert_eq!(running[at].as_ref().map(|r| r.sequence), Some(request.sequence));
                }
                Err(error) => prop_assert_eq!(error, Status::SeqMisordered),
            }
        }
    }
}
