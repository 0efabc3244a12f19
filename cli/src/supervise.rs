//! A process that keeps a mount while the daemon that serves it may die.
//!
//! The supervisor holds what has to outlive a daemon: the device of the
//! kernel, the memory of the journal, the plan and the secret. It knows nothing
//! of volumes. When a daemon dies, it starts another one and hands them over;
//! the programs that use the mount wait that long. It gives up when daemons
//! die without ever serving.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::waitpid,
    },
    unistd::Pid,
};
use sd_notify::NotifyState;

use crate::{
    control::Daemon,
    daemon,
    detach::detach,
    failure::{Attempt, Code, Failure, Result},
    link::{Link, Word},
    plan::Plan,
    secrets::{self, Secret},
    session::Journal,
};

/// The hidden verb that a daemon runs.
pub const VERB: &str = "serve-mount";

/// Daemons that may die in a row without serving.
const ATTEMPTS: u32 = 5;

/// One that served this long did serve, however it died.
const SERVED: Duration = Duration::from_secs(5);

/// The pause before the second attempt; doubled for each one after it.
const PAUSE: Duration = Duration::from_millis(50);

/// Exit code of a process whose main thread panicked.
const PANICKED: i32 = 101;

/// What the supervisor tells of the first daemon, once.
pub enum News<'a> {
    /// The mount answers.
    Answers(&'a Daemon),
    /// It did not come so far.
    Failed(Failure),
}

/// Mounts by `plan` and keeps the mount until it is unmounted or a signal asks
/// for the end. `tell` is called once. The answer is the exit code; what failed
/// has been printed by the daemon.
///
/// # Errors
/// No daemon can be started, or they die without serving.
pub fn supervise(plan: Plan, secret: Secret, tell: impl FnOnce(News<'_>)) -> Result<Code> {
    secrets::protect_process()?;
    let signals = Signals::catch()?;
    let memory = Journal::memory().attempt(|| "cannot make memory for the journal".into())?;
    let mut supervisor = Supervisor {
        plan,
        secret,
        memory,
        device: None,
        ending: false,
        successor: None,
    };
    supervisor.run(&signals, &mut Some(tell))
}

/// Goes on with the mount of a supervisor of another version, whose process
/// this is, and which handed everything over on standard input. Its daemon has
/// the id `daemon`; another one takes over, as from any that died.
///
/// # Errors
/// Standard input is something else, and as for [`supervise`].
pub fn resume(daemon: u32) -> Result<Code> {
    secrets::protect_process()?;
    let signals = Signals::catch()?;
    let wrong = || Failure::usage("this is run by `kiseki upgrade` alone");
    let link = Link::from(daemon::leave_stdin()?);
    let (told, descriptors) = link.receive(true).map_err(|_| wrong())?;
    let (plan, secret) = daemon::decode(&told)?;
    drop(told);
    let mut descriptors = descriptors.into_iter();
    let memory = descriptors.next().ok_or_else(wrong)?;
    let device = descriptors.next().ok_or_else(wrong)?;
    let daemon = Pid::from_raw(daemon.cast_signed());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        "another version goes on"
    );
    // It is a child of this process, which was another program's.
    let _ = kill(daemon, Signal::SIGKILL);
    let _ = waitpid(daemon, None);
    let mut supervisor = Supervisor {
        plan,
        secret,
        memory,
        device: Some(device),
        ending: false,
        successor: None,
    };
    supervisor.run(&signals, &mut None::<fn(News<'_>)>)
}

struct Supervisor {
    plan: Plan,
    secret: Secret,
    /// Of the journal.
    memory: OwnedFd,
    /// Of the kernel, once it is mounted.
    device: Option<OwnedFd>,
    /// A signal asked for the end.
    ending: bool,
    /// The program that is to go on with the mount.
    successor: Option<PathBuf>,
}

/// A daemon.
struct Worker {
    process: Child,
    link: Link,
    /// Nobody is at the other end of the link.
    silent: bool,
    /// Since when the mount answers.
    served: Option<Instant>,
    /// It said that it is done.
    ended: bool,
}

impl Worker {
    fn signal(&self, signal: Signal) {
        // One that ended meanwhile needs no signal.
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), signal);
    }

    /// Whether it died of itself or was killed before it had served.
    fn counts_as_failure(&self, status: ExitStatus) -> bool {
        let killed = status.signal() == Some(Signal::SIGKILL as i32);
        match self.served {
            Some(since) => !killed && since.elapsed() < SERVED,
            None => true,
        }
    }
}

