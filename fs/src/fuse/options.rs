//! What a mount can be told, in the program and as `-o` strings.

use std::{fmt, sync::Arc, time::Duration};

use fuser::MountOption;
use kiseki_core::engine::FrontId;

/// Answers the `user.kiseki.status` attribute of the root directory, as JSON.
pub type StatusProvider = Arc<dyn Fn() -> String + Send + Sync>;

/// How to mount.
#[derive(Clone)]
pub struct MountOptions {
    /// Other users than the mounting one may enter.
    pub allow_other: bool,
    /// Nothing can be changed through this mount.
    pub read_only: bool,
    /// The source that `mount` and `df` show.
    pub fs_name: String,
    /// How long the kernel may believe names and attributes. Long, because
    /// every change comes through this mount or is announced to it.
    pub ttl: Duration,
    /// Threads that read requests; at least 2, so that a request which waits
    /// for another one's lock in the kernel finds someone to answer.
    pub threads: usize,
    /// The largest write request, in bytes.
    pub max_write: u32,
    /// How far the kernel reads ahead, in bytes. More than 128 KiB needs root.
    pub read_ahead: u32,
    /// When an operation that has to wait is answered `ETIMEDOUT`. It runs on
    /// to its end; only the caller stops waiting.
    pub deadline: Duration,
    /// The kernel may answer listings from its memory. It saves a request per
    /// listing of an unchanged directory, but a reader in the middle of a
    /// directory loses entries when another reader has the cache rebuilt and
    /// the entry it stopped at is gone; hence off.
    pub cache_directories: bool,
    /// Who this front end is among those of the volume.
    pub front: FrontId,
    /// See [`StatusProvider`].
    pub status: Option<StatusProvider>,
    extra: Vec<MountOption>,
}

/// One for each core, so that a lone client meets warm caches: the kernel hands
/// requests to waiting threads in turn. At least two, since a thread may be in
/// the middle of sealing a small file; more than four only hand work around.
fn session_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4))
}

impl Default for MountOptions {
    fn default() -> Self {
        MountOptions {
            allow_other: false,
            read_only: false,
            fs_name: "kiseki".into(),
            ttl: Duration::from_secs(3600),
            threads: session_threads(),
            max_write: 1 << 20,
            read_ahead: 4 << 20,
            deadline: Duration::from_secs(60),
            cache_directories: false,
            front: crate::next_front(),
            status: None,
            extra: Vec::new(),
        }
    }
}

/// A mount option that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Not in the list.
    #[error(
        "unknown mount option '{0}'; known are: ro, rw, allow_other, atime, noatime, dev, nodev, \
         suid, nosuid, exec, noexec, sync, async, dirsync, default_permissions, dir_cache, \
         nodir_cache, threads=N, max_read=BYTES, max_write=BYTES, read_ahead=BYTES, ttl=SECONDS, \
         deadline=SECONDS, fsname=NAME"
    )]
    Unknown(String),
    /// Its value is no number in the range.
    #[error("mount option '{option}' needs a whole number from {least} to {most}")]
    Value {
        /// As it was given.
        option: String,
        /// The smallest value.
        least: u64,
        /// The largest value.
        most: u64,
    },
    /// Needs a value, or must have none.
    #[error("mount option '{0}' needs a value after '='")]
    NoValue(String),
}

impl MountOptions {
    /// Follows one argument of `-o`: options with commas between them. Later
    /// ones replace earlier ones. Those that only `mount(8)` and systemd care
    /// for (`defaults`, `_netdev`, `nofail`, `x-...`) are passed over.
    ///
    /// # Errors
    /// The first option that is unknown or has a value out of range; those
    /// before it are in force.
    pub fn parse(&mut self, list: &str) -> Result<(), OptionError> {
        list.split(',')
            .filter(|option| !option.is_empty())
            .try_for_each(|option| self.parse_one(option))
    }

    fn parse_one(&mut self, option: &str) -> Result<(), OptionError> {
        if let Some((name, value)) = option.split_once('=') {
            return self.parse_valued(option, name, value);
        }
        match option {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "allow_other" => self.allow_other = true,
            "dir_cache" => self.cache_directories = true,
            "nodir_cache" => self.cache_directories = false,
            "atime" => self.put(MountOption::Atime),
            "noatime" => self.put(MountOption::NoAtime),
            "dev" => self.put(MountOption::Dev),
            "nodev" => self.put(MountOption::NoDev),
            "suid" => self.put(MountOption::Suid),
            "nosuid" => self.put(MountOption::NoSuid),
            "exec" => self.put(MountOption::Exec),
            "noexec" => self.put(MountOption::NoExec),
            "sync" => self.put(MountOption::Sync),
            "async" => self.put(MountOption::Async),
            "dirsync" => self.put(MountOption::DirSync),
            // Always on.
            "default_permissions" => {}
            "defaults" | "_netdev" | "nofail" | "auto" | "noauto" | "user" | "nouser" | "users"
            | "relatime" => {}
            "fsname" | "threads" | "max_read" | "max_write" | "read_ahead" | "ttl" | "deadline" => {
                return Err(OptionError::NoValue(option.into()));
            }
            other if other.starts_with("x-") => {}
            other => return Err(OptionError::Unknown(other.into())),
        }
        Ok(())
    }

