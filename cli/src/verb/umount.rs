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
        let daemon = match self.owner(&mount)? {
            Owner::Daemon(connection, daemon) => Some((connection, daemon)),
            Owner::Unknown => None,
            Owner::Dead => return Ok(Code::Good),
        };
        // The supervisor is the last to end.
        let processes: Vec<_> = daemon
            .iter()
            .flat_map(|(_, daemon)| [Some(daemon.pid), daemon.supervisor])
            .flatten()
            .filter_map(|pid| Some((pid, mounts::started(pid)?)))
            .collect();
        if let Some((connection, _)) = daemon.filter(|_| !self.lazy) {
            connection.sync().map_err(|failure| {
                Failure::new(format!("{} stays mounted", mount.point.display()))
                    .why(format!("not everything could be written out: {failure}"))
                    .remedy("make room and try again, or give up the last changes with --lazy")
            })?;
        }
        detach(&mount.point, self.lazy)?;
        for (pid, start) in processes {
            self.wait(pid, start);
        }
        Ok(Code::Good)
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

    fn wait(&self, pid: u32, start: u64) {
        let began = Instant::now();
        let mut told = false;
        while !mounts::has_ended(pid, start) {
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
