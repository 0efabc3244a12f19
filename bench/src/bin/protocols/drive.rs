//! Clients at work, each in a thread.

use std::{
    ops::Range,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use kiseki_bench::{
    payload::{Random, derive},
    sample::Latency,
};

use crate::{
    case::{Case, Work},
    client::Client,
    objects::Objects,
};

/// Clients of one server.
pub type Clients = [Box<dyn Client>];

/// What to measure, and on what.
pub struct Job<'a> {
    /// What.
    pub case: Case,
    /// Their size is that of the case.
    pub objects: &'a Objects,
    /// Objects that can be got.
    pub stored: Range<u64>,
    /// Objects from this number on can be put, [`SHARE`] by each client.
    pub free: u64,
    /// How long clients begin anything new.
    pub time: Duration,
    /// Most bytes that all of them put, for the sake of the disk.
    pub bytes: u64,
    /// Of choices.
    pub seed: u64,
}

/// Numbers of objects that a client of a job may use.
pub const SHARE: u64 = 1 << 24;

/// What came out.
pub struct Outcome {
    /// Operations that ended.
    pub operations: u64,
    /// From when all began to when the last one ended.
    pub elapsed: Duration,
    /// Of each operation.
    pub latency: Latency,
}

/// What one client did.
struct Done {
    latency: Latency,
    operations: u64,
    put: Range<u64>,
    ended: Instant,
}

/// Measures; what was put is read back and compared afterwards.
///
/// # Errors
/// An operation failed, or contents are not what they should be.
pub fn measure(clients: &mut Clients, job: &Job<'_>) -> Result<Outcome> {
    let clients = &mut clients[..job.case.clients];
    let line = Barrier::new(clients.len());
    let done = each(clients, |who, client| {
        line.wait();
        let began = Instant::now();
        Ok((began, work(client, who, job, began + job.time)?))
    })?;
    let began = done.iter().map(|(began, _)| *began).min();
    let ended = done.iter().map(|(_, done)| done.ended).max();
    let (began, ended) = began.zip(ended).context("there are no clients")?;
    let mut latency = Latency::default();
    done.iter().for_each(|(_, done)| latency.add(&done.latency));
    each(clients, |who, client| {
        compare(client, job.objects, done[who].1.put.clone())
    })?;
    Ok(Outcome {
        operations: done.iter().map(|(_, done)| done.operations).sum(),
        elapsed: ended - began,
        latency,
    })
}

/// Puts objects and compares them; how many each client takes does not matter.
///
/// # Errors
/// They could not be put, or came back otherwise.
pub fn store(clients: &mut Clients, objects: &Objects, stored: Range<u64>) -> Result<()> {
    let share = (stored.end - stored.start).div_ceil(clients.len() as u64);
    each(clients, |who, client| {
        let begin = stored.start + who as u64 * share;
        let part = begin.min(stored.end)..(begin + share).min(stored.end);
        for number in part.clone() {
            client.put(number, objects.contents(number))?;
        }
        compare(client, objects, part)
    })?;
    Ok(())
}

/// Runs `act` for each client in a thread of its own.
fn each<T: Send>(
    clients: &mut Clients,
    act: impl Fn(usize, &mut dyn Client) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let act = &act;
    thread::scope(|scope| {
        let clients = clients.iter_mut().enumerate();
        let threads: Vec<_> = clients
            .map(|(who, client)| scope.spawn(move || act(who, client.as_mut())))
            .collect();
        let ends = threads.into_iter().map(|thread| {
            let end = thread.join();
            end.map_err(|_| anyhow!("a client panicked"))?
        });
        ends.collect()
    })
}

/// The work of one client until `deadline`.
fn work(client: &mut dyn Client, who: usize, job: &Job<'_>, deadline: Instant) -> Result<Done> {
    let Job { case, objects, .. } = job;
    let mut random = Random::new(derive(job.seed, who as u64));
    let mut latency = Latency::default();
    let first = job.free + who as u64 * SHARE;
    let most = job.bytes / (case.size * case.clients) as u64;
    let end = first + most.clamp(1, SHARE);
    let (mut next, mut operations) = (first, 0);
    while next < end && Instant::now() < deadline {
        let gets = match case.work {
            Work::Put => false,
            Work::Get => true,
            Work::Mixed => random.below(10) < 7,
        };
        if gets {
            let stored = &job.stored;
            let number = stored.start + random.below(stored.end - stored.start);
            let got = latency.time(|| client.get(number, case.size))?;
            ensure!(objects.seems(number, &got), "object {number:x} is wrong");
        } else {
            let contents = objects.contents(next);
            latency.time(|| client.put(next, contents))?;
            next += 1;
        }
        operations += 1;
    }
    Ok(Done {
        latency,
        operations,
        put: first..next,
        ended: Instant::now(),
    })
}

/// Reads objects and compares all bytes.
fn compare(client: &mut dyn Client, objects: &Objects, numbers: Range<u64>) -> Result<()> {
    for number in numbers {
        let got = client.get(number, objects.size())?;
        ensure!(
            objects.is(number, &got),
            "object {number:x} came back otherwise"
        );
    }
    Ok(())
}
