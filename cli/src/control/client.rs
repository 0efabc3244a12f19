//! The asking side: blocking, one request per connection.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use super::{Ask, Daemon, LONGEST_LINE, Line, Request, short_path};
use crate::{
    exports::{ExportAnswer, ExportRequest},
    failure::{Code, Failure, Result},
    profile::{ProfileAnswer, ProfileRequest},
    report::{Collection, Statistics, Status},
    s3_keys::{KeyAnswer, KeyRequest},
};

/// How long a daemon that is ending may take connections and answer none.
const ENDING: Duration = Duration::from_secs(2);

/// The daemon that has a store open, as others see it.
pub struct Connection<'a> {
    store: &'a Path,
}

impl<'a> Connection<'a> {
    /// The daemon of this store; `None` when none listens.
    ///
    /// # Errors
    /// One listens and does not let this user in, or does not answer.
    pub fn to(store: &'a Path) -> Result<Option<(Connection<'a>, Daemon)>> {
        let connection = Connection { store };
        let start = Instant::now();
        loop {
            match connection.greet() {
                // One that is killed takes connections for a moment after it
                // has stopped answering.
                Err(_) if start.elapsed() < ENDING => thread::sleep(Duration::from_millis(20)),
                greeted => return Ok(greeted?.map(|daemon| (connection, daemon))),
            }
        }
    }

    fn greet(&self) -> Result<Option<Daemon>> {
        let stream = match self.connect() {
            Ok(stream) => stream,
            // No directory, no socket, a socket nobody listens on, or a store
            // on which there can be none.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(self.failure(error)),
        };
        match self.converse(stream, Request::Ping, &mut |_, _| {})? {
            Line::Pong(daemon) => Ok(Some(daemon)),
            _ => Err(self.misunderstood()),
        }
    }

    /// Totals of the mounted volume.
    ///
    /// # Errors
    /// The daemon answered with one, or went away.
    pub fn status(&self) -> Result<Status> {
        match self.ask(Request::Status, &mut |_, _| {})? {
            Line::Status(status) => Ok(*status),
            _ => Err(self.misunderstood()),
        }
    }

    /// Counters of the mount.
    ///
    /// # Errors
    /// The daemon answered with one, or went away.
    pub fn stats(&self) -> Result<Statistics> {
        match self.ask(Request::Stats, &mut |_, _| {})? {
            Line::Stats(stats) => Ok(*stats),
            _ => Err(self.misunderstood()),
        }
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// It could not be made durable, or the daemon went away.
    pub fn sync(&self) -> Result<()> {
        match self.ask(Request::Sync, &mut |_, _| {})? {
            Line::Synced => Ok(()),
            _ => Err(self.misunderstood()),
        }
    }

    /// Collects garbage; `progress` is told work done and in all.
    ///
    /// # Errors
    /// The daemon answered with one, or went away.
    pub fn gc(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Collection> {
        match self.ask(Request::Gc, progress)? {
            Line::Collected(collection) => Ok(collection),
            _ => Err(self.misunderstood()),
        }
    }

    /// Lets another program go on with the mount. It does so some time after
    /// the answer.
    ///
    /// # Errors
    /// The last changes could not be written out, or the daemon went away.
    pub fn upgrade(&self, program: PathBuf) -> Result<()> {
        match self.ask(Request::Upgrade(program), &mut |_, _| {})? {
            Line::Leaving => Ok(()),
            _ => Err(self.misunderstood()),
        }
    }

    /// Has the daemon sample where it spends its time.
    ///
    /// # Errors
    /// The daemon answered with one, or went away.
    pub fn profile(&self, request: ProfileRequest) -> Result<ProfileAnswer> {
        match self.ask(Request::Profile(request), &mut |_, _| {})? {
            Line::Profile(answer) => Ok(answer),
            _ => Err(self.misunderstood()),
        }
    }

    /// Makes, lists or deletes keys of S3.
    ///
    /// # Errors
    /// The daemon answered with one, or went away.
    pub fn s3_key(&self, request: KeyRequest) -> Result<KeyAnswer> {
        match self.ask(Request::S3Key(request), &mut |_, _| {})? {
            Line::S3Key(answer) => Ok(answer),
            _ => Err(self.misunderstood()),
        }
    }

    /// Lists, adds or removes exports of NFS.
    ///
    /// # Errors
    /// The daemon answered with one, or went away.
    pub fn export(&self, request: ExportRequest) -> Result<ExportAnswer> {
        match self.ask(Request::Export(request), &mut |_, _| {})? {
            Line::Export(answer) => Ok(answer),
            _ => Err(self.misunderstood()),
        }
    }

    fn ask(&self, request: Request, progress: &mut dyn FnMut(u64, u64)) -> Result<Line> {
        let stream = self.connect().map_err(|error| self.failure(error))?;
        self.converse(stream, request, progress)
    }

    fn connect(&self) -> io::Result<UnixStream> {
        let (_dir, path) = short_path(self.store)?;
        let stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    }

    fn converse(
        &self,
        mut stream: UnixStream,
        request: Request,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Line> {
        // A flush may take as long as the disk needs; a ping may not.
        let patience = match request {
            Request::Ping | Request::Stats => Some(Duration::from_secs(10)),
            Request::Status
            | Request::Sync
            | Request::Gc
            | Request::Upgrade(_)
            | Request::Profile(_)
            | Request::S3Key(_)
            | Request::Export(_) => None,
        };
        let mut text = serde_json::to_vec(&Ask { verb: request })
            .map_err(|error| self.failure(error.into()))?;
        text.push(b'\n');
        stream
            .set_read_timeout(patience)
            .and_then(|()| stream.write_all(&text))
            .map_err(|error| self.failure(error))?;
        let mut lines = BufReader::new(stream);
        loop {
            match self.line(&mut lines)? {
                Line::Progress(done, total) => progress(done, total),
                Line::Failed { message, damage } => {
                    let code = if damage { Code::Damage } else { Code::Failed };
                    return Err(Failure::new(message).code(code));
                }
                line => return Ok(line),
            }
        }
    }

    fn line(&self, lines: &mut BufReader<UnixStream>) -> Result<Line> {
        // It may hold the secret of a new key.
        let mut text = Zeroizing::new(Vec::new());
        let read = lines
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut text);
        match read {
            Ok(0) => Err(self.failure(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => serde_json::from_slice(&text).map_err(|_| self.misunderstood()),
            Err(error) => Err(self.failure(error)),
        }
    }

    fn failure(&self, error: io::Error) -> Failure {
        let store = self.store.display();
        match error.kind() {
            io::ErrorKind::PermissionDenied => Failure::new(format!(
                "the daemon of the store {store} belongs to another user"
            ))
            .remedy("ask as that user or as root"),
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => Failure::new(format!(
                "the daemon of the store {store} ended before it answered"
            ))
            .remedy("its log says why"),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Failure::new(format!("the daemon of the store {store} does not answer"))
                    .remedy("look at its log and at the disk of the store")
            }
            _ => Failure::new(format!("cannot talk to the daemon of the store {store}")).why(error),
        }
    }

    fn misunderstood(&self) -> Failure {
        misunderstood(self.store)
    }
}

/// What is said of an answer to something else than was asked.
#[must_use]
pub fn misunderstood(store: &Path) -> Failure {
    Failure::new(format!(
        "the daemon of the store {} speaks another version",
        store.display()
    ))
    .remedy("unmount and mount again after an upgrade")
}
