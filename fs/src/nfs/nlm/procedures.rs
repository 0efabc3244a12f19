//! The procedures of NLM.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use kiseki_core::{Error, ids::Ino, meta::Kind};
use nfs3_types::xdr_codec::{Pack, Unpack, Void};

use super::{
    counted::Procedure,
    hosts::Admission,
    shares::{Refused as NotShared, Sharer},
    waiting::Wanted,
    xdr::{
        CancelArgs, Holder, Lock, LockArgs, Object, Reply, ShareArgs, ShareReply, Started, Status,
        TestArgs, TestReply, Tested, UnlockArgs,
    },
};
use crate::nfs::{
    Nfs,
    fail::Fail,
    locks::{Held, Host, Owner, Range, Refused},
    rpc::{Call, Credentials, Failure, Outcome},
    server::Peer,
    xdr::{self, Blob},
};

/// Longest name of an owner that is kept with its locks. Clients have some 80
/// bytes.
const OWNER_MAX: usize = 256;

/// Why a procedure does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It says so.
    Status(Status),
    /// It says nothing: the client will ask again.
    Later,
}

type Done<T = ()> = Result<T, Refusal>;

impl From<Status> for Refusal {
    fn from(status: Status) -> Refusal {
        Refusal::Status(status)
    }
}

impl From<Fail> for Refusal {
    fn from(fail: Fail) -> Refusal {
        match fail {
            // The next server will answer.
            Fail::Engine(Error::Closed) => Refusal::Later,
            Fail::Stale | Fail::BadHandle => Status::StaleHandle.into(),
            Fail::Engine(error) => {
                tracing::error!("answering NLM4_FAILED: {error}");
                Status::Failed.into()
            }
            _ => Status::Failed.into(),
        }
    }
}

/// One request.
#[derive(Clone, Copy)]
struct Request<'a> {
    nfs: &'a Nfs,
    peer: &'a Peer,
    credentials: &'a Credentials,
}

/// Answers a call.
pub(in crate::nfs) async fn call(nfs: &Nfs, peer: &Peer, call: Call) -> Outcome {
    let Some(procedure) = Procedure::numbered(call.procedure) else {
        return Outcome::Failed(Failure::NoProcedure);
    };
    let credentials = match &call.credentials {
        Ok(credentials) => credentials,
        Err(error) => return Outcome::Denied(*error),
    };
    let request = Request {
        nfs,
        peer,
        credentials,
    };
    let arguments = call.arguments.clone();
    let began = Instant::now();
    let carry_out = request.carry_out(procedure, arguments);
    let outcome = match procedure.only_once() {
        true => nfs.answered.once(peer.address.ip(), &call, carry_out).await,
        false => carry_out.await,
    };
    nfs.nlm.stats.record(procedure, began.elapsed(), false, 0);
    outcome
}