    fn parse_valued(&mut self, option: &str, name: &str, value: &str) -> Result<(), OptionError> {
        let number = |least: u64, most: u64| {
            value
                .parse::<u64>()
                .ok()
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| OptionError::Value {
                    option: option.into(),
                    least,
                    most,
                })
        };
        // Each cast below is covered by the upper bound beside it.
        match name {
            "fsname" => self.fs_name = value.into(),
            "threads" => self.threads = number(2, 64)? as usize,
            "max_write" => self.max_write = number(4096, 16 << 20)? as u32,
            "read_ahead" => self.read_ahead = number(4096, 256 << 20)? as u32,
            "ttl" => self.ttl = Duration::from_secs(number(0, u64::from(u32::MAX))?),
            "deadline" => self.deadline = Duration::from_secs(number(1, 86_400)?),
            "max_read" => {
                let bytes = number(4096, 16 << 20)?;
                self.put(MountOption::CUSTOM(format!("max_read={bytes}")));
            }
            "subtype" | "comment" => {}
            other if other.starts_with("x-") => {}
            _ => return Err(OptionError::Unknown(option.into())),
        }
        Ok(())
    }

    /// Adds an option in place of its opposite.
    fn put(&mut self, option: MountOption) {
        let group = group(&option);
        self.extra.retain(|present| self::group(present) != group);
        self.extra.push(option);
    }

    /// What `fuser` hands to the kernel or to fusermount3.
    pub(super) fn for_fuser(&self) -> fuser::Config {
        let mut config = fuser::Config::default();
        config.mount_options = vec![
            MountOption::FSName(source_name(&self.fs_name)),
            // As a kernel option, because `fuser` tells its own form of it
            // to fusermount3 only.
            MountOption::CUSTOM("subtype=kiseki".into()),
            // The kernel checks modes and ACLs before anything reaches us.
            MountOption::DefaultPermissions,
            if self.read_only {
                MountOption::RO
            } else {
                MountOption::RW
            },
        ];
        config.mount_options.extend(self.extra.iter().cloned());
        config.acl = if self.allow_other {
            fuser::SessionACL::All
        } else {
            fuser::SessionACL::Owner
        };
        config.n_threads = Some(self.threads.max(2));
        // One device for all threads: it must outlive the process, with every
        // request that is on its way, and a device of a thread's own would not.
        config.clone_fd = false;
        config
    }
}

/// Options of one group exclude each other.
fn group(option: &MountOption) -> &'static str {
    match option {
        MountOption::Atime | MountOption::NoAtime => "atime",
        MountOption::Dev | MountOption::NoDev => "dev",
        MountOption::Suid | MountOption::NoSuid => "suid",
        MountOption::Exec | MountOption::NoExec => "exec",
        MountOption::Sync | MountOption::Async => "sync",
        MountOption::DirSync => "dirsync",
        _ => "custom",
    }
}

/// A comma would begin another option on the way through fusermount3, and a
/// backslash would escape.
fn source_name(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            ',' | '\\' => '_',
            c if c.is_control() => '_',
            c => c,
        })
        .collect()
}

impl fmt::Debug for MountOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountOptions")
            .field("allow_other", &self.allow_other)
            .field("read_only", &self.read_only)
            .field("fs_name", &self.fs_name)
            .field("ttl", &self.ttl)
            .field("threads", &self.threads)
            .field("max_write", &self.max_write)
            .field("read_ahead", &self.read_ahead)
            .field("deadline", &self.deadline)
            .field("cache_directories", &self.cache_directories)
            .field("front", &self.front)
            .field("extra", &self.extra)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(list: &str) -> Result<MountOptions, OptionError> {
        let mut options = MountOptions::default();
        options.parse(list).map(|()| options)
    }

    #[test]
    fn the_last_of_two_opposites_wins() {
        let options = parsed("ro,dev,nosuid,,nodev,rw").unwrap();
        assert!(!options.read_only);
        assert_eq!(options.extra, [MountOption::NoSuid, MountOption::NoDev]);
    }

    #[test]
    fn numbers_have_ranges() {
        let options = parsed("threads=8,max_write=131072,ttl=0,max_read=65536").unwrap();
        assert_eq!((options.threads, options.max_write), (8, 131_072));
        assert_eq!(options.ttl, Duration::ZERO);
        assert_eq!(
            options.extra,
            [MountOption::CUSTOM("max_read=65536".into())]
        );
        for bad in [
            "threads=1",
            "threads=x",
            "threads=",
            "max_write=1",
            "ttl=-1",
        ] {
            assert!(
                matches!(parsed(bad), Err(OptionError::Value { .. })),
                "{bad}"
            );
        }
        assert_eq!(
            parsed("threads").unwrap_err(),
            OptionError::NoValue("threads".into())
        );
    }

    #[test]
    fn fstab_words_pass_and_unknown_ones_are_named() {
        parsed("defaults,_netdev,nofail,x-systemd.automount,x-a=b,noauto").unwrap();
        assert_eq!(
            parsed("ro,big_writes").unwrap_err(),
            OptionError::Unknown("big_writes".into())
        );
        let text = parsed("a=b").unwrap_err().to_string();
        assert!(text.contains("'a=b'") && text.contains("noatime"), "{text}");
    }

    #[test]
    fn a_source_name_cannot_smuggle_options() {
        let options = MountOptions {
            fs_name: "/data,suid\\,x\n".into(),
            ..MountOptions::default()
        };
        let config = options.for_fuser();
        assert_eq!(
            config.mount_options[0],
            MountOption::FSName("/data_suid__x_".into())
        );
    }

    #[test]
    fn two_threads_at_least() {
        let options = MountOptions {
            threads: 0,
            ..MountOptions::default()
        };
        assert_eq!(options.for_fuser().n_threads, Some(2));
    }
}
