//! Calls to other programs: to rpcbind, and to clients that want to be told
//! something. One call, one connection; how long it may take is for the caller
//! to say.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use bytes::{Bytes, BytesMut};
use nfs3_types::{
    rpc::{RPC_VERSION_2, accept_stat, msg_type, reply_stat},
    xdr_codec::{Pack, Unpack},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::{
    message::{AUTH_NONE, Auth},
    record,
};
use crate::nfs::xdr;

/// Every connection carries one call, so all may have the same number.
const XID: u32 = 1;

/// Most bytes that are read of a reply: those we wait for have a status and a
/// cookie, or an address.
const REPLY_MAX: u64 = 4 << 10;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Procedure {
    /// Program.
    pub program: u32,
    /// Its version.
    pub version: u32,
    /// Procedure.
    pub number: u32,
}

/// Why a call brought no results.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is no reply, or one that says no.
    #[error("the call was refused")]
    Refused,
}

/// Connects, from an address of this machine where it still is one.
///
/// # Errors
/// Nobody answers there.
pub async fn connect(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Err(error) = socket.bind(SocketAddr::new(from, 0)) {
        tracing::debug!(%from, %error, "an address is gone");
    }
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Calls, as nobody in particular.
///
/// # Errors
/// See [`CallError`].
pub async fn call<R: Unpack>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    procedure: Procedure,
    arguments: &impl Pack,
) -> Result<R, CallError> {
    let message = encode(procedure, arguments);
    let mut record = BytesMut::from(record::mark(message.len()).as_ref());
    record.extend_from_slice(&message);
    stream.write_all(&record).await?;
    let mut input = record::Assembly::default();
    let mut stream = stream.take(REPLY_MAX);
    loop {
        if let Some(reply) = input.take().map_err(|_| CallError::Refused)? {
            return decode(reply);
        }
        if stream.read_buf(input.input()).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// A call, as it is sent.
#[must_use]
pub fn encode(procedure: Procedure, arguments: &impl Pack) -> Bytes {
    let head = [
        XID,
        msg_type::CALL as u32,
        RPC_VERSION_2,
        procedure.program,
        procedure.version,
        procedure.number,
        // Credential and verifier.
        AUTH_NONE,
        0,
        AUTH_NONE,
        0,
    ];
    let mut message = BytesMut::new();
    for word in head {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message.extend_from_slice(&xdr::encode(arguments));
    message.freeze()
}

/// The results in a reply.
///
/// # Errors
/// `Refused`.
pub fn decode<R: Unpack>(mut reply: Bytes) -> Result<R, CallError> {
    let mut take = || -> xdr::Result<bool> {
        let accepted = [XID, msg_type::REPLY as u32, reply_stat::MSG_ACCEPTED as u32];
        let head: [u32; 3] = [
            xdr::take(&mut reply)?,
            xdr::take(&mut reply)?,
            xdr::take(&mut reply)?,
        ];
        let _verifier: Auth = xdr::take(&mut reply)?;
        let stat: u32 = xdr::take(&mut reply)?;
        Ok(head == accepted && stat == accept_stat::SUCCESS as u32)
    };
    match take() {
        Ok(true) => xdr::all(reply).map_err(|_| CallError::Refused),
        _ => Err(CallError::Refused),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::nfs::rpc::{Call, Credentials, Failure, Outcome};

    const SOME: Procedure = Procedure {
        program: 100_021,
        version: 4,
        number: 5,
    };

    fn reply(outcome: Outcome, xid: u32) -> Bytes {
        outcome.reply(xid).unwrap().concat().into()
    }

    #[test]
    fn a_call_is_one_that_the_server_would_take() {
        let call = Call::decode(encode(SOME, &7_u32)).unwrap();
        assert_eq!(
            (call.program, call.version, call.procedure, call.credentials),
            (100_021, 4, 5, Ok(Credentials::None))
        );
        assert_eq!(call.arguments.as_ref(), [0, 0, 0, 7]);
    }

    #[test]
    fn only_results_are_taken_as_such() {
        let done = || Outcome::done(&7_u32);
        assert_eq!(decode::<u32>(reply(done(), XID)).unwrap(), 7);
        assert!(decode::<u32>(reply(done(), XID + 1)).is_err());
        assert!(decode::<u64>(reply(done(), XID)).is_err());
        assert!(decode::<u32>(reply(Outcome::Failed(Failure::NoProgram), XID)).is_err());
        assert!(decode::<u32>(Bytes::new()).is_err());
    }

    #[tokio::test]
    async fn who_hangs_up_has_not_answered() {
        let (mut here, there) = tokio::io::duplex(1024);
        drop(there);
        assert!(call::<u32>(&mut here, SOME, &7_u32).await.is_err());
    }
}
