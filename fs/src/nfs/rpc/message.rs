//! Calls and replies (RFC 5531, sections 8 and 9).

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};
use nfs3_types::{
    rpc::{RPC_VERSION_2, accept_stat, auth_stat, msg_type, reject_stat, reply_stat},
    xdr_codec::{Pack, XdrCodec},
};

use crate::nfs::xdr::{self, Array, Blob};

/// Longest body of a credential or verifier (section 8.2).
const AUTH_MAX: usize = 400;

/// Longest name of a machine in a credential (appendix A).
const MACHINE_MAX: usize = 255;

/// Most groups in a credential (appendix A).
const GROUPS_MAX: usize = 16;

/// Flavor of credentials that say nothing.
pub const AUTH_NONE: u32 = 0;
/// Flavor of credentials that name a user of the client.
pub const AUTH_SYS: u32 = 1;

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Chosen by the client; the reply carries it.
    pub xid: u32,
    /// Program.
    pub program: u32,
    /// Its version.
    pub version: u32,
    /// What to do.
    pub procedure: u32,
    /// Who asks; an error for a client that says it in a way we do not know.
    pub credentials: Result<Credentials, AuthError>,
    /// What the procedure is given, still encoded.
    pub arguments: Bytes,
}

/// Who a client says that it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// Nobody in particular (`AUTH_NONE`).
    None,
    /// A user of the client's machine (`AUTH_SYS`).
    Sys {
        /// Name of the machine, as it calls itself.
        machine: Vec<u8>,
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// More groups.
        groups: Vec<u32>,
    },
}

/// Why a credential is refused.
pub type AuthError = auth_stat;

/// What has become of a call that was taken.
#[derive(Debug)]
pub enum Outcome {
    /// The encoded results, in pieces that need not lie together.
    Done(Vec<Bytes>),
    /// It could not be carried out.
    Failed(Failure),
    /// The credentials do not do.
    Denied(AuthError),
    /// Nothing is answered.
    Dropped,
}

/// Why a call could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such program here.
    NoProgram,
    /// Not in this version; these there are.
    NoVersion(RangeInclusive<u32>),
    /// It has no such procedure.
    NoProcedure,
    /// The arguments do not decode.
    Garbage,
    /// Something broke.
    System,
}

/// Why a message is not taken as a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It is no call at all. There is nobody to answer, and what follows in the
    /// stream means nothing either.
    NoCall,
    /// A reply, to somebody who called over this connection.
    Reply,
    /// A call of another version of RPC; answer with [`rpc_mismatch`].
    Version {
        /// Which call.
        xid: u32,
    },
}

/// A credential or verifier.
#[derive(XdrCodec)]
pub(super) struct Auth {
    flavor: u32,
    body: Blob<AUTH_MAX>,
}

#[derive(XdrCodec)]
struct Head {
    program: u32,
    version: u32,
    procedure: u32,
    credential: Auth,
    verifier: Auth,
}

#[derive(XdrCodec)]
struct AuthSys {
    stamp: u32,
    machine: Blob<MACHINE_MAX>,
    uid: u32,
    gid: u32,
    groups: Array<u32, GROUPS_MAX>,
}

impl Call {
    /// Decodes the head of a call.
    ///
    /// # Errors
    /// See [`Rejected`].
    pub fn decode(mut message: Bytes) -> Result<Call, Rejected> {
        let no_call = |_| Rejected::NoCall;
        let xid = xdr::take(&mut message).map_err(no_call)?;
        match xdr::take(&mut message).map_err(no_call)? {
            msg_type::CALL => {}
            msg_type::REPLY => return Err(Rejected::Reply),
        }
        if xdr::take::<u32>(&mut message).map_err(no_call)? != RPC_VERSION_2 {
            return Err(Rejected::Version { xid });
        }
        let head: Head = xdr::take(&mut message).map_err(no_call)?;
        Ok(Call {
            xid,
            program: head.program,
            version: head.version,
            procedure: head.procedure,
            credentials: Credentials::decode(head.credential),
            arguments: message,
        })
    }
}

impl Credentials {
    fn decode(auth: Auth) -> Result<Credentials, AuthError> {
        match auth.flavor {
            AUTH_NONE => Ok(Credentials::None),
            AUTH_SYS => {
                let sys: AuthSys =
                    xdr::all(auth.body.0.into()).map_err(|_| AuthError::AUTH_BADCRED)?;
                Ok(Credentials::Sys {
                    machine: sys.machine.0,
                    uid: sys.uid,
                    gid: sys.gid,
                    groups: sys.groups.0,
                })
            }
            _ => Err(AuthError::AUTH_BADCRED),
        }
    }
}

impl Outcome {
    /// Results that are one value.
    #[must_use]
    pub fn done(results: &impl Pack) -> Outcome {
        Outcome::Done(vec![xdr::encode(results)])
    }

    /// The whole reply, in pieces; `None` when nothing is answered.
    #[must_use]
    pub fn reply(self, xid: u32) -> Option<Vec<Bytes>> {
        let (head, results) = match self {
            Outcome::Done(results) => (accepted(xid, accept_stat::SUCCESS, &[]), results),
            Outcome::Failed(failure) => (failure.reply(xid), Vec::new()),
            Outcome::Denied(why) => {
                let words = [reject_stat::AUTH_ERROR as u32, why as u32];
                (reply(xid, reply_stat::MSG_DENIED, &words), Vec::new())
            }
            Outcome::Dropped => return None,
        };
        let mut pieces = Vec::with_capacity(1 + results.len());
        pieces.push(head);
        pieces.extend(results);
        Some(pieces)
    }
}

