//! The S3 front end: a bucket is a directory of the root, a key is a path.
//!
//! [`Server::start`] promises its caller a listener that answers. Protocol,
//! signatures and XML are those of the `s3s` crate; what a request means for
//! files is here, and `docs/s3.md` tells it to users.
//!
//! - [`server`]: connections, TLS, limits
//! - `service`: the requests of `s3s`, handed on
//! - `auth`, [`credentials`]: who may ask
//! - `key`: a key as a path
//! - `tree`: buckets and directories on the way to an object
//! - `headers`, `sums`: what is kept with an object
//! - `conditions`: `If-Match` and the like
//! - `put`, `get`, `delete`, `copy`, `multipart`, `list`, `tagging`, `buckets`:
//!   the operations
//! - `failure`: errors of the engine in the words of S3

mod auth;
mod buckets;
mod conditions;
mod copy;
pub mod credentials;
mod delete;
mod failure;
mod get;
mod headers;
mod key;
mod list;
mod multipart;
mod put;
pub mod server;
mod service;
mod sums;
mod tagging;
mod tree;

use std::sync::Arc;

use kiseki_core::{
    Error,
    engine::{Attr, Caller, FrontId, Volume},
    ids::Ino,
};
use tokio::sync::Semaphore;

pub use server::{Server, ServerError, ServerOptions};
pub use service::Op;

use crate::{next_front, stats::Stats};

/// Directory of the front end in the volume, see [`Volume::private_dir`].
const PRIVATE: &[u8] = b"s3";

/// Bodies on their way in or out at a time; each holds less than 1 MiB.
const TRANSFERS: usize = 128;

/// What all operations share.
#[derive(Clone)]
struct Gateway {
    volume: Volume,
    front: FrontId,
    /// Unfinished objects.
    temporary: Ino,
    /// Unfinished multipart uploads.
    uploads: Ino,
    names: Arc<list::Names>,
    writers: Arc<put::Writers>,
    transfers: Arc<Semaphore>,
    stats: Arc<Stats<Op>>,
}

impl Gateway {
    /// Finds or makes the directories of the front end, and removes what a
    /// crash left unfinished.
    async fn open(volume: Volume, memory: u64) -> Result<Gateway, Error> {
        let private = volume.private_dir(PRIVATE).await?;
        let front = next_front();
        let gateway = Gateway {
            temporary: tree::make_private(&volume, private, b"temporary").await?,
            uploads: tree::make_private(&volume, private, b"uploads").await?,
            names: Arc::new(list::Names::new(volume.clone(), memory / 16)),
            writers: Arc::new(put::Writers::default()),
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
            stats: Stats::new(),
            front,
            volume,
        };
        gateway.sweep().await?;
        Ok(gateway)
    }

    /// Acts for the owner of a directory, to whom what is made in it belongs.
    fn owner_of(&self, directory: &Attr) -> Caller {
        Caller {
            uid: directory.uid,
            gid: directory.gid,
            umask: 0o022,
            privileged: true,
            front: self.front,
            ..Caller::default()
        }
    }

    /// Acts for the front end itself.
    fn own(&self) -> Caller {
        Caller {
            privileged: true,
            front: self.front,
            ..Caller::default()
        }
    }

    /// Makes what was done durable, and known to other front ends.
    async fn settle(&self, ino: Ino) -> Result<(), Error> {
        self.volume.fsync(ino, false).await?;
        self.volume.told(self.front).await;
        Ok(())
    }
}
