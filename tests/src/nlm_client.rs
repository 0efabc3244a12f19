//! A machine that locks by NFSv3: its calls, and the services that a server
//! calls there (rpcbind, the lock manager, the status monitor).

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use anyhow::Context;
use kiseki_fs::nfs::{
    nlm::{
        self,
        xdr::{
            CancelArgs, Lock, LockArgs, Mode, Object, Reply, ShareArgs, ShareReply, Started,
            Status, TestArgs, TestReply, Tested, UnlockArgs,
        },
    },
    nsm,
    rpc::{Call, Outcome, record::Assembly, record::mark},
    xdr::{Blob, all},
};
use nfs3_client::{rpc::RpcClient, tokio::TokioIo};
use nfs3_types::{
    nfs3::nfs_fh3,
    rpc::{auth_unix, opaque_auth},
    xdr_codec::{Opaque, Pack, Unpack, Void},
};
use tokio::{net::TcpSocket, runtime::Runtime};

use crate::{Result, skip};

const RPCBIND: u16 = 111;

/// Bytes of a file: where they begin, and how many (0: all behind).
pub type Bytes = (u64, u64);

/// The calls of one process of a machine.
pub struct Locker {
    runtime: Runtime,
    rpc: RpcClient<TokioIo<tokio::net::TcpStream>>,
    name: String,
    process: u32,
}

impl Locker {
    /// Connects from an address; the machine has this name.
    pub fn new(from: IpAddr, server: SocketAddr, name: &str, process: u32) -> Result<Locker> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stream = runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(from, 0))?;
            socket.connect(server).await
        })?;
        stream.set_nodelay(true)?;
        let who = opaque_auth::auth_unix(&auth_unix {
            stamp: 1,
            machinename: Opaque::borrowed(b"tests"),
            uid: 0,
            gid: 0,
            gids: vec![],
        });
        let rpc = RpcClient::new_with_auth(TokioIo::new(stream), who, opaque_auth::default());
        Ok(Locker {
            runtime,
            rpc,
            name: name.to_owned(),
            process,
        })
    }

    /// Calls a procedure of NLM.
    pub fn call<A: Pack + Send + Sync, R: Unpack>(
        &mut self,
        procedure: u32,
        asked: &A,
    ) -> Result<R> {
        let call = self.rpc.call(nlm::PROGRAM, nlm::VERSION, procedure, asked);
        Ok(self.runtime.block_on(call)?)
    }

    /// What is said about bytes of a file.
    #[must_use]
    pub fn about(&self, file: &nfs_fh3, (offset, length): Bytes) -> Lock {
        Lock {
            host: Blob(self.name.clone().into_bytes()),
            file: Blob(file.data.to_vec()),
            owner: Blob(format!("{}@{}", self.process, self.name).into_bytes()),
            process: self.process,
            offset,
            length,
        }
    }

    /// LOCK, for itself alone.
    pub fn lock(&mut self, file: &nfs_fh3, bytes: Bytes) -> Result<Status> {
        let asked = self.asking(file, bytes);
        self.ask(&asked)
    }

    /// The same, of before the server started.
    pub fn reclaim(&mut self, file: &nfs_fh3, bytes: Bytes) -> Result<Status> {
        let asked = LockArgs {
            reclaim: true,
            ..self.asking(file, bytes)
        };
        self.ask(&asked)
    }

    /// The same, to be called when it can be had.
    pub fn wait_for(&mut self, file: &nfs_fh3, bytes: Bytes) -> Result<Status> {
        let asked = LockArgs {
            block: true,
            ..self.asking(file, bytes)
        };
        self.ask(&asked)
    }

    /// Arguments of LOCK.
    #[must_use]
    pub fn asking(&self, file: &nfs_fh3, bytes: Bytes) -> LockArgs {
        LockArgs {
            cookie: cookie(),
            block: false,
            exclusive: true,
            lock: self.about(file, bytes),
            reclaim: false,
            state: 1,
        }
    }

    /// LOCK with these.
    pub fn ask(&mut self, asked: &LockArgs) -> Result<Status> {
        let reply: Reply = self.call(2, asked)?;
        anyhow::ensure!(reply.cookie == asked.cookie, "another's answer");
        Ok(reply.status)
    }

    /// TEST.
    pub fn test(&mut self, file: &nfs_fh3, bytes: Bytes, exclusive: bool) -> Result<Tested> {
        let asked = TestArgs {
            cookie: cookie(),
            exclusive,
            lock: self.about(file, bytes),
        };
        Ok(self.call::<_, TestReply>(1, &asked)?.status)
    }

    /// CANCEL.
    pub fn cancel(&mut self, file: &nfs_fh3, bytes: Bytes) -> Result<Status> {
        let asked = CancelArgs {
            cookie: cookie(),
            block: true,
            exclusive: true,
            lock: self.about(file, bytes),
        };
        Ok(self.call::<_, Reply>(3, &asked)?.status)
    }

    /// UNLOCK.
    pub fn unlock(&mut self, file: &nfs_fh3, bytes: Bytes) -> Result<Status> {
        let asked = UnlockArgs {
            cookie: cookie(),
            lock: self.about(file, bytes),
        };
        Ok(self.call::<_, Reply>(4, &asked)?.status)
    }

    /// SHARE, or with `ends` UNSHARE.
    pub fn share(
        &mut self,
        file: &nfs_fh3,
        access: Mode,
        deny: Mode,
        ends: bool,
    ) -> Result<Status> {
        let about = self.about(file, (0, 0));
        let asked = ShareArgs {
            cookie: cookie(),
            host: about.host,
            file: about.file,
            owner: about.owner,
            deny,
            access,
            reclaim: false,
        };
        let procedure = if ends { 21 } else { 20 };
        Ok(self.call::<_, ShareReply>(procedure, &asked)?.status)
    }

    /// FREE_ALL.
    pub fn free_all(&mut self) -> Result {
        let Void = self.call(23, &self.started())?;
        Ok(())
    }

    /// NOTIFY of NSM: the machine has started again.
    pub fn notify(&mut self) -> Result {
        let started = self.started();
        let call = self.rpc.call(nsm::PROGRAM, nsm::VERSION, 6, &started);
        let Void = self.runtime.block_on(call)?;
        Ok(())
    }

    fn started(&self) -> Started {
        Started {
            host: Blob(self.name.clone().into_bytes()),
            state: 3,
        }
    }
}