impl Failure {
    fn reply(self, xid: u32) -> Bytes {
        match self {
            Failure::NoProgram => accepted(xid, accept_stat::PROG_UNAVAIL, &[]),
            Failure::NoVersion(have) => {
                let range = [*have.start(), *have.end()];
                accepted(xid, accept_stat::PROG_MISMATCH, &range)
            }
            Failure::NoProcedure => accepted(xid, accept_stat::PROC_UNAVAIL, &[]),
            Failure::Garbage => accepted(xid, accept_stat::GARBAGE_ARGS, &[]),
            Failure::System => accepted(xid, accept_stat::SYSTEM_ERR, &[]),
        }
    }
}

/// The reply to a call of another version of RPC.
#[must_use]
pub fn rpc_mismatch(xid: u32) -> Bytes {
    let words = [
        reject_stat::RPC_MISMATCH as u32,
        RPC_VERSION_2,
        RPC_VERSION_2,
    ];
    reply(xid, reply_stat::MSG_DENIED, &words)
}

fn accepted(xid: u32, stat: accept_stat, more: &[u32]) -> Bytes {
    // The verifier is AUTH_NONE with an empty body.
    let mut words = vec![AUTH_NONE, 0, stat as u32];
    words.extend_from_slice(more);
    reply(xid, reply_stat::MSG_ACCEPTED, &words)
}

fn reply(xid: u32, stat: reply_stat, more: &[u32]) -> Bytes {
    let words = [xid, msg_type::REPLY as u32, stat as u32];
    let mut reply = BytesMut::with_capacity(4 * (words.len() + more.len()));
    for word in words.iter().chain(more) {
        reply.extend_from_slice(&word.to_be_bytes());
    }
    reply.freeze()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(words: &[u32]) -> Bytes {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.into()
    }

    fn words(pieces: Vec<Bytes>) -> Vec<u32> {
        let bytes: Vec<u8> = pieces.concat();
        let (words, rest) = bytes.as_chunks::<4>();
        assert!(rest.is_empty());
        words.iter().map(|word| u32::from_be_bytes(*word)).collect()
    }

    #[test]
    fn a_call_is_taken_apart() {
        let sys = [0, 0, 1000, 100, 2, 4, 5];
        let mut call = vec![7, 0, 2, 100_003, 3, 1, AUTH_SYS, 4 * sys.len() as u32];
        call.extend(sys);
        call.extend([0, 0, 99]);
        let call = Call::decode(message(&call)).unwrap();
        assert_eq!(
            (call.xid, call.program, call.version, call.procedure),
            (7, 100_003, 3, 1)
        );
        assert_eq!(call.arguments, message(&[99]));
        let Ok(Credentials::Sys {
            uid, gid, groups, ..
        }) = call.credentials
        else {
            panic!("{:?}", call.credentials);
        };
        assert_eq!((uid, gid, groups), (1000, 100, vec![4, 5]));
    }

    #[test]
    fn what_is_no_call_is_not_taken() {
        let decode = |words: &[u32]| Call::decode(message(words)).map(|call| call.xid);
        assert_eq!(decode(&[]), Err(Rejected::NoCall));
        assert_eq!(decode(&[7, 2]), Err(Rejected::NoCall));
        assert_eq!(decode(&[7, 1, 0]), Err(Rejected::Reply));
        assert_eq!(decode(&[7, 0, 3]), Err(Rejected::Version { xid: 7 }));
        assert_eq!(decode(&[7, 0, 2, 1, 1]), Err(Rejected::NoCall));
        let claims = [7, 0, 2, 1, 1, 0, 0, 401];
        assert_eq!(decode(&claims), Err(Rejected::NoCall));
    }

    #[test]
    fn credentials_that_do_not_decode_are_bad() {
        let with = |flavor, body: &[u32]| {
            let mut call = vec![7, 0, 2, 1, 1, 0, flavor, 4 * body.len() as u32];
            call.extend(body);
            call.extend([0, 0]);
            Call::decode(message(&call)).unwrap().credentials
        };
        assert_eq!(with(0, &[]), Ok(Credentials::None));
        assert_eq!(with(6, &[]), Err(AuthError::AUTH_BADCRED), "RPCSEC_GSS");
        assert_eq!(with(1, &[0, 0, 1, 1, 17]), Err(AuthError::AUTH_BADCRED));
        assert_eq!(with(1, &[0, 0, 1, 1, 0, 0]), Err(AuthError::AUTH_BADCRED));
    }

    #[test]
    fn replies_are_those_of_the_rfc() {
        let of = |outcome: Outcome| words(outcome.reply(7).unwrap());
        assert_eq!(of(Outcome::done(&5_u32)), [7, 1, 0, 0, 0, 0, 5]);
        let failed = |failure| of(Outcome::Failed(failure));
        assert_eq!(failed(Failure::NoProgram), [7, 1, 0, 0, 0, 1]);
        assert_eq!(failed(Failure::NoVersion(3..=4)), [7, 1, 0, 0, 0, 2, 3, 4]);
        assert_eq!(failed(Failure::NoProcedure), [7, 1, 0, 0, 0, 3]);
        assert_eq!(failed(Failure::Garbage), [7, 1, 0, 0, 0, 4]);
        assert_eq!(failed(Failure::System), [7, 1, 0, 0, 0, 5]);
        assert_eq!(
            of(Outcome::Denied(AuthError::AUTH_TOOWEAK)),
            [7, 1, 1, 1, 5]
        );
        assert_eq!(words(vec![rpc_mismatch(7)]), [7, 1, 1, 0, 2, 2]);
        assert!(Outcome::Dropped.reply(7).is_none());
    }
}
