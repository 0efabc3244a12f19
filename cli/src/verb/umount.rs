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

/// How long a mount that is alive may be without a daemon that answers.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(5);

impl Umount {
    /// Returns when the daemon has ended and the store is free.
    pub fn run(&self) -> Result<Code> {
        let mount = mounts::at(&self.mountpoint)?;
        let began = Instant::now();
        let daemon = loop {
            let daemon = daemon_of(&mount);
            if daemon.is_none() && detach_dead(&mount.point)? {
                return Ok(Code::Good);
            }
            // One that takes over answers on its socket a little later than on
            // the mount. One that never answers must not keep anyone from
            // unmounting.
            if daemon.is_some() || self.lazy || began.elapsed() > TAKEOVER_PATIENCE {
                break daemon;
            }
            thread::sleep(Duration::from_millis(20));
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

fn daemon_of(mount: &Mount) -> Option<(Connection<'_>, Daemon)> {
    let found = Connection::to(&mount.store).ok().flatten();
    found.filter(|(_, daemon)| daemon.mountpoint.as_ref() == Some(&mount.point))
}
