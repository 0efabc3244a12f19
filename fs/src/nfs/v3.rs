//! NFS version 3 (RFC 1813).
//!
//! - [`arguments`]: what procedures are given
//! - [`attributes`]: attributes as the protocol has them
//! - [`status`]: failures in its words
//! - `objects`, `names`, `new`, `data`, `listing`, `volume`: the procedures

mod arguments;
mod attributes;
mod data;
mod listing;
mod names;
mod new;
mod objects;
mod status;
mod volume;
mod wcc;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use kiseki_core::{
    engine::{Attr, Caller},
    ids::Ino,
};
use nfs3_types::{
    nfs3::{NFS_PROGRAM, Nfs3Result, nfs_fh3},
    xdr_codec::{Opaque, Pack, Unpack},
};

use super::{
    Nfs, Target,
    fail::Fail,
    handle::Handle,
    rpc::{Call, Credentials, Failure, Outcome},
    server::Peer,
    xdr,
};

use crate::stats::Operation;

pub use nfs3_types::nfs3::{PROGRAM, VERSION};

/// A procedure, to count it.
#[derive(Clone, Copy)]
pub struct Procedure(NFS_PROGRAM);

impl Procedure {
    const READ: Procedure = Procedure(NFS_PROGRAM::NFSPROC3_READ);
    const WRITE: Procedure = Procedure(NFS_PROGRAM::NFSPROC3_WRITE);
}

impl Operation for Procedure {
    const FRONT: &'static str = "nfs3";
    const NAMES: &'static [&'static str] = &[
        "null",
        "getattr",
        "setattr",
        "lookup",
        "access",
        "readlink",
        "read",
        "write",
        "create",
        "mkdir",
        "symlink",
        "mknod",
        "remove",
        "rmdir",
        "rename",
        "link",
        "readdir",
        "readdirplus",
        "fsstat",
        "fsinfo",
        "pathconf",
        "commit",
    ];

    /// Its number in the protocol.
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// One request.
#[derive(Clone, Copy)]
struct Request<'a> {
    nfs: &'a Nfs,
    peer: &'a Peer,
    credentials: &'a Credentials,
}

/// Results of a procedure: those of a success, and those of a failure.
type Results<T, E> = Nfs3Result<T, E>;

/// Answers a call.
pub(super) async fn call(nfs: &Arc<Nfs>, peer: &Arc<Peer>, call: Call) -> Outcome {
    let Ok(procedure) = NFS_PROGRAM::try_from(call.procedure) else {
        return Outcome::Failed(Failure::NoProcedure);
    };
    if procedure == NFS_PROGRAM::NFSPROC3_NULL {
        return Outcome::Done(Vec::new());
    }
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
    let outcome = match only_once(procedure) {
        true => nfs.answered.once(peer.address.ip(), &call, carry_out).await,
        false => carry_out.await,
    };
    nfs.stats
        .record(Procedure(procedure), began.elapsed(), false, 0);
    outcome
}

/// Whether a procedure must not be carried out again for a call that comes
/// twice. A late WRITE would undo a newer one.
fn only_once(procedure: NFS_PROGRAM) -> bool {
    matches!(
        procedure,
        NFS_PROGRAM::NFSPROC3_SETATTR
            | NFS_PROGRAM::NFSPROC3_WRITE
            | NFS_PROGRAM::NFSPROC3_CREATE
            | NFS_PROGRAM::NFSPROC3_MKDIR
            | NFS_PROGRAM::NFSPROC3_SYMLINK
            | NFS_PROGRAM::NFSPROC3_MKNOD
            | NFS_PROGRAM::NFSPROC3_REMOVE
            | NFS_PROGRAM::NFSPROC3_RMDIR
            | NFS_PROGRAM::NFSPROC3_RENAME
            | NFS_PROGRAM::NFSPROC3_LINK
    )
}

