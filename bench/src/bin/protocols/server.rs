//! Servers on fresh stores, each ended when it is dropped.

mod engine;
mod ganesha;
mod kiseki;
mod process;
mod s3s_fs;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use kiseki_bench::{contender::Contender, site::Site};

use crate::{
    case::{Protocol, Side},
    client::{Client, files::Files, nfs3::Nfs3, nfs41::Nfs41, s3::S3},
    objects::{DIRECTORIES, ROOT, directory_name},
};
use process::Process;

/// Who keeps objects.
pub trait Server {
    /// A new client; `who` tells it from the others.
    ///
    /// # Errors
    /// It is not let in.
    fn client(&self, who: usize) -> Result<Box<dyn Client>>;
}

/// The programs that are measured.
pub struct Programs {
    /// The kiseki binary.
    pub kiseki: PathBuf,
    /// The S3 peer; none where it is not measured.
    pub s3s_fs: Option<PathBuf>,
}

/// Starts a server on a fresh store below `home`, which must be empty; its
/// directories of objects are there.
///
/// # Errors
/// It cannot be started.
pub fn start(
    protocol: Protocol,
    side: Side,
    home: &Path,
    programs: &Programs,
) -> Result<Box<dyn Server>> {
    Ok(match (protocol, side) {
        (Protocol::InProcess, Side::Kiseki) => Box::new(engine::Engine::start(home)?),
        (Protocol::InProcess, Side::Peer) => bail!("the engine has no peer"),
        (Protocol::Fuse, _) => {
            let who = match side {
                Side::Kiseki => Contender::Kiseki,
                Side::Peer => Contender::Bindfs,
            };
            let site = who.start(home, &programs.kiseki)?;
            make_directories(site.dir())?;
            Box::new(Mount(site))
        }
        (_, Side::Kiseki) => Box::new(kiseki::start(protocol, home, &programs.kiseki)?),
        (Protocol::S3, Side::Peer) => Box::new(s3s_fs::start(home, programs)?),
        (Protocol::Nfs3 | Protocol::Nfs41, Side::Peer) => Box::new(ganesha::start(protocol, home)?),
    })
}

/// Makes the directories of objects.
fn make_directories(top: &Path) -> Result<()> {
    for directory in 0..DIRECTORIES {
        fs::create_dir_all(top.join(ROOT).join(directory_name(directory)))?;
    }
    Ok(())
}

/// A mount.
struct Mount(Site);

impl Server for Mount {
    fn client(&self, _who: usize) -> Result<Box<dyn Client>> {
        let root = self.0.path(ROOT);
        Ok(Box::new(Files { root }))
    }
}

/// Processes that answer on this machine.
struct Network {
    address: Address,
    /// Ended with this, in order.
    _processes: Vec<Process>,
}

/// How it is reached.
enum Address {
    Nfs3 { mountd: SocketAddr, nfs: SocketAddr },
    Nfs41(SocketAddr),
    S3(SocketAddr, (String, String)),
}

impl Server for Network {
    fn client(&self, who: usize) -> Result<Box<dyn Client>> {
        Ok(match &self.address {
            Address::Nfs3 { mountd, nfs } => Box::new(Nfs3::mount(*mountd, *nfs)?),
            Address::Nfs41(nfs) => Box::new(Nfs41::open(*nfs, &format!("protocols {who}"))?),
            Address::S3(server, key) => Box::new(S3::connect(*server, key)?),
        })
    }
}
