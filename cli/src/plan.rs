//! A mount as it is to be made, once flags, options, configuration files and
//! defaults are merged.

use std::{
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::Uid;
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, Result},
    mount_options::Atime,
    mounts, places,
    quantity::Size,
};

/// Everything a daemon needs but the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Directory of the store.
    pub store: PathBuf,
    /// Name of the volume.
    pub volume: String,
    /// Where to mount it.
    pub mountpoint: PathBuf,
    /// Memory for caches and write buffers, in bytes.
    pub memory: u64,
    /// Longest time a change stays only in memory.
    pub sync_delay: Duration,
    /// When access times are kept.
    pub atime: Atime,
    /// Takes no writes.
    pub read_only: bool,
    /// Other users may enter.
    pub allow_other: bool,
    /// Options for the kernel, in the words of `-o`.
    pub fuse: Vec<String>,
    /// Where to tell Prometheus.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
}

/// Volume of a new store, and the one mounted when none is named.
pub const DEFAULT_VOLUME: &str = "default";

/// Longest time a change stays only in memory unless something else is said.
pub const DEFAULT_SYNC_DELAY: Duration = Duration::from_secs(5);

/// Least memory a mount works with, in bytes.
pub const LEAST_MEMORY: u64 = 64 << 20;

/// A quarter of the machine's memory, at most 1 GiB.
#[must_use]
pub fn default_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(4 << 30, |kib| kib << 10);
    (total / 4).clamp(LEAST_MEMORY, 1 << 30)
}

/// The memory asked for, or the default.
///
/// # Errors
/// It is too little.
pub fn enough_memory(asked: Option<u64>) -> Result<u64> {
    let memory = asked.unwrap_or_else(default_memory);
    if memory < LEAST_MEMORY {
        return Err(
            Failure::usage(format!("{} is too little memory", Size(memory)))
                .remedy(format!("give {} or more", Size(LEAST_MEMORY))),
        );
    }
    Ok(memory)
}

/// The absolute path of a directory that can be mounted on.
///
/// # Errors
/// It is none; the text says why.
pub fn check_mountpoint(path: &Path, store: &Path) -> Result<PathBuf> {
    let cannot = || Failure::new(format!("cannot mount on {}", path.display()));
    if mounts::at(path).is_ok() {
        return Err(cannot()
            .why("a kiseki store is mounted there already")
            .remedy(format!(
                "unmount it with `kiseki umount {}`",
                path.display()
            )));
    }
    let about = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => cannot()
            .why("there is no such directory")
            .remedy(format!("make it with `mkdir -p {}`", path.display())),
        _ => cannot().why(error),
    })?;
    if !about.is_dir() {
        return Err(cannot()
            .why("it is not a directory")
            .remedy("give a directory"));
    }
    let me = Uid::effective();
    if !me.is_root() && about.uid() != me.as_raw() && about.uid() != 0 {
        return Err(cannot()
            .why("it belongs to another user")
            .remedy("mount on a directory of your own"));
    }
    let path = places::absolute(path)?;
    if store.starts_with(&path) {
        return Err(cannot()
            .why(format!(
                "the store {} lies in it and would be hidden",
                store.display()
            ))
            .remedy("mount somewhere else"));
    }
    Ok(path)
}

impl Plan {
    /// A plan with every field set to something.
    #[cfg(test)]
    #[must_use]
    pub fn for_tests() -> Plan {
        Plan {
            store: "/s".into(),
            volume: DEFAULT_VOLUME.into(),
            mountpoint: "/m".into(),
            memory: LEAST_MEMORY,
            sync_delay: DEFAULT_SYNC_DELAY,
            atime: Atime::Relative,
            read_only: false,
            allow_other: true,
            fuse: vec!["noexec".into()],
            metrics: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mount_point_is_a_directory_outside_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        let store = Path::new("/elsewhere");
        assert_eq!(check_mountpoint(&real, store).unwrap(), real);
        let why =
            |path: &Path, store: &Path| check_mountpoint(path, store).unwrap_err().to_string();
        assert!(why(&real.join("none"), store).contains("mkdir -p"));
        std::fs::write(real.join("file"), "").unwrap();
        assert!(why(&real.join("file"), store).contains("not a directory"));
        assert!(why(&real, &real.join("store")).contains("lies in it"));
    }

    #[test]
    fn default_memory_is_within_its_bounds() {
        assert!((LEAST_MEMORY..=1 << 30).contains(&default_memory()));
    }
}
