//! `-o` options of a mount, as `mount(8)` and fstab hand them over.

use std::path::PathBuf;

use clap::ValueEnum;
use kiseki_fs::fuse;
use serde::{Deserialize, Serialize};

use crate::{
    address::Listen,
    quantity::{Size, Span},
};

/// How files are cut into chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// By how a file is written.
    #[default]
    Auto,
    /// By content: finds equal data at any offset.
    Cdc,
    /// In aligned blocks: best for files overwritten in place.
    Fixed,
}

/// When access times are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Atime {
    /// When older than the last change, or than a day.
    #[default]
    Relative,
    /// Never.
    Never,
    /// At every read.
    Strict,
}

/// What `-o` can say; the last one wins. `None` and `false` stand for nothing
/// said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// `store=DIR`
    pub store: Option<PathBuf>,
    /// `volume=NAME`
    pub volume: Option<String>,
    /// `key_file=FILE`
    pub key_file: Option<PathBuf>,
    /// `passphrase_file=FILE`
    pub passphrase_file: Option<PathBuf>,
    /// `memory=SIZE`
    pub memory: Option<Size>,
    /// `policy=auto|cdc|fixed`
    pub policy: Option<Policy>,
    /// `sync_delay=TIME`
    pub sync_delay: Option<Span>,
    /// `allow_other`
    pub allow_other: Option<bool>,
    /// `ro`, `rw`
    pub read_only: Option<bool>,
    /// `noatime`, `relatime`, `strictatime`
    pub atime: Option<Atime>,
    /// `metrics=ADDR`
    pub metrics: Option<Listen>,
    /// What the kernel or the FUSE front end is to be told.
    pub fuse: Vec<String>,
}

impl MountOptions {
    /// Parses comma-separated options.
    ///
    /// # Errors
    /// An option is unknown or its value is wrong; the text names it.
    pub fn parse(lists: &[String]) -> Result<MountOptions, String> {
        let mut options = MountOptions::default();
        for option in lists.iter().flat_map(|list| list.split(',')) {
            options.set(option.trim())?;
        }
        Ok(options)
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let needed = || match value {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(format!(
                "the mount option `{name}` needs a value: {name}=..."
            )),
        };
        match name {
            "store" => self.store = Some(needed()?.into()),
            "volume" => self.volume = Some(needed()?.into()),
            "key_file" => self.key_file = Some(needed()?.into()),
            "passphrase_file" => self.passphrase_file = Some(needed()?.into()),
            "memory" => self.memory = Some(needed()?.parse()?),
            "policy" => self.policy = Some(Policy::from_str(needed()?, true)?),
            "sync_delay" => self.sync_delay = Some(needed()?.parse()?),
            "metrics" => self.metrics = Some(needed()?.parse()?),
            _ => self.set_flag(option)?,
        }
        Ok(())
    }

    fn set_flag(&mut self, flag: &str) -> Result<(), String> {
        match flag {
            "ro" => self.read_only = Some(true),
            "rw" => self.read_only = Some(false),
            "allow_other" => self.allow_other = Some(true),
            "noatime" => self.atime = Some(Atime::Never),
            "relatime" | "atime" => self.atime = Some(Atime::Relative),
            "strictatime" => self.atime = Some(Atime::Strict),
            // Addressed to mount(8), systemd or the boot.
            "" | "defaults" | "auto" | "noauto" | "user" | "users" | "nouser" | "owner"
            | "group" | "nofail" | "_netdev" | "lazytime" | "nolazytime" | "diratime"
            | "nodiratime" => {}
            _ if flag.starts_with("x-") || flag.starts_with("X-") => {}
            _ if flag.starts_with("comment=") => {}
            _ => {
                fuse::MountOptions::default()
                    .parse(flag)
                    .map_err(|error| error.to_string())?;
                self.fuse.push(flag.to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(list: &str) -> Result<MountOptions, String> {
        MountOptions::parse(&[list.to_owned()])
    }

    #[test]
    fn fstab_options_are_understood() {
        let options =
            parse("rw,noauto,x-systemd.requires=a.service,key_file=/k,volume=v,noatime,memory=1G")
                .unwrap();
        assert_eq!(options.read_only, Some(false));
        assert_eq!(options.key_file, Some("/k".into()));
        assert_eq!(options.volume.as_deref(), Some("v"));
        assert_eq!(options.atime, Some(Atime::Never));
        assert_eq!(options.memory, Some(Size(1 << 30)));
    }

    #[test]
    fn the_last_one_wins() {
        assert_eq!(parse("ro,rw").unwrap().read_only, Some(false));
        assert_eq!(parse("suid,nosuid").unwrap().fuse, ["suid", "nosuid"]);
    }

    #[test]
    fn unknown_options_and_missing_values_are_named() {
        assert!(parse("rw,frobnicate").unwrap_err().contains("frobnicate"));
        assert!(
            parse("volume")
                .unwrap_err()
                .contains("`volume` needs a value")
        );
        assert!(parse("memory=lots").is_err());
        assert!(parse("policy=odd").is_err());
    }
}
