//! The NFS front end: NFSv3 with its MOUNT and lock protocols and NFSv4 on one TCP
//! port.
//!
//! [`Server::start`] promises its caller a listener that answers. What the
//! parts do:
//!
//! - [`xdr`], [`rpc`]: messages
//! - [`server`]: connections and their limits
//! - [`handle`], [`export`], [`caller`]: which file, for which client, and what
//!   its user may do
//! - [`fail`]: what can go wrong
//! - [`order`], [`files`], [`answered`]: changes in turn, files in use, calls
//!   that come twice
//! - [`durable`]: what outlives the server
//! - [`mount`]: the first handle
//! - [`v3`], [`v4`]: NFS, by version
//! - [`locks`]: byte-range locks of all versions
//! - [`nlm`], [`nsm`]: how version 3 locks, and hears of restarts
//! - [`rpcbind`]: where all that is found

pub mod answered;
pub mod caller;
mod device;
pub mod durable;
pub mod export;
pub mod fail;
pub mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod handle;
pub mod locks;
pub mod mount;
pub mod nlm;
pub mod nsm;
pub mod order;
pub mod rpc;
pub mod rpcbind;
pub mod server;
pub mod v3;
pub mod v4;
pub mod xdr;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use kiseki_core::{
    Error,
    engine::{Attr, FrontId, Volume},
    ids::Ino,
    meta::Kind,
};

use crate::{
    next_front,
    stats::{Counted, Stats},
};
use answered::Answered;
use caller::Identity;
use export::{Exports, Rule, Terms};
use fail::Fail;
use files::Files;
use handle::{Handle, Handles};
use locks::Locks;
use nsm::Datagrams;
use order::Order;
use parking_lot::Mutex;
use rpc::{Call, Credentials, Failure, Outcome};
use rpcbind::{Registration, RpcbindError};
use server::{Listener, Peer, Programs};
use tokio::task::JoinSet;

/// Most bytes of one READ or WRITE.
pub const TRANSFER_MAX: u32 = 1 << 20;

/// Directory of the front end in the volume, see [`Volume::private_dir`].
const PRIVATE: &[u8] = b"nfs";

/// What all programs share.
pub struct Nfs {
    volume: Volume,
    front: FrontId,
    handles: Handles,
    exports: Arc<Exports>,
    /// Another one for each start of the server: what was written and not
    /// committed under the last one may be lost.
    boot: [u8; 8],
    order: Order,
    files: Files,
    answered: Answered,
    /// Byte-range locks of all versions.
    locks: Mutex<Locks>,
    nlm: nlm::Service,
    v4: v4::Service,
    stats: Arc<Stats<v3::Procedure>>,
}

/// An inode that a client named, and who asks.
#[derive(Clone, Debug)]
pub struct Target {
    /// What the handle says.
    pub handle: Handle,
    /// What the client may do.
    pub terms: Terms,
    /// The user.
    pub who: Identity,
}

impl Target {
    /// The inode.
    #[must_use]
    pub fn ino(&self) -> Ino {
        self.handle.ino
    }

    /// Whether the export may be changed at all.
    ///
    /// # Errors
    /// `ReadOnly`.
    pub fn check_writable(&self) -> Result<(), Fail> {
        match self.terms.read_only {
            true => Err(Fail::ReadOnly),
            false => Ok(()),
        }
    }
}

impl Nfs {
    async fn open(volume: Volume, exports: Arc<Exports>) -> Result<Nfs, Error> {
        let mut boot = [0; 8];
        if let Err(error) = getrandom::fill(&mut boot) {
            // A constant one would have clients believe that nothing is lost.
            panic!("the system gives no random bytes: {error}");
        }
        let front = next_front();
        let handles = Handles::of(&volume);
        let nlm = nlm::Service::open(&volume, front).await?;
        let silent = !nlm.untold().is_empty();
        let fsid = handles.volume();
        Ok(Nfs {
            v4: v4::Service::open(&volume, front, fsid, v4::LEASE, silent).await?,
            nlm,
            locks: Mutex::default(),
            handles,
            order: Order::new(&volume, front),
            files: Files::new(&volume),
            answered: Answered::default(),
            stats: Stats::new(),
            front,
            exports,
            boot,
            volume,
        })
    }

    /// What a handle means for a client and its user.
    ///
    /// # Errors
    /// `BadHandle`; `Stale` when it is exported to this client no more.
    pub fn target(
        &self,
        peer: &Peer,
        credentials: &Credentials,
        handle: &[u8],
    ) -> Result<Target, Fail> {
        let handle = self.handles.open(handle)?;
        let terms = self.exports.terms(peer.address.ip(), handle);
        let terms = terms.ok_or(Fail::Stale)?;
        Ok(Target {
            handle,
            terms,
            who: Identity::of(credentials, terms.squash),
        })
    }

    /// Attributes of an inode that was named by a handle.
    ///
    /// # Errors
    /// `Stale`.
    pub async fn attributes(&self, ino: Ino) -> Result<Attr, Fail> {
        self.volume.getattr(ino).await.map_err(Fail::of_inode)
    }

    /// Attributes of an inode that still has a name.
    ///
    /// # Errors
    /// `Stale`.
    pub async fn linked(&self, ino: Ino) -> Result<Attr, Fail> {
        let attr = self.attributes(ino).await?;
        // Somebody on this machine may have it open; to clients it is gone. A
        // directory has one link of its own.
        let least = if attr.kind == Kind::Directory { 2 } else { 1 };
        match attr.nlink < least {
            true => Err(Fail::Stale),
            false => Ok(attr),
        }
    }

