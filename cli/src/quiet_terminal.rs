//! A terminal that shows nothing of what is typed.

use std::fs::File;

use nix::sys::{
    signal::{SigSet, Signal},
    termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr},
};

/// The controlling terminal without echo, until dropped.
///
/// To be held from before a prompt is written: what is typed between the
/// prompt and the reading of the answer must not show either. An interrupt
/// waits until the echo is back, so that the shell gets its terminal whole.
pub struct QuietTerminal {
    terminal: File,
    before: Termios,
    signals: SigSet,
}

impl QuietTerminal {
    /// Turns the echo off. `None` without a terminal, where nothing shows.
    #[must_use]
    pub fn hold() -> Option<QuietTerminal> {
        let terminal = File::options()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .ok()?;
        let before = tcgetattr(&terminal).ok()?;
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.thread_block().ok()?;
        let quiet = QuietTerminal {
            terminal,
            before,
            signals,
        };
        let mut silent = quiet.before.clone();
        silent
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ISIG);
        tcsetattr(&quiet.terminal, SetArg::TCSANOW, &silent).ok()?;
        Some(quiet)
    }
}

impl Drop for QuietTerminal {
    fn drop(&mut self) {
        // Both fail only when the terminal is gone, and there is nobody to tell.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
        let _ = self.signals.thread_unblock();
    }
}
