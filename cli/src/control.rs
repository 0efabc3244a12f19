//! The socket through which other commands talk to a running daemon.
//!
//! `control.sock` in the store directory, mode 0600. A client sends one
//! request, a line of JSON; the daemon answers with any number of progress
//! lines and one final line, and closes. Lines, connections and waiting times
//! are bounded on both sides, and what arrives is parsed strictly.

mod client;
mod server;

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};
use serde::{Deserialize, Serialize};

pub use client::{Connection, misunderstood};
pub use server::{Handler, serve};

use crate::{
    exports::{ExportAnswer, ExportRequest},
    failure::{Code, Failure},
    profile::{ProfileAnswer, ProfileRequest},
    report::{Collection, Statistics, Status},
    s3_keys::{KeyAnswer, KeyRequest},
};

/// The line a client sends.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    verb: Request,
}

/// Reads what a client sent.
pub(crate) fn understand(text: &[u8]) -> serde_json::Result<Request> {
    serde_json::from_slice::<Ask>(text).map(|ask| ask.verb)
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Who are you?
    Ping,
    /// Totals of the volume.
    Status,
    /// Counters of the mount.
    Stats,
    /// Make everything durable.
    Sync,
    /// Collect garbage.
    Gc,
    /// Let the program at this path go on with the mount.
    Upgrade(PathBuf),
    /// Sample where time is spent.
    Profile(ProfileRequest),
    /// Make, list or delete keys of S3.
    S3Key(KeyRequest),
    /// List, add or remove exports of NFS.
    Export(ExportRequest),
}

/// A line from the daemon. All but `Progress` are final.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// Work done and work in all.
    Progress(u64, u64),
    /// Answer to `Ping`.
    Pong(Daemon),
    /// Answer to `Status`.
    Status(Box<Status>),
    /// Answer to `Stats`.
    Stats(Box<Statistics>),
    /// Answer to `Sync`.
    Synced,
    /// Answer to `Upgrade`: it is about to happen.
    Leaving,
    /// Answer to `Gc`.
    Collected(Collection),
    /// Answer to `Profile`.
    Profile(ProfileAnswer),
    /// Answer to `S3Key`.
    S3Key(KeyAnswer),
    /// Answer to `Export`.
    Export(ExportAnswer),
    /// It did not work; the text says what, why and what to do.
    Failed {
        /// For the user.
        message: String,
        /// Exit code that goes with it is the one for damage.
        damage: bool,
    },
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Process id.
    pub pid: u32,
    /// The process that keeps the mount when this one dies.
    #[serde(default)]
    pub supervisor: Option<u32>,
    /// Layout of its journal, which another version must know to take over; 0
    /// when there is none.
    #[serde(default)]
    pub layout: u32,
    /// Name of the volume.
    pub volume: String,
    /// Where it is mounted, if it is.
    pub mountpoint: Option<PathBuf>,
}

impl From<&Failure> for Line {
    fn from(failure: &Failure) -> Line {
        Line::Failed {
            message: failure.to_string(),
            damage: failure.code == Code::Damage,
        }
    }
}

/// Name of the socket in the store directory.
const SOCKET: &str = "control.sock";

/// The longest line either side takes, in bytes.
const LONGEST_LINE: u64 = 64 << 10;

/// A path to the socket that fits the 108 bytes of a socket address however
/// deep the store lies: through a descriptor of its directory, which must
/// stay open while the path is used.
fn short_path(store: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dir = open(store, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
    Ok((dir, path.into()))
}

/// Removes the socket of a daemon that is gone. Only for the holder of the
/// store's lock.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the socket when the daemon ends.
pub fn remove(store: &Path) {
    // One that stays is found stale by the next mount.
    let _ = short_path(store).and_then(|(_dir, path)| remove_stale(&path));
}

#[cfg(test)]
mod tests;
