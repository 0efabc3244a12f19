//! Which operation is done where.

use super::{Compound, Reply};
use crate::nfs::v4::{
    failure::Outcome,
    xdr::{Operation, Status, put},
};

/// Whether an operation of this version is served. The others are those of
/// version 4.0 that sessions replace, delegations, layouts, attribute
/// directories and shared secrets.
pub fn is_served(operation: u32) -> bool {
    matches!(
        operation,
        3..=6 | 9..=18 | 21..=29 | 31..=34 | 37 | 38 | 40..=45 | 47 | 52 | 53 | 55 | 57..=60 | 62 | 69
            | 71..=75
    )
}

/// Whether an operation must not be done when its answer would not fit.
pub fn changes_something(operation: &Operation) -> bool {
    !matches!(
        operation,
        Operation::Access(_)
            | Operation::GetAttr(_)
            | Operation::GetHandle
            | Operation::LockTest(_)
            | Operation::Lookup(_)
            | Operation::LookupParent
            | Operation::DifferFrom(_)
            | Operation::Verify(_)
            | Operation::PutHandle(_)
            | Operation::PutPublicHandle
            | Operation::PutRootHandle
            | Operation::Read(_)
            | Operation::ReadDir(_)
            | Operation::ReadLink
            | Operation::RestoreHandle
            | Operation::SaveHandle
            | Operation::SecInfo(_)
            | Operation::SecInfoNoName(_)
            | Operation::TestStateIds(_)
            | Operation::Seek(_)
            | Operation::GetXattr(_)
            | Operation::ListXattrs(_)
    )
}

impl Compound<'_> {
    /// Does one operation; results go behind what is in `reply`.
    pub(super) async fn run(&mut self, operation: Operation, reply: &mut Reply) -> Outcome {
        match operation {
            Operation::Access(wanted) => {
                let answer = self.access(wanted).await?;
                Ok(put(reply.body(), &answer)?)
            }
            Operation::Close(arguments) => answer(reply, self.close(&arguments).await),
            Operation::Commit(arguments) => answer(reply, self.commit(&arguments).await),
            Operation::Create(arguments) => answer(reply, self.create(arguments).await),
            Operation::GetAttr(wanted) => answer(reply, self.getattr(&wanted).await),
            Operation::GetHandle => answer(reply, self.get_handle()),
            Operation::Link(name) => answer(reply, self.link(&name).await),
            Operation::Lock(arguments) => answer(reply, self.lock(&arguments).await),
            Operation::LockTest(arguments) => self.lock_test(&arguments).await,
            Operation::Unlock(arguments) => answer(reply, self.unlock(&arguments).await),
            Operation::Lookup(name) => self.lookup(&name).await,
            Operation::LookupParent => self.lookup_parent().await,
            Operation::DifferFrom(attributes) => self.differ_from(&attributes).await,
            Operation::Verify(attributes) => self.verify(&attributes).await,
            Operation::Open(arguments) => answer(reply, self.open(&arguments).await),
            Operation::OpenDowngrade(arguments) => answer(reply, self.downgrade(&arguments).await),
            Operation::PutHandle(handle) => self.put_handle(&handle).await,
            Operation::PutPublicHandle | Operation::PutRootHandle => self.put_root().await,
            Operation::Read(arguments) => self.read(&arguments, reply).await,
            Operation::ReadDir(arguments) => self.readdir(&arguments, reply).await,
            Operation::ReadLink => answer(reply, self.readlink().await),
            Operation::Remove(name) => answer(reply, self.remove(&name).await),
            Operation::Rename(arguments) => {
                let (source, target) = self.rename(&arguments).await?;
                put(reply.body(), &source)?;
                Ok(put(reply.body(), &target)?)
            }
            Operation::RestoreHandle => self.restore(),
            Operation::SaveHandle => self.save(),
            Operation::SecInfo(name) => answer(reply, self.secinfo(&name).await),
            Operation::SecInfoNoName(style) => answer(reply, self.secinfo_no_name(style).await),
            Operation::SetAttr(arguments) => answer(reply, self.setattr(&arguments).await),
            Operation::Write(arguments) => answer(reply, self.write(arguments).await),
            Operation::BackchannelCtl(_) => self.backchannel(),
            Operation::BindConn(arguments) => answer(reply, self.bind_connection(arguments)),
            Operation::ExchangeId(arguments) => answer(reply, self.exchange(&arguments).await),
            Operation::CreateSession(arguments) => {
                answer(reply, self.create_session(&arguments).await)
            }
            Operation::DestroySession(session) => self.destroy_session(&session),
            Operation::FreeStateId(stateid) => self.free_stateid(stateid),
            // There are no devices, because there are no layouts.
            Operation::GetDeviceInfo(_) => Err(Status::NoEnt.into()),
            Operation::TestStateIds(stateids) => answer(reply, self.test_stateids(&stateids)),
            Operation::DestroyClient(client) => self.destroy_client(client).await,
            Operation::ReclaimComplete(one_fs) => self.reclaim_complete(one_fs).await,
            Operation::Allocate(space) => self.allocate(&space).await,
            Operation::Deallocate(space) => self.deallocate(&space).await,
            Operation::Copy(arguments) => answer(reply, self.copy(&arguments).await),
            Operation::Clone(range) => self.clone_range(&range).await,
            Operation::Seek(arguments) => answer(reply, self.seek(&arguments).await),
            Operation::GetXattr(name) => answer(reply, self.getxattr(&name).await),
            Operation::SetXattr(arguments) => answer(reply, self.setxattr(&arguments).await),
            Operation::ListXattrs(arguments) => answer(reply, self.listxattrs(&arguments).await),
            Operation::RemoveXattr(name) => answer(reply, self.removexattr(&name).await),
            Operation::Sequence(_) => Err(Status::SequencePos.into()),
        }
    }
}

fn answer(reply: &mut Reply, answer: Outcome<impl nfs3_types::xdr_codec::Pack>) -> Outcome {
    Ok(put(reply.body(), &answer?)?)
}
