//! `kiseki mount`.

use std::{
    io::{IsTerminal, stderr},
    path::{Path, PathBuf},
};

use clap::Args;

use crate::{
    address::Listen,
    args::{Context, KeyArgs, StoreArg, VolumeArgs},
    creation, daemon,
    detach::detach_dead,
    failure::{Attempt, Code, Failure, Result},
    mount_options::{MountOptions, Policy},
    mounts,
    plan::{self, Plan},
    quantity::{Size, Span},
    session,
    supervise::supervise,
};

/// Arguments of `kiseki mount`.
#[derive(Args)]
pub struct Mount {
    #[command(flatten)]
    target: VolumeArgs,
    /// Mount options, separated by commas: ro, allow_other, noatime, store=,
    /// volume=, key_file=, passphrase_file=, memory=, policy=, sync_delay=,
    /// metrics=, and those of FUSE
    #[arg(short = 'o', value_name = "OPTS")]
    options: Vec<String>,
    /// Stay in front and log to stderr
    #[arg(short, long)]
    foreground: bool,
    /// Memory for caches and write buffers, such as 512M
    /// [default: a quarter of the machine's, at most 1G]
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// How files of a new volume are cut into chunks [default: auto]
    #[arg(long, value_enum)]
    policy: Option<Policy>,
    /// Longest time a change stays only in memory [default: 5s]
    #[arg(long, value_name = "TIME")]
    sync_delay: Option<Span>,
    /// Let other users in
    #[arg(long)]
    allow_other: bool,
    /// Take no writes
    #[arg(long)]
    read_only: bool,
    /// Answer Prometheus here: PORT for this machine alone, or HOST:PORT
    #[arg(long, value_name = "ADDR")]
    metrics: Option<Listen>,
    /// Directory to mount on
    mountpoint: PathBuf,
}

impl Mount {
    /// Returns when the mount answers; with `-f`, when it has ended.
    pub fn run(&self, context: &Context) -> Result<Code> {
        let options = MountOptions::parse(&self.options).map_err(Failure::usage)?;
        let store = self.store_arg(&options).dir(context)?;
        let key = self.key_args(&options)?;
        while let Ok(left) = mounts::at(&self.mountpoint) {
            if !detach_dead(&left.point)? {
                break;
            }
        }
        let plan = self.plan(context, &options, &store)?;
        creation::refuse_served(&store)?;
        let (info, secret) = match session::inspect(&store)? {
            Some(info) => {
                let secret = key.needed_secret(context, &store, &info)?;
                (info, secret)
            }
            None if plan.read_only => return Err(creation::nothing_to_read(&store)),
            None => {
                let policy = self.policy.or(options.policy).or(context.config.policy);
                let policy = policy.unwrap_or_default();
                creation::create(context, &key, &store, &plan.volume, policy)?
            }
        };
        if self.foreground {
            log_to_stderr();
            // What fails is printed by the daemon.
            return supervise(plan, secret, |_| {});
        } else {
            let log = context.places.log_file(&info.id);
            daemon::start(&plan, &secret, &log)?;
            // The kernel answers only once the daemon did.
            std::fs::metadata(&plan.mountpoint)
                .attempt(|| format!("the mount {} does not answer", plan.mountpoint.display()))?;
        }
        Ok(Code::Good)
    }

    fn store_arg(&self, options: &MountOptions) -> StoreArg {
        StoreArg {
            store: self
                .target
                .store
                .store
                .clone()
                .or_else(|| options.store.clone()),
        }
    }

    fn key_args(&self, options: &MountOptions) -> Result<KeyArgs> {
        let flags = &self.target.key;
        if flags.key_file.is_some() || flags.passphrase_file.is_some() || flags.passphrase {
            return Ok(flags.clone());
        }
        if options.key_file.is_some() && options.passphrase_file.is_some() {
            return Err(
                Failure::usage("both key_file= and passphrase_file= are given")
                    .remedy("a store is opened with one of them"),
            );
        }
        Ok(KeyArgs {
            key_file: options.key_file.clone(),
            passphrase_file: options.passphrase_file.clone(),
            passphrase: false,
        })
    }

    fn plan(&self, context: &Context, options: &MountOptions, store: &Path) -> Result<Plan> {
        let config = &context.config;
        let memory = self.memory.or(options.memory).or(config.memory);
        let memory = plan::enough_memory(memory.map(|size| size.0))?;
        let sync_delay = self.sync_delay.or(options.sync_delay).or(config.sync_delay);
        let volume = self
            .target
            .volume
            .clone()
            .or_else(|| options.volume.clone());
        let flag = |set: bool| set.then_some(true);
        Ok(Plan {
            store: store.to_owned(),
            volume: volume
                .or_else(|| config.volume.clone())
                .unwrap_or_else(|| plan::DEFAULT_VOLUME.to_owned()),
            mountpoint: plan::check_mountpoint(&self.mountpoint, store)?,
            memory,
            sync_delay: sync_delay.map_or(plan::DEFAULT_SYNC_DELAY, |span| span.0),
            atime: options.atime.or(config.atime).unwrap_or_default(),
            read_only: flag(self.read_only)
                .or(options.read_only)
                .or(config.read_only)
                .unwrap_or(false),
            allow_other: flag(self.allow_other)
                .or(options.allow_other)
                .or(config.allow_other)
                .unwrap_or(false),
            fuse: options.fuse.clone(),
            metrics: self
                .metrics
                .or(options.metrics)
                .or(config.metrics)
                .map(|Listen(address)| address),
        })
    }
}

/// Logs of a mount, at the level `KISEKI_LOG` names (`info` by default).
pub fn log_to_stderr() {
    // `s3s` calls every refusal of a request an error; clients are told those.
    let filter = tracing_subscriber::EnvFilter::try_from_env("KISEKI_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,s3s=off"));
    // A second call in one process changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .try_init();
}
