//! Serving a mount until it ends: open the store, mount, answer on the control
//! socket, and on a signal or an unmount write everything out and let go.

use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::parent_id,
    },
    sync::Arc,
    time::{Duration, Instant},
};

use kiseki_core::engine::Volume;
use kiseki_fs::metrics::{self, Metrics};
use nix::sys::stat::{Mode, umask};

use crate::{
    answers::{Answers, Supervised},
    control,
    end_signals::EndSignals,
    failure::{Attempt, Failure, Result},
    link::{Link, Word},
    plan::Plan,
    secrets::Secret,
    session::{self, FrontEnd, Session},
};

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
        link.tell(&Word::Mounted, &[device.as_fd()]);
    }
    let layout = match is_kept && front.heirloom().is_some() {
        true => session::JOURNAL_LAYOUT,
        false => 0,
    };
    let handler = Arc::new(Answers {
        volume: volume.clone(),
        plan: plan.clone(),
        format_version: session.format_version(),
        mount: Some(front.clone()),
        s3: None,
        nfs: None,
        metrics: metrics.as_ref().map(metrics::Server::url),
        supervisor: Some(Supervised {
            pid: supervisor,
            link: link.clone(),
            layout,
        }),
        exports: Default::default(),
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
    link.tell(&Word::Answers(daemon), &[]);

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
    link.tell(&Word::Ended, &[]);
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
