//! COMPOUND: operations one after the other, up to the first that fails.
//!
//! RFC 8881, 2.10.6 and 16.2. A handle, a saved one and their stateids go from
//! one operation to the next. Arguments are decoded as they come up, so that
//! what precedes a damaged operation is done and told.

mod dispatch;
mod reply;

use std::{sync::Arc, time::Instant};

use kiseki_core::{
    Error,
    engine::{self, Attr, Volume},
    ids::Ino,
};

pub use reply::Reply;

use super::{
    Service,
    clients::Principal,
    counted::Op,
    failure::{Failure, Outcome},
    sessions::Begun,
    xdr::{
        CompoundHead, Operation, Sequence, SessionId, StateId, Status, is_text, number, put, take,
    },
};
use crate::nfs::{Nfs, Target, caller::Identity, handle::Handle, rpc::Credentials, server::Peer};

/// One request on its way through its operations.
pub struct Compound<'a> {
    pub(super) nfs: &'a Nfs,
    pub(super) service: &'a Service,
    pub(super) volume: &'a Volume,
    pub(super) peer: &'a Peer,
    pub(super) credentials: &'a Credentials,
    pub(super) principal: Principal,
    /// Whose session it came in.
    pub(super) session: Option<(SessionId, u64)>,
    pub(super) current: Option<File>,
    pub(super) saved: Option<File>,
}

/// A handle with the stateid that goes along with it.
#[derive(Clone, Debug)]
pub struct File {
    pub target: Arc<Target>,
    pub stateid: Option<StateId>,
}

/// The arguments are none of a COMPOUND.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage;

/// Frees the slot of a request that nobody waits for any more.
struct Running<'a> {
    service: &'a Service,
    request: Sequence,
    done: bool,
}

impl Running<'_> {
    fn finish(mut self, reply: &[u8]) {
        self.done = true;
        let mut state = self.service.state.lock();
        state.sessions.finish(&self.request, reply);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.done {
            let mut state = self.service.state.lock();
            state.sessions.abandon(&self.request);
        }
    }
}

/// What the first operation decided.
enum Start<'a> {
    /// To go on in a session.
    Session(Running<'a>, Limits),
    /// To do the only operation.
    Alone,
    /// To answer this and do nothing.
    Answer(Arc<[u8]>),
    /// The first operation failed, or there is none.
    Fail(u32, Status),
}

/// What a session allows.
struct Limits {
    reply: usize,
    /// What a reply that is too long is called.
    too_big: Status,
}

/// Bytes in front of COMPOUND's results in a reply.
const RPC_REPLY_HEADER: usize = 24;

/// Bytes of SEQUENCE's results.
const SEQUENCE_RESULT: usize = 44;

/// Bytes in front of COMPOUND's arguments in a request, at least.
const RPC_CALL_HEADER: usize = 40;

/// Runs a COMPOUND.
///
/// # Errors
/// [`Garbage`].
pub async fn compound(
    nfs: &Nfs,
    peer: &Peer,
    credentials: &Credentials,
    arguments: &[u8],
) -> Result<Vec<u8>, Garbage> {
    let mut input = arguments;
    let head: CompoundHead = take(&mut input).map_err(|_| Garbage)?;
    let refusal = match head.minor {
        _ if !is_text(&head.tag.0) => Some(Status::Inval),
        1 | 2 => None,
        _ => Some(Status::MinorVersMismatch),
    };
    let mut reply = Reply::new(head.tag.clone());
    if let Some(status) = refusal {
        return Ok(reply.end(status));
    }
    if head.operations == 0 {
        return Ok(reply.end(Status::Ok));
    }
    let mut run = Compound {
        nfs,
        service: &nfs.v4,
        volume: &nfs.volume,
        peer,
        credentials,
        principal: Principal::of(credentials),
        session: None,
        current: None,
        saved: None,
    };
    let digest = xxhash_rust::xxh3::xxh3_64(arguments);
    match run.start(&head, &mut input, digest, arguments.len(), &mut reply) {
        Start::Answer(cached) => Ok(cached.to_vec()),
        Start::Fail(operation, status) => {
            reply.fail(operation, status);
            Ok(reply.end(status))
        }
        Start::Alone => {
            let status = run.step(&head, 0, &mut input, &mut reply).await;
            Ok(reply.end(status))
        }
        Start::Session(running, limits) => {
            let status = run.rest(&head, &mut input, &mut reply, &limits).await;
            let bytes = reply.end(status);
            running.finish(&bytes);
            Ok(bytes)
        }
    }
}

