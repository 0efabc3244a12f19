//! What the control socket of a daemon answers, whatever it serves a volume by.

use std::{path::PathBuf, sync::Arc, time::Duration};

use kiseki_core::engine::Volume;
use kiseki_fs::nfs;
use tokio::sync::{Mutex, mpsc};

use crate::{
    control::{Daemon, Handler, Line, Request},
    exports::{self, ExportAnswer, ExportRequest},
    failure::{Failure, Result},
    link::{Link, Word},
    plan::Plan,
    profile,
    report::{Collection, Statistics, Status},
    s3_keys,
    session::{self, FrontEnd},
};

/// How long the answer that this process is about to be replaced may take on
/// its way.
const LAST_ANSWER: Duration = Duration::from_millis(50);

/// What answers are made of.
pub struct Answers {
    /// The volume that is served.
    pub volume: Volume,
    /// How.
    pub plan: Arc<Plan>,
    /// Version of the formats of the store.
    pub format_version: u32,
    /// The mount, if it is served by one.
    pub mount: Option<Arc<FrontEnd>>,
    /// Where S3 answers.
    pub s3: Option<String>,
    /// The server of NFS.
    pub nfs: Option<Arc<nfs::Server>>,
    /// Where metrics are told.
    pub metrics: Option<String>,
    /// Who outlives this process.
    pub supervisor: Option<Supervised>,
    /// Held while the list of exports is read, changed, written and read by
    /// the server: two changes at once would lose one.
    pub exports: Mutex<()>,
}

/// By the process that starts another daemon when this one is gone.
pub struct Supervised {
    /// Its number.
    pub pid: u32,
    /// The way to it.
    pub link: Arc<Link>,
    /// Layout of the journal; 0 when the mount ends with this process.
    pub layout: u32,
}

impl Answers {
    /// How this daemon introduces itself.
    #[must_use]
    pub fn daemon(&self) -> Daemon {
        let supervisor = self.supervisor.as_ref();
        Daemon {
            pid: std::process::id(),
            supervisor: supervisor.map(|supervisor| supervisor.pid),
            layout: supervisor.map_or(0, |supervisor| supervisor.layout),
            volume: self.plan.volume.clone(),
            mountpoint: self.mountpoint(),
        }
    }

    fn mountpoint(&self) -> Option<PathBuf> {
        self.mount.as_ref().map(|_| self.plan.mountpoint.clone())
    }

    async fn status(&self) -> Result<Status> {
        let mut status = session::status(&self.volume).await?;
        status.store.clone_from(&self.plan.store);
        status.mountpoint = self.mountpoint();
        status.mounted = status.mountpoint.is_some();
        status.s3.clone_from(&self.s3);
        status.nfs = self.nfs.as_ref().map(|server| server.address());
        status.metrics.clone_from(&self.metrics);
        status.pid = Some(std::process::id());
        status.format_version = self.format_version;
        Ok(status)
    }

    fn statistics(&self) -> Statistics {
        let counted = self.mount.as_ref().map(|mount| mount.statistics());
        counted
            .map(|counted| session::statistics(&*counted))
            .unwrap_or_default()
    }

    async fn upgrade(&self, program: PathBuf) -> Result<()> {
        let supervisor = self.supervisor.as_ref().ok_or_else(|| {
            Failure::new("a server is not upgraded while it runs")
                .remedy("end it and start the new version")
        })?;
        // So that the next daemon finds little to go over.
        self.volume.sync().await?;
        let link = supervisor.link.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LAST_ANSWER).await;
            link.tell(&Word::Replace(program), &[]);
        });
        Ok(())
    }

    async fn collect(&self, progress: mpsc::Sender<(u64, u64)>) -> Result<Collection> {
        // Progress that finds the channel full is dropped: the next one tells more.
        let tell = move |done, total| {
            let _ = progress.try_send((done, total));
        };
        let collected = self.volume.collect(Box::new(tell)).await?;
        Ok(collected.into())
    }

    async fn export(&self, request: ExportRequest) -> Result<ExportAnswer> {
        let _alone = self.exports.lock().await;
        let answer = exports::answer(&self.volume, request).await?;
        if let Some(server) = &self.nfs {
            server.reload().await?;
        }
        Ok(answer)
    }
}

impl Handler for Answers {
    async fn answer(&self, request: Request, progress: mpsc::Sender<(u64, u64)>) -> Result<Line> {
        Ok(match request {
            Request::Ping => Line::Pong(self.daemon()),
            Request::Status => Line::Status(Box::new(self.status().await?)),
            Request::Stats => Line::Stats(Box::new(self.statistics())),
            Request::Sync => {
                self.volume.sync().await?;
                Line::Synced
            }
            Request::Gc => Line::Collected(self.collect(progress).await?),
            Request::Upgrade(program) => {
                self.upgrade(program).await?;
                Line::Leaving
            }
            Request::Profile(request) => Line::Profile(profile::serve(request).await?),
            Request::S3Key(request) => Line::S3Key(s3_keys::answer(&self.volume, request).await?),
            Request::Export(request) => Line::Export(self.export(request).await?),
        })
    }
}
