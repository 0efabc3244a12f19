//! The verbs. Each file holds the arguments of one and what it does.

mod bench;
mod daemon;
mod export;
mod fsck;
mod gc;
mod generate;
mod info;
mod key;
mod log;
mod mount;
mod s3;
mod serve;
mod serve_mount;
mod stats;
mod status;
mod umount;
mod upgrade;
mod version;
mod volume;

use clap::Subcommand;

use crate::{
    args::Context,
    failure::{Code, Result},
};

/// What to do.
#[derive(Subcommand)]
pub enum Verb {
    /// Mount a volume; the first mount makes store and key
    Mount(Box<mount::Mount>),
    /// Serve a volume by S3 and NFS, and mount it if asked, until told to end
    Serve(Box<serve::Serve>),
    /// Manage what clients of S3 sign with
    #[command(subcommand)]
    S3(s3::S3),
    /// Manage what clients of NFS see
    #[command(subcommand)]
    Export(export::Export),
    /// Unmount, and wait until everything is on disk
    Umount(umount::Umount),
    /// Let this version go on with a mount of another one, without unmounting
    Upgrade(upgrade::Upgrade),
    /// Show the totals of a volume
    Status(status::StatusVerb),
    /// Show what a mount does, a line per second
    Stats(stats::Stats),
    /// Show how a file is stored
    Info(info::Info),
    /// Check a store, with the key down to every frame
    Fsck(fsck::Fsck),
    /// Give the space of deleted data back to the disk
    Gc(gc::Gc),
    /// Make, list and destroy volumes
    #[command(subcommand)]
    Volume(volume::Volume),
    /// Manage what opens a store
    #[command(subcommand)]
    Key(key::Key),
    /// Work with the log of a volume
    #[command(subcommand)]
    Log(log::Log),
    /// Measure a directory on any file system
    Bench(bench::Bench),
    /// Show versions of program and formats
    Version(version::Version),
    /// Write manual pages and shell completions
    #[command(hide = true)]
    Generate(generate::Generate),
    /// Keep a mount in the background
    #[command(hide = true)]
    Daemon(daemon::Daemon),
    /// Serve a mount
    #[command(hide = true)]
    ServeMount(serve_mount::ServeMount),
}

impl Verb {
    /// Runs verbs that neither need a home directory nor read configuration
    /// files.
    pub fn run_without_context(&self) -> Option<Result<Code>> {
        match self {
            Verb::Umount(verb) => Some(verb.run()),
            Verb::Upgrade(verb) => Some(verb.run()),
            Verb::Stats(verb) => Some(verb.run()),
            Verb::Info(verb) => Some(verb.run()),
            Verb::Bench(verb) => Some(verb.run()),
            Verb::Version(verb) => Some(verb.run()),
            Verb::Generate(verb) => Some(verb.run()),
            Verb::Daemon(verb) => Some(verb.run()),
            Verb::ServeMount(verb) => Some(verb.run()),
            _ => None,
        }
    }

    /// Runs any verb.
    pub fn run(&self, context: &Context) -> Result<Code> {
        match self {
            Verb::Mount(verb) => verb.run(context),
            Verb::Serve(verb) => verb.run(context),
            Verb::S3(verb) => verb.run(context),
            Verb::Export(verb) => verb.run(context),
            Verb::Status(verb) => verb.run(context),
            Verb::Fsck(verb) => verb.run(context),
            Verb::Gc(verb) => verb.run(context),
            Verb::Volume(verb) => verb.run(context),
            Verb::Key(verb) => verb.run(context),
            Verb::Log(verb) => verb.run(context),
            other => other.run_without_context().unwrap_or(Ok(Code::Good)),
        }
    }
}
