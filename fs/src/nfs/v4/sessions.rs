//! Sessions: slots on which every request is done exactly once.
//!
//! RFC 8881, 2.10.6 and 18.46. A slot remembers the number of its last request
//! and, within what was negotiated, what that was answered.

use std::{collections::HashMap, sync::Arc};

use super::xdr::{Channel, Sequence, SessionId, Status};

/// Requests a client may have under way in one session.
const SLOTS_MAX: u32 = 64;

/// Operations of one request.
const OPERATIONS_MAX: u32 = 128;

/// Largest reply that is kept.
const CACHED_MAX: u32 = 8192;

/// Replies up to this size are kept although the client did not ask.
const SMALL: usize = 512;

/// What does not even hold a SEQUENCE with its RPC header.
const SMALLEST: u32 = 128;

/// Sessions of all clients together.
const SESSIONS_MAX: usize = 16_384;

/// Bytes of kept replies in all; beyond, a retry learns that there is none.
const CACHED_TOTAL: usize = 64 << 20;

/// A session.
#[derive(Debug)]
pub struct Session {
    /// Whose.
    pub client: u64,
    /// What it can carry.
    pub fore: Channel,
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    sequence: u32,
    busy: bool,
    /// Digest of the last request, to tell another that has its number.
    digest: u64,
    reply: Option<Arc<[u8]>>,
}

impl Slot {
    fn cached(&self) -> usize {
        self.reply.as_ref().map_or(0, |reply| reply.len())
    }
}

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is new.
    Run,
    /// It was done: this was the answer.
    Replay(Arc<[u8]>),
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    by_id: HashMap<SessionId, Session>,
    next: u64,
    /// Bytes of all replies that are kept.
    cached: usize,
}

/// What a fore channel can be, given what the client asks and what one request
/// can have on the wire.
///
/// # Errors
/// `TooSmall` for one that could carry nothing.
pub fn negotiate(asked: &Channel, largest: u32) -> Result<Channel, Status> {
    check(asked)?;
    Ok(Channel {
        header_pad: 0,
        max_request: asked.max_request.min(largest),
        max_response: asked.max_response.min(largest),
        max_cached: asked.max_cached.min(CACHED_MAX).min(asked.max_response),
        max_operations: asked.max_operations.min(OPERATIONS_MAX),
        max_requests: asked.max_requests.min(SLOTS_MAX),
        rdma_ird: super::xdr::Array(vec![]),
    })
}

/// Whether a channel could carry anything.
///
/// # Errors
/// `TooSmall`.
pub fn check(asked: &Channel) -> Result<(), Status> {
    let too_small = asked.max_request < SMALLEST
        || asked.max_response < SMALLEST
        || asked.max_operations == 0
        || asked.max_requests == 0;
    match too_small {
        true => Err(Status::TooSmall),
        false => Ok(()),
    }
}

impl Sessions {
    /// Makes a session.
    ///
    /// # Errors
    /// `Delay` when there are too many.
    pub fn add(&mut self, client: u64, fore: Channel) -> Result<SessionId, Status> {
        if self.by_id.len() >= SESSIONS_MAX {
            return Err(Status::Delay);
        }
        self.next += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&client.to_be_bytes());
        id[8..].copy_from_slice(&self.next.to_be_bytes());
        let mut slots = Vec::new();
        slots.resize_with(fore.max_requests as usize, Slot::default);
        let session = Session {
            client,
            fore,
            slots,
        };
        self.by_id.insert(id, session);
        Ok(id)
    }

    /// A session.
    ///
    /// # Errors
    /// `BadSession`.
    pub fn get(&self, id: &SessionId) -> Result<&Session, Status> {
        self.by_id.get(id).ok_or(Status::BadSession)
    }

    /// Ends a session. Requests of it that are under way are answered.
    ///
    /// # Errors
    /// `BadSession`.
    pub fn remove(&mut self, id: &SessionId) -> Result<Session, Status> {
        let session = self.by_id.remove(id).ok_or(Status::BadSession)?;
        self.cached -= session.slots.iter().map(Slot::cached).sum::<usize>();
        Ok(session)
    }

    /// Takes a request to a slot. `digest` stands for its bytes.
    ///
    /// # Errors
    /// `BadSession`, `BadSlot`, `BadHighSlot`, `SeqMisordered`, `Delay` for one
    /// that is being done, `SeqFalseRetry`, `RetryUncachedRep`.
    pub fn begin(&mut self, request: &Sequence, digest: u64) -> Result<Begun, Status> {
        let session = self.by_id.get_mut(&request.session);
        let session = session.ok_or(Status::BadSession)?;
        let slot = session.slots.get_mut(request.slot as usize);
        let slot = slot.ok_or(Status::BadSlot)?;
        if request.sequence == slot.sequence && request.sequence != 0 {
            return match &slot.reply {
                _ if slot.busy => Err(Status::Delay),
                _ if slot.digest != digest => Err(Status::SeqFalseRetry),
                Some(reply) => Ok(Begun::Replay(reply.clone())),
                None => Err(Status::RetryUncachedRep),
            };
        }
        if slot.busy || request.sequence != slot.sequence.wrapping_add(1) {
            return Err(Status::SeqMisordered);
        }
        slot.sequence = request.sequence;
        slot.busy = true;
        slot.digest = digest;
        self.cached -= slot.cached();
        slot.reply = None;
        Ok(Begun::Run)
    }

    /// Ends a request that [`Sessions::begin`] let run.
    pub fn finish(&mut self, request: &Sequence, reply: &[u8]) {
        let Some(session) = self.by_id.get_mut(&request.session) else {
            return;
        };
        let cached = session.fore.max_cached as usize;
        let Some(slot) = session.slots.get_mut(request.slot as usize) else {
            return;
        };
        if slot.sequence != request.sequence {
            return;
        }
        slot.busy = false;
        // One that is larger was refused while it was made, if it was to be kept.
        let keep = match request.cache_this {
            true => reply.len() <= cached.max(SMALL),
            false => reply.len() <= SMALL,
        };
        if keep && self.cached + reply.len() <= CACHED_TOTAL {
            self.cached += reply.len();
            slot.reply = Some(reply.into());
        }
    }

    /// Ends a request that came to no answer.
    pub fn abandon(&mut self, request: &Sequence) {
        let session = self.by_id.get_mut(&request.session);
        let slot = session.and_then(|session| session.slots.get_mut(request.slot as usize));
        if let Some(slot) = slot
            && slot.sequence == request.sequence
        {
            slot.busy = false;
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }
}

impl Session {
    /// The highest slot there is.
    pub fn highest_slot(&self) -> u32 {
        self.fore.max_requests - 1
    }
}

#[cfg(test)]
mod tests;
