//! Clients: who they are, and until when they are believed to live.
//!
//! RFC 8881, 18.35 and 18.36. A record is *unconfirmed* until a session is
//! made for it. One owner has at most one confirmed record and one that is to
//! take its place. Leases end by a heap of deadlines: an entry that comes up
//! too early goes back with the deadline that is true now, so that renewing a
//! lease costs nothing.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::xdr::{ClientOwner, CreatedSession, SessionId, Status, exchange};
use crate::nfs::rpc::Credentials;

/// Most records; further clients are asked to come back later.
const CLIENTS_MAX: usize = 16_384;

/// Who sends requests, as far as its credential tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Flavour of the credential.
    pub flavor: u32,
    /// User, where the flavour has one.
    pub uid: u32,
}

impl Principal {
    /// Of a request.
    pub fn of(credentials: &Credentials) -> Principal {
        match credentials {
            Credentials::None => Principal { flavor: 0, uid: 0 },
            Credentials::Sys { uid, .. } => Principal {
                flavor: 1,
                uid: *uid,
            },
        }
    }
}

/// A client's record.
#[derive(Debug)]
pub struct Client {
    /// Its name for itself.
    pub owner: Arc<[u8]>,
    verifier: [u8; 8],
    principal: Principal,
    /// A session was made for it.
    pub confirmed: bool,
    /// The next CREATE_SESSION has this number.
    sequence: u32,
    /// What the last one was answered.
    replay: Option<CreatedSession>,
    /// Its sessions.
    pub sessions: HashSet<SessionId>,
    /// Opens it has.
    pub opens: usize,
    renewed: Instant,
    /// It has said that it will reclaim nothing more.
    pub reclaimed: bool,
    /// It had state when the server ended, and may have it back.
    pub may_reclaim: bool,
}

impl Client {
    /// Whether others would miss something if it went.
    fn has_state(&self) -> bool {
        !self.sessions.is_empty() || self.opens > 0
    }
}

/// What CREATE_SESSION has to do.
#[derive(Debug)]
pub enum Creation {
    /// Answer what was answered before.
    Replay(CreatedSession),
    /// Make a session. This other record of the same owner goes first.
    Make(Option<u64>),
}

/// What EXCHANGE_ID answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The client's number.
    pub client: u64,
    /// The number of the next CREATE_SESSION.
    pub sequence: u32,
    /// Whether the record is confirmed.
    pub confirmed: bool,
    /// A record that goes, because nobody needs it any more.
    pub gone: Option<u64>,
}

#[derive(Debug, Default)]
struct Records {
    confirmed: Option<u64>,
    unconfirmed: Option<u64>,
}

/// All clients.
#[derive(Debug)]
pub struct Clients {
    by_id: HashMap<u64, Client>,
    by_owner: HashMap<Arc<[u8]>, Records>,
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    lease: Duration,
    next: u64,
}

impl Clients {
    /// None yet. Numbers begin behind `boot`, which no start of the server
    /// before this one has used.
    pub fn new(lease: Duration, boot: u32) -> Clients {
        Clients {
            by_id: HashMap::new(),
            by_owner: HashMap::new(),
            deadlines: BinaryHeap::new(),
            lease,
            next: u64::from(boot) << 32 | 1,
        }
    }

