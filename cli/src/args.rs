//! Arguments that several verbs share, and how they turn into a store and a
//! secret.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{
    config::Config,
    control::Connection,
    failure::{Failure, Result},
    mounts::{self, Mount},
    places::{self, Places},
    plan::DEFAULT_VOLUME,
    secrets::{self, Secret, Source},
    session::{self, Session, StoreInfo},
};

/// What every verb knows: the places of the user and the configuration files.
pub struct Context {
    /// Default directories.
    pub places: Places,
    /// Configuration files, merged.
    pub config: Config,
}

/// `--store`.
#[derive(Clone, Debug, Default, Args)]
pub struct StoreArg {
    /// Directory of the store
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
}

/// Where the key comes from.
#[derive(Clone, Debug, Default, Args)]
#[group(multiple = false)]
pub struct KeyArgs {
    /// Key file that opens the store
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// File whose first line is the passphrase
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Ask for the passphrase on the terminal
    #[arg(long)]
    pub passphrase: bool,
}

/// A volume of a store, whether a daemon has it open or nobody.
#[derive(Clone, Debug, Default, Args)]
pub struct VolumeArgs {
    #[command(flatten)]
    pub store: StoreArg,
    /// Name of the volume [default: default]
    #[arg(long, value_name = "NAME")]
    pub volume: Option<String>,
    #[command(flatten)]
    pub key: KeyArgs,
}

/// A store, by `--store` or by where it is mounted.
#[derive(Clone, Debug, Default, Args)]
pub struct TargetArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Mount point of the store
    #[arg(value_name = "MOUNTPOINT", conflicts_with = "store")]
    mountpoint: Option<PathBuf>,
}

impl StoreArg {
    /// Absolute path of the store: the flag, the configuration, the default.
    ///
    /// # Errors
    /// The path cannot be resolved.
    pub fn dir(&self, context: &Context) -> Result<PathBuf> {
        let named = self.store.clone().or_else(|| context.config.store.clone());
        places::absolute(&named.unwrap_or_else(|| context.places.default_store()))
    }
}

impl VolumeArgs {
    /// Absolute path of the store.
    ///
    /// # Errors
    /// The path cannot be resolved.
    pub fn store(&self, context: &Context) -> Result<PathBuf> {
        self.store.dir(context)
    }

    /// Has the daemon do it that has the store, or opens the store.
    ///
    /// # Errors
    /// The daemon serves another volume; no key was found; it was not done.
    pub fn ask<Q, A>(
        &self,
        context: &Context,
        request: Q,
        by_daemon: impl FnOnce(Connection<'_>, Q) -> Result<A>,
        alone: impl FnOnce(Session, &str, Q) -> Result<A>,
    ) -> Result<A> {
        let store = self.store(context)?;
        if let Some((connection, daemon)) = Connection::to(&store)? {
            return match self.volume.as_ref().filter(|name| **name != daemon.volume) {
                None => by_daemon(connection, request),
                Some(name) => Err(Failure::new(format!("the volume {name} is not open"))
                    .why(format!(
                        "process {} has the store, for the volume {}",
                        daemon.pid, daemon.volume
                    ))
                    .remedy("end that process first")),
            };
        }
        let session = self.key.open(context, &store)?;
        let wanted = self.volume.as_ref().or(context.config.volume.as_ref());
        let wanted = wanted.map_or(DEFAULT_VOLUME, String::as_str);
        alone(session, wanted, request)
    }
}

impl TargetArgs {
    /// The store, and its mount where there is one.
    ///
    /// # Errors
    /// The mount point is none of kiseki.
    pub fn resolve(&self, context: &Context) -> Result<(PathBuf, Option<Mount>)> {
        if let Some(point) = &self.mountpoint {
            let mount = mounts::at(point)?;
            return Ok((mount.store.clone(), Some(mount)));
        }
        let store = self.store.dir(context)?;
        let mount = mounts::of_store(&store)?;
        Ok((store, mount))
    }
}

impl KeyArgs {
    /// The secret for a store that exists; `None` when no source is named, no
    /// key file is at its default place and nobody can be asked.
    ///
    /// # Errors
    /// A source that was named cannot be read.
    pub fn secret(&self, context: &Context, store: &StoreInfo) -> Result<Option<Secret>> {
        let default = Some(context.places.key_file(&store.id)).filter(|path| path.exists());
        self.named(context)
            .or_else(|| default.map(Source::KeyFile))
            .or_else(|| {
                (store.takes_passphrase && secrets::terminal_is_there()).then_some(Source::Terminal)
            })
            .map(|source| source.read(false))
            .transpose()
    }

