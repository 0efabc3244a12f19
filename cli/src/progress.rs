//! Progress of long work on stderr: a bar on a terminal, otherwise plain
//! lines, at most one per second.

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far a piece of work has come.
pub struct Progress {
    what: &'static str,
    show: Show,
}

enum Show {
    Bar(ProgressBar),
    Lines { next: Instant },
}

const LINE_EVERY: Duration = Duration::from_secs(1);

impl Progress {
    /// Starts to show work named `what`, for example `checking chunks`.
    #[must_use]
    pub fn start(what: &'static str) -> Progress {
        let show = if stderr().is_terminal() {
            let bar =
                ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {percent}% {eta}") {
                bar.set_style(style);
            }
            bar.set_message(what);
            Show::Bar(bar)
        } else {
            Show::Lines {
                next: Instant::now() + LINE_EVERY,
            }
        };
        Progress { what, show }
    }

    /// `done` of `total` (0: unknown yet), in any unit.
    pub fn update(&mut self, done: u64, total: u64) {
        match &mut self.show {
            Show::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Show::Lines { next } => {
                if Instant::now() >= *next {
                    *next = Instant::now() + LINE_EVERY;
                    eprintln!("{}", line(self.what, done, total));
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Show::Bar(bar) = &self.show {
            bar.finish_and_clear();
        }
    }
}

/// Progress of work in several phases, one shown after the other.
#[derive(Default)]
pub struct Phases {
    now: Option<Progress>,
}

impl Phases {
    /// `done` of `total` in the phase named `what`.
    pub fn update(&mut self, what: &'static str, done: u64, total: u64) {
        match &mut self.now {
            Some(now) if now.what == what => now.update(done, total),
            now => *now = Some(Progress::start(what)),
        }
    }
}

fn line(what: &str, done: u64, total: u64) -> String {
    let percent = u128::from(done.min(total)) * 100;
    match percent.checked_div(u128::from(total)) {
        Some(percent) => format!("{what}: {percent}%"),
        None => format!("{what}: {done}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_show_a_percentage_where_there_is_one() {
        assert_eq!(line("gc", 1, 4), "gc: 25%");
        assert_eq!(line("gc", 9, 4), "gc: 100%");
        assert_eq!(line("gc", 7, 0), "gc: 7");
        assert_eq!(line("gc", u64::MAX, u64::MAX), "gc: 100%");
    }
}