    /// Makes what was done durable, and known to other front ends.
    ///
    /// # Errors
    /// The engine's.
    pub async fn settle(&self, ino: Ino) -> Result<(), Error> {
        self.volume.fsync(ino, false).await?;
        self.volume.told(self.front).await;
        Ok(())
    }
}

impl Programs for Nfs {
    async fn call(self: Arc<Self>, peer: Arc<Peer>, call: Call) -> Outcome {
        let failed = Outcome::Failed;
        match (call.program, call.version) {
            (v3::PROGRAM, v3::VERSION) => v3::call(&self, &peer, call).await,
            (v4::PROGRAM, v4::VERSION) => v4::call(&self, &peer, call).await,
            (v3::PROGRAM, _) => failed(Failure::NoVersion(3..=4)),
            (mount::PROGRAM, mount::VERSION) => mount::call(&self, &peer, call).await,
            (mount::PROGRAM, _) => failed(Failure::NoVersion(3..=3)),
            (nlm::PROGRAM, nlm::VERSION) => nlm::call(&self, &peer, call).await,
            (nlm::PROGRAM, _) => failed(Failure::NoVersion(4..=4)),
            (nsm::PROGRAM, nsm::VERSION) => nsm::call(&self, &peer, call),
            (nsm::PROGRAM, _) => failed(Failure::NoVersion(1..=1)),
            _ => failed(Failure::NoProgram),
        }
    }
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen; port 0 takes one that is free.
    pub address: SocketAddr,
    /// Exports of the configuration.
    pub exports: Vec<Rule>,
    /// Memory of the volume, a part of which messages may use.
    pub memory: u64,
    /// The socket of this machine's rpcbind, where the programs are to be found
    /// through it.
    pub rpcbind: Option<PathBuf>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not of this machine.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Other machines can reach the address, and nothing is exported to them.
    #[error(
        "cannot serve NFS on {0}: other machines can reach it and nothing is exported to any; export something with `kiseki export add` first"
    )]
    NoExport(SocketAddr),
    /// Clients would not find the programs.
    #[error(transparent)]
    Rpcbind(#[from] RpcbindError),
    /// The volume cannot hold what the front end keeps.
    #[error(transparent)]
    Volume(#[from] Error),
}

/// A running server.
pub struct Server {
    listener: Listener,
    registration: Option<Registration>,
    /// What goes on without being asked.
    tending: Mutex<JoinSet<()>>,
    nfs: Arc<Nfs>,
}

impl Server {
    /// Listens and serves until [`Server::stop`].
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn start(volume: &Volume, options: ServerOptions) -> Result<Server, ServerError> {
        let wanted = options.address;
        let exports = Arc::new(Exports::load(volume, options.exports).await?);
        if !wanted.ip().is_loopback() && !exports.reach_others() {
            return Err(ServerError::NoExport(wanted));
        }
        let nfs = Arc::new(Nfs::open(volume.clone(), exports.clone()).await?);
        let listener = Listener::start(wanted, nfs.clone(), options.memory / 8).await;
        let listener = listener.map_err(|source| ServerError::Listen {
            address: wanted,
            source,
        })?;
        let mut tending = JoinSet::new();
        tending.spawn(v4::tend(nfs.clone()));
        tending.spawn(nlm::tend(nfs.clone()));
        tending.spawn(nlm::grant(nfs.clone()));
        let mut server = Server {
            listener,
            registration: None,
            tending: Mutex::new(tending),
            nfs,
        };
        if let Some(socket) = options.rpcbind {
            match server.register(&socket).await {
                Ok(registration) => server.registration = Some(registration),
                Err(error) => {
                    server.stop().await;
                    return Err(error.into());
                }
            }
        }
        // They ask at once, and have to find the programs.
        let telling = nsm::tell(server.nfs.clone());
        server.tending.lock().spawn(telling);
        Ok(server)
    }

    async fn register(&self, socket: &Path) -> Result<Registration, RpcbindError> {
        let tcp = self.address();
        let listen = |source| RpcbindError::Listen {
            address: tcp.ip(),
            source,
        };
        let datagrams = Datagrams::bind(tcp.ip()).await.map_err(listen)?;
        let udp = datagrams.address().map_err(listen)?;
        let serving = datagrams.serve(self.nfs.clone());
        self.tending.lock().spawn(serving);
        rpcbind::register(socket, tcp, udp).await
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// What procedures and operations cost, by version.
    #[must_use]
    pub fn statistics(&self) -> [Arc<dyn Counted>; 3] {
        let Nfs { stats, nlm, v4, .. } = &*self.nfs;
        [stats.clone(), nlm.stats.clone(), v4.stats.clone()]
    }

    /// The list in force.
    #[must_use]
    pub fn exports(&self) -> Arc<Exports> {
        self.nfs.exports.clone()
    }

    /// Reads the export list of the volume again, after it was changed.
    ///
    /// # Errors
    /// The volume is damaged.
    pub async fn reload(&self) -> Result<(), Error> {
        self.nfs.exports.reload(&self.nfs.volume).await
    }

    /// Takes no more calls, and waits for those under way, for a while.
    pub async fn stop(&self) {
        if let Some(registration) = &self.registration {
            registration.remove().await;
        }
        self.listener.stop().await;
        self.tending.lock().abort_all();
        self.nfs.forget_hosts_without_locks().await;
        self.nfs.files.close_all().await;
    }
}
