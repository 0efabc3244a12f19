//! Threads for work that computes or waits for the disk: sealing passes and
//! reads that miss.

use std::{panic::AssertUnwindSafe, sync::Arc, thread::JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{Error, Result};

type Job = Box<dyn FnOnce() + Send>;

/// A fixed set of threads behind a bounded queue.
pub(super) struct Workers {
    queue: Mutex<Option<Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Workers {
    /// Starts `count` threads; the queue holds eight jobs for each.
    pub fn start(name: &str, count: usize) -> Result<Workers> {
        let (queue, jobs) = bounded::<Job>(count * 8);
        let mut threads = Vec::with_capacity(count);
        for _ in 0..count {
            let jobs = jobs.clone();
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || work(&jobs))
                .map_err(|error| Error::io("start a worker thread", error))?;
            threads.push(thread);
        }
        Ok(Workers {
            queue: Mutex::new(Some(queue)),
            threads: Mutex::new(threads),
        })
    }

    fn sender(&self) -> Result<Sender<Job>> {
        self.queue.lock().clone().ok_or(Error::Closed)
    }

    /// Runs a job and waits for what it returns.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, answer) = oneshot::channel();
        let mut job: Option<Job> = Some(Box::new(move || {
            let _ = done.send(job());
        }));
        let queue = self.sender()?;
        while let Some(next) = job.take() {
            match queue.try_send(next) {
                Ok(()) => {}
                Err(crossbeam_channel::TrySendError::Full(back)) => {
                    job = Some(back);
                    tokio::time::sleep(std::time::Duration::from_micros(200)).await;
                }
                Err(crossbeam_channel::TrySendError::Disconnected(_)) => return Err(Error::Closed),
            }
        }
        // The sender is dropped without an answer only when the job panicked.
        answer.await.unwrap_or_else(|_| Err(internal()))
    }

    /// Queues a job if there is room, else gives up: for work that others do
    /// when no one helps.
    pub fn offer(&self, job: impl FnOnce() + Send + 'static) -> bool {
        self.sender()
            .is_ok_and(|queue| queue.try_send(Box::new(job)).is_ok())
    }

    /// Finishes queued jobs and ends the threads.
    pub fn stop(&self) {
        self.queue.lock().take();
        for thread in self.threads.lock().drain(..) {
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

fn work(jobs: &Receiver<Job>) {
    for job in jobs {
        if std::panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a worker job failed; the operation it served answers EIO");
        }
    }
}

/// Spreads `items` over this thread and whichever workers have time, and
/// returns the results in order. This thread goes on alone when none has, so
/// a worker may call it without waiting for itself.
pub(super) fn spread<T, R>(
    workers: &Workers,
    helpers: usize,
    items: Vec<T>,
    run: impl Fn(T) -> Result<R> + Send + Sync + 'static,
) -> Result<Vec<R>>
where
    T: Send + 'static,
    R: Send + 'static,
{
    if items.len() < 2 {
        return items.into_iter().map(run).collect();
    }
    let total = items.len();
    let todo = Arc::new(Mutex::new(items.into_iter().enumerate()));
    let run = Arc::new(run);
    let (results_in, results) = bounded(total);
    for _ in 0..helpers.min(total - 1) {
        let (todo, results_in, run) = (todo.clone(), results_in.clone(), run.clone());
        if !workers.offer(move || drain(&todo, &results_in, &*run)) {
            break;
        }
    }
    drain(&todo, &results_in, &*run);
    drop(results_in);
    let mut ordered: Vec<Option<R>> = (0..total).map(|_| None).collect();
    // Fewer results than items come only from a helper that panicked.
    for (index, result) in results.iter().take(total) {
        ordered[index] = Some(result?);
    }
    ordered
        .into_iter()
        .map(|result| result.ok_or_else(internal))
        .collect()
}

fn drain<T, R>(
    todo: &Mutex<impl Iterator<Item = (usize, T)>>,
    results: &Sender<(usize, Result<R>)>,
    run: &impl Fn(T) -> Result<R>,
) {
    loop {
        let next = todo.lock().next();
        let Some((index, item)) = next else { return };
        // The channel has room for every item.
        let _ = results.send((index, run(item)));
    }
}

fn internal() -> Error {
    Error::damaged(
        "memory",
        "an internal error; the daemon's log has the place",
    )
}
