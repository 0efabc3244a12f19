//! rpcbind: where clients look up on which port a program answers (RFC 1833).
//!
//! - [`register`]: makes this server's programs known on this machine
//! - [`port_of`]: finds a program of a client

mod registration;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use nfs3_types::xdr_codec::XdrCodec;

use super::{
    rpc::client::{self, CallError, Procedure},
    xdr::Blob,
};

pub use registration::{Registration, register};

/// Where rpcbind listens for programs of its machine.
pub const SOCKET: &str = "/run/rpcbind.sock";

/// Where it listens for others.
const PORT: u16 = 111;

/// Version 4 of the protocol tells apart how a program is reached.
const fn procedure(number: u32) -> Procedure {
    Procedure {
        program: 100_000,
        version: 4,
        number,
    }
}

const SET: Procedure = procedure(1);
const UNSET: Procedure = procedure(2);
const GETADDR: Procedure = procedure(3);

/// Longest text; addresses and names are far shorter.
const TEXT_MAX: usize = 256;

type Text = Blob<TEXT_MAX>;

/// Where a program is to be found: `rpcb`.
#[derive(Clone, Debug, PartialEq, Eq, XdrCodec)]
struct Mapping {
    program: u32,
    version: u32,
    netid: Text,
    /// A universal address.
    address: Text,
    owner: Text,
}

/// Why programs are not registered.
#[derive(Debug, thiserror::Error)]
pub enum RpcbindError {
    /// Nobody listens on the socket.
    #[error(
        "cannot reach rpcbind at {path}: {source}; start it (`systemctl start rpcbind`), or serve without --rpcbind and have clients name the ports"
    )]
    Absent {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It does not speak as it should.
    #[error("rpcbind at {path} does not answer as it should: {source}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        source: CallError,
    },
    /// Another program has the number.
    #[error(
        "cannot register {name} with rpcbind: another server has it at {at}; end that one (`rpcinfo -p` shows all), or serve without --rpcbind and have clients name the ports"
    )]
    Taken {
        /// What was to be registered.
        name: &'static str,
        /// Where the other one is.
        at: SocketAddr,
    },
    /// It does not want to.
    #[error(
        "rpcbind at {path} does not register {name}; another user may have registered it: `rpcinfo -p` shows all, and root can remove one with `rpcinfo -d`"
    )]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What was to be registered.
        name: &'static str,
    },
    /// There is no port for the program that is told who started again.
    #[error("cannot listen for datagrams on {address}: {source}")]
    Listen {
        /// Where.
        address: IpAddr,
        /// Why not.
        source: io::Error,
    },
}

/// The TCP port on which a program of another machine answers; `None` when it
/// is not there. `from` is the address of this machine that it knows.
///
/// # Errors
/// The other machine's rpcbind does not answer.
pub async fn port_of(
    from: IpAddr,
    machine: IpAddr,
    program: u32,
    version: u32,
) -> Result<Option<u16>, CallError> {
    let mut stream = client::connect(from, SocketAddr::new(machine, PORT)).await?;
    let wanted = Mapping {
        program,
        version,
        netid: netid(machine, true).as_bytes().into(),
        address: Text::default(),
        owner: Text::default(),
    };
    let found: Text = client::call(&mut stream, GETADDR, &wanted).await?;
    Ok(parse(&found.0).map(|(_, port)| port))
}

/// What the protocol calls a transport.
fn netid(address: IpAddr, tcp: bool) -> &'static str {
    match (address, tcp) {
        (IpAddr::V4(_), true) => "tcp",
        (IpAddr::V4(_), false) => "udp",
        (IpAddr::V6(_), true) => "tcp6",
        (IpAddr::V6(_), false) => "udp6",
    }
}

/// A universal address: the two bytes of the port behind the host.
fn universal(address: SocketAddr) -> String {
    let [high, low] = address.port().to_be_bytes();
    format!("{}.{high}.{low}", address.ip())
}

/// Host and port of a universal address.
fn parse(address: &[u8]) -> Option<(IpAddr, u16)> {
    let mut parts = str::from_utf8(address).ok()?.rsplitn(3, '.');
    let low: u8 = parts.next()?.parse().ok()?;
    let high: u8 = parts.next()?.parse().ok()?;
    let host = parts.next()?.parse().ok()?;
    Some((host, u16::from_be_bytes([high, low])))
}

/// Hands bytes to what reads answers of rpcbind.
#[cfg(any(test, fuzzing))]
pub(super) fn decode(bytes: &[u8]) {
    if let Some((host, port)) = parse(bytes) {
        let again = universal(SocketAddr::new(host, port));
        assert_eq!(parse(again.as_bytes()), Some((host, port)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn universal_addresses_end_in_the_port() {
        for (text, address) in [
            ("0.0.0.0.8.1", "0.0.0.0:2049"),
            ("127.0.0.1.0.111", "127.0.0.1:111"),
            ("::.8.1", "[::]:2049"),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(universal(address), text);
            let parsed = parse(text.as_bytes());
            assert_eq!(parsed, Some((address.ip(), address.port())));
        }
        for text in [
            "",
            "1.2",
            "1.2.3.4.5",
            "1.2.3.4.5.256",
            "1.2.3.4.5.6.7",
            "x.1.2",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
