//! Clients and sessions: RFC 8881, 18.33 to 18.37, 18.50 and 18.51.

use crate::nfs::v4::{
    clients::Creation,
    compound::Compound,
    failure::Outcome,
    sessions,
    xdr::{
        Array, BindConn, Blob, CONN_BACK_CHAN, CREATE_SESSION_FLAGS, CreateSession, CreatedSession,
        ExchangeId, Exchanged, Protection, ServerOwner, SessionId, Status, exchange,
    },
};

/// Directions of BIND_CONN_TO_SESSION.
const FORE: u32 = 1;
const BACK: u32 = 2;
const FORE_OR_BOTH: u32 = 3;
const BACK_OR_BOTH: u32 = 7;
const BOTH: u32 = 3;

impl Compound<'_> {
    pub(in crate::nfs::v4) async fn exchange(&mut self, asked: &ExchangeId) -> Outcome<Exchanged> {
        match asked.protection {
            Protection::None => {}
            // Credentials here prove nothing that could be enforced.
            Protection::MachineCredential(_) => return Err(Status::Inval.into()),
            Protection::Secret(_) => return Err(Status::EncrAlgUnsupp.into()),
        }
        let service = self.service;
        let (made, gone) = {
            let mut state = service.state.lock();
            let principal = self.principal.clone();
            let now = service.now();
            let made = state
                .clients
                .exchange(&asked.owner, asked.flags, principal, now)?;
            let gone = made.gone.and_then(|gone| state.remove_client(gone));
            (made, gone)
        };
        if let Some(gone) = gone {
            self.nfs.let_go(gone.closed).await;
        }
        let confirmed = match made.confirmed {
            true => exchange::CONFIRMED_R,
            false => 0,
        };
        Ok(Exchanged {
            client: made.client,
            sequence: made.sequence,
            flags: exchange::USE_NON_PNFS | confirmed,
            protection: Protection::None,
            server: ServerOwner {
                minor: 0,
                major: Blob(service.identity.to_vec()),
            },
            scope: Blob(service.identity.to_vec()),
            implementation: Array(vec![]),
        })
    }

    pub(in crate::nfs::v4) async fn create_session(
        &mut self,
        asked: &CreateSession,
    ) -> Outcome<CreatedSession> {
        let service = self.service;
        let (answer, gone) = {
            let mut state = service.state.lock();
            let principal = &self.principal;
            let creation = state
                .clients
                .create_session(asked.client, asked.sequence, principal)?;
            let replaced = match creation {
                Creation::Replay(answer) => return Ok(answer),
                Creation::Make(replaced) => replaced,
            };
            if asked.flags & !CREATE_SESSION_FLAGS != 0 {
                return Err(Status::Inval.into());
            }
            let fore = sessions::negotiate(&asked.fore, service.largest)?;
            sessions::check(&asked.back)?;
            let session = state.sessions.add(asked.client, fore.clone())?;
            let gone = replaced.and_then(|replaced| state.remove_client(replaced));
            let answer = CreatedSession {
                session,
                sequence: asked.sequence,
                flags: asked.flags & CONN_BACK_CHAN,
                fore,
                back: asked.back.clone(),
            };
            let now = service.now();
            state.clients.created(asked.client, &answer, now);
            let grace = &state.grace;
            let owner = state
                .clients
                .get(asked.client)
                .map(|client| client.owner.clone());
            let known = owner.is_some_and(|owner| grace.knows(&owner));
            if let Some(client) = state.clients.get_mut(asked.client) {
                client.may_reclaim = known;
            }
            (answer, gone)
        };
        if let Some(gone) = gone {
            self.nfs.let_go(gone.closed).await;
        }
        Ok(answer)
    }

    pub(in crate::nfs::v4) fn destroy_session(&mut self, id: &SessionId) -> Outcome {
        Ok(self.service.state.lock().remove_session(id)?)
    }

    /// Connections are not told apart: each may carry any session.
    pub(in crate::nfs::v4) fn bind_connection(&mut self, asked: BindConn) -> Outcome<BindConn> {
        self.service.state.lock().sessions.get(&asked.session)?;
        let direction = match asked.direction {
            direction @ (FORE | BACK) => direction,
            FORE_OR_BOTH | BACK_OR_BOTH => BOTH,
            _ => return Err(Status::Inval.into()),
        };
        Ok(BindConn {
            direction,
            rdma: false,
            ..asked
        })
    }

    /// Taken and not used: nothing is ever called back.
    pub(in crate::nfs::v4) fn backchannel(&mut self) -> Outcome {
        self.client().map(drop)
    }

    pub(in crate::nfs::v4) async fn destroy_client(&mut self, id: u64) -> Outcome {
        let service = self.service;
        let gone = {
            let mut state = service.state.lock();
            state.clients.may_destroy(id)?;
            let gone = state.remove_client(id).ok_or(Status::StaleClientId)?;
            if gone.recorded {
                state.grace.done(&gone.owner);
            }
            gone
        };
        if gone.recorded {
            // It has nothing that could be lost if this fails.
            service.records.forget(&[gone.owner]).await?;
        }
        Ok(())
    }

    pub(in crate::nfs::v4) async fn reclaim_complete(&mut self, one_fs: bool) -> Outcome {
        let id = self.client()?;
        if one_fs {
            // There is one filesystem, and nothing ever moves to it.
            return self.current().map(drop);
        }
        let service = self.service;
        let owner = {
            let state = service.state.lock();
            let client = state.clients.get(id).ok_or(Status::StaleClientId)?;
            if client.reclaimed {
                return Err(Status::CompleteAlready.into());
            }
            client.owner.clone()
        };
        // From here on it may get something that it would want back.
        service.records.keep(&owner).await?;
        let mut state = service.state.lock();
        state.grace.done(&owner);
        let client = state.clients.get_mut(id).ok_or(Status::StaleClientId)?;
        client.reclaimed = true;
        Ok(())
    }
}