impl Request<'_> {
    async fn carry_out(self, procedure: Procedure, arguments: Bytes) -> Outcome {
        use Procedure as P;
        match procedure {
            P::Null => Outcome::Done(Vec::new()),
            P::Test => with(arguments, |a| self.test(a)).await,
            P::Lock => with(arguments, |a| self.lock(a)).await,
            P::NmLock => {
                // The same, for clients that are not told when the server
                // starts again.
                let asks_once = |a| LockArgs { block: false, ..a };
                with(arguments, |a| self.lock(asks_once(a))).await
            }
            P::Cancel => with(arguments, |a| self.cancel(a)).await,
            P::Unlock => with(arguments, |a| self.unlock(a)).await,
            P::Share => with(arguments, |a| self.share(a)).await,
            P::Unshare => with(arguments, |a| self.unshare(a)).await,
            P::FreeAll => with(arguments, |a| self.free_all(a)).await,
        }
    }

    async fn test(self, asked: TestArgs) -> Done<TestReply> {
        let status = match self.look(&asked).await {
            Ok(None) => Tested::Granted,
            Ok(Some(held)) => Tested::Denied(holder(&held)),
            Err(Refusal::Later) => return Err(Refusal::Later),
            Err(Refusal::Status(status)) => match status {
                Status::DeniedNoLocks => Tested::DeniedNoLocks,
                Status::DeniedGracePeriod => Tested::DeniedGracePeriod,
                Status::StaleHandle => Tested::StaleHandle,
                Status::TooBig => Tested::TooBig,
                _ => Tested::Failed,
            },
        };
        Ok(TestReply {
            cookie: asked.cookie,
            status,
        })
    }

    /// The lock that is in the way.
    async fn look(self, asked: &TestArgs) -> Done<Option<Held>> {
        let (owner, range) = self.meant(&asked.lock)?;
        let file = self.lockable(&asked.lock.file).await?;
        if self.nfs.v4.in_grace() {
            return Err(Status::DeniedGracePeriod.into());
        }
        let locks = self.nfs.locks.lock();
        let held = locks.conflict(file, &owner, range, asked.exclusive);
        Ok(held.cloned())
    }

    async fn lock(self, asked: LockArgs) -> Done<Reply> {
        let done = self.take(&asked).await;
        reply(asked.cookie, done)
    }

    async fn take(self, asked: &LockArgs) -> Done {
        let (owner, range) = self.meant(&asked.lock)?;
        let file = self.lockable(&asked.lock.file).await?;
        let owner = self.admit(owner, asked.reclaim, asked.state).await?;
        let mut waiting = self.nfs.nlm.waiting.lock();
        let mut locks = self.nfs.locks.lock();
        waiting.heard(file, &owner, range);
        match locks.lock(file, &owner, range, asked.exclusive) {
            Ok(()) => Ok(()),
            Err(Refused::Full) => Err(Status::DeniedNoLocks.into()),
            Err(Refused::Conflict(_)) if !asked.block => Err(Status::Denied.into()),
            Err(Refused::Conflict(_)) => {
                let wanted = Wanted {
                    file,
                    owner,
                    range,
                    exclusive: asked.exclusive,
                    asked: asked.lock.clone(),
                    server: self.peer.server,
                };
                waiting.add(wanted, &locks);
                Err(Status::Blocked.into())
            }
        }
    }

    async fn cancel(self, asked: CancelArgs) -> Done<Reply> {
        let done = self.known(&asked.lock).and_then(|(file, owner, range)| {
            let mut waiting = self.nfs.nlm.waiting.lock();
            let mut locks = self.nfs.locks.lock();
            match waiting.cancel(file, &owner, range, &mut locks) {
                true => Ok(()),
                false => Err(Status::Denied.into()),
            }
        });
        reply(asked.cookie, done)
    }

    async fn unlock(self, asked: UnlockArgs) -> Done<Reply> {
        let done = self.known(&asked.lock).map(|(file, owner, range)| {
            let mut waiting = self.nfs.nlm.waiting.lock();
            waiting.heard(file, &owner, range);
            self.nfs.locks.lock().unlock(file, &owner, range);
        });
        reply(asked.cookie, done)
    }

    async fn share(self, asked: ShareArgs) -> Done<ShareReply> {
        let done = self.take_share(&asked).await;
        share_reply(asked.cookie, done)
    }

    async fn take_share(self, asked: &ShareArgs) -> Done {
        let file = self.lockable(&asked.file).await?;
        let owner = self.owner(&asked.host.0, 0, &asked.owner.0)?;
        let Owner::Nlm { host, handle, .. } = self.admit(owner, asked.reclaim, 0).await? else {
            return Err(Status::Failed.into());
        };
        let sharer = Sharer { host, handle };
        let mut shares = self.nfs.nlm.shares.lock();
        let shared = shares.share(file, sharer, asked.access, asked.deny);
        Ok(shared.map_err(|refused| match refused {
            NotShared::Conflict => Status::Denied,
            NotShared::Full => Status::DeniedNoLocks,
        })?)
    }

    async fn unshare(self, asked: ShareArgs) -> Done<ShareReply> {
        let file = self.nfs.handles.open(&asked.file.0).map_err(Fail::from);
        let done = file.map_err(Refusal::from).map(|handle| {
            let sharer = Sharer {
                host: self.host(&asked.host.0),
                handle: asked.owner.0.as_slice().into(),
            };
            self.nfs.nlm.shares.lock().unshare(handle.ino, &sharer);
        });
        share_reply(asked.cookie, done)
    }

    async fn free_all(self, asked: Started) -> Done<Void> {
        // Said by who wants its locks gone, whether it has started or not.
        let address = self.peer.address.ip();
        self.nfs.host_started(address, &asked.host.0, None);
        Ok(Void)
    }

    /// A file that this user may lock: one that he may read or write. Which of
    /// it he needs for which lock was for his kernel to see, when he opened it.
    async fn lockable(self, handle: &Object) -> Done<Ino> {
        let target = self.nfs.target(self.peer, self.credentials, &handle.0)?;
        let attr = self.nfs.linked(target.ino()).await?;
        if attr.kind != Kind::File {
            return Err(Status::Failed.into());
        }
        let volume = &self.nfs.volume;
        if target.who.check_read(volume, &attr).await.is_err() {
            target.who.check_write(volume, &attr).await?;
        }
        Ok(attr.ino)
    }

    /// What a client gives up is its own, whatever it may do by now.
    fn known(self, lock: &Lock) -> Done<(Ino, Owner, Range)> {
        let handle = self.nfs.handles.open(&lock.file.0).map_err(Fail::from)?;
        let (owner, range) = self.meant(lock)?;
        Ok((handle.ino, owner, range))
    }

    fn meant(self, lock: &Lock) -> Done<(Owner, Range)> {
        let range = lock.range().ok_or(Status::TooBig)?;
        let process = lock.process.cast_signed();
        Ok((self.owner(&lock.host.0, process, &lock.owner.0)?, range))
    }

    fn owner(self, host: &[u8], process: i32, handle: &[u8]) -> Done<Owner> {
        if handle.len() > OWNER_MAX {
            return Err(Status::DeniedNoLocks.into());
        }
        Ok(Owner::Nlm {
            host: self.host(host),
            process,
            handle: handle.into(),
        })
    }

    fn host(self, name: &[u8]) -> Arc<Host> {
        Arc::new(Host {
            address: self.peer.address.ip(),
            name: name.into(),
        })
    }

    /// Whether an owner may have something now: something new, or with
    /// `reclaim` something back. Its machine, which says that it is in this
    /// state, is on record then.
    async fn admit(self, owner: Owner, reclaim: bool, state: u32) -> Done<Owner> {
        let Owner::Nlm {
            host,
            process,
            handle,
        } = owner
        else {
            return Err(Status::Failed.into());
        };
        let service = &self.nfs.nlm;
        match (self.nfs.v4.in_grace(), reclaim) {
            (true, false) => return Err(Status::DeniedGracePeriod.into()),
            // Others may have had it since.
            (false, true) => return Err(Status::Denied.into()),
            (true, true) if !service.hosts.lock().knows(&host) => {
                return Err(Status::Denied.into());
            }
            _ => {}
        }
        let admission = service.admit(&host, self.peer.server, state).await;
        let host = match admission.map_err(Fail::from)? {
            Admission::Known(host) | Admission::New(host) => host,
            Admission::Later => return Err(Refusal::Later),
            Admission::Full => return Err(Status::DeniedNoLocks.into()),
        };
        Ok(Owner::Nlm {
            host,
            process,
            handle,
        })
    }
}

