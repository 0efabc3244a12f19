//! Configuration files: `/etc/kiseki/kiseki.toml` for the machine and
//! `~/.config/kiseki/kiseki.toml` for a user. What a user sets overrides the
//! machine, what a flag sets overrides both. An unknown key is an error that
//! names file and line, so that a misspelt one never goes unnoticed.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use kiseki_fs::nfs::export::Rule;
use serde::Deserialize;

use crate::{
    address::Listen,
    failure::{Failure, Result},
    mount_options::{Atime, Policy},
    places::Places,
    quantity::{Size, Span},
};

/// What a configuration file can set. `None` leaves the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Store directory.
    pub store: Option<PathBuf>,
    /// Name of the volume.
    pub volume: Option<String>,
    /// Key file.
    pub key_file: Option<PathBuf>,
    /// File that holds the passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// Memory for caches and write buffers.
    pub memory: Option<Size>,
    /// Cutting policy of new volumes.
    pub policy: Option<Policy>,
    /// Longest time a change stays only in memory.
    pub sync_delay: Option<Span>,
    /// Whether other users may enter the mount.
    pub allow_other: Option<bool>,
    /// Whether the mount takes no writes.
    pub read_only: Option<bool>,
    /// When access times are kept.
    pub atime: Option<Atime>,
    /// What clients of NFS see.
    #[serde(default)]
    pub export: Vec<Rule>,
    /// Where to tell Prometheus.
    pub metrics: Option<Listen>,
    /// Socket of the rpcbind that is to know the programs of NFS.
    pub rpcbind: Option<PathBuf>,
}

impl Config {
    /// The configuration in force: `file` alone when given, otherwise the
    /// files of the machine and of the user, where they exist.
    ///
    /// # Errors
    /// A file cannot be read (or, for `file`, is missing), or says something
    /// that is not understood.
    pub fn load(places: &Places, file: Option<&Path>) -> Result<Config> {
        if let Some(file) = file {
            return Config::read(file)?.ok_or_else(|| {
                Failure::usage(format!(
                    "the configuration file {} is missing",
                    file.display()
                ))
            });
        }
        let mut config = Config::default();
        for file in places.config_files() {
            if let Some(over) = Config::read(&file)? {
                config = config.overridden_by(over);
            }
        }
        Ok(config)
    }

    fn read(file: &Path) -> Result<Option<Config>> {
        match std::fs::read_to_string(file) {
            Ok(text) => Config::parse(&text, file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::usage(format!(
                "cannot read the configuration file {}",
                file.display()
            ))
            .why(error)),
        }
    }

    /// What the text of a file says.
    pub(crate) fn parse(text: &str, file: &Path) -> Result<Config> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = 1 + text[..at.min(text.len())].matches('\n').count();
            Failure::usage(format!("{}:{line}", file.display()))
                .why(error.message())
                .remedy("correct this line or remove it")
        })
    }

    /// The exports, checked.
    ///
    /// # Errors
    /// The path of one is none.
    pub fn export_rules(&self) -> Result<Vec<Rule>> {
        let rules = self.export.iter().cloned().map(Rule::checked);
        rules
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::usage(format!("the configuration: {error}")))
    }

    fn overridden_by(self, over: Config) -> Config {
        Config {
            store: over.store.or(self.store),
            volume: over.volume.or(self.volume),
            key_file: over.key_file.or(self.key_file),
            passphrase_file: over.passphrase_file.or(self.passphrase_file),
            memory: over.memory.or(self.memory),
            policy: over.policy.or(self.policy),
            sync_delay: over.sync_delay.or(self.sync_delay),
            allow_other: over.allow_other.or(self.allow_other),
            read_only: over.read_only.or(self.read_only),
            atime: over.atime.or(self.atime),
            export: match over.export.is_empty() {
                true => self.export,
                false => over.export,
            },
            metrics: over.metrics.or(self.metrics),
            rpcbind: over.rpcbind.or(self.rpcbind),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::failure::Code;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text, Path::new("/etc/kiseki/kiseki.toml"))
    }

    #[test]
    fn reads_every_key() {
        let config = parse(
            "store = '/s'\nvolume = 'v'\nkey_file = '/k'\npassphrase_file = '/p'\nmemory = '2G'\n\
             policy = 'cdc'\nsync_delay = '5s'\nallow_other = true\nread_only = false\natime = 'never'\n\
             metrics = ':9464'\nrpcbind = '/run/rpcbind.sock'\n\
             [[export]]\npath = '/p'\nclients = '10.0.0.0/8'\nread_only = true\nsquash = 'all'\n",
        )
        .unwrap();
        assert_eq!(config.memory, Some(Size(2 << 30)));
        assert_eq!(config.policy, Some(Policy::Cdc));
        assert_eq!(config.atime, Some(Atime::Never));
        assert_eq!(config.allow_other, Some(true));
        let rules = config.export_rules().unwrap();
        assert!(rules[0].read_only && rules[0].path == "/p");
        assert_eq!(config.rpcbind, Some("/run/rpcbind.sock".into()));
        assert_eq!(config.metrics, Some("127.0.0.1:9464".parse().unwrap()));
    }

    #[test]
    fn unknown_key_names_file_and_line() {
        let failure = parse("volume = 'v'\n\nmemroy = '1G'\n").unwrap_err();
        assert_eq!(failure.code, Code::Usage);
        let text = failure.to_string();
        assert!(text.starts_with("/etc/kiseki/kiseki.toml:3: "), "{text}");
        assert!(text.contains("memroy"), "{text}");
    }

    #[test]
    fn wrong_value_names_the_line() {
        let text = parse("# comment\nmemory = 'much'\n")
            .unwrap_err()
            .to_string();
        assert!(text.contains(":2: `much` is no size"), "{text}");
    }

    #[test]
    fn the_user_overrides_the_machine() {
        let machine = parse("volume = 'a'\nmemory = '1G'").unwrap();
        let user = parse("volume = 'b'").unwrap();
        let both = machine.overridden_by(user);
        assert_eq!(both.volume.as_deref(), Some("b"));
        assert_eq!(both.memory, Some(Size(1 << 30)));
    }
}