    /// A client.
    pub fn get(&self, id: u64) -> Option<&Client> {
        self.by_id.get(&id)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Client> {
        self.by_id.get_mut(&id)
    }

    /// Extends a lease.
    pub fn renew(&mut self, id: u64, now: Instant) {
        if let Some(client) = self.by_id.get_mut(&id) {
            client.renewed = now;
        }
    }

    /// Finds or makes a record: the cases of RFC 8881, 18.35.4.
    ///
    /// # Errors
    /// `Inval` for flags, `NoEnt`, `NotSame` and `Perm` for an update of what
    /// is not there or another's, `ClidInUse`, `Delay`.
    pub fn exchange(
        &mut self,
        owner: &ClientOwner,
        flags: u32,
        principal: Principal,
        now: Instant,
    ) -> Result<Exchange, Status> {
        if flags & !exchange::ARGUMENTS != 0 {
            return Err(Status::Inval);
        }
        let update = flags & exchange::UPD_CONFIRMED_REC_A != 0;
        let name: Arc<[u8]> = owner.name.0.as_slice().into();
        let confirmed = self.by_owner.get(&name).and_then(|owner| owner.confirmed);
        let known = confirmed.and_then(|id| self.by_id.get(&id).map(|client| (id, client)));
        let Some((id, client)) = known else {
            return match update {
                true => Err(Status::NoEnt),
                false => self.add(name, owner.verifier, principal, now),
            };
        };
        let same = client.verifier == owner.verifier;
        let own = client.principal == principal;
        match (update, same, own) {
            (true, false, _) => Err(Status::NotSame),
            (true, true, false) => Err(Status::Perm),
            (_, true, true) => Ok(Exchange {
                client: id,
                sequence: client.sequence,
                confirmed: true,
                gone: None,
            }),
            // Another's name for itself is the same; it may have it when the
            // first has nothing left.
            (false, _, false) => {
                if client.has_state() && now < client.renewed + self.lease {
                    return Err(Status::ClidInUse);
                }
                let made = self.add(name, owner.verifier, principal, now)?;
                Ok(Exchange {
                    gone: Some(id),
                    ..made
                })
            }
            // It has started again, and says goodbye to the old record with
            // its first session.
            (false, false, true) => self.add(name, owner.verifier, principal, now),
        }
    }

    fn add(
        &mut self,
        owner: Arc<[u8]>,
        verifier: [u8; 8],
        principal: Principal,
        now: Instant,
    ) -> Result<Exchange, Status> {
        let records = self.by_owner.get(&owner);
        if let Some(old) = records.and_then(|records| records.unconfirmed) {
            self.remove(old);
        }
        if self.by_id.len() >= CLIENTS_MAX {
            return Err(Status::Delay);
        }
        let id = self.next;
        self.next += 1;
        self.by_owner.entry(owner.clone()).or_default().unconfirmed = Some(id);
        let client = Client {
            owner,
            verifier,
            principal,
            confirmed: false,
            sequence: 1,
            replay: None,
            sessions: HashSet::new(),
            opens: 0,
            renewed: now,
            reclaimed: false,
            may_reclaim: false,
        };
        self.by_id.insert(id, client);
        self.deadlines.push(Reverse((now + self.lease, id)));
        Ok(Exchange {
            client: id,
            sequence: 1,
            confirmed: false,
            gone: None,
        })
    }

    /// Whether CREATE_SESSION may make a session for a client, or has.
    ///
    /// # Errors
    /// `StaleClientId`, `SeqMisordered`, `ClidInUse`.
    pub fn create_session(
        &self,
        id: u64,
        sequence: u32,
        principal: &Principal,
    ) -> Result<Creation, Status> {
        let client = self.by_id.get(&id).ok_or(Status::StaleClientId)?;
        if sequence == client.sequence.wrapping_sub(1) {
            let replay = client.replay.clone().ok_or(Status::SeqMisordered)?;
            return Ok(Creation::Replay(replay));
        }
        if sequence != client.sequence {
            return Err(Status::SeqMisordered);
        }
        if client.confirmed {
            return Ok(Creation::Make(None));
        }
        if client.principal != *principal {
            return Err(Status::ClidInUse);
        }
        let records = self.by_owner.get(&client.owner);
        Ok(Creation::Make(
            records.and_then(|records| records.confirmed),
        ))
    }

    /// Confirms a client, and notes what its CREATE_SESSION is answered. The
    /// record it replaces is gone by now.
    pub fn created(&mut self, id: u64, answer: &CreatedSession, now: Instant) {
        let Some(client) = self.by_id.get_mut(&id) else {
            return;
        };
        client.sequence = client.sequence.wrapping_add(1);
        client.replay = Some(answer.clone());
        client.sessions.insert(answer.session);
        client.renewed = now;
        if !client.confirmed {
            client.confirmed = true;
            let records = self.by_owner.entry(client.owner.clone()).or_default();
            records.unconfirmed = None;
            records.confirmed = Some(id);
        }
    }

    /// Takes a record away.
    pub fn remove(&mut self, id: u64) -> Option<Client> {
        let client = self.by_id.remove(&id)?;
        if let Some(records) = self.by_owner.get_mut(&client.owner) {
            for slot in [&mut records.confirmed, &mut records.unconfirmed] {
                if *slot == Some(id) {
                    *slot = None;
                }
            }
            if records.confirmed.is_none() && records.unconfirmed.is_none() {
                self.by_owner.remove(&client.owner);
            }
        }
        Some(client)
    }

    /// Whether DESTROY_CLIENTID may take a record away.
    ///
    /// # Errors
    /// `StaleClientId`, `ClientIdBusy`.
    pub fn may_destroy(&self, id: u64) -> Result<(), Status> {
        let client = self.by_id.get(&id).ok_or(Status::StaleClientId)?;
        match client.has_state() {
            true => Err(Status::ClientIdBusy),
            false => Ok(()),
        }
    }

    /// Clients whose lease has ended. They stay until they are removed.
    pub fn expired(&mut self, now: Instant) -> Vec<u64> {
        let mut expired = Vec::new();
        while let Some(Reverse((deadline, id))) = self.deadlines.peek().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.pop();
            let Some(client) = self.by_id.get(&id) else {
                continue;
            };
            let ends = client.renewed + self.lease;
            if ends > now {
                self.deadlines.push(Reverse((ends, id)));
            } else {
                // Comes up again if whoever is told cannot remove it.
                self.deadlines.push(Reverse((now + self.lease, id)));
                expired.push(id);
            }
        }
        expired
    }

    /// Whether a client's lease has ended.
    pub fn has_expired(&self, id: u64, now: Instant) -> bool {
        let client = self.by_id.get(&id);
        client.is_some_and(|client| client.renewed + self.lease <= now)
    }

    /// Whether a client of this name may have state, and is to be on record.
    pub fn is_recorded(&self, owner: &[u8]) -> bool {
        let confirmed = self.by_owner.get(owner).and_then(|owner| owner.confirmed);
        let client = confirmed.and_then(|id| self.by_id.get(&id));
        client.is_some_and(|client| client.reclaimed)
    }

    /// When [`Clients::expired`] may have something to tell.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines
            .peek()
            .map(|Reverse((deadline, _))| *deadline)
    }

    /// How many records there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests;
