//! `kiseki serve`.

use std::path::PathBuf;

use clap::Args;
use kiseki_fs::nfs::rpcbind;

use crate::{
    address::Listen,
    args::{Context, VolumeArgs},
    creation,
    failure::{Code, Failure, Result},
    fronts::{self, Fronts, NfsFront, S3Front},
    mount_options::Policy,
    plan::{self, Plan},
    quantity::{Size, Span},
    session,
    verb::mount::log_to_stderr,
};

/// Arguments of `kiseki serve`.
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    target: VolumeArgs,
    /// Answer S3 here: PORT for this machine alone, or HOST:PORT
    #[arg(long, value_name = "ADDR")]
    s3: Option<Listen>,
    /// Certificate chain of the S3 server, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key", requires = "s3")]
    tls_cert: Option<PathBuf>,
    /// Its private key, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Answer NFS here: PORT for this machine alone, or HOST:PORT
    #[arg(long, value_name = "ADDR")]
    nfs: Option<Listen>,
    /// Register NFS and its lock service with rpcbind, so that clients find
    /// them and can lock by NFSv3 [socket: /run/rpcbind.sock]
    #[arg(long, value_name = "SOCKET", requires = "nfs", num_args = 0..=1,
          require_equals = true, default_missing_value = rpcbind::SOCKET)]
    rpcbind: Option<PathBuf>,
    /// Mount the volume as well
    #[arg(long, value_name = "DIR")]
    mount: Option<PathBuf>,
    /// Memory for caches and write buffers, such as 512M
    /// [default: a quarter of the machine's, at most 1G]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// How files of a new volume are cut into chunks [default: auto]
    #[arg(long, value_enum)]
    policy: Option<Policy>,
    /// Longest time a change stays only in memory
    /// [default: 5s]
    #[arg(long, value_name = "TIME")]
    sync_delay: Option<Span>,
    /// Answer Prometheus here: PORT for this machine alone, or HOST:PORT
    #[arg(long, value_name = "ADDR")]
    metrics: Option<Listen>,
    /// Let other users into the mount
    #[arg(long, requires = "mount")]
    allow_other: bool,
}

impl Serve {
    /// Returns when the server was told to end, or its mount was unmounted.
    pub fn run(&self, context: &Context) -> Result<Code> {
        if self.s3.is_none() && self.nfs.is_none() && self.mount.is_none() {
            return Err(
                Failure::usage("there is nothing to serve").remedy("give --s3 ADDR or --nfs ADDR")
            );
        }
        let plan = self.plan(context)?;
        creation::refuse_served(&plan.store)?;
        let secret = match session::inspect(&plan.store)? {
            Some(info) => self.target.key.needed_secret(context, &plan.store, &info)?,
            None => {
                let policy = self.policy.or(context.config.policy).unwrap_or_default();
                creation::create(context, &self.target.key, &plan.store, &plan.volume, policy)?.1
            }
        };
        log_to_stderr();
        let fronts = Fronts {
            mount: self.mount.is_some(),
            s3: self.s3.map(|Listen(address)| S3Front {
                address,
                tls: self.tls_cert.clone().zip(self.tls_key.clone()),
            }),
            nfs: match self.nfs {
                Some(Listen(address)) => Some(NfsFront {
                    address,
                    exports: context.config.export_rules()?,
                    rpcbind: self.rpcbind.clone().or(context.config.rpcbind.clone()),
                }),
                None => None,
            },
        };
        fronts::serve(plan, fronts, &secret)?;
        Ok(Code::Good)
    }

    fn plan(&self, context: &Context) -> Result<Plan> {
        let config = &context.config;
        let memory = self.memory.or(config.memory);
        let memory = plan::enough_memory(memory.map(|size| size.0))?;
        let store = self.target.store(context)?;
        let volume = self.target.volume.clone().or_else(|| config.volume.clone());
        let sync_delay = self.sync_delay.or(config.sync_delay);
        Ok(Plan {
            mountpoint: match &self.mount {
                Some(point) => plan::check_mountpoint(point, &store)?,
                None => PathBuf::new(),
            },
            volume: volume.unwrap_or_else(|| plan::DEFAULT_VOLUME.to_owned()),
            memory,
            sync_delay: sync_delay.map_or(plan::DEFAULT_SYNC_DELAY, |span| span.0),
            atime: config.atime.unwrap_or_default(),
            read_only: false,
            allow_other: self.allow_other || config.allow_other.unwrap_or(false),
            fuse: Vec::new(),
            metrics: self
                .metrics
                .or(config.metrics)
                .map(|Listen(address)| address),
            store,
        })
    }
}
