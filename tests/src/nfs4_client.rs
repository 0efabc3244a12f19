//! A client of NFSv4.1 that says what a kernel would not: requests twice, out
//! of order, for another's state. RPC is that of the crate `nfs3_client`, types
//! are those of the server.

use std::{io, net::SocketAddr};

use anyhow::{Context, ensure};
use kiseki_fs::nfs::v4::xdr::{
    Array, Attributes, Bitmap, Blob, Channel, Claim, ClientOwner, CompoundHead, CompoundReply,
    CreateHow, CreateSession, CreatedSession, ExchangeId, Exchanged, Handle, Lock, LockKind,
    Locker, NewLocker, Open, OpenHow, Opened, Operation, Protection, Sequence, Sequenced, StateId,
    StateOwner, Status, attribute, put, take,
};
use nfs3_client::{rpc::RpcClient, tokio::TokioIo};
use nfs3_types::{
    rpc::{auth_unix, opaque_auth},
    xdr_codec::{self, Opaque, Pack, Unpack},
};
use tokio::{net::TcpStream, runtime::Runtime};

use crate::Result;

const PROGRAM: u32 = 100_003;
const COMPOUND: u32 = 1;

/// Bytes that are encoded already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw(pub Vec<u8>);

impl Pack for Raw {
    fn packed_size(&self) -> usize {
        self.0.len()
    }

    fn pack(&self, out: &mut impl io::Write) -> xdr_codec::Result<usize> {
        out.write_all(&self.0)?;
        Ok(self.0.len())
    }
}

impl Unpack for Raw {
    fn unpack(input: &mut impl io::Read) -> xdr_codec::Result<(Self, usize)> {
        let mut bytes = Vec::new();
        input.by_ref().read_to_end(&mut bytes)?;
        let len = bytes.len();
        Ok((Raw(bytes), len))
    }
}

/// A connection.
pub struct Connection {
    runtime: Runtime,
    rpc: RpcClient<TokioIo<TcpStream>>,
}

impl Connection {
    /// Connects; root asks.
    pub fn open(server: SocketAddr) -> Result<Connection> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stream = runtime.block_on(TcpStream::connect(server))?;
        stream.set_nodelay(true)?;
        let who = opaque_auth::auth_unix(&auth_unix {
            stamp: 1,
            machinename: Opaque::borrowed(b"tests"),
            uid: 0,
            gid: 0,
            gids: vec![],
        });
        let rpc = RpcClient::new_with_auth(TokioIo::new(stream), who, opaque_auth::default());
        Ok(Connection { runtime, rpc })
    }

    /// Sends an encoded COMPOUND.
    pub fn call(&mut self, request: &Raw) -> Result<Raw> {
        let call = self.rpc.call(PROGRAM, 4, COMPOUND, request);
        Ok(self.runtime.block_on(call)?)
    }
}

/// A COMPOUND, encoded.
pub fn request(minor: u32, operations: &[Operation]) -> Result<Raw> {
    let head = CompoundHead {
        tag: Blob::default(),
        minor,
        operations: operations.len() as u32,
    };
    let mut out = Vec::new();
    head.pack(&mut out)?;
    for operation in operations {
        operation.pack(&mut out)?;
    }
    Ok(Raw(out))
}

/// The results of a COMPOUND.
pub struct Results {
    /// How it ended.
    pub status: Status,
    answer: Vec<u8>,
    /// Where the results that are not taken yet begin.
    at: usize,
}

impl Results {
    /// Of an answer.
    pub fn of(answer: &Raw) -> Result<Results> {
        Results::new(answer.0.clone())
    }

    fn new(answer: Vec<u8>) -> Result<Results> {
        let mut input = answer.as_slice();
        let head: CompoundReply = take(&mut input).map_err(bad)?;
        let at = answer.len() - input.len();
        Ok(Results {
            status: head.status,
            answer,
            at,
        })
    }

    /// The results of the next operation, which succeeded.
    pub fn result<T: Unpack>(&mut self) -> Result<T> {
        let mut input = &self.answer[self.at..];
        let number: u32 = take(&mut input).map_err(bad)?;
        let status: Status = take(&mut input).map_err(bad)?;
        ensure!(status == Status::Ok, "operation {number}: {status:?}");
        let value = take(&mut input).map_err(bad)?;
        self.at = self.answer.len() - input.len();
        Ok(value)
    }

    /// Passes over an operation without results.
    pub fn skip(&mut self) -> Result {
        self.result::<xdr_codec::Void>().map(drop)
    }
}

fn bad(status: Status) -> anyhow::Error {
    anyhow::anyhow!("an answer does not decode: {status:?}")
}

/// A client with a session of one slot.
pub struct Session {
    /// Its connection; another one may take its place.
    pub connection: Connection,
    session: [u8; 16],
    sequence: u32,
    name: Vec<u8>,
}

/// Most of what a READ or a WRITE may move, and what goes around it.
const LARGEST: u32 = (1 << 20) + 4096;

fn channel() -> Channel {
    Channel {
        header_pad: 0,
        max_request: LARGEST,
        max_response: LARGEST,
        max_cached: 8192,
        max_operations: 16,
        max_requests: 1,
        rdma_ird: Array(vec![]),
    }
}

