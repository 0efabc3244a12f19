//! All cases by all protocols, kiseki and its peers in turn.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use kiseki_bench::{compare::remove, machine::Machine, payload::derive, sample::Sample};
use serde::Serialize;

use crate::{
    case::{CLIENTS, Case, Protocol, SIZES, Side, WORKS, Work},
    drive::{Clients, Job, SHARE, measure, store},
    objects::Objects,
    server::{self, Programs, Server},
};

/// How much is done.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Scale {
    /// Rounds of which the median is taken.
    pub rounds: u64,
    /// Milliseconds in which clients begin operations, for each case.
    pub millis: u64,
    /// Most bytes that one case puts.
    pub bytes: u64,
    /// Objects that can be got, for each of the sizes.
    pub stored: [u64; SIZES.len()],
}

impl Scale {
    /// An hour.
    pub const FULL: Scale = Scale {
        rounds: 5,
        millis: 2000,
        bytes: 256 << 20,
        stored: [4000, 1000, 128],
    };

    /// A few minutes.
    pub const QUICK: Scale = Scale {
        rounds: 3,
        millis: 250,
        bytes: 64 << 20,
        stored: [1000, 256, 48],
    };
}

/// What to measure.
pub struct Options {
    /// Ways to ask.
    pub protocols: Vec<Protocol>,
    /// How much.
    pub scale: Scale,
    /// Directory on the disk to measure; a directory of this run is made in it
    /// and removed again.
    pub disk: PathBuf,
    /// Who is measured.
    pub programs: Programs,
    /// Of contents and choices.
    pub seed: u64,
}

/// What came out.
pub struct Measured {
    /// The machine when it began.
    pub machine: Machine,
    /// Every sample, in the order in which they were taken.
    pub samples: Vec<(Protocol, Side, Case, Sample)>,
    /// What could not be measured, with the reason.
    pub notes: Vec<String>,
}

/// Each protocol in each round by kiseki and its peer in turn, on fresh
/// stores; who begins changes from round to round.
///
/// # Errors
/// The disk cannot be used. What goes wrong with a server becomes a note.
pub fn run(options: &Options) -> Result<Measured> {
    let home = options
        .disk
        .join(format!("kiseki-protocols-{}", std::process::id()));
    let mut measured = Measured {
        machine: Machine::here(),
        samples: Vec::new(),
        notes: Vec::new(),
    };
    for round in 0..options.scale.rounds {
        for &protocol in &options.protocols {
            for (side, name) in turns(protocol, round) {
                eprintln!(
                    "{} {}/{} {name}",
                    protocol.name(),
                    round + 1,
                    options.scale.rounds
                );
                fs::create_dir_all(&home)
                    .with_context(|| format!("cannot use {}", home.display()))?;
                match serve(protocol, side, options, &home, derive(options.seed, round)) {
                    // What a server did before it failed counts for nothing.
                    Ok(samples) => measured.samples.extend(
                        samples
                            .into_iter()
                            .map(|(case, sample)| (protocol, side, case, sample)),
                    ),
                    Err(error) => measured.notes.push(format!(
                        "{name} failed by {} in round {}: {error:#}",
                        protocol.name(),
                        round + 1
                    )),
                }
                remove(&home)?;
            }
        }
    }
    Ok(measured)
}

/// Who is measured in a round, in order.
fn turns(protocol: Protocol, round: u64) -> Vec<(Side, &'static str)> {
    let mut turns = vec![(Side::Kiseki, "kiseki")];
    turns.extend(protocol.peer().map(|peer| (Side::Peer, peer)));
    if round % 2 == 1 {
        turns.reverse();
    }
    turns
}

/// All cases on one fresh server.
fn serve(
    protocol: Protocol,
    side: Side,
    options: &Options,
    home: &Path,
    seed: u64,
) -> Result<Vec<(Case, Sample)>> {
    let server = server::start(protocol, side, home, &options.programs)?;
    let mut clients = connect(&*server)?;
    let scale = &options.scale;
    let mut samples = Vec::new();
    // Of numbers of objects, each client of each case has its own.
    let mut free = 0;
    for (size, count) in SIZES.into_iter().zip(scale.stored) {
        let objects = Objects::new(seed, size);
        let stored = free..free + count;
        free += SHARE;
        for work in WORKS {
            if work == Work::Get {
                store(&mut clients, &objects, stored.clone())?;
            }
            for number in CLIENTS {
                let case = Case {
                    work,
                    size,
                    clients: number,
                };
                // What was not synced before is not paid for by this case.
                rustix::fs::sync();
                let job = Job {
                    case,
                    objects: &objects,
                    stored: stored.clone(),
                    free,
                    time: Duration::from_millis(scale.millis),
                    bytes: scale.bytes,
                    seed: derive(seed, free),
                };
                let outcome = measure(&mut clients, &job)
                    .with_context(|| format!("{} {size} bytes", work.name()))?;
                free += SHARE * number as u64;
                let row = protocol.row(side, work);
                let latency = Some(&outcome.latency);
                let sample = row.sample(outcome.operations, outcome.elapsed, latency);
                samples.push((case, sample));
            }
        }
    }
    Ok(samples)
}

/// As many clients as there are at most.
fn connect(server: &dyn Server) -> Result<Box<Clients>> {
    let most = CLIENTS.into_iter().max().unwrap_or(1);
    (0..most).map(|who| server.client(who)).collect()
}
