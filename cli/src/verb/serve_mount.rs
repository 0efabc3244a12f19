//! `kiseki serve-mount`: the process that serves a mount, started by the one
//! that keeps it.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use nix::sys::signal::SigSet;

use crate::{
    daemon,
    failure::{Attempt, Code, Failure, Result},
    link::{Link, Word},
    secrets,
    serve::{self, Work},
    verb::mount::log_to_stderr,
};

/// Shown by `ps`; what counts comes over standard input.
#[derive(Args)]
pub struct ServeMount {
    /// Store
    _store: PathBuf,
    /// Mount point
    _mountpoint: PathBuf,
}

impl ServeMount {
    /// Serves the mount to its end.
    #[allow(clippy::unused_self, reason = "every verb has the same shape")]
    pub fn run(&self) -> Result<Code> {
        secrets::protect_process()?;
        log_to_stderr();
        let link = Arc::new(Link::from(daemon::leave_stdin()?));
        let (told, descriptors) = link
            .receive(true)
            .map_err(|_| Failure::usage("this verb is run by `kiseki mount` alone"))?;
        let (plan, secret) = daemon::decode(&told)?;
        drop(told);
        let mut descriptors = descriptors.into_iter();
        let memory = descriptors.next();
        let memory = memory.ok_or_else(|| Failure::new("the supervisor sent no memory"))?;
        let work = Work {
            plan,
            secret,
            memory,
            device: descriptors.next(),
        };
        let done = serve::serve(work, &link, unblock_signals);
        done.inspect_err(|failure| {
            let word = Word::Failed {
                message: failure.to_string(),
                damage: failure.code == Code::Damage,
            };
            // Nobody hears it when the supervisor is gone.
            let _ = link.say(&word, &[]);
        })
        .map(|()| Code::Good)
    }
}

/// Signals are blocked from birth on, until there are handlers.
fn unblock_signals() -> Result<()> {
    SigSet::all()
        .thread_unblock()
        .attempt(|| "cannot catch signals".into())
}