impl Supervisor {
    fn run<T: FnOnce(News<'_>)>(
        &mut self,
        signals: &Signals,
        tell: &mut Option<T>,
    ) -> Result<Code> {
        let mut failures = 0;
        loop {
            let mut worker = self.start()?;
            let status = self.watch(&mut worker, signals, tell)?;
            let dead = status.signal().is_some() || status.code() == Some(PANICKED);
            if worker.ended || self.device.is_none() {
                if dead && self.device.is_none() {
                    return Err(self.lost(status));
                }
                return Ok(code(status));
            }
            failures = if worker.counts_as_failure(status) {
                failures + 1
            } else {
                0
            };
            tracing::warn!(%status, "the daemon died; another one takes over");
            if failures == ATTEMPTS {
                return Err(self.give_up(status));
            }
            if failures > 0 {
                thread::sleep(PAUSE * 2_u32.pow(failures - 1));
            }
        }
    }

    /// Starts a daemon and hands it all that is kept.
    fn start(&self) -> Result<Worker> {
        let cannot = || "cannot start the daemon".to_owned();
        let (link, theirs) = Link::pair().attempt(cannot)?;
        let process = Command::new("/proc/self/exe")
            .arg0("kiseki")
            .arg(VERB)
            .args([&self.plan.store, &self.plan.mountpoint])
            .current_dir("/")
            // Told of the end by us alone, not by Ctrl-C as well; and it is we
            // whom systemd knows.
            .process_group(0)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .attempt(cannot)?;
        let mut descriptors = vec![self.memory.as_fd()];
        descriptors.extend(self.device.as_ref().map(AsFd::as_fd));
        let told = daemon::encode(&self.plan, &self.secret);
        if let Err(error) = link.send(&told, &descriptors) {
            // It is dead, as its end will tell.
            tracing::warn!(%error, "cannot talk to the daemon");
        }
        Ok(Worker {
            process,
            link,
            silent: false,
            served: None,
            ended: false,
        })
    }

    /// Listens to a daemon and to signals until it ends.
    fn watch<T: FnOnce(News<'_>)>(
        &mut self,
        worker: &mut Worker,
        signals: &Signals,
        tell: &mut Option<T>,
    ) -> Result<ExitStatus> {
        loop {
            wait(signals, worker)?;
            while let Some(signal) = signals.next()? {
                if signal != Signal::SIGCHLD {
                    self.ending = true;
                    notify(&[NotifyState::Stopping]);
                    worker.signal(Signal::SIGTERM);
                }
            }
            let ended = worker.process.try_wait();
            let ended = ended.attempt(|| "cannot wait for the daemon".into())?;
            // Behind the look at its end, so that its last words are heard.
            self.listen(worker, tell);
            if let Some(status) = ended {
                return Ok(status);
            }
            if let Some(program) = self.successor.take() {
                let error = self.become_program(&program, worker);
                let program = program.display();
                tracing::error!(%error, %program, "cannot upgrade; this version goes on");
            }
        }
    }

    /// Becomes another program, which goes on by [`resume`]. Returns only when
    /// that cannot be.
    fn become_program(&self, program: &Path, worker: &Worker) -> io::Error {
        let Some(device) = &self.device else {
            return io::ErrorKind::Unsupported.into();
        };
        let told = daemon::encode(&self.plan, &self.secret);
        let handed = Link::pair().and_then(|(ours, theirs)| {
            ours.send(&told, &[self.memory.as_fd(), device.as_fd()])?;
            Ok(theirs)
        });
        let link = match handed {
            Ok(link) => link,
            Err(error) => return error,
        };
        Command::new(program)
            .arg0("kiseki")
            .arg("daemon")
            .args(["--resume", &worker.process.id().to_string()])
            .args([&self.plan.store, &self.plan.mountpoint])
            .stdin(Stdio::from(OwnedFd::from(link)))
            .exec()
    }

