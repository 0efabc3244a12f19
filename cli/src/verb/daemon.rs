//! `kiseki daemon`: the background side of `kiseki mount`, started by it alone.

use std::path::PathBuf;

use clap::Args;

use crate::{
    control::Line,
    daemon,
    failure::{Code, Result},
    supervise::{News, resume, supervise},
    verb::mount::log_to_stderr,
};

/// Shown by `ps`; what counts comes over standard input.
#[derive(Args)]
pub struct Daemon {
    /// Go on where another version stopped, whose daemon has this process id
    #[arg(long, value_name = "PID")]
    resume: Option<u32>,
    /// Store
    _store: PathBuf,
    /// Mount point
    _mountpoint: PathBuf,
}

impl Daemon {
    /// Keeps the mount to its end.
    pub fn run(&self) -> Result<Code> {
        log_to_stderr();
        if let Some(daemon) = self.resume {
            return resume(daemon);
        }
        let (plan, secret) = daemon::take_over()?;
        let tell = |news: News<'_>| {
            daemon::report(&match news {
                News::Answers(daemon) => Line::Pong(daemon.clone()),
                News::Failed(failure) => (&failure).into(),
            });
        };
        supervise(plan, secret, tell).inspect_err(|failure| {
            // Goes nowhere when the mount had begun to answer; the log has it then.
            daemon::report(&failure.into());
        })
    }
}