    /// The same when there is no going on without.
    ///
    /// # Errors
    /// No secret was found; the text says where it was looked for.
    pub fn needed_secret(
        &self,
        context: &Context,
        dir: &Path,
        store: &StoreInfo,
    ) -> Result<Secret> {
        self.secret(context, store)?.ok_or_else(|| {
            let failure = Failure::new(format!("no key for the store {}", dir.display()));
            let default = context.places.key_file(&store.id);
            if store.takes_key_file {
                failure
                    .why(format!("there is no key file {}", default.display()))
                    .remedy(
                        "put the key file there or name it with --key-file; nothing was changed",
                    )
            } else {
                failure
                    .why("it opens with a passphrase, and there is no terminal to ask on")
                    .remedy("give --passphrase-file")
            }
        })
    }

    /// Locks and opens a store.
    ///
    /// # Errors
    /// There is none, another process has it, or no secret was found that
    /// opens it.
    pub fn open(&self, context: &Context, dir: &Path) -> Result<Session> {
        let info = session::existing(dir)?;
        Session::open(dir, &self.needed_secret(context, dir, &info)?)
    }

    /// The source named by a flag, a systemd credential or the configuration.
    #[must_use]
    pub fn named(&self, context: &Context) -> Option<Source> {
        let of = |key: &Option<PathBuf>, passphrase: &Option<PathBuf>| {
            let key = key.clone().map(Source::KeyFile);
            key.or_else(|| passphrase.clone().map(Source::PassphraseFile))
        };
        of(&self.key_file, &self.passphrase_file)
            .or_else(|| self.passphrase.then_some(Source::Terminal))
            .or_else(secrets::credential)
            .or_else(|| of(&context.config.key_file, &context.config.passphrase_file))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn context(config: Config) -> Context {
        Context {
            places: Places::of_this_user().unwrap(),
            config,
        }
    }

    #[test]
    fn a_flag_overrides_the_configuration() {
        let context = context(Config {
            key_file: Some("/config.key".into()),
            store: Some("/config".into()),
            ..Config::default()
        });
        let flags = KeyArgs {
            passphrase_file: Some("/flag".into()),
            ..KeyArgs::default()
        };
        assert_eq!(
            flags.named(&context),
            Some(Source::PassphraseFile("/flag".into()))
        );
        let none = KeyArgs::default().named(&context);
        assert_eq!(none, Some(Source::KeyFile("/config.key".into())));
        let store = StoreArg {
            store: Some("/flag".into()),
        };
        assert_eq!(store.dir(&context).unwrap(), Path::new("/flag"));
        assert_eq!(
            StoreArg::default().dir(&context).unwrap(),
            Path::new("/config")
        );
    }

    #[test]
    fn a_missing_key_is_named_with_its_place() {
        let context = context(Config::default());
        let store = StoreInfo {
            id: "no-such-id".into(),
            format_version: 1,
            takes_key_file: true,
            takes_passphrase: false,
        };
        let failure = KeyArgs::default()
            .needed_secret(&context, Path::new("/s"), &store)
            .err()
            .unwrap();
        assert!(
            failure.to_string().contains("keys/no-such-id.key"),
            "{failure}"
        );
    }
}