impl Session {
    /// Makes itself known by a name.
    pub fn open(server: SocketAddr, name: &str) -> Result<Session> {
        let mut connection = Connection::open(server)?;
        let exchange = Operation::ExchangeId(ExchangeId {
            owner: ClientOwner {
                verifier: *b"verifier",
                name: Blob(name.as_bytes().to_vec()),
            },
            flags: 0,
            protection: Protection::None,
            implementation: Array(vec![]),
        });
        let answer = connection.call(&request(1, &[exchange])?)?;
        let known: Exchanged = Results::of(&answer)?.result()?;
        let create = Operation::CreateSession(CreateSession {
            client: known.client,
            sequence: known.sequence,
            flags: 0,
            fore: channel(),
            back: channel(),
            callback_program: 0,
            callback_security: Array(vec![]),
        });
        let answer = connection.call(&request(1, &[create])?)?;
        let created: CreatedSession = Results::of(&answer)?.result()?;
        Ok(Session {
            connection,
            session: created.session,
            sequence: 1,
            name: name.as_bytes().to_vec(),
        })
    }

    /// The same, with nothing to take back.
    pub fn fresh(server: SocketAddr, name: &str) -> Result<Session> {
        let mut session = Session::open(server, name)?;
        let done = session.run(vec![Operation::ReclaimComplete(false)])?;
        ensure!(
            done.status == Status::Ok,
            "RECLAIM_COMPLETE: {:?}",
            done.status
        );
        Ok(session)
    }

    /// The next request, encoded and not sent. Its answer is to be kept.
    pub fn prepare(&mut self, operations: Vec<Operation>) -> Result<Raw> {
        self.next(operations, true)
    }

    fn next(&mut self, operations: Vec<Operation>, cache_this: bool) -> Result<Raw> {
        let mut all = vec![Operation::Sequence(Sequence {
            session: self.session,
            sequence: self.sequence,
            slot: 0,
            highest_slot: 0,
            cache_this,
        })];
        all.extend(operations);
        self.sequence += 1;
        request(1, &all)
    }

    /// Runs operations; the results are those behind SEQUENCE.
    pub fn run(&mut self, operations: Vec<Operation>) -> Result<Results> {
        let request = self.prepare(operations)?;
        self.send(&request)
    }

    /// Runs operations that may be carried out twice: their answer, which can
    /// be large, is not kept.
    pub fn run_unkept(&mut self, operations: Vec<Operation>) -> Result<Results> {
        let request = self.next(operations, false)?;
        self.send(&request)
    }

    fn send(&mut self, request: &Raw) -> Result<Results> {
        let mut results = Results::new(self.connection.call(request)?.0)?;
        results.result::<Sequenced>().context("SEQUENCE")?;
        Ok(results)
    }

    /// How operations end.
    pub fn status(&mut self, operations: Vec<Operation>) -> Result<Status> {
        Ok(self.run(operations)?.status)
    }

    /// Opens a file of the root for reading and writing, made if need be: its
    /// handle and the stateid.
    pub fn open_file(&mut self, name: &str) -> Result<(Handle, StateId)> {
        let how = OpenHow::Create(CreateHow::Unchecked(Attributes::default()));
        let open = self.opening(how, Claim::Null(Blob(name.as_bytes().to_vec())));
        let mut results = self.run(vec![Operation::PutRootHandle, open, Operation::GetHandle])?;
        results.skip()?;
        let opened: Opened = results.result()?;
        Ok((results.result()?, opened.stateid))
    }

    /// An OPEN for reading and writing.
    #[must_use]
    pub fn opening(&self, how: OpenHow, claim: Claim) -> Operation {
        Operation::Open(Open {
            sequence: 0,
            access: 3,
            deny: 0,
            owner: self.owner(),
            how,
            claim,
        })
    }

    /// A LOCK of bytes that nobody else may have.
    #[must_use]
    pub fn locking(&self, open: StateId, offset: u64, length: u64, reclaim: bool) -> Operation {
        Operation::Lock(Lock {
            kind: LockKind::Write,
            reclaim,
            offset,
            length,
            locker: Locker::New(NewLocker {
                open_sequence: 0,
                open,
                lock_sequence: 0,
                owner: self.owner(),
            }),
        })
    }

    /// Its one owner.
    #[must_use]
    pub fn owner(&self) -> StateOwner {
        StateOwner {
            client: 0,
            name: Blob(self.name.clone()),
        }
    }

    /// The change attribute of a file.
    pub fn change(&mut self, handle: &Handle) -> Result<u64> {
        let wanted = Bitmap::of([attribute::CHANGE]);
        let mut results = self.run(vec![
            Operation::PutHandle(handle.clone()),
            Operation::GetAttr(wanted),
        ])?;
        results.skip()?;
        let attributes: Attributes = results.result()?;
        take(&mut attributes.values.0.as_slice()).map_err(bad)
    }
}

/// Bytes of a value.
pub fn encoded(value: &impl Pack) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    put(&mut out, value).map_err(bad)?;
    Ok(out)
}
