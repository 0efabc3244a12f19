//! `kiseki umount`.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    control::{Connection, Daemon},
    detach::{detach, detach_dead},
    failure::{Code, Failure, Result},
    mounts::{self, Mount},
    process::Process,
};

/// Arguments of `kiseki umount`.
#[derive(Args)]
pub struct Umount {
    /// Detach now, and let programs that still use the mount finish
    #[arg(short, long)]
    lazy: bool,
    /// The mount point
    mountpoint: PathBuf,
}

/// How long a lazy unmount waits for a daemon that nothing keeps.
const LAZY_PATIENCE: Duration = Duration::from_secs(2);

/// A daemon that takes over opens its socket this much later, at the most, than
/// it answers on the mount.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(1);

/// One that dies while it is asked closes its socket before it is gone.
const DYING_PATIENCE: Duration = Duration::from_secs(1);

/// Who has a mount.
enum Owner<'a> {
    Daemon(Connection<'a>, Daemon),
    /// Nobody who answers.
    Unknown,
    /// A daemon that had died; the mount is gone by now.
    Dead,
}

impl Umount {
    /// Returns when the daemon has ended and the store is free.
    pub fn run(&self) -> Result<Code> {
        let mount = mounts::at(&self.mountpoint)?;
        loop {
            let (connection, daemon) = match self.owner(&mount)? {
                Owner::Daemon(connection, daemon) => (connection, daemon),
                Owner::Unknown => {
                    detach(&mount.point, self.lazy)?;
                    return Ok(Code::Good);
                }
                Owner::Dead => return Ok(Code::Good),
            };
            let supervisor = daemon.supervisor.and_then(Process::of);
            let daemon = Process::of(daemon.pid);
            if !self.lazy
                && let Err(failure) = connection.sync()
            {
                // The one that takes over has all that this one had.
                if daemon.is_none_or(ends) {
                    continue;
                }
                return Err(
                    Failure::new(format!("{} stays mounted", mount.point.display()))
                        .why(format!("not everything could be written out: {failure}"))
                        .remedy("make room and try again, or give up the last changes with --lazy"),
                );
            }
            detach(&mount.point, self.lazy)?;
            // The supervisor is the last to end.
            for process in [daemon, supervisor].into_iter().flatten() {
                self.wait(process);
            }
            return Ok(Code::Good);
        }
    }

    fn owner<'a>(&self, mount: &'a Mount) -> Result<Owner<'a>> {
        let mut alive: Option<Instant> = None;
        loop {
            let found = Connection::to(&mount.store);
            // Else one that lets nobody in, does not answer, or has another mount.
            let may_come = matches!(found, Ok(None));
            if let Ok(Some((connection, daemon))) = found
                && daemon.mountpoint.as_ref() == Some(&mount.point)
            {
                return Ok(Owner::Daemon(connection, daemon));
            }
            // A lazy unmount asks nobody who might not answer.
            if self.lazy {
                return Ok(Owner::Unknown);
            }
            if alive.is_none() && detach_dead(&mount.point)? {
                return Ok(Owner::Dead);
            }
            let since = *alive.get_or_insert_with(Instant::now);
            if !may_come || since.elapsed() > TAKEOVER_PATIENCE {
                return Ok(Owner::Unknown);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait(&self, process: Process) {
        let pid = process.pid;
        let began = Instant::now();
        let mut told = false;
        while !process.has_ended() {
            if self.lazy && began.elapsed() > LAZY_PATIENCE {
                eprintln!(
                    "kiseki: detached; process {pid} ends when the last program lets go of its files"
                );
                return;
            }
            if !told && began.elapsed() > LAZY_PATIENCE {
                eprintln!("kiseki: waiting for process {pid} to write everything out");
                told = true;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether a process has ended, or does so now.
fn ends(process: Process) -> bool {
    let began = Instant::now();
    while !process.has_ended() {
        if began.elapsed() > DYING_PATIENCE {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}
