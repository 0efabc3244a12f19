//! The signals that end a process that serves.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Attempt, Result};

/// SIGTERM, SIGINT and SIGHUP, caught from the making of this on.
pub struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl EndSignals {
    /// Catches them. To be made inside a runtime, before the front ends, so
    /// that no signal finds the default handler.
    ///
    /// # Errors
    /// The kernel refuses, which it has no reason to.
    pub fn catch() -> Result<EndSignals> {
        let catch = |kind| signal(kind).attempt(|| "cannot catch signals".into());
        Ok(EndSignals {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them.
    pub async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
