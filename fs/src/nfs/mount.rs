//! MOUNT version 3 (RFC 1813, appendix I): the handle of an export.

use bytes::Bytes;
use kiseki_core::{Error, meta::Kind};
use nfs3_types::{
    mount::{
        MOUNT_PROGRAM, dirpath, export_node, exports, fhandle3, mountlist, mountres3, mountres3_ok,
        mountstat3, name,
    },
    xdr_codec::{List, Opaque},
};

use super::{
    Nfs,
    caller::{EXECUTE, Identity},
    fail::Fail,
    handle::Handle,
    rpc::{
        Call, Credentials, Failure, Outcome,
        message::{AUTH_NONE, AUTH_SYS},
    },
    server::Peer,
    xdr::{self, Blob},
};

pub use nfs3_types::mount::{PROGRAM, VERSION};

/// Longest path that is taken.
const PATH_MAX: usize = 1024;

/// Answers a call.
pub(super) async fn call(nfs: &Nfs, peer: &Peer, call: Call) -> Outcome {
    let Ok(procedure) = MOUNT_PROGRAM::try_from(call.procedure) else {
        return Outcome::Failed(Failure::NoProcedure);
    };
    match procedure {
        MOUNT_PROGRAM::MOUNTPROC3_NULL | MOUNT_PROGRAM::MOUNTPROC3_UMNTALL => nothing(),
        // Clients that unmount leave nothing behind that would have to go.
        MOUNT_PROGRAM::MOUNTPROC3_UMNT => match path(call.arguments) {
            Ok(_) => nothing(),
            Err(failure) => Outcome::Failed(failure),
        },
        // Who has mounted is not kept: no client has to say when it is gone,
        // and a list that is wrong is worse than none.
        MOUNT_PROGRAM::MOUNTPROC3_DUMP => Outcome::done(&mountlist::default()),
        MOUNT_PROGRAM::MOUNTPROC3_EXPORT => Outcome::done(&list(nfs)),
        MOUNT_PROGRAM::MOUNTPROC3_MNT => match (path(call.arguments), call.credentials) {
            (Ok(path), Ok(credentials)) => {
                Outcome::done(&mount(nfs, peer, &credentials, &path).await)
            }
            (Err(failure), _) => Outcome::Failed(failure),
            (_, Err(error)) => Outcome::Denied(error),
        },
    }
}

fn nothing() -> Outcome {
    Outcome::Done(Vec::new())
}

fn path(arguments: Bytes) -> Result<Vec<u8>, Failure> {
    let path: Blob<PATH_MAX> = xdr::all(arguments).map_err(|_| Failure::Garbage)?;
    Ok(path.0)
}

async fn mount(
    nfs: &Nfs,
    peer: &Peer,
    credentials: &Credentials,
    path: &[u8],
) -> mountres3<'static> {
    match find(nfs, peer, credentials, path).await {
        Ok(handle) => mountres3::Ok(mountres3_ok {
            fhandle: fhandle3(Opaque::owned(nfs.handles.seal(handle).to_vec())),
            auth_flavors: vec![AUTH_SYS, AUTH_NONE],
        }),
        Err(fail) => {
            let path = String::from_utf8_lossy(path);
            tracing::info!(peer = %peer.address, %path, "a mount is refused: {fail}");
            mountres3::Err(status(&fail))
        }
    }
}

/// The directory at a path, as far as the user may go down to it.
async fn find(
    nfs: &Nfs,
    peer: &Peer,
    credentials: &Credentials,
    path: &[u8],
) -> Result<Handle, Fail> {
    let (terms, names) = nfs
        .exports
        .reach(&nfs.volume, peer.address.ip(), path)
        .await
        .map_err(|error| match error {
            Error::NotPermitted => Fail::Access,
            other => Fail::Engine(other),
        })?;
    let who = Identity::of(credentials, terms.squash);
    let mut at = nfs.attributes(terms.root).await?;
    for step in names {
        if step == b".." {
            return Err(Fail::Access);
        }
        if at.kind != Kind::Directory {
            return Err(Fail::Engine(Error::NotADirectory));
        }
        who.check(&nfs.volume, &at, EXECUTE).await?;
        at = nfs.volume.lookup(at.ino, step).await?;
    }
    match at.kind {
        Kind::Directory => Ok(Handle {
            root: terms.root,
            ino: at.ino,
        }),
        _ => Err(Fail::Engine(Error::NotADirectory)),
    }
}

fn status(fail: &Fail) -> mountstat3 {
    match fail {
        Fail::Engine(Error::NotFound) | Fail::Stale => mountstat3::MNT3ERR_NOENT,
        Fail::Engine(Error::NotADirectory) => mountstat3::MNT3ERR_NOTDIR,
        Fail::Engine(Error::NameTooLong) => mountstat3::MNT3ERR_NAMETOOLONG,
        Fail::Engine(_) => mountstat3::MNT3ERR_IO,
        _ => mountstat3::MNT3ERR_ACCES,
    }
}

fn list(nfs: &Nfs) -> exports<'static, 'static> {
    let mut nodes: Vec<export_node<'_, '_>> = Vec::new();
    for rule in nfs.exports.rules() {
        let client = name(Opaque::owned(rule.clients.to_string().into_bytes()));
        let path = rule.path.into_bytes();
        match nodes.iter_mut().find(|node| *node.ex_dir.0 == *path) {
            Some(node) => node.ex_groups.0.push(client),
            None => nodes.push(export_node {
                ex_dir: dirpath(Opaque::owned(path)),
                ex_groups: List(vec![client]),
            }),
        }
    }
    List(nodes)
}
