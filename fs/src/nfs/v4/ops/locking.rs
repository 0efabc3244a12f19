//! Byte-range locks: RFC 8881, 18.10 to 18.12.

use std::sync::Arc;

use kiseki_core::{engine::Attr, ids::Ino};

use crate::nfs::{
    locks::{Held, Owner, Range, Refused},
    v4::{
        compound::Compound,
        failure::{Failure, Outcome},
        opens::{Other, READ, WRITE},
        xdr::{
            Blob, Denied, Lock, LockKind, LockTest, Locker, StateId, StateOwner, Status, Unlock,
        },
    },
};

impl Compound<'_> {
    pub(in crate::nfs::v4) async fn lock(&mut self, asked: &Lock) -> Outcome<StateId> {
        let (_, file) = self.regular().await?;
        let range = range(asked.offset, asked.length)?;
        let stateid = self.take_lock(&file, asked, range)?;
        self.set_stateid(stateid);
        Ok(stateid)
    }

    fn take_lock(&self, file: &Attr, asked: &Lock, range: Range) -> Outcome<StateId> {
        let (service, client) = (self.service, self.client()?);
        let exclusive = asked.kind.exclusive();
        let mut state = service.state.lock();
        state.may_have(client, asked.reclaim, service.now())?;
        let needed = if exclusive { WRITE } else { READ };
        let (locker, owner) = match &asked.locker {
            Locker::New(new) => {
                let open = self.meant(new.open)?;
                state.opens.may_access(&open, client, file.ino, needed)?;
                let name = &new.owner.name.0;
                let locker = state.opens.locker(&open, client, file.ino, name)?;
                (locker, self.lock_owner(client, name))
            }
            Locker::Known(known) => {
                let stateid = self.meant(known.stateid)?;
                state.opens.may_access(&stateid, client, file.ino, needed)?;
                let found = state.opens.of_file(&stateid, client, file.ino)?;
                if found.is_open() {
                    return Err(Status::BadStateId.into());
                }
                (stateid.other, self.lock_owner(client, &found.owner))
            }
        };
        let taken = self
            .nfs
            .locks
            .lock()
            .lock(file.ino, &owner, range, exclusive);
        if let Err(refused) = taken {
            state.opens.forget_unused(locker);
            return Err(refusal(refused));
        }
        Ok(state.opens.locks_changed(locker)?)
    }

    pub(in crate::nfs::v4) async fn lock_test(&mut self, asked: &LockTest) -> Outcome {
        let (_, file) = self.regular().await?;
        let (service, client) = (self.service, self.client()?);
        let range = range(asked.offset, asked.length)?;
        if service.state.lock().grace.lasts(service.now()) {
            return Err(Status::Grace.into());
        }
        let owner = self.lock_owner(client, &asked.owner.name.0);
        let locks = self.nfs.locks.lock();
        match locks.conflict(file.ino, &owner, range, asked.kind.exclusive()) {
            Some(held) => Err(denied(held.clone())),
            None => Ok(()),
        }
    }

    pub(in crate::nfs::v4) async fn unlock(&mut self, asked: &Unlock) -> Outcome<StateId> {
        let (service, client, file) = (self.service, self.client()?, self.current()?.ino());
        let range = range(asked.offset, asked.length)?;
        let stateid = self.meant(asked.stateid)?;
        let answer = {
            let mut state = service.state.lock();
            let (locker, owner) = self.known_locker(&state, &stateid, client, file)?;
            self.nfs.locks.lock().unlock(file, &owner, range);
            state.opens.locks_changed(locker)?
        };
        self.set_stateid(answer);
        Ok(answer)
    }

    fn known_locker(
        &self,
        state: &crate::nfs::v4::state::State,
        stateid: &StateId,
        client: u64,
        file: Ino,
    ) -> Outcome<(Other, Owner)> {
        let found = state.opens.of_file(stateid, client, file)?;
        match found.is_open() {
            true => Err(Status::BadStateId.into()),
            false => Ok((stateid.other, self.lock_owner(client, &found.owner))),
        }
    }

    /// An owner of locks of this client.
    pub(in crate::nfs::v4) fn lock_owner(&self, client: u64, name: &[u8]) -> Owner {
        Owner::V4 {
            client,
            name: Arc::from(name),
        }
    }
}

fn range(offset: u64, length: u64) -> Outcome<Range> {
    Ok(Range::new(offset, length).ok_or(Status::Inval)?)
}

fn refusal(refused: Refused) -> Failure {
    match refused {
        Refused::Conflict(held) => denied(held),
        // There is no better word for it; some will be given up.
        Refused::Full => Status::Delay.into(),
    }
}

fn denied(held: Held) -> Failure {
    let kind = match held.exclusive {
        true => LockKind::Write,
        false => LockKind::Read,
    };
    let (client, name) = match held.owner {
        Owner::V4 { client, name } => (client, name),
        Owner::Nlm { handle, .. } => (0, handle),
    };
    Failure::Denied(Box::new(Denied {
        offset: held.range.start,
        length: held.range.length(),
        kind,
        owner: StateOwner {
            client,
            name: Blob(name.to_vec()),
        },
    }))
}
