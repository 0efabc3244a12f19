//! Registering this server's programs, and taking them out again.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use nfs3_types::xdr_codec::{Pack, Unpack, Void};
use tokio::{
    net::{UdpSocket, UnixStream},
    time::timeout,
};

use super::{GETADDR, Mapping, RpcbindError, SET, Text, UNSET, netid, parse, universal};
use crate::nfs::{
    mount, nlm, nsm,
    rpc::client::{self, CallError, Procedure},
    v3, v4,
};

/// How long rpcbind, or a server that may have the same programs, has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Name, number and version of the programs on TCP.
const PROGRAMS: [(&str, u32, u32); 5] = [
    ("NFS version 3", v3::PROGRAM, v3::VERSION),
    ("NFS version 4", v4::PROGRAM, v4::VERSION),
    ("MOUNT", mount::PROGRAM, mount::VERSION),
    ("NLM", nlm::PROGRAM, nlm::VERSION),
    ("NSM", nsm::PROGRAM, nsm::VERSION),
];

/// What is registered as long as the server runs.
#[derive(Debug)]
pub struct Registration {
    rpcbind: Rpcbind,
    done: Vec<Wanted>,
}

#[derive(Clone, Copy, Debug)]
struct Wanted {
    name: &'static str,
    program: u32,
    version: u32,
    address: SocketAddr,
    tcp: bool,
}

/// Registers all programs that answer at `tcp`, and the one that answers at
/// `udp`.
///
/// # Errors
/// See [`RpcbindError`]; then none is registered.
pub async fn register(
    path: &Path,
    tcp: SocketAddr,
    udp: SocketAddr,
) -> Result<Registration, RpcbindError> {
    let mut registration = Registration {
        rpcbind: Rpcbind(path.to_owned()),
        done: Vec::new(),
    };
    for wanted in all(tcp, udp) {
        match registration.rpcbind.set(&wanted).await {
            Ok(()) => registration.done.push(wanted),
            Err(error) => {
                registration.remove().await;
                return Err(error);
            }
        }
    }
    Ok(registration)
}

fn all(tcp: SocketAddr, udp: SocketAddr) -> Vec<Wanted> {
    let mut all = Vec::new();
    for address in families(tcp) {
        all.extend(PROGRAMS.map(|(name, program, version)| Wanted {
            name,
            program,
            version,
            address,
            tcp: true,
        }));
    }
    for address in families(udp) {
        all.push(Wanted {
            name: "NSM",
            program: nsm::PROGRAM,
            version: nsm::VERSION,
            address,
            tcp: false,
        });
    }
    all
}

/// A socket on all addresses of version 6 has those of version 4 as well.
fn families(address: SocketAddr) -> Vec<SocketAddr> {
    let four = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
    match address.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED) {
        true => vec![four, address],
        false => vec![address],
    }
}

impl Registration {
    /// Takes out what was registered.
    pub async fn remove(&self) {
        for wanted in &self.done {
            if let Err(error) = self.rpcbind.ask(UNSET, wanted).await {
                tracing::warn!(program = wanted.name, %error, "it stays registered");
                return;
            }
        }
    }
}

impl Wanted {
    fn mapping(&self) -> Mapping {
        // Who may change an entry is decided by who is at the other end of
        // the socket.
        Mapping {
            program: self.program,
            version: self.version,
            netid: netid(self.address.ip(), self.tcp).as_bytes().into(),
            address: universal(self.address).as_bytes().into(),
            owner: Text::default(),
        }
    }
}

#[derive(Debug)]
struct Rpcbind(PathBuf);

impl Rpcbind {
    async fn set(&self, wanted: &Wanted) -> Result<(), RpcbindError> {
        if self.ask(SET, wanted).await? {
            return Ok(());
        }
        // Somebody has it, or had it and was killed.
        let found: Text = self.call(GETADDR, &wanted.mapping()).await?;
        let other = parse(&found.0).map(|(host, port)| SocketAddr::new(reachable(host), port));
        if let Some(at) = other
            && !is_own(at, wanted.address)
            && answers(at, wanted).await
        {
            let name = wanted.name;
            return Err(RpcbindError::Taken { name, at });
        }
        self.ask(UNSET, wanted).await?;
        match self.ask(SET, wanted).await? {
            true => Ok(()),
            false => Err(RpcbindError::Refused {
                path: self.0.clone(),
                name: wanted.name,
            }),
        }
    }

    async fn ask(&self, procedure: Procedure, wanted: &Wanted) -> Result<bool, RpcbindError> {
        self.call(procedure, &wanted.mapping()).await
    }

    async fn call<R: Unpack>(
        &self,
        procedure: Procedure,
        arguments: &impl Pack,
    ) -> Result<R, RpcbindError> {
        let mut stream =
            UnixStream::connect(&self.0)
                .await
                .map_err(|source| RpcbindError::Absent {
                    path: self.0.clone(),
                    source,
                })?;
        let broken = |source| RpcbindError::Broken {
            path: self.0.clone(),
            source,
        };
        let answer = timeout(PATIENCE, client::call(&mut stream, procedure, arguments)).await;
        let late = |_| broken(CallError::Io(std::io::ErrorKind::TimedOut.into()));
        answer.map_err(late)?.map_err(broken)
    }
}

/// Whether an entry leads to where this server listens: then it is of an
/// earlier life, and who would answer is this server itself.
fn is_own(at: SocketAddr, own: SocketAddr) -> bool {
    at.port() == own.port() && (own.ip().is_unspecified() || at.ip() == own.ip())
}

fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

/// Whether somebody at this address answers for the program.
async fn answers(at: SocketAddr, wanted: &Wanted) -> bool {
    let null = Procedure {
        program: wanted.program,
        version: wanted.version,
        number: 0,
    };
    let ask = async {
        match wanted.tcp {
            true => {
                let mut stream = client::connect(at.ip(), at).await?;
                client::call::<Void>(&mut stream, null, &Void).await
            }
            false => {
                let socket = UdpSocket::bind(SocketAddr::new(at.ip(), 0)).await?;
                socket.connect(at).await?;
                socket.send(&client::encode(null, &Void)).await?;
                let mut reply = [0; 256];
                let length = socket.recv(&mut reply).await?;
                client::decode(bytes::Bytes::copy_from_slice(&reply[..length]))
            }
        }
    };
    match timeout(PATIENCE, ask).await {
        Ok(Ok(Void)) => true,
        // Nobody is there, or somebody who has not this program.
        Ok(Err(_)) => false,
        // One that hangs may come back.
        Err(_) => wanted.tcp,
    }
}

#[cfg(test)]
mod tests;
