//! Runs an operation: on the session thread when it can answer at once, on the
//! runtime when it has to wait.
//!
//! An operation is a future. It is polled once where the request was read; most
//! answer from memory, so that no task and no channel stands between request
//! and reply. One that waits moves to the runtime as it is and replies there.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use nix::errno::Errno;
use tokio::runtime::Handle;

use super::{
    fail::{Fail, Outcome},
    op::Op,
};
use crate::stats::Stats;

/// Where operations of one mount run.
pub(super) struct Dispatcher {
    runtime: Handle,
    deadline: Duration,
    stats: Arc<Stats<Op>>,
}

type Running<T> = Pin<Box<dyn Future<Output = Outcome<T>> + Send>>;

thread_local! {
    /// Whether this thread can already create timers and tasks.
    static ENTERED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl Dispatcher {
    pub(super) fn new(runtime: Handle, deadline: Duration, stats: Arc<Stats<Op>>) -> Dispatcher {
        Dispatcher {
            runtime,
            deadline,
            stats,
        }
    }

    /// Runs `operation` and hands its result to `reply`, exactly once: the
    /// outcome, EIO when it panics, ETIMEDOUT when it misses the deadline.
    pub(super) fn run<T: Send + 'static>(
        &self,
        op: Op,
        operation: impl Future<Output = Outcome<T>> + Send + 'static,
        reply: impl FnOnce(Outcome<T>) + Send + 'static,
    ) {
        self.launch(op, operation, |_| 0, reply, |_| {});
    }

    /// As [`Dispatcher::run`], for operations that move bytes: `measure` says
    /// how many.
    pub(super) fn run_measured<T: Send + 'static>(
        &self,
        op: Op,
        operation: impl Future<Output = Outcome<T>> + Send + 'static,
        measure: fn(&T) -> u64,
        reply: impl FnOnce(Outcome<T>) + Send + 'static,
    ) {
        self.launch(op, operation, measure, reply, |_| {});
    }

    /// As [`Dispatcher::run`], for operations that leave something behind:
    /// `undo` gets what comes after the deadline, when the caller is gone. An
    /// operation is never cancelled half-way, because the engine may be between
    /// two steps that belong together.
    pub(super) fn run_or_undo<T: Send + 'static>(
        &self,
        op: Op,
        operation: impl Future<Output = Outcome<T>> + Send + 'static,
        reply: impl FnOnce(Outcome<T>) + Send + 'static,
        undo: impl FnOnce(T) + Send + 'static,
    ) {
        self.launch(op, operation, |_| 0, reply, undo);
    }

    fn launch<T: Send + 'static>(
        &self,
        op: Op,
        operation: impl Future<Output = Outcome<T>> + Send + 'static,
        measure: fn(&T) -> u64,
        reply: impl FnOnce(Outcome<T>) + Send + 'static,
        undo: impl FnOnce(T) + Send + 'static,
    ) {
        let began = Instant::now();
        self.enter();
        let mut running: Running<T> = Box::pin(operation);
        match poll(
            op,
            running.as_mut(),
            &mut Context::from_waker(Waker::noop()),
        ) {
            Poll::Ready(outcome) => {
                let bytes = outcome.as_ref().map_or(0, measure);
                survive(op, || reply(outcome));
                self.stats.record(op, began.elapsed(), false, bytes);
            }
            Poll::Pending => {
                let stats = Arc::clone(&self.stats);
                let deadline = self.deadline;
                self.runtime.spawn(async move {
                    finish(op, running, deadline, reply, undo, |outcome| {
                        let bytes = outcome.as_ref().map_or(0, measure);
                        stats.record(op, began.elapsed(), true, bytes);
                    })
                    .await;
                });
            }
        }
    }

    /// Runs a question, which changes nothing: `asked` on the stack of this
    /// thread, so that an answer at hand costs no memory. Where that has to
    /// wait it is dropped, and `again` asked in its place.
    pub(super) fn ask<T, A>(
        &self,
        op: Op,
        asked: impl Future<Output = Outcome<T>>,
        again: impl FnOnce() -> A,
        reply: impl FnOnce(Outcome<T>) + Send + 'static,
    ) where
        T: Send + 'static,
        A: Future<Output = Outcome<T>> + Send + 'static,
    {
        let began = Instant::now();
        self.enter();
        let first = {
            let mut asked = pin!(asked);
            poll(op, asked.as_mut(), &mut Context::from_waker(Waker::noop()))
        };
        match first {
            Poll::Ready(outcome) => {
                survive(op, || reply(outcome));
                self.stats.record(op, began.elapsed(), false, 0);
            }
            Poll::Pending => self.run(op, again(), reply),
        }
    }

    /// Tries an operation that may be done without waiting and without keeping
    /// what it was given; `None` when it has to be run as a future.
    pub(super) fn attempt<T>(
        &self,
        op: Op,
        operation: impl FnOnce() -> Outcome<Option<T>>,
        measure: fn(&T) -> u64,
    ) -> Option<Outcome<T>> {
        let began = Instant::now();
        let outcome = survive(op, operation).unwrap_or(Err(Fail(Errno::EIO)));
        let outcome = outcome.transpose()?;
        let bytes = outcome.as_ref().map_or(0, measure);
        self.stats.record(op, began.elapsed(), false, bytes);
        Some(outcome)
    }

    /// Runs and counts an operation that needs no future.
    pub(super) fn run_now(&self, op: Op, operation: impl FnOnce()) {
        let began = Instant::now();
        survive(op, operation);
        self.stats.record(op, began.elapsed(), false, 0);
    }

    /// Makes the runtime known to this thread, once, so that an operation can
    /// start timers and tasks during its first poll. The guard is given up
    /// rather than dropped: the thread keeps the runtime until it ends.
    fn enter(&self) {
        if !ENTERED.get() {
            std::mem::forget(self.runtime.enter());
            ENTERED.set(true);
        }
    }
}

