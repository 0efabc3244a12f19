//! Serving a volume by several front ends in one process, until a signal or
//! an unmount ends it.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use kiseki_core::engine::Volume;
use kiseki_fs::{
    metrics::{self, Metrics},
    nfs::{self, export::Rule},
    s3::{Server, ServerError, ServerOptions},
    stats::Counted,
};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    stat::{Mode, umask},
};
use sd_notify::NotifyState;

use crate::{
    answers::Answers,
    control,
    end_signals::EndSignals,
    failure::{Attempt, Failure, Result},
    plan::Plan,
    secrets::{self, Secret},
    session::{self, FrontEnd, Session},
};

/// What to serve a volume by.
#[derive(Clone, Debug)]
pub struct Fronts {
    /// A mount, where the plan says.
    pub mount: bool,
    /// S3.
    pub s3: Option<S3Front>,
    /// NFS.
    pub nfs: Option<NfsFront>,
}

/// How to serve NFS.
#[derive(Clone, Debug)]
pub struct NfsFront {
    /// Where to listen.
    pub address: SocketAddr,
    /// Exports of the configuration.
    pub exports: Vec<Rule>,
    /// Socket of the rpcbind that is to know the programs.
    pub rpcbind: Option<PathBuf>,
}

/// How to serve S3.
#[derive(Clone, Debug)]
pub struct S3Front {
    /// Where to listen.
    pub address: SocketAddr,
    /// Certificate chain and private key.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Failure {
        match error {
            ServerError::Volume(error) => error.into(),
            other => Failure::new(other.to_string()),
        }
    }
}

impl From<nfs::ServerError> for Failure {
    fn from(error: nfs::ServerError) -> Failure {
        match error {
            nfs::ServerError::Volume(error) => error.into(),
            other => Failure::new(other.to_string()),
        }
    }
}

impl From<metrics::MetricsError> for Failure {
    fn from(error: metrics::MetricsError) -> Failure {
        Failure::new(error.to_string()).remedy("give --metrics another port")
    }
}

/// Serves until it is told to end; everything is durable then, and the store
/// is free.
///
/// # Errors
/// The store or a front end could not be opened, or the last writes failed.
pub fn serve(plan: Plan, fronts: Fronts, secret: &Secret) -> Result<()> {
    secrets::protect_process()?;
    umask(Mode::from_bits_truncate(0o077));
    allow_connections();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("kiseki")
        .build()
        .attempt(|| "cannot start worker threads".into())?;
    let session = Session::open(&plan.store, secret)?;
    let result = runtime.block_on(run(&session, Arc::new(plan), fronts));
    // What hangs on an I/O thread must not keep the process; all that was
    // promised is on disk by now.
    runtime.shutdown_timeout(Duration::from_secs(5));
    result
}

/// Every connection is a descriptor, and many systems give a thousand.
fn allow_connections() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

async fn run(session: &Session, plan: Arc<Plan>, fronts: Fronts) -> Result<()> {
    let mut signals = EndSignals::catch()?;
    let volume = session.open_alone(&plan)?;
    let served = match Served::start(&volume, &plan, fronts).await {
        Ok(served) => served,
        Err(failure) => {
            volume.close().await?;
            return Err(failure);
        }
    };
    let handler = Arc::new(Answers {
        volume: volume.clone(),
        plan: plan.clone(),
        format_version: session.format_version(),
        mount: served.mount.clone(),
        s3: served.s3.as_ref().map(Server::url),
        nfs: served.nfs.clone(),
        metrics: served.metrics.as_ref().map(metrics::Server::url),
        supervisor: None,
        exports: Default::default(),
    });
    let listener = control::serve(&plan.store, handler)
        .inspect_err(
            |error| tracing::warn!(%error, "no control socket; `kiseki status` will not answer"),
        )
        .ok();
    notify(&[NotifyState::Ready]);

    tokio::select! {
        () = served.unmounted() => tracing::info!("unmounted; ending"),
        () = signals.any() => tracing::info!("asked to end; writing everything out"),
    }
    notify(&[NotifyState::Stopping]);
    // Before the end, so that a failure is known while files are still there.
    let synced = volume.sync().await.map_err(Failure::from);
    let stopped = served.stop().await;
    let closed = volume.close().await.map_err(Failure::from);
    if let Some(listener) = listener {
        listener.abort();
        control::remove(&plan.store);
    }
    match &closed {
        Ok(()) => tracing::info!("everything is written out"),
        Err(failure) => tracing::error!(%failure, "the last changes could not be written out"),
    }
    closed.and(synced).and(stopped)
}

/// The front ends that run.
struct Served {
    mount: Option<Arc<FrontEnd>>,
    s3: Option<Server>,
    nfs: Option<Arc<nfs::Server>>,
    metrics: Option<metrics::Server>,
}

impl Served {
    async fn start(volume: &Volume, plan: &Plan, fronts: Fronts) -> Result<Served> {
        let mut served = Served {
            mount: None,
            s3: None,
            nfs: None,
            metrics: None,
        };
        match served.add(volume, plan, fronts).await {
            Ok(()) => Ok(served),
            Err(failure) => {
                served.stop().await?;
                Err(failure)
            }
        }
    }

    async fn add(&mut self, volume: &Volume, plan: &Plan, fronts: Fronts) -> Result<()> {
        if fronts.mount {
            self.mount = Some(Arc::new(session::mount(volume, plan)?));
            tracing::info!(at = %plan.mountpoint.display(), "mounted");
        }
        if let Some(s3) = fronts.s3 {
            let options = ServerOptions {
                address: s3.address,
                tls: s3.tls,
                memory: plan.memory,
            };
            let server = Server::start(volume, options).await?;
            tracing::info!(url = server.url(), "S3 answers");
            self.s3 = Some(server);
        }
        if let Some(front) = fronts.nfs {
            let options = nfs::ServerOptions {
                address: front.address,
                exports: front.exports,
                memory: plan.memory,
                rpcbind: front.rpcbind,
            };
            let server = nfs::Server::start(volume, options).await?;
            tracing::info!(at = %server.address(), "NFS answers");
            self.nfs = Some(Arc::new(server));
        }
        if let Some(address) = plan.metrics {
            let server = metrics::Server::start(address, self.metrics_of(volume)).await?;
            self.metrics = Some(server);
        }
        Ok(())
    }

    /// Figures of the volume and of all front ends.
    fn metrics_of(&self, volume: &Volume) -> Metrics {
        let mut metrics = Metrics::of(volume.clone());
        self.counted().for_each(|front| metrics.add(front));
        metrics
    }

    /// What is counted, by front end.
    fn counted(&self) -> impl Iterator<Item = Arc<dyn Counted>> {
        let mount = self.mount.as_ref().map(|mount| mount.statistics());
        let s3 = self.s3.as_ref().map(Server::statistics);
        let nfs = self.nfs.iter().flat_map(|nfs| nfs.statistics());
        [mount, s3].into_iter().flatten().chain(nfs)
    }

    /// Waits until somebody unmounts; forever without a mount.
    async fn unmounted(&self) {
        match &self.mount {
            Some(mount) => {
                // It has no other way to end.
                let _ = session::wait(mount.clone()).await;
            }
            None => std::future::pending().await,
        }
    }

    async fn stop(self) -> Result<()> {
        if let Some(server) = self.s3 {
            server.stop().await;
        }
        if let Some(server) = self.nfs {
            server.stop().await;
        }
        match self.mount {
            Some(mount) => session::unmount(mount).await,
            None => Ok(()),
        }
    }
}

/// Tells systemd, where it asked to be told.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
