//! `kiseki upgrade`.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    control::Connection,
    failure::{Attempt, Code, Failure, Result},
    mounts,
    session::JOURNAL_LAYOUT,
};

/// Arguments of `kiseki upgrade`.
#[derive(Args)]
pub struct Upgrade {
    /// The mount point
    mountpoint: PathBuf,
}

/// How long the next daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

impl Upgrade {
    /// Returns when a daemon of this version answers. Programs that use the
    /// mount wait that long.
    pub fn run(&self) -> Result<Code> {
        let mount = mounts::at(&self.mountpoint)?;
        let shown = mount.point.display();
        let cannot = || Failure::new(format!("cannot upgrade the mount {shown}"));
        let anew = "unmount it with `kiseki umount` and mount it again";
        let (connection, before) = Connection::to(&mount.store)?.ok_or_else(|| {
            cannot()
                .why("it has no daemon")
                .remedy("mount again, which clears it away")
        })?;
        if before.layout != JOURNAL_LAYOUT {
            let why = match before.layout {
                0 => {
                    "it ends with its daemon: the kernel is older than 6.9, or there is no journal"
                        .to_owned()
                }
                layout => format!(
                    "its journal has layout {layout}, and this version knows layout {JOURNAL_LAYOUT}"
                ),
            };
            return Err(cannot().why(why).remedy(anew));
        }
        let program = std::env::current_exe().attempt(|| "cannot find this program".into())?;
        connection.upgrade(program)?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match Connection::to(&mount.store) {
                Ok(Some((_, now))) if now.pid != before.pid => return Ok(Code::Good),
                // Between two daemons nobody answers, or one that is about to end.
                _ => thread::sleep(Duration::from_millis(20)),
            }
        }
        Err(cannot()
            .why(format!("no other daemon answered within {PATIENCE:?}"))
            .remedy("the log of the mount says why"))
    }
}