impl Request<'_> {
    async fn carry_out(self, procedure: NFS_PROGRAM, arguments: Bytes) -> Outcome {
        use NFS_PROGRAM as P;
        match procedure {
            P::NFSPROC3_NULL => Outcome::Done(Vec::new()),
            P::NFSPROC3_GETATTR => with(arguments, |a| self.getattr(a)).await,
            P::NFSPROC3_SETATTR => with(arguments, |a| self.setattr(a)).await,
            P::NFSPROC3_LOOKUP => with(arguments, |a| self.lookup(a)).await,
            P::NFSPROC3_ACCESS => with(arguments, |a| self.access(a)).await,
            P::NFSPROC3_READLINK => with(arguments, |a| self.readlink(a)).await,
            P::NFSPROC3_READ => self.read(arguments).await,
            P::NFSPROC3_WRITE => self.write(arguments).await,
            P::NFSPROC3_CREATE => with(arguments, |a| self.create(a)).await,
            P::NFSPROC3_MKDIR => with(arguments, |a| self.mkdir(a)).await,
            P::NFSPROC3_SYMLINK => with(arguments, |a| self.symlink(a)).await,
            P::NFSPROC3_MKNOD => with(arguments, |a| self.mknod(a)).await,
            P::NFSPROC3_REMOVE => with(arguments, |a| self.remove(a)).await,
            P::NFSPROC3_RMDIR => with(arguments, |a| self.rmdir(a)).await,
            P::NFSPROC3_RENAME => with(arguments, |a| self.rename(a)).await,
            P::NFSPROC3_LINK => with(arguments, |a| self.link(a)).await,
            P::NFSPROC3_READDIR => with(arguments, |a| self.readdir(a)).await,
            P::NFSPROC3_READDIRPLUS => with(arguments, |a| self.readdirplus(a)).await,
            P::NFSPROC3_FSSTAT => with(arguments, |a| self.fsstat(a)).await,
            P::NFSPROC3_FSINFO => with(arguments, |a| self.fsinfo(a)).await,
            P::NFSPROC3_PATHCONF => with(arguments, |a| self.pathconf(a)).await,
            P::NFSPROC3_COMMIT => with(arguments, |a| self.commit(a)).await,
        }
    }

    /// What a handle means, and the attributes it has now.
    async fn find(&self, handle: &[u8]) -> Result<(Target, Attr), Fail> {
        let target = self.nfs.target(self.peer, self.credentials, handle)?;
        let attr = self.nfs.linked(target.ino()).await?;
        Ok((target, attr))
    }

    fn caller(&self, target: &Target) -> Caller {
        target.who.caller(self.nfs.front)
    }

    /// The handle of an inode, under the export of another.
    fn handle(&self, under: &Target, ino: Ino) -> nfs_fh3 {
        let handle = Handle {
            root: under.handle.root,
            ino,
        };
        nfs_fh3 {
            data: Opaque::owned(self.nfs.handles.seal(handle).to_vec()),
        }
    }
}

/// Decodes arguments, and encodes what is made of them.
async fn with<A: Unpack, R: Pack, F: Future<Output = R>>(
    arguments: Bytes,
    carry_out: impl FnOnce(A) -> F,
) -> Outcome {
    match xdr::all(arguments) {
        Ok(arguments) => Outcome::done(&carry_out(arguments).await),
        Err(_) => Outcome::Failed(Failure::Garbage),
    }
}

/// Hands bytes to the decoder of a procedure's arguments: what decodes is
/// encoded the same again.
#[cfg(any(test, fuzzing))]
pub(super) fn decode(procedure: u32, bytes: Bytes) {
    use arguments as a;
    use xdr::checked;
    match procedure % 22 {
        1 | 5 | 18..=20 => checked::<a::Object>(&bytes),
        2 => checked::<a::SetAttributes>(&bytes),
        3 | 12 | 13 => checked::<a::Place>(&bytes),
        4 => checked::<a::Access>(&bytes),
        6 => checked::<a::Read>(&bytes),
        7 => {
            let len = bytes.len();
            if let Ok(write) = a::Write::decode(bytes) {
                assert!(write.data.len() < len);
            }
        }
        8 => checked::<a::Create>(&bytes),
        9 => checked::<a::MakeDirectory>(&bytes),
        10 => checked::<a::MakeLink>(&bytes),
        11 => {
            // What is to be made may be of a kind that nobody can encode.
            let _ = xdr::all::<a::MakeNode>(bytes);
        }
        14 => checked::<a::Rename>(&bytes),
        15 => checked::<a::Link>(&bytes),
        16 => checked::<a::List>(&bytes),
        17 => checked::<a::ListPlus>(&bytes),
        21 => checked::<a::Commit>(&bytes),
        _ => {}
    }
}
