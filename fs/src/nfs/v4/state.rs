//! All state that clients have at this server, under one lock.
//!
//! Nothing here waits. Whoever changes it does what must be durable first, and
//! afterwards lets go what is no longer needed in the volume.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    clients::Clients,
    grace::Grace,
    opens::{Closed, Opens},
    sessions::Sessions,
    xdr::{SessionId, Status},
};

/// What clients have.
#[derive(Debug)]
pub struct State {
    /// Who they are.
    pub clients: Clients,
    /// How they talk.
    pub sessions: Sessions,
    /// What they have open.
    pub opens: Opens,
    /// Whether they may have more.
    pub grace: Grace,
}

/// A client that is gone.
#[derive(Debug)]
pub struct Removed {
    /// Its name for itself.
    pub owner: Arc<[u8]>,
    /// It may be on record.
    pub recorded: bool,
    /// What it had open.
    pub closed: Vec<Closed>,
}

impl State {
    /// At the start of the server that `boot` stands for. `grace` knows the
    /// clients that had state before.
    pub fn new(grace: Grace, boot: u32, lease: Duration) -> State {
        State {
            clients: Clients::new(lease, boot),
            sessions: Sessions::default(),
            opens: Opens::new(boot),
            grace,
        }
    }

    /// Takes a client away with all it has.
    pub fn remove_client(&mut self, id: u64) -> Option<Removed> {
        let client = self.clients.remove(id)?;
        for session in &client.sessions {
            // Each is there: the two tables change together.
            let _ = self.sessions.remove(session);
        }
        Some(Removed {
            recorded: client.reclaimed,
            owner: client.owner,
            closed: self.opens.remove_client(id),
        })
    }

    /// Ends a session.
    ///
    /// # Errors
    /// `BadSession`.
    pub fn remove_session(&mut self, id: &SessionId) -> Result<(), Status> {
        let session = self.sessions.remove(id)?;
        if let Some(client) = self.clients.get_mut(session.client) {
            client.sessions.remove(id);
        }
        Ok(())
    }

    /// Whether a client may be given something now: something new, or with
    /// `reclaim` something back.
    ///
    /// # Errors
    /// `Grace`, `NoGrace`, `ReclaimBad`.
    pub fn may_have(&self, client: u64, reclaim: bool, now: Instant) -> Result<(), Status> {
        let client = self.clients.get(client).ok_or(Status::Expired)?;
        match (reclaim, client.reclaimed) {
            (true, true) => Err(Status::NoGrace),
            (true, false) if !self.grace.lasts(now) => Err(Status::NoGrace),
            (true, false) if !client.may_reclaim => Err(Status::ReclaimBad),
            (true, false) => Ok(()),
            (false, false) => Err(Status::Grace),
            (false, true) if self.grace.lasts(now) => Err(Status::Grace),
            (false, true) => Ok(()),
        }
    }

    /// Notes that an open began or ended.
    pub fn count_opens(&mut self, client: u64, closed: usize, opened: usize) {
        if let Some(client) = self.clients.get_mut(client) {
            client.opens = client.opens + opened - closed;
        }
    }
}

#[cfg(test)]
mod tests;
