//! Serving a mount until it ends: open the store, mount, answer on the control
//! socket, and on a signal or an unmount write everything out and let go.

use std::{
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::parent_id,
    },
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use kiseki_core::engine::Volume;
use kiseki_fs::metrics::{self, Metrics};
use nix::sys::stat::{Mode, umask};
use tokio::sync::mpsc;

use crate::{
    control::{self, Daemon, Line, Request},
    end_signals::EndSignals,
    exports,
    failure::{Attempt, Failure, Result},
    link::{Link, Word},
    plan::Plan,
    profile,
    report::{Collection, Status},
    s3_keys,
    secrets::Secret,
    session::{self, FrontEnd, Session},
};

/// How long the answer that this process is about to be replaced may take on
/// its way.
const LAST_ANSWER: Duration = Duration::from_millis(50);

/// What a daemon is given to serve.
pub struct Work {
    /// The mount.
    pub plan: Plan,
    /// What opens the store.
    pub secret: Secret,
    /// Memory for the journal, or with the journal of a daemon that died.
    pub memory: OwnedFd,
    /// The device of a mount whose daemon died; none for a new mount.
    pub device: Option<OwnedFd>,
}

/// What outlives a daemon.
struct Kept {
    memory: OwnedFd,
    device: Option<OwnedFd>,
}