/// Decodes arguments, and encodes what is made of them.
async fn with<A: Unpack, R: Pack, F: Future<Output = Done<R>>>(
    arguments: Bytes,
    carry_out: impl FnOnce(A) -> F,
) -> Outcome {
    match xdr::all(arguments) {
        Ok(arguments) => match carry_out(arguments).await {
            Ok(results) => Outcome::done(&results),
            Err(_) => Outcome::Dropped,
        },
        Err(_) => Outcome::Failed(Failure::Garbage),
    }
}

fn status(done: Done) -> Done<Status> {
    match done {
        Ok(()) => Ok(Status::Granted),
        Err(Refusal::Status(status)) => Ok(status),
        Err(Refusal::Later) => Err(Refusal::Later),
    }
}

fn reply(cookie: Object, done: Done) -> Done<Reply> {
    let status = status(done)?;
    Ok(Reply { cookie, status })
}

fn share_reply(cookie: Object, done: Done) -> Done<ShareReply> {
    Ok(ShareReply {
        cookie,
        status: status(done)?,
        sequence: 0,
    })
}

/// Who is in the way. An owner of version 4 has no process.
fn holder(held: &Held) -> Holder {
    let (process, owner) = match &held.owner {
        Owner::Nlm {
            process, handle, ..
        } => (process.cast_unsigned(), handle),
        Owner::V4 { name, .. } => (0, name),
    };
    Holder {
        exclusive: held.exclusive,
        process,
        owner: Blob(owner.to_vec()),
        offset: held.range.start,
        length: match held.range.length() {
            u64::MAX => 0,
            length => length,
        },
    }
}
