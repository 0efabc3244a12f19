//! Tells clients that the server has started, so that they take back their
//! locks. Each is asked until it answers, or is believed to be gone.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use nfs3_types::xdr_codec::Void;
use tokio::time::timeout;

use super::{NOTIFY, PROGRAM, VERSION};
use crate::nfs::{
    Nfs,
    locks::Host,
    nlm::xdr::Started,
    rpc::client::{self, CallError, Procedure},
    rpcbind,
    xdr::Blob,
};

/// Clients that are told at a time.
const CALLS: usize = 32;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Times between two rounds.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(60);

/// How long one is tried that does not answer.
const GONE: Duration = Duration::from_secs(15 * 60);

/// Tells all that may have locks of before the start.
pub(in crate::nfs) async fn tell(nfs: Arc<Nfs>) {
    let (began, mut wait) = (Instant::now(), SHORTEST);
    loop {
        let untold = nfs.nlm.untold();
        if untold.is_empty() {
            return;
        }
        if began.elapsed() > GONE {
            untold.iter().for_each(|(host, _)| nfs.nlm.told(host));
            tracing::info!(
                clients = untold.len(),
                "NFSv3 clients cannot be told of the start"
            );
            return;
        }
        let state = state(nfs.v4.boot);
        let all = stream::iter(untold).for_each_concurrent(CALLS, |(host, server)| {
            let nfs = &nfs;
            async move {
                match timeout(PATIENCE, tell_one(&host, server, state)).await {
                    Ok(Ok(())) => nfs.nlm.told(&host),
                    Ok(Err(error)) => {
                        tracing::debug!(client = %host.address, %error, "a client was not told");
                    }
                    Err(_) => tracing::debug!(client = %host.address, "a client does not answer"),
                }
            }
        });
        all.await;
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST);
    }
}

/// The state number of a start: odd, for a machine that is up, and another one
/// than before.
fn state(boot: u32) -> u32 {
    (boot << 1 | 1) & i32::MAX.cast_unsigned()
}

async fn tell_one(host: &Host, server: IpAddr, state: u32) -> Result<(), CallError> {
    let port = rpcbind::port_of(server, host.address, PROGRAM, VERSION).await?;
    let port = port.ok_or(CallError::Refused)?;
    let mut stream = client::connect(server, SocketAddr::new(host.address, port)).await?;
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
    use super::state;

    #[test]
    fn states_are_odd_and_grow() {
        assert_eq!([1, 2, 3].map(state), [3, 5, 7]);
        assert_eq!(state(u32::MAX), i32::MAX.cast_unsigned());
    }
}