    fn listen<T: FnOnce(News<'_>)>(&mut self, worker: &mut Worker, tell: &mut Option<T>) {
        while !worker.silent {
            let (packet, mut descriptors) = match worker.link.receive(false) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => (Vec::new().into(), Vec::new()),
            };
            if packet.is_empty() {
                worker.silent = true;
                return;
            }
            match serde_json::from_slice(&packet) {
                Ok(Word::Mounted) => self.device = descriptors.pop(),
                Ok(Word::Answers(daemon)) => self.answers(worker, &daemon, tell),
                Ok(Word::Failed { message, damage }) => {
                    let code = if damage { Code::Damage } else { Code::Failed };
                    if let Some(tell) = tell.take_if(|_| self.device.is_none()) {
                        tell(News::Failed(Failure::new(message).code(code)));
                    }
                }
                Ok(Word::Ended) => worker.ended = true,
                Ok(Word::Replace(program)) => self.successor = Some(program),
                Err(_) => {
                    tracing::warn!("the daemon says what this supervisor does not understand");
                }
            }
        }
    }

    fn answers<T: FnOnce(News<'_>)>(
        &self,
        worker: &mut Worker,
        daemon: &Daemon,
        tell: &mut Option<T>,
    ) {
        worker.served = Some(Instant::now());
        match tell.take() {
            Some(tell) => {
                notify(&[NotifyState::Ready]);
                tell(News::Answers(daemon));
                if self.device.is_none() {
                    tracing::warn!(
                        "this mount ends with its daemon: the kernel cannot send requests again \
                         (Linux 6.9 can), or there is no room for a journal"
                    );
                }
            }
            None => tracing::info!(pid = daemon.pid, "another daemon has taken over"),
        }
        if self.ending {
            worker.signal(Signal::SIGTERM);
        }
    }

    /// The failure of a daemon that died and left nothing to go on with.
    fn lost(&self, status: ExitStatus) -> Failure {
        let point = &self.plan.mountpoint;
        // There may be nothing, and there may be a mount nobody serves.
        let _ = crate::detach::detach_dead(point);
        Failure::new(format!("the daemon of {} died", point.display())).why(status)
    }

    /// Ends a mount that no daemon can serve.
    fn give_up(&mut self, status: ExitStatus) -> Failure {
        let point = &self.plan.mountpoint;
        notify(&[NotifyState::Stopping]);
        if let Err(failure) = detach(point, true) {
            tracing::warn!(%failure, "cannot unmount");
        }
        // From now on the programs that use it get errors.
        self.device = None;
        Failure::new(format!("gave up the mount {}", point.display()))
            .why(format!(
                "its daemon ended {ATTEMPTS} times in a row without serving, last with {status}"
            ))
            .remedy("what was synced is in the store; the messages above say more")
    }
}

fn code(status: ExitStatus) -> Code {
    match status.code() {
        Some(0) => Code::Good,
        Some(2) => Code::Usage,
        Some(3) => Code::Damage,
        _ => Code::Failed,
    }
}

/// Tells systemd, where it asked to be told.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// Waits until there is a signal or a word.
fn wait(signals: &Signals, worker: &Worker) -> Result<()> {
    let mut sources = vec![PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
    if !worker.silent {
        sources.push(PollFd::new(worker.link.as_fd(), PollFlags::POLLIN));
    }
    match poll(&mut sources, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Failure::new("cannot wait for the daemon").why(errno.desc())),
    }
}

/// The signals that a supervisor answers, taken one by one.
struct Signals(SignalFd);

impl Signals {
    /// Blocks them; daemons are born with them blocked and unblock them when
    /// they are ready for them.
    fn catch() -> Result<Signals> {
        let cannot = || "cannot catch signals".to_owned();
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGCHLD,
        ] {
            set.add(signal);
        }
        set.thread_block().attempt(cannot)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Signals(SignalFd::with_flags(&set, flags).attempt(cannot)?))
    }

    fn next(&self) -> Result<Option<Signal>> {
        let found = self
            .0
            .read_signal()
            .attempt(|| "cannot read signals".into())?;
        Ok(found.and_then(|found| Signal::try_from(found.ssi_signo.cast_signed()).ok()))
    }
}
