//! What time alone makes happen: leases end, and so does the grace period.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::Service;
use crate::nfs::Nfs;

/// How often to look at most.
const SHORTEST: Duration = Duration::from_millis(100);

/// Tends the clients for as long as the server runs.
pub(in crate::nfs) async fn tend(nfs: Arc<Nfs>) {
    loop {
        let wait = nfs.v4.next_look(Instant::now());
        tokio::time::sleep(wait).await;
        nfs.end_leases(Instant::now()).await;
        nfs.v4.end_grace(Instant::now()).await;
    }
}

impl Service {
    fn next_look(&self, now: Instant) -> Duration {
        let state = self.state.lock();
        let next = [state.clients.next_deadline(), state.grace.deadline()];
        let next = next.into_iter().flatten().min();
        // Who comes meanwhile has a whole lease from then on.
        let lease = Duration::from_secs(self.server.lease.into());
        let wait = next.map_or(lease, |next| next.saturating_duration_since(now));
        // Deadlines that cannot be met at once are not tried all the time.
        wait.clamp(SHORTEST, lease.max(SHORTEST))
    }

    /// Forgets those who did not come back in time.
    async fn end_grace(&self, now: Instant) {
        let missed = self.state.lock().grace.missed(now);
        if missed.is_empty() {
            return;
        }
        tracing::info!(clients = missed.len(), "NFSv4 clients did not come back");
        if let Err(error) = self.records.forget(&missed).await {
            tracing::error!(%error, "clients cannot be forgotten; after a restart they may reclaim");
        }
    }
}

impl Nfs {
    /// Ends what clients had whose lease has ended. Their records go first, so
    /// that after a restart none takes back what another got since.
    async fn end_leases(&self, now: Instant) {
        let service = &self.v4;
        let (expired, owners) = {
            let mut state = service.state.lock();
            let expired = state.clients.expired(now);
            let clients = expired.iter().filter_map(|id| state.clients.get(*id));
            let recorded = clients.filter(|client| client.reclaimed);
            let owners: Vec<Arc<[u8]>> = recorded.map(|client| client.owner.clone()).collect();
            (expired, owners)
        };
        if expired.is_empty() {
            return;
        }
        if let Err(error) = service.records.forget(&owners).await {
            tracing::error!(%error, "clients cannot be forgotten; they keep what they have");
            return;
        }
        let (mut closed, mut back) = (Vec::new(), Vec::new());
        {
            let mut state = service.state.lock();
            for id in expired {
                if state.clients.has_expired(id, now) {
                    let gone = state.remove_client(id);
                    closed.extend(gone.into_iter().flat_map(|gone| gone.closed));
                } else if let Some(client) = state.clients.get(id) {
                    back.push(client.owner.clone());
                }
            }
            // Another client of the same owner has come meanwhile.
            back.extend(
                owners
                    .into_iter()
                    .filter(|owner| state.clients.is_recorded(owner)),
            );
        }
        self.let_go(closed).await;
        for owner in back {
            if let Err(error) = service.records.keep(&owner).await {
                tracing::error!(%error, "a client that came back is not on record");
            }
        }
    }
}
