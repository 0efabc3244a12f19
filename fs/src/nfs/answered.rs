//! Calls that must not be carried out twice. A client that saw no answer sends
//! its call again, over a new connection if need be: then it gets the first
//! answer, or waits for it (RFC 1813, section 4.5).

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::rpc::{Call, Outcome};

/// Answers that are kept; clients send again within minutes.
const MOST: usize = 16_384;

/// How long they are kept.
const KEPT: Duration = Duration::from_secs(300);

/// Bytes of the arguments that tell one call from another with the same
/// number: all of a call but for the data that it writes.
const COMPARED: usize = 1024;

/// What tells calls apart: a client that starts again may begin with the same
/// numbers, for other calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Identity {
    client: IpAddr,
    xid: u32,
    program: u32,
    procedure: u32,
    length: usize,
    arguments: u64,
}

/// `None` while the call is under way.
type Answer = Option<Arc<[Bytes]>>;

/// The answers.
#[derive(Default)]
pub struct Answered {
    state: Mutex<State>,
    hasher: RandomState,
}

#[derive(Default)]
struct State {
    calls: HashMap<Identity, watch::Receiver<Answer>>,
    order: VecDeque<(Instant, Identity)>,
}

/// What is to be done with a call.
enum Known {
    /// Carry it out and say what came of it.
    New(watch::Sender<Answer>),
    /// It was, or is being, carried out.
    Before(watch::Receiver<Answer>),
}

impl Answered {
    /// Carries a call out once; whoever sends it again gets what came of it.
    pub async fn once(
        &self,
        client: IpAddr,
        call: &Call,
        carry_out: impl Future<Output = Outcome>,
    ) -> Outcome {
        let identity = self.identity(client, call);
        match self.known(identity) {
            Known::New(done) => {
                let outcome = carry_out.await;
                if let Outcome::Done(pieces) = &outcome {
                    done.send_replace(Some(pieces.as_slice().into()));
                } else {
                    self.state.lock().calls.remove(&identity);
                }
                outcome
            }
            Known::Before(mut answer) => match answer.wait_for(Option::is_some).await {
                Ok(answer) => Outcome::Done(answer.iter().flat_map(|all| all.to_vec()).collect()),
                // It came to nothing: the client will ask once more.
                Err(_) => Outcome::Dropped,
            },
        }
    }

    fn identity(&self, client: IpAddr, call: &Call) -> Identity {
        let compared = &call.arguments[..call.arguments.len().min(COMPARED)];
        Identity {
            client,
            xid: call.xid,
            program: call.program,
            procedure: call.procedure,
            length: call.arguments.len(),
            arguments: self
                .hasher
                .hash_one((compared, call.credentials.as_ref().ok())),
        }
    }

    fn known(&self, identity: Identity) -> Known {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.forget(now);
        // One whose sender is gone without an answer was given up half-way.
        let before = state
            .calls
            .get(&identity)
            .filter(|answer| answer.borrow().is_some() || answer.has_changed().is_ok());
        if let Some(answer) = before {
            return Known::Before(answer.clone());
        }
        let (done, answer) = watch::channel(None);
        state.calls.insert(identity, answer);
        state.order.push_back((now, identity));
        Known::New(done)
    }
}

impl State {
    fn forget(&mut self, now: Instant) {
        while let Some((at, identity)) = self.order.front() {
            if self.order.len() < MOST && now.duration_since(*at) < KEPT {
                return;
            }
            self.calls.remove(identity);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::nfs::rpc::Credentials;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn call(xid: u32, arguments: &'static [u8]) -> Call {
        Call {
            xid,
            program: 100_003,
            version: 3,
            procedure: 12,
            credentials: Ok(Credentials::None),
            arguments: Bytes::from_static(arguments),
        }
    }

    async fn count(answered: &Answered, call: &Call, times: &AtomicU32) -> u32 {
        let carry_out = async {
            tokio::task::yield_now().await;
            Outcome::done(&times.fetch_add(1, Ordering::Relaxed))
        };
        match answered.once(CLIENT, call, carry_out).await {
            Outcome::Done(pieces) => u32::from_be_bytes(pieces[0][..].try_into().unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_call_that_comes_again_gets_the_first_answer() {
        let (answered, times) = (Answered::default(), AtomicU32::new(0));
        assert_eq!(count(&answered, &call(1, b"a"), &times).await, 0);
        assert_eq!(count(&answered, &call(1, b"a"), &times).await, 0);
        assert_eq!(count(&answered, &call(2, b"a"), &times).await, 1);
        assert_eq!(
            count(&answered, &call(1, b"b"), &times).await,
            2,
            "another call"
        );
        let (first, second) = (call(3, b"a"), call(3, b"a"));
        let (a, b) = tokio::join!(
            count(&answered, &first, &times),
            count(&answered, &second, &times)
        );
        assert_eq!((a, b), (3, 3), "while the first is under way");
    }

    #[tokio::test]
    async fn a_call_that_was_given_up_is_carried_out_the_next_time() {
        let (answered, times) = (Answered::default(), AtomicU32::new(0));
        let given_up = call(1, b"a");
        let never = answered.once(CLIENT, &given_up, std::future::pending());
        assert!(
            tokio::time::timeout(Duration::from_millis(1), never)
                .await
                .is_err()
        );
        assert_eq!(count(&answered, &given_up, &times).await, 0);
    }

    #[tokio::test]
    async fn old_answers_make_way() {
        let (answered, times) = (Answered::default(), AtomicU32::new(0));
        for xid in 0..MOST as u32 + 1 {
            count(&answered, &call(xid, b"a"), &times).await;
        }
        assert_eq!(answered.state.lock().calls.len(), MOST);
        assert_eq!(
            count(&answered, &call(MOST as u32, b"a"), &times).await,
            MOST as u32
        );
        assert_eq!(
            count(&answered, &call(0, b"a"), &times).await,
            MOST as u32 + 1
        );
    }
}
