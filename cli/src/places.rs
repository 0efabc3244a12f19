//! Where things are when nobody says where: the store, key files, logs and
//! configuration files, for root and for a user.

use std::{
    env,
    path::{Path, PathBuf},
};

use nix::unistd::{Uid, User};

use crate::failure::{Failure, Result};

/// The directories of the one who runs the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Holds store directories.
    data: PathBuf,
    /// Holds `kiseki.toml` and `keys/`.
    config: PathBuf,
    /// Holds the logs of detached daemons.
    logs: PathBuf,
    /// Whether `config` is the one of the machine.
    root: bool,
}

const MACHINE_CONFIG: &str = "/etc/kiseki";

impl Places {
    /// The places of the effective user.
    ///
    /// # Errors
    /// A user without a home directory.
    pub fn of_this_user() -> Result<Places> {
        if Uid::effective().is_root() {
            return Ok(Places::of_root());
        }
        let home = env::var_os("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from)
            .or_else(|| Some(User::from_uid(Uid::effective()).ok()??.dir))
            .ok_or_else(|| {
                Failure::new("this user has no home directory")
                    .remedy("set HOME, or give --store and --key-file")
            })?;
        Ok(Places::of_user(&home, |name| {
            env::var_os(name).map(PathBuf::from)
        }))
    }

    fn of_root() -> Places {
        Places {
            data: "/var/lib/kiseki".into(),
            config: MACHINE_CONFIG.into(),
            logs: "/var/log/kiseki".into(),
            root: true,
        }
    }

    fn of_user(home: &Path, variable: impl Fn(&str) -> Option<PathBuf>) -> Places {
        // The XDG base directory specification has relative paths ignored.
        let base = |name: &str, fallback: &str| {
            variable(name)
                .filter(|path| path.is_absolute())
                .unwrap_or_else(|| home.join(fallback))
                .join("kiseki")
        };
        Places {
            data: base("XDG_DATA_HOME", ".local/share"),
            config: base("XDG_CONFIG_HOME", ".config"),
            logs: base("XDG_STATE_HOME", ".local/state"),
            root: false,
        }
    }

    /// The store used without `--store`.
    #[must_use]
    pub fn default_store(&self) -> PathBuf {
        self.data.join("default")
    }

    /// Where the key file of a store is when nobody names one. It goes by the
    /// id of the store, so a store that moves keeps its key.
    #[must_use]
    pub fn key_file(&self, store_id: &str) -> PathBuf {
        self.config.join("keys").join(format!("{store_id}.key"))
    }

    /// Log of a detached daemon.
    #[must_use]
    pub fn log_file(&self, store_id: &str) -> PathBuf {
        self.logs.join(format!("{store_id}.log"))
    }

    /// Configuration files, the overriding one last.
    #[must_use]
    pub fn config_files(&self) -> Vec<PathBuf> {
        let mut files = vec![Path::new(MACHINE_CONFIG).join("kiseki.toml")];
        if !self.root {
            files.push(self.config.join("kiseki.toml"));
        }
        files
    }
}

/// `path` as an absolute path without `.` or `..`; symlinks are followed as
/// far as the path exists.
///
/// # Errors
/// The working directory is gone.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    let path = std::path::absolute(path)
        .map_err(|error| Failure::new(format!("cannot resolve {}", path.display())).why(error))?;
    Ok(match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => absolute(parent)?.join(name),
        _ => path,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn root_uses_the_directories_of_the_machine() {
        let places = Places::of_root();
        assert_eq!(places.default_store(), Path::new("/var/lib/kiseki/default"));
        assert_eq!(places.key_file("ab"), Path::new("/etc/kiseki/keys/ab.key"));
        assert_eq!(places.config_files().len(), 1);
    }

    #[test]
    fn a_user_gets_xdg_directories() {
        let home = Path::new("/home/u");
        let places = Places::of_user(home, |_| None);
        assert_eq!(
            places.default_store(),
            home.join(".local/share/kiseki/default")
        );
        assert_eq!(
            places.key_file("ab"),
            home.join(".config/kiseki/keys/ab.key")
        );
        let places = Places::of_user(home, |name| {
            (name == "XDG_DATA_HOME").then(|| PathBuf::from("/data"))
        });
        assert_eq!(places.default_store(), Path::new("/data/kiseki/default"));
        let relative = Places::of_user(home, |_| Some(PathBuf::from("data")));
        assert_eq!(
            relative.default_store(),
            home.join(".local/share/kiseki/default")
        );
    }

    #[test]
    fn a_path_that_does_not_exist_resolves_through_its_parents() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        assert_eq!(absolute(&real.join("link/a/b")).unwrap(), real.join("a/b"));
    }
}
