//! Tells clients that the server has started, so that they take back their
//! locks. Each is asked until it answers, or is believed to be gone.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use nfs3_types::xdr_codec::Void;
use tokio::{sync::Semaphore, time::timeout};

use super::{NOTIFY, PROGRAM, VERSION};
use crate::nfs::{
    Nfs,
    locks::Host,
    nlm::xdr::Started,
    rpc::client::{self, CallError, Procedure},
    rpcbind,
    xdr::Blob,
};

/// How clients are tried.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Calls at a time.
    calls: usize,
    /// How long one may take.
    patience: Duration,
    /// Times between two calls of one client.
    shortest: Duration,
    longest: Duration,
    /// How long one is tried that does not answer.
    gone: Duration,
}

/// All clients that there can be (4,096) are tried once within 48 seconds, also
/// when none of them answers: before the grace period is over.
const PACE: Pace = Pace {
    calls: 256,
    patience: Duration::from_secs(3),
    shortest: Duration::from_secs(2),
    longest: Duration::from_secs(60),
    gone: Duration::from_secs(15 * 60),
};

/// Tells all that may have locks of before the start.
pub(in crate::nfs) async fn tell(nfs: Arc<Nfs>) {
    let calls = Semaphore::new(PACE.calls);
    let state = state(nfs.v4.boot);
    let all = stream::iter(by_address(nfs.nlm.untold()));
    let (nfs, calls) = (&nfs, &calls);
    // They go on side by side; how many call at a time is for `calls` to say.
    let telling = all.for_each_concurrent(None, |((client, server), hosts)| async move {
        if !persist(PACE, calls, client, || tell_one(client, server, state)).await {
            tracing::info!(%client, "an NFSv3 client cannot be told of the start");
        }
        hosts.iter().for_each(|host| nfs.nlm.told(host));
    });
    telling.await;
}

/// Machines by where they are called, and from where: those at one address have
/// one status monitor.
fn by_address(untold: Vec<(Arc<Host>, IpAddr)>) -> HashMap<(IpAddr, IpAddr), Vec<Arc<Host>>> {
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for (host, server) in untold {
        all.entry((host.address, server)).or_default().push(host);
    }
    all
}

/// Calls until that works, and says whether it did. Whoever pauses keeps nobody
/// else from calling, and whoever was not tried yet comes before those that try
/// again.
async fn persist<F>(pace: Pace, calls: &Semaphore, client: IpAddr, call: impl Fn() -> F) -> bool
where
    F: Future<Output = Result<(), CallError>>,
{
    let (began, mut wait) = (Instant::now(), pace.shortest);
    loop {
        // It is never closed.
        let permit = calls.acquire().await;
        let called = timeout(pace.patience, call()).await;
        drop(permit);
        match called {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::debug!(%client, %error, "a client was not told"),
            Err(_) => tracing::debug!(%client, "a client does not answer"),
        }
        if began.elapsed() > pace.gone {
            return false;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(pace.longest);
    }
}

/// The state number of a start: odd, for a machine that is up, and another one
/// than before.
fn state(boot: u32) -> u32 {
    (boot << 1 | 1) & i32::MAX.cast_unsigned()
}

async fn tell_one(client: IpAddr, server: IpAddr, state: u32) -> Result<(), CallError> {
    let port = rpcbind::port_of(server, client, PROGRAM, VERSION).await?;
    let port = port.ok_or(CallError::Refused)?;
    let mut stream = client::connect(server, SocketAddr::new(client, port)).await?;
    // The name that nobody has to look up.
    let started = Started {
        host: Blob(server.to_string().into_bytes()),
        state,
    };
    let notify = Procedure {
        program: PROGRAM,
        version: VERSION,
        number: NOTIFY,
    };
    let Void = client::call(&mut stream, notify, &started).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures_util::FutureExt;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn states_are_odd_and_grow() {
        assert_eq!([1, 2, 3].map(state), [3, 5, 7]);
        assert_eq!(state(u32::MAX), i32::MAX.cast_unsigned());
    }

    #[test]
    fn those_at_one_address_are_told_at_once() {
        let host = |last, name: &[u8]| {
            let (address, name) = ([10, 0, 0, last].into(), name.into());
            Arc::new(Host { address, name })
        };
        let here = |last| IpAddr::from([127, 0, 0, last]);
        let groups = by_address(vec![
            (host(1, b"a"), here(1)),
            (host(1, b"b"), here(1)),
            (host(1, b"c"), here(2)),
            (host(2, b"a"), here(1)),
        ]);
        assert_eq!(groups.len(), 3);
        let first = &groups[&(host(1, b"").address, here(1))];
        assert_eq!(*first, [host(1, b"a"), host(1, b"b")]);
    }

    /// Those that are dead do not delay the second try of one that lives.
    #[tokio::test]
    async fn one_that_lives_is_tried_again_while_others_do_not_answer() {
        let pace = Pace { calls: 8, ..PACE };
        let calls = Semaphore::new(pace.calls);
        let dead = stream::iter(1..pace.calls).for_each_concurrent(None, |_| async {
            let call = || tokio::time::sleep(pace.gone).map(Ok);
            persist(
                Pace {
                    patience: pace.gone,
                    ..pace
                },
                &calls,
                CLIENT,
                call,
            )
            .await;
        });
        let tries = AtomicUsize::new(0);
        let quick = Pace {
            shortest: Duration::from_millis(1),
            ..pace
        };
        let lives = persist(quick, &calls, CLIENT, || {
            ready(match tries.fetch_add(1, Ordering::Relaxed) {
                0 => Err(CallError::Refused),
                _ => Ok(()),
            })
        });
        tokio::select! {
            biased;
            () = dead => panic!("the dead answer"),
            told = timeout(Duration::from_secs(30), lives) => assert_eq!(told, Ok(true)),
        }
    }

    #[tokio::test]
    async fn no_more_are_called_at_a_time_than_may_be() {
        let pace = Pace { calls: 4, ..PACE };
        let calls = Semaphore::new(pace.calls);
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let all = stream::iter(0..40).for_each_concurrent(None, |_| async {
            let call = || async {
                let now = running.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(now, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
                running.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            };
            assert!(persist(pace, &calls, CLIENT, call).await);
        });
        all.await;
        assert_eq!(most.load(Ordering::Relaxed), pace.calls);
    }

    #[tokio::test]
    async fn who_does_not_answer_is_given_up() {
        let pace = Pace {
            calls: 1,
            patience: Duration::from_millis(1),
            shortest: Duration::from_millis(1),
            longest: Duration::from_millis(2),
            gone: Duration::from_millis(20),
        };
        let calls = Semaphore::new(pace.calls);
        let tries = AtomicUsize::new(0);
        let told = persist(pace, &calls, CLIENT, || {
            tries.fetch_add(1, Ordering::Relaxed);
            pending()
        });
        assert!(!told.await);
        assert!(tries.load(Ordering::Relaxed) > 1);
    }
}