/// One poll, in which a panic is a failure of this operation alone.
fn poll<T>(
    op: Op,
    running: Pin<&mut (impl Future<Output = Outcome<T>> + ?Sized)>,
    context: &mut Context<'_>,
) -> Poll<Outcome<T>> {
    survive(op, || running.poll(context)).unwrap_or(Poll::Ready(Err(Fail(Errno::EIO))))
}

/// `None` when `step` panics. A reply that is lost on the way answers EIO.
fn survive<T>(op: Op, step: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(step))
        .inspect_err(|_| {
            tracing::error!(op = op.name(), "an operation panicked; answering EIO");
        })
        .ok()
}

async fn finish<T>(
    op: Op,
    mut running: Running<T>,
    deadline: Duration,
    reply: impl FnOnce(Outcome<T>),
    undo: impl FnOnce(T),
    count: impl FnOnce(&Outcome<T>),
) {
    let mut guarded = std::future::poll_fn(|context| poll(op, running.as_mut(), context));
    match tokio::time::timeout(deadline, &mut guarded).await {
        Ok(outcome) => {
            count(&outcome);
            survive(op, || reply(outcome));
        }
        Err(_) => {
            tracing::error!(
                op = op.name(),
                seconds = deadline.as_secs(),
                "an operation misses its deadline; answering ETIMEDOUT while it runs on"
            );
            let late = Err(Fail(Errno::ETIMEDOUT));
            count(&late);
            survive(op, || reply(late));
            if let Ok(late) = guarded.await {
                undo(late);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc;

    fn dispatcher(runtime: &tokio::runtime::Runtime, deadline: Duration) -> Dispatcher {
        Dispatcher::new(runtime.handle().clone(), deadline, Stats::new())
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    }

    #[test]
    fn an_answer_at_hand_is_given_on_the_same_thread() {
        let runtime = runtime();
        let dispatcher = dispatcher(&runtime, Duration::from_secs(1));
        let (tell, told) = mpsc::channel();
        dispatcher.run(Op::Getattr, async { Ok(7) }, move |outcome| {
            tell.send((outcome, std::thread::current().id())).unwrap();
        });
        let (outcome, thread) = told.try_recv().unwrap();
        assert_eq!(outcome, Ok(7));
        assert_eq!(thread, std::thread::current().id());
    }

    #[test]
    fn one_that_waits_is_answered_from_the_runtime() {
        let runtime = runtime();
        let dispatcher = dispatcher(&runtime, Duration::from_secs(10));
        let (tell, told) = mpsc::channel();
        let wait = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(8)
        };
        dispatcher.run(Op::Read, wait, move |outcome| tell.send(outcome).unwrap());
        assert_eq!(told.recv().unwrap(), Ok(8));
        runtime.block_on(async { tokio::task::yield_now().await });
    }

    #[test]
    fn a_question_that_waits_is_asked_again() {
        let runtime = runtime();
        let dispatcher = dispatcher(&runtime, Duration::from_secs(10));
        for waits in [false, true] {
            let (tell, told) = mpsc::channel();
            let first = async move {
                if waits {
                    std::future::pending::<()>().await;
                }
                Ok(1)
            };
            let again = || async { Ok(2) };
            dispatcher.ask(Op::Getattr, first, again, move |outcome| {
                tell.send(outcome).unwrap();
            });
            assert_eq!(told.recv().unwrap(), Ok(if waits { 2 } else { 1 }));
        }
    }

    #[test]
    fn a_panic_is_eio_before_and_after_waiting() {
        let runtime = runtime();
        let dispatcher = dispatcher(&runtime, Duration::from_secs(10));
        for waits in [false, true] {
            let (tell, told) = mpsc::channel::<Outcome<()>>();
            let bad = async move {
                if waits {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                panic!("on purpose")
            };
            dispatcher.run(Op::Read, bad, move |outcome| tell.send(outcome).unwrap());
            assert_eq!(told.recv().unwrap(), Err(Fail(Errno::EIO)));
        }
    }

    #[test]
    fn a_late_result_is_undone_and_the_caller_told_in_time() {
        let runtime = runtime();
        let dispatcher = dispatcher(&runtime, Duration::from_millis(5));
        let (tell, told) = mpsc::channel();
        let (tell_late, late) = mpsc::channel();
        let (go_on, may_go_on) = tokio::sync::oneshot::channel();
        let slow = async {
            may_go_on.await.unwrap();
            Ok(9)
        };
        dispatcher.run_or_undo(
            Op::Open,
            slow,
            move |outcome| tell.send(outcome).unwrap(),
            move |value| tell_late.send(value).unwrap(),
        );
        assert_eq!(told.recv().unwrap(), Err(Fail(Errno::ETIMEDOUT)));
        go_on.send(()).unwrap();
        assert_eq!(late.recv().unwrap(), 9);
    }
}
