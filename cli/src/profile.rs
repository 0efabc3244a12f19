//! Where a daemon spends its time: stacks sampled by the process itself, so
//! that no tool and no right is needed but that to talk to it.
//!
//! What is counted is time on a processor. Samples that fall into the C library
//! are left out, because its stacks cannot be walked safely from a signal; so a
//! profile shows our code, and not the system calls below it.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use pprof::{ProfilerGuard, ProfilerGuardBuilder};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

/// Samples a second: a prime, so that nothing periodic hides.
const FREQUENCY: i32 = 499;

/// Libraries whose code is not interrupted.
const LEFT_ALONE: [&str; 5] = ["libc", "libgcc", "libm", "pthread", "vdso"];

/// Bytes of stacks in one answer, which fit its line.
const PAGE: usize = 24 << 10;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum ProfileRequest {
    /// Begin to take samples.
    Start,
    /// Make an end of it.
    Stop,
    /// Tell what was found; pages begin at 0.
    Page(usize),
}

/// A part of what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileAnswer {
    /// How many pages there are, once it has ended.
    pub pages: usize,
    /// Lines of this page: frames from the outermost on, with semicolons
    /// between them, and how often they were met.
    pub stacks: Vec<String>,
}

#[derive(Default)]
struct State {
    running: Option<ProfilerGuard<'static>>,
    pages: Vec<Vec<String>>,
}

/// There is one clock for it in a process.
static STATE: Mutex<Option<State>> = Mutex::new(None);

/// [`answer`], away from the threads that serve.
///
/// # Errors
/// As that.
pub async fn serve(request: ProfileRequest) -> Result<ProfileAnswer> {
    tokio::task::spawn_blocking(move || answer(&request))
        .await
        .map_err(|error| Failure::new("cannot take a profile").why(error))?
}

/// Does what a client asks. Takes a while when it ends: names are looked up.
///
/// # Errors
/// Samples are being taken already, or are not, or the system refuses.
pub fn answer(request: &ProfileRequest) -> Result<ProfileAnswer> {
    let mut state = STATE.lock();
    let state = state.get_or_insert_default();
    match request {
        ProfileRequest::Start if state.running.is_some() => {
            return Err(Failure::new("somebody else takes a profile of this daemon")
                .remedy("wait for the end of that"));
        }
        ProfileRequest::Start => {
            state.pages.clear();
            let builder = ProfilerGuardBuilder::default().frequency(FREQUENCY);
            let guard = builder.blocklist(&LEFT_ALONE).build();
            state.running = Some(guard.map_err(refused)?);
        }
        ProfileRequest::Stop => {
            let running = state.running.take();
            let running = running.ok_or_else(|| Failure::new("no profile is being taken"))?;
            let report = running.report().build().map_err(refused)?;
            state.pages = pages(folded(&report));
        }
        ProfileRequest::Page(number) => {
            return Ok(ProfileAnswer {
                pages: state.pages.len(),
                stacks: state.pages.get(*number).cloned().unwrap_or_default(),
            });
        }
    }
    Ok(ProfileAnswer {
        pages: state.pages.len(),
        stacks: Vec::new(),
    })
}

fn refused(error: pprof::Error) -> Failure {
    Failure::new("cannot take a profile").why(error)
}

/// A line for each stack; threads of one name are one.
fn folded(report: &pprof::Report) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for (stack, count) in &report.data {
        let frames = stack
            .frames
            .iter()
            .rev()
            .flat_map(|frame| frame.iter().rev());
        let names = frames.map(|symbol| symbol.name().replace(';', ","));
        let line: Vec<String> = [stack.thread_name.clone()]
            .into_iter()
            .chain(names)
            .collect();
        *counts.entry(line.join(";")).or_insert(0) += count;
    }
    let line = |(stack, count)| format!("{stack} {count}");
    counts.into_iter().map(line).collect()
}

/// Lines in portions that fit an answer each; a line that fits none is cut
/// where the stack is deepest.
fn pages(lines: Vec<String>) -> Vec<Vec<String>> {
    let (mut pages, mut size) = (Vec::new(), PAGE);
    for mut line in lines {
        if line.len() > PAGE {
            let count = line
                .rsplit_once(' ')
                .map_or("1", |(_, count)| count)
                .to_owned();
            let fits = line.floor_char_boundary(PAGE - 32);
            line.truncate(fits);
            line.push_str(&format!(" {count}"));
        }
        if size + line.len() > PAGE {
            pages.push(Vec::new());
            size = 0;
        }
        size += line.len();
        if let Some(page) = pages.last_mut() {
            page.push(line);
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pages_fit_and_lose_nothing() {
        let line = |n: usize| format!("thread;{};leaf {n}", "frame;".repeat(n % 700));
        let lines: Vec<String> = (0..500).map(line).collect();
        let found = pages(lines.clone());
        assert!(found.len() > 10);
        assert!(
            found
                .iter()
                .all(|page| page.iter().map(String::len).sum::<usize>() <= PAGE)
        );
        assert_eq!(found.concat(), lines);
        let long = pages(vec![format!("{} 7", "x".repeat(PAGE * 2))]);
        assert!(long[0][0].len() <= PAGE && long[0][0].ends_with(" 7"));
    }

    #[test]
    fn a_profile_shows_what_ran() {
        answer(&ProfileRequest::Start).unwrap();
        assert!(answer(&ProfileRequest::Start).is_err());
        let start = std::time::Instant::now();
        while start.elapsed() < std::time::Duration::from_millis(500) {
            std::hint::black_box((0..10_000u64).fold(0, |a, b| std::hint::black_box(a ^ b)));
        }
        let stopped = answer(&ProfileRequest::Stop).unwrap();
        let page = answer(&ProfileRequest::Page(0)).unwrap();
        assert!(stopped.pages > 0 && !page.stacks.is_empty());
        let line = &page.stacks[0];
        assert!(
            line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap() > 0,
            "{line}"
        );
        assert!(answer(&ProfileRequest::Stop).is_err());
    }
}