impl<'a> Compound<'a> {
    /// The first operation: a SEQUENCE, or one that needs none.
    fn start(
        &mut self,
        head: &CompoundHead,
        input: &mut &[u8],
        digest: u64,
        length: usize,
        reply: &mut Reply,
    ) -> Start<'a> {
        let first: u32 = match take(&mut &**input) {
            Ok(first) => first,
            Err(status) => return Start::Fail(number::ILLEGAL, status),
        };
        match first {
            number::SEQUENCE => {}
            number::EXCHANGE_ID
            | number::CREATE_SESSION
            | number::DESTROY_SESSION
            | number::BIND_CONN_TO_SESSION
            | number::DESTROY_CLIENTID => {
                return match head.operations {
                    1 => Start::Alone,
                    _ => Start::Fail(first, Status::NotOnlyOp),
                };
            }
            known if known <= last(head.minor) && known >= number::FIRST => {
                return Start::Fail(first, Status::OpNotInSession);
            }
            _ => return Start::Fail(number::ILLEGAL, Status::OpIllegal),
        }
        let request = match take(input) {
            Ok(Operation::Sequence(request)) => request,
            _ => return Start::Fail(first, Status::BadXdr),
        };
        match self.sequence(&request, head, digest, length, reply) {
            Ok(start) => start,
            Err(status) => Start::Fail(first, status),
        }
    }

    fn sequence(
        &mut self,
        request: &Sequence,
        head: &CompoundHead,
        digest: u64,
        length: usize,
        reply: &mut Reply,
    ) -> Result<Start<'a>, Status> {
        let service = self.service;
        let mut state = service.state.lock();
        let session = state.sessions.get(&request.session)?;
        let (client, fore) = (session.client, session.fore.clone());
        let highest = session.highest_slot();
        if length + RPC_CALL_HEADER > fore.max_request as usize {
            return Err(Status::ReqTooBig);
        }
        if head.operations > fore.max_operations {
            return Err(Status::TooManyOps);
        }
        let (most, too_big) = match request.cache_this {
            true => (
                fore.max_cached.min(fore.max_response),
                Status::RepTooBigToCache,
            ),
            false => (fore.max_response, Status::RepTooBig),
        };
        let limits = Limits {
            reply: (most as usize).saturating_sub(RPC_REPLY_HEADER),
            too_big,
        };
        // The slot stays as it was, so that another request can come.
        if reply.len() + SEQUENCE_RESULT > limits.reply {
            return Err(too_big);
        }
        state.clients.renew(client, service.now());
        if let Begun::Replay(cached) = state.sessions.begin(request, digest)? {
            return Ok(Start::Answer(cached));
        }
        drop(state);
        let running = Running {
            service,
            request: request.clone(),
            done: false,
        };
        self.session = Some((request.session, client));
        reply.begin(number::SEQUENCE);
        let body = super::xdr::Sequenced {
            session: request.session,
            sequence: request.sequence,
            slot: request.slot,
            highest_slot: highest,
            target_highest_slot: highest,
            status_flags: 0,
        };
        put(reply.body(), &body)?;
        reply.succeed();
        Ok(Start::Session(running, limits))
    }

    /// Operations behind SEQUENCE.
    async fn rest(
        &mut self,
        head: &CompoundHead,
        input: &mut &[u8],
        reply: &mut Reply,
        limits: &Limits,
    ) -> Status {
        reply.limit(limits.reply, limits.too_big);
        for index in 1..head.operations {
            let status = self.step(head, index, input, reply).await;
            if status != Status::Ok {
                return status;
            }
        }
        Status::Ok
    }

    /// One operation.
    async fn step(
        &mut self,
        head: &CompoundHead,
        index: u32,
        input: &mut &[u8],
        reply: &mut Reply,
    ) -> Status {
        let operation: u32 = match take(&mut &**input) {
            Ok(known) if known <= last(head.minor) && known >= number::FIRST => known,
            Ok(_) => return reply.fail(number::ILLEGAL, Status::OpIllegal),
            Err(status) => return reply.fail(number::ILLEGAL, status),
        };
        if self.session.is_some()
            && let Err(status) = in_place(operation)
        {
            return reply.fail(operation, status);
        }
        if !dispatch::is_served(operation) {
            return reply.fail(operation, Status::NotSupp);
        }
        let arguments: Operation = match take(input) {
            Ok(arguments) => arguments,
            Err(status) => return reply.fail(operation, status),
        };
        if let Operation::DestroySession(id) = &arguments
            && self.session.is_some_and(|(session, _)| session == *id)
            && index + 1 != head.operations
        {
            return reply.fail(operation, Status::NotOnlyOp);
        }
        if reply.is_short() && dispatch::changes_something(&arguments) {
            // What is done must be told, and it could not be.
            return reply.overflow(operation);
        }
        reply.begin(operation);
        let began = Instant::now();
        let outcome = self.run(arguments, reply).await;
        let stats = &self.service.stats;
        stats.record(Op::of(operation), began.elapsed(), false, 0);
        match outcome {
            Ok(()) => reply.succeed(),
            Err(failure) => reply.fail_with(&failure),
        }
    }

    /// The current file.
    ///
    /// # Errors
    /// `NoFileHandle`.
    pub(super) fn current(&self) -> Outcome<Arc<Target>> {
        let file = self.current.as_ref().ok_or(Status::NoFileHandle)?;
        Ok(file.target.clone())
    }

    /// The saved file.
    ///
    /// # Errors
    /// `NoFileHandle`.
    pub(super) fn saved(&self) -> Outcome<Arc<Target>> {
        let file = self.saved.as_ref().ok_or(Status::NoFileHandle)?;
        Ok(file.target.clone())
    }

    /// The current file with its attributes.
    ///
    /// # Errors
    /// `NoFileHandle`, `Stale`.
    pub(super) async fn current_attr(&self) -> Outcome<(Arc<Target>, Attr)> {
        let target = self.current()?;
        let attr = self.attr(target.ino()).await?;
        Ok((target, attr))
    }

    /// Attributes of a file that a handle stands for.
    ///
    /// # Errors
    /// `Stale`.
    pub(super) async fn attr(&self, ino: Ino) -> Outcome<Attr> {
        self.volume.getattr(ino).await.map_err(Failure::of_file)
    }

    /// Makes another file of the same export the current one.
    pub(super) fn go_to(&mut self, from: &Target, ino: Ino) {
        let handle = Handle {
            root: from.handle.root,
            ino,
        };
        self.arrive(Target {
            handle,
            ..from.clone()
        });
    }

    /// Makes a file the current one.
    pub(super) fn arrive(&mut self, target: Target) {
        self.current = Some(File {
            target: Arc::new(target),
            stateid: None,
        });
    }

    /// Where the tree begins for this client.
    ///
    /// # Errors
    /// `Access` where nothing is exported to it.
    pub(super) async fn root(&self) -> Outcome<Target> {
        let reached = self
            .nfs
            .exports
            .reach(self.volume, self.peer.address.ip(), b"/");
        let terms = match reached.await {
            Ok((terms, _)) => terms,
            Err(Error::NotPermitted) => return self.above().await,
            Err(error) => return Err(error.into()),
        };
        Ok(Target {
            handle: Handle {
                root: terms.root,
                ino: terms.root,
            },
            who: Identity::of(self.credentials, terms.squash),
            terms,
        })
    }

    /// Gives the current file a stateid for operations that follow.
    pub(super) fn set_stateid(&mut self, stateid: StateId) {
        if let Some(file) = &mut self.current {
            file.stateid = Some(stateid);
        }
    }

    /// The stateid that is meant: that of the compound for the one that stands for it.
    ///
    /// # Errors
    /// `BadStateId`.
    pub(super) fn meant(&self, stateid: StateId) -> Outcome<StateId> {
        match stateid {
            StateId::CURRENT => {
                let current = self.current.as_ref().and_then(|file| file.stateid);
                let current = current.ok_or(Status::BadStateId)?;
                // Whatever it has become meanwhile.
                Ok(StateId {
                    sequence: 0,
                    ..current
                })
            }
            other => Ok(other),
        }
    }

    /// The client of the session.
    ///
    /// # Errors
    /// `OpNotInSession`.
    pub(super) fn client(&self) -> Outcome<u64> {
        let (_, client) = self.session.ok_or(Status::OpNotInSession)?;
        Ok(client)
    }

    /// Who asks, for the engine.
    pub(super) fn acting(&self, target: &Target) -> engine::Caller {
        target.who.caller(self.nfs.front)
    }

    /// Makes what was done durable, and known to other front ends.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) async fn settle(&self, ino: Ino) -> Outcome {
        Ok(self.nfs.settle(ino).await?)
    }
}

/// The last operation of a minor version.
fn last(minor: u32) -> u32 {
    match minor {
        1 => number::LAST,
        _ => number::LAST_OF_2,
    }
}

/// Operations that have no place behind SEQUENCE.
fn in_place(operation: u32) -> Result<(), Status> {
    match operation {
        number::SEQUENCE => Err(Status::SequencePos),
        number::BIND_CONN_TO_SESSION => Err(Status::NotOnlyOp),
        _ => Ok(()),
    }
}
