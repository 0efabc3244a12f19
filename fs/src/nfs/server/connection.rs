//! One connection: messages in, calls carried out side by side, replies out.
//!
//! A call is polled once on the task that read it. Nearly all are answered
//! then; one that has to wait for a disk goes on as a task of its own, and its
//! reply leaves when it is there. While replies wait for a client that does
//! not read, no more calls are taken from it.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::{JoinError, JoinSet},
};

use super::{
    Programs,
    register::{Entry, Phase},
};
use crate::nfs::rpc::{Call, Failure, Outcome, Rejected, message, record};

/// Calls of one connection that are carried out side by side.
const CONCURRENT: usize = 64;

/// Bytes of replies that may wait for the client to read.
const UNSENT: usize = 4 << 20;

/// Pieces that are written at once.
const PIECES: usize = 64;

/// Calls that are answered before others get the thread.
const TURN: usize = 32;

/// The client of a connection.
pub struct Peer {
    /// Number of the connection; no other has it while the server runs.
    pub id: u64,
    /// Where it comes from.
    pub address: SocketAddr,
    /// The address of this machine that it came to.
    pub server: IpAddr,
}

impl Peer {
    pub(in crate::nfs) fn new(id: u64, address: SocketAddr, server: IpAddr) -> Arc<Peer> {
        Arc::new(Peer {
            id,
            address: SocketAddr::new(address.ip().to_canonical(), address.port()),
            server: server.to_canonical(),
        })
    }
}

/// What ends a connection.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("it was closed")]
    Closed,
    #[error("it was sent away")]
    SentAway,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Broken(#[from] record::Broken),
    #[error("a message that is no call")]
    NoCall,
    #[error("a call failed: {0}")]
    Panicked(#[from] JoinError),
}

type Answer = (u32, Outcome);

pub(super) struct Connection<P> {
    stream: TcpStream,
    peer: Arc<Peer>,
    entry: Entry,
    programs: Arc<P>,
    input: record::Assembly,
    /// Bytes of the calls that are being carried out.
    working: usize,
    running: JoinSet<(usize, Answer)>,
    output: VecDeque<Bytes>,
    unsent: usize,
    /// The client sends no more.
    finished: bool,
}

impl<P: Programs> Connection<P> {
    pub fn new(stream: TcpStream, peer: Arc<Peer>, entry: Entry, programs: Arc<P>) -> Self {
        Connection {
            stream,
            peer,
            entry,
            programs,
            input: record::Assembly::default(),
            working: 0,
            running: JoinSet::new(),
            output: VecDeque::new(),
            unsent: 0,
            finished: false,
        }
    }

    pub async fn run(mut self, stopped: watch::Receiver<bool>) {
        let end = self.serve(stopped).await;
        self.let_go();
        if let Err(error) = end {
            tracing::debug!(peer = %self.peer.address, "a connection ends: {error}");
        }
    }

    /// Calls that were begun are brought to their end even so: the client may
    /// ask for their answers over its next connection.
    fn let_go(&mut self) {
        self.running.detach_all();
    }

    async fn serve(&mut self, mut stopped: watch::Receiver<bool>) -> Result<(), End> {
        loop {
            let more = self.take_calls()?;
            self.send()?;
            self.report();
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            if self.finished && self.running.is_empty() && self.output.is_empty() {
                return Ok(());
            }
            let (listens, has_room) = (self.listens(), self.entry.has_room());
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped), if !self.finished => self.finished = true,
                () = self.entry.leave() => return Err(End::SentAway),
                ready = self.stream.readable(), if listens && has_room => {
                    ready?;
                    self.receive()?;
                }
                () = self.entry.room(), if listens && !has_room => {}
                ready = self.stream.writable(), if !self.output.is_empty() => ready?,
                Some(done) = self.running.join_next(), if !self.running.is_empty() => {
                    let (cost, answer) = done?;
                    self.working -= cost;
                    self.reply(answer);
                }
            }
        }
    }

    /// Whether more calls are taken from the client.
    fn listens(&self) -> bool {
        !self.finished && self.running.len() < CONCURRENT && self.unsent < UNSENT
    }

    /// Begins calls that have arrived; whether there may be more.
    fn take_calls(&mut self) -> Result<bool, End> {
        for _ in 0..TURN {
            if !self.listens() {
                return Ok(false);
            }
            match self.input.take()? {
                Some(message) => self.begin(message)?,
                None => {
                    self.input.shrink();
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn begin(&mut self, message: Bytes) -> Result<(), End> {
        let call = match Call::decode(message.clone()) {
            Ok(call) => call,
            Err(Rejected::NoCall) => return Err(End::NoCall),
            // Nobody here has called this client.
            Err(Rejected::Reply) => return Ok(()),
            Err(Rejected::Version { xid }) => {
                self.queue(vec![message::rpc_mismatch(xid)]);
                return Ok(());
            }
        };
        let (xid, cost) = (call.xid, message.len());
        drop(message);
        let mut answer = Box::pin(self.programs.clone().call(self.peer.clone(), call));
        match (&mut answer).now_or_never() {
            Some(outcome) => self.reply((xid, outcome)),
            None => {
                self.working += cost;
                self.running
                    .spawn(async move { (cost, (xid, answer.await)) });
            }
        }
        Ok(())
    }

    fn reply(&mut self, (xid, outcome): Answer) {
        if matches!(outcome, Outcome::Failed(Failure::System)) {
            tracing::warn!(peer = %self.peer.address, xid, "a call broke");
        }
        if let Some(pieces) = outcome.reply(xid) {
            self.queue(pieces);
        }
    }

    fn queue(&mut self, pieces: Vec<Bytes>) {
        let len: usize = pieces.iter().map(Bytes::len).sum();
        let mark = record::mark(len);
        self.unsent += mark.len() + len;
        self.output.push_back(mark);
        self.output
            .extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
    }

    fn receive(&mut self) -> Result<(), End> {
        let begins = self.input.is_empty();
        match self.stream.try_read_buf(self.input.input()) {
            Ok(0) if self.input.is_empty() => self.finished = true,
            Ok(0) => return Err(End::Closed),
            Ok(_) if begins => self.entry.progress(),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.input.shrink(),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Writes what the client takes now.
    fn send(&mut self) -> Result<(), End> {
        while !self.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.output) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(written) => {
                    self.entry.progress();
                    self.sent(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sent(&mut self, mut written: usize) {
        self.unsent -= written;
        while written > 0 {
            let Some(piece) = self.output.front_mut() else {
                return;
            };
            if written < piece.len() {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.output.pop_front();
        }
    }

    /// Says where the connection stands.
    fn report(&self) {
        self.entry.set(match () {
            () if !self.output.is_empty() => Phase::Sending,
            () if !self.running.is_empty() => Phase::Working,
            () if !self.input.is_empty() => Phase::Receiving,
            () => Phase::Idle,
        });
        self.entry
            .hold(self.input.held() + self.working + self.unsent);
    }
}