fn cookie() -> Object {
    Blob(b"cookie".to_vec())
}

/// What a server said to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It has this lock now.
    Granted(Lock),
    /// The server has started.
    Notified(Started),
}

/// The services of a machine, at a loopback address of its own.
pub struct Services {
    heard: Receiver<Heard>,
}

impl Services {
    /// Answers at an address; GRANTED is answered with `granted`. None when the
    /// test was skipped.
    pub fn at(address: IpAddr, granted: Status) -> Result<Option<Services>> {
        let rpcbind = match TcpListener::bind((address, RPCBIND)) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                skip("needs root, to listen on port 111");
                return Ok(None);
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                skip("an rpcbind of this machine has port 111 on all addresses");
                return Ok(None);
            }
            rpcbind => rpcbind.context("port 111")?,
        };
        let others = TcpListener::bind((address, 0))?;
        let port = others.local_addr()?.port();
        let (said, heard) = channel();
        for listener in [rpcbind, others] {
            let said = said.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    // Whoever calls hangs up; that is no failure of the test.
                    let _ = serve(stream, port, granted, &said);
                }
            });
        }
        Ok(Some(Services { heard }))
    }

    /// The next thing that the server says.
    pub fn next(&self, within: Duration) -> Result<Heard> {
        self.heard.recv_timeout(within).context("nothing was said")
    }
}

fn serve(mut stream: TcpStream, port: u16, granted: Status, said: &Sender<Heard>) -> Result {
    let (mut input, mut buffer) = (Assembly::default(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        input.input().extend_from_slice(&buffer[..read]);
        while let Some(message) = input.take()? {
            let call = Call::decode(message).map_err(|why| anyhow::anyhow!("{why:?}"))?;
            let xid = call.xid;
            let outcome = answer(call, port, granted, said)?;
            let reply = outcome.reply(xid).context("a reply")?.concat();
            stream.write_all(&[&mark(reply.len())[..], &reply].concat())?;
        }
    }
}

fn answer(call: Call, port: u16, granted: Status, said: &Sender<Heard>) -> Result<Outcome> {
    let arguments = call.arguments;
    Ok(match (call.program, call.procedure) {
        (100_000, 3) => {
            let [high, low] = port.to_be_bytes();
            let address = format!("0.0.0.0.{high}.{low}");
            Outcome::done(&Opaque::borrowed(address.as_bytes()))
        }
        (nlm::PROGRAM, 5) => {
            let asked: TestArgs = all(arguments)?;
            said.send(Heard::Granted(asked.lock))?;
            Outcome::done(&Reply {
                cookie: asked.cookie,
                status: granted,
            })
        }
        (nsm::PROGRAM, 6) => {
            said.send(Heard::Notified(all(arguments)?))?;
            Outcome::Done(vec![])
        }
        other => anyhow::bail!("nobody calls {other:?}"),
    })
}