/// Serves a mount and tells the supervisor how it goes. `unblock` is called
/// once signals have handlers. Returns when the mount is gone, everything is
/// durable and the store is free.
///
/// # Errors
/// The store or the mount could not be opened, or the last writes failed.
pub fn serve(work: Work, link: &Arc<Link>, unblock: impl FnOnce() -> Result<()>) -> Result<()> {
    umask(Mode::from_bits_truncate(0o077));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("kiseki")
        .build()
        .attempt(|| "cannot start worker threads".into())?;
    let Work {
        plan,
        secret,
        memory,
        device,
    } = work;
    let session = Session::open(&plan.store, &secret)?;
    // Not needed again, and whoever reads this memory shall not find it.
    drop(secret);
    let kept = Kept { memory, device };
    let result = runtime.block_on(run(&session, Arc::new(plan), kept, link, unblock));
    // What hangs on an I/O thread must not keep the process; all that was
    // promised is on disk by now.
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

async fn run(
    session: &Session,
    plan: Arc<Plan>,
    kept: Kept,
    link: &Arc<Link>,
    unblock: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut signals = EndSignals::catch()?;
    let Kept { memory, device } = kept;
    let supervisor = parent_id();
    let began = Instant::now();
    let takes_over = device.is_some();
    let (volume, is_kept) = session.open_volume(&plan, memory, takes_over)?;
    let mounted = match device {
        Some(device) => session::take_over(&volume, &plan, device),
        None => session::mount(&volume, &plan),
    };
    let front = match mounted {
        Ok(front) => Arc::new(front),
        Err(failure) => {
            volume.close().await?;
            return Err(failure);
        }
    };
    let metrics = match tell_metrics(&volume, &front, &plan, takes_over).await {
        Ok(metrics) => metrics,
        Err(failure) => {
            session::unmount(front).await?;
            volume.close().await?;
            return Err(failure);
        }
    };
    unblock()?;
    if let Some(device) = front.heirloom().filter(|_| is_kept && !takes_over) {
        say(link, &Word::Mounted, &[device.as_fd()]);
    }
    let handler = Arc::new(Answers {
        volume: volume.clone(),
        front: front.clone(),
        plan: plan.clone(),
        supervisor,
        link: link.clone(),
        layout: if is_kept && front.heirloom().is_some() {
            session::JOURNAL_LAYOUT
        } else {
            0
        },
        format_version: session.format_version(),
        metrics,
    });
    let daemon = handler.daemon();
    let listener = control::serve(&plan.store, handler)
        .inspect_err(
            |error| tracing::warn!(%error, "no control socket; `kiseki status` will not answer"),
        )
        .ok();
    let store = plan.store.display();
    let (volume_name, at) = (&plan.volume, plan.mountpoint.display());
    if takes_over {
        tracing::info!(%store, volume = %volume_name, %at, took = ?began.elapsed(), "took over");
    } else {
        tracing::info!(%store, volume = %volume_name, %at, "mounted");
    }
    say(link, &Word::Answers(daemon), &[]);

    let ended = tokio::select! {
        ended = session::wait(front.clone()) => ended,
        () = signals.any() => {
            tracing::info!("asked to end; writing everything out");
            // Before the unmount, so that a failure is known while files are still there.
            let synced = volume.sync().await.map_err(Failure::from);
            let unmounted = session::unmount(front.clone()).await;
            synced.and(unmounted)
        }
    };
    let started = Instant::now();
    let closed = volume.close().await.map_err(Failure::from);
    if let Some(listener) = listener {
        listener.abort();
        control::remove(&plan.store);
    }
    match &closed {
        Ok(()) => tracing::info!(took = ?started.elapsed(), "unmounted; everything is written out"),
        Err(failure) => tracing::error!(%failure, "the last changes could not be written out"),
    }
    say(link, &Word::Ended, &[]);
    closed.and(ended)
}

/// Starts the listener for Prometheus, where there is to be one. A mount that
/// is taken over goes on without.
async fn tell_metrics(
    volume: &Volume,
    front: &FrontEnd,
    plan: &Plan,
    takes_over: bool,
) -> Result<Option<metrics::Server>> {
    let Some(address) = plan.metrics else {
        return Ok(None);
    };
    let mut metrics = Metrics::of(volume.clone());
    metrics.add(front.statistics());
    Ok(Some(match takes_over {
        true => metrics::Server::follow(address, metrics).await,
        false => metrics::Server::start(address, metrics).await?,
    }))
}

/// Tells the supervisor. When that is gone, the mount goes on without.
fn say(link: &Link, word: &Word, descriptors: &[BorrowedFd<'_>]) {
    if let Err(error) = link.say(word, descriptors) {
        tracing::warn!(%error, "no supervisor; this mount ends with its daemon");
    }
}

/// What the control socket answers from.
struct Answers {
    volume: Volume,
    front: Arc<FrontEnd>,
    plan: Arc<Plan>,
    supervisor: u32,
    link: Arc<Link>,
    /// Layout of the journal; 0 when the mount ends with this process.
    layout: u32,
    format_version: u32,
    metrics: Option<metrics::Server>,
}

impl Answers {
    fn daemon(&self) -> Daemon {
        Daemon {
            pid: std::process::id(),
            supervisor: Some(self.supervisor),
            layout: self.layout,
            volume: self.plan.volume.clone(),
            mountpoint: Some(self.plan.mountpoint.clone()),
        }
    }

    async fn line(&self, request: Request, progress: mpsc::Sender<(u64, u64)>) -> Result<Line> {
        Ok(match request {
            Request::Ping => Line::Pong(self.daemon()),
            Request::Status => Line::Status(Box::new(self.status().await?)),
            Request::Stats => {
                let counted = self.front.statistics();
                Line::Stats(Box::new(session::statistics(&*counted)))
            }
            Request::Sync => {
                self.volume.sync().await?;
                Line::Synced
            }
            Request::Gc => Line::Collected(collect(&self.volume, progress).await?),
            Request::Upgrade(program) => {
                // So that the next daemon finds little to go over.
                self.volume.sync().await?;
                let link = self.link.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(LAST_ANSWER).await;
                    say(&link, &Word::Replace(program), &[]);
                });
                Line::Leaving
            }
            Request::Profile(request) => Line::Profile(profile::serve(request).await?),
            Request::S3Key(request) => Line::S3Key(s3_keys::answer(&self.volume, request).await?),
            Request::Export(request) => Line::Export(exports::answer(&self.volume, request).await?),
        })
    }

    async fn status(&self) -> Result<Status> {
        let mut status = session::status(&self.volume).await?;
        status.store.clone_from(&self.plan.store);
        status.mounted = true;
        status.mountpoint = Some(PathBuf::clone(&self.plan.mountpoint));
        status.pid = Some(std::process::id());
        status.format_version = self.format_version;
        status.metrics = self.metrics.as_ref().map(metrics::Server::url);
        Ok(status)
    }
}

impl control::Handler for Answers {
    async fn answer(&self, request: Request, progress: mpsc::Sender<(u64, u64)>) -> Line {
        match self.line(request, progress).await {
            Ok(line) => line,
            Err(failure) => (&failure).into(),
        }
    }
}

/// Progress that finds the channel full is dropped: the next one tells more.
pub async fn collect(volume: &Volume, progress: mpsc::Sender<(u64, u64)>) -> Result<Collection> {
    let tell = move |done, total| {
        let _ = progress.try_send((done, total));
    };
    let collected = volume.collect(Box::new(tell)).await?;
    Ok(collected.into())
}
