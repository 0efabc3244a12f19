//! A mount: begin or take over, wait for the end, end.
//!
//! [`FuseMount::start`] returns when the mount answers, and so does
//! [`FuseMount::take_over`] for a mount whose process died. It ends when
//! somebody unmounts it, [`FuseMount::unmount`] or any other, or when the value
//! is dropped. Only a mount that is still ours is ever unmounted.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use fuser::BackgroundSession;
use kiseki_core::engine::Volume;
use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
};
use parking_lot::{Condvar, Mutex};
use tokio::{runtime::Handle, sync::watch};

use super::{
    dispatch::Dispatcher,
    inherit,
    invalidate::{self, Kernel, Opened},
    mountinfo::{Device, mounted_at},
    op::Op,
    options::MountOptions,
    session::{Session, Shared},
};
use crate::stats::{Counted, Stats};

/// Why a mount did not begin or end.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point cannot be used.
    #[error("cannot use {path} as a mount point: {source}")]
    MountPoint {
        /// As it was given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel or fusermount3 refused.
    #[error("cannot mount at {path}: {source}{}", hint(.source))]
    Mount {
        /// Where.
        path: PathBuf,
        /// What the kernel or fusermount3 said.
        source: io::Error,
    },
    /// Programs still use it.
    #[error(
        "{0} is in use; end what runs or has files open there (`fuser -vm {0}`), then try again"
    )]
    Busy(PathBuf),
    /// The kernel's side does not answer as expected.
    #[error("cannot take over the mount at {path}: {source}")]
    TakeOver {
        /// Where.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Something else was mounted over it.
    #[error("another filesystem is mounted over {0}; unmount that one first")]
    Covered(PathBuf),
    /// The kernel or fusermount3 refused.
    #[error("cannot unmount {path}: {source}")]
    Unmount {
        /// Where.
        path: PathBuf,
        /// What the kernel or fusermount3 said.
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "; is the fuse module loaded (`modprobe fuse`), and, unless you are root, \
             fusermount3 installed?"
        }
        io::ErrorKind::PermissionDenied if !device_is_open_to_us() => {
            "; you may not open /dev/fuse: the rule of package fuse3 gives it mode 0666, and \
             without udev root does (`chmod 666 /dev/fuse`)"
        }
        io::ErrorKind::PermissionDenied => {
            "; allow_other needs 'user_allow_other' in /etc/fuse.conf, and the mount point must \
             be yours"
        }
        _ => "",
    }
}

fn device_is_open_to_us() -> bool {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    !matches!(device, Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
}

/// How long a dropped mount waits for its session to end.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Whether the session has ended.
#[derive(Default)]
struct Ended {
    flag: Mutex<bool>,
    changed: Condvar,
    /// The same for those who cannot block.
    told: watch::Sender<bool>,
}

impl Ended {
    fn tell(&self) {
        *self.flag.lock() = true;
        self.changed.notify_all();
        self.told.send_replace(true);
    }
}

/// A volume, mounted.
pub struct FuseMount {
    path: PathBuf,
    device: Option<Device>,
    ended: Arc<Ended>,
    stats: Arc<Stats<Op>>,
    /// Dropped only when nothing can be unmounted by it: it goes by the path.
    session: Option<BackgroundSession>,
    invalidator: Option<JoinHandle<()>>,
    /// The device; see [`FuseMount::heirloom`].
    kernel: OwnedFd,
    sends_again: Arc<AtomicBool>,
}

/// What a mount is made of, before there is a session.
struct Parts {
    ended: Arc<Ended>,
    stats: Arc<Stats<Op>>,
    shared: Arc<Shared>,
    runtime: Handle,
    sends_again: Arc<AtomicBool>,
}

impl Parts {
    fn new(volume: Volume, options: &MountOptions, runtime: &Handle) -> Parts {
        Parts {
            ended: Arc::new(Ended::default()),
            stats: Stats::new(),
            shared: Arc::new(Shared {
                volume,
                front: options.front,
                ttl: options.ttl,
                cache_directories: options.cache_directories,
                status: options.status.clone(),
                opened: Arc::new(Opened::new()),
            }),
            runtime: runtime.clone(),
            sends_again: Arc::default(),
        }
    }

    fn session(&self, options: &MountOptions) -> Session {
        let tell = Arc::clone(&self.ended);
        let stats = Arc::clone(&self.stats);
        Session {
            shared: Arc::clone(&self.shared),
            dispatcher: Dispatcher::new(self.runtime.clone(), options.deadline, stats),
            options: options.clone(),
            sends_again: Arc::clone(&self.sends_again),
            ended: Box::new(move || tell.tell()),
        }
    }

    /// Begins to answer.
    fn begin(
        self,
        path: PathBuf,
        session: fuser::Session<Session>,
        options: &MountOptions,
        runtime: Handle,
    ) -> io::Result<FuseMount> {
        let kernel = Kernel {
            notifier: session.notifier(),
            device: session.as_fd().try_clone_to_owned()?,
            opened: Arc::clone(&self.shared.opened),
        };
        let invalidator = invalidate::start(
            &self.shared.volume,
            options.front,
            kernel,
            runtime,
            self.ended.told.subscribe(),
        )?;
        let kernel = session.as_fd().try_clone_to_owned()?;
        let session = session.spawn()?;
        Ok(FuseMount {
            device: mounted_at(&path).ok().flatten(),
            path,
            ended: self.ended,
            stats: self.stats,
            session: Some(session),
            invalidator: Some(invalidator),
            kernel,
            sends_again: self.sends_again,
        })
    }
}

impl FuseMount {
    /// Mounts `volume` at `mountpoint` and returns when the mount answers.
    /// Root needs no helper; others need fusermount3. Operations that have to
    /// wait do so on `runtime`, which must have timers and outlive the mount.
    ///
    /// # Errors
    /// [`MountError::MountPoint`] and [`MountError::Mount`].
    pub fn start(
        volume: Volume,
        mountpoint: &Path,
        options: MountOptions,
        runtime: Handle,
    ) -> Result<FuseMount, MountError> {
        let path = fs::canonicalize(mountpoint).map_err(|source| MountError::MountPoint {
            path: mountpoint.into(),
            source,
        })?;
        let failed = |source| MountError::Mount {
            path: path.clone(),
            source,
        };
        let parts = Parts::new(volume, &options, &runtime);
        let session = parts.session(&options);
        // Returns behind the handshake.
        let session = fuser::Session::new(session, &path, &options.for_fuser()).map_err(failed)?;
        let mount = parts
            .begin(path.clone(), session, &options, runtime)
            .map_err(failed)?;
        if let Some(device) = mount.device {
            read_further(device, options.read_ahead);
        }
        Ok(mount)
    }

    /// Takes over a mount whose process died, by the `device` that somebody
    /// kept open. `mountpoint` is the path of [`FuseMount::path`]; it is not
    /// looked at, because nobody would answer. Requests that the process had
    /// read and not answered are sent again by the kernel.
    ///
    /// # Errors
    /// [`MountError::TakeOver`].
    pub fn take_over(
        volume: Volume,
        mountpoint: &Path,
        device: OwnedFd,
        options: MountOptions,
        runtime: Handle,
    ) -> Result<FuseMount, MountError> {
        let path = mountpoint.to_owned();
        let failed = |source| MountError::TakeOver {
            path: path.clone(),
            source,
        };
        let parts = Parts::new(volume, &options, &runtime);
        let session = parts.session(&options);
        let session = inherit::session(session, device, &options).map_err(failed)?;
        // Before anything is read: what is being answered here must not be sent
        // again, or it would be done twice.
        inherit::send_again(&session).map_err(failed)?;
        parts
            .begin(path.clone(), session, &options, runtime)
            .map_err(failed)
    }

    /// The kernel's side of the mount, for somebody to keep who outlives this
    /// process; `None` when this kernel cannot send requests again.
    #[must_use]
    pub fn heirloom(&self) -> Option<OwnedFd> {
        let can = self.sends_again.load(Ordering::Acquire);
        can.then(|| self.kernel.try_clone().ok())?
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What operations cost.
    #[must_use]
    pub fn statistics(&self) -> Arc<dyn Counted> {
        Arc::clone(&self.stats) as Arc<dyn Counted>
    }

    /// Blocks until the kernel ends the session: somebody unmounted it.
    pub fn wait(&self) {
        let mut ended = self.ended.flag.lock();
        while !*ended {
            self.ended.changed.wait(&mut ended);
        }
    }

    /// The same for asynchronous callers; becomes true at the end.
    #[must_use]
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.told.subscribe()
    }

    /// Unmounts and waits for the end of the session. Fine when somebody else
    /// did already. Writes that were answered are with the engine; closing the
    /// volume is up to the caller.
    ///
    /// # Errors
    /// [`MountError::Busy`], after which the mount goes on; also
    /// [`MountError::Covered`] and [`MountError::Unmount`].
    pub fn unmount(&self) -> Result<(), MountError> {
        self.unmount_with(MntFlags::UMOUNT_NOFOLLOW)
    }

    /// As [`FuseMount::unmount`], but programs that use the mount keep it until
    /// they end; the session may go on for them and is not waited for.
    ///
    /// # Errors
    /// As [`FuseMount::unmount`], without [`MountError::Busy`].
    pub fn detach(&self) -> Result<(), MountError> {
        self.unmount_with(MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)
    }

    fn unmount_with(&self, flags: MntFlags) -> Result<(), MountError> {
        let lazy = flags.contains(MntFlags::MNT_DETACH);
        if *self.ended.flag.lock() {
            return Ok(());
        }
        let refused = |source| MountError::Unmount {
            path: self.path.clone(),
            source,
        };
        match mounted_at(&self.path).map_err(refused)? {
            found if found == self.device => {}
            // Unmounted by somebody else; the session is about to end, or
            // goes on for those who still use it.
            None => return Ok(()),
            Some(_) => return Err(MountError::Covered(self.path.clone())),
        }
        match umount2(&self.path, flags) {
            Ok(()) => {}
            Err(Errno::EPERM) => self.fusermount(lazy)?,
            Err(Errno::EBUSY) => return Err(MountError::Busy(self.path.clone())),
            Err(errno) => return Err(refused(errno.into())),
        }
        if !lazy {
            self.wait();
        }
        Ok(())
    }

    /// For those who may not call umount(2).
    fn fusermount(&self, lazy: bool) -> Result<(), MountError> {
        let mut command = Command::new("fusermount3");
        // A second signal to our group, such as Ctrl-C twice, must not end it.
        command.process_group(0);
        command.arg("-u").args(lazy.then_some("-z"));
        let output = command
            .arg("--")
            .arg(&self.path)
            .output()
            .map_err(|source| MountError::Unmount {
                path: self.path.clone(),
                source,
            })?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        if text.contains("busy") {
            return Err(MountError::Busy(self.path.clone()));
        }
        Err(MountError::Unmount {
            path: self.path.clone(),
            source: io::Error::other(text.trim().to_owned()),
        })
    }
}

impl Drop for FuseMount {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            tracing::warn!("{error}");
        }
        {
            let mut ended = self.ended.flag.lock();
            if !*ended {
                self.ended.changed.wait_for(&mut ended, LAST_REQUESTS);
            }
        }
        // The invalidator ends with the session or, when programs still use
        // a detached mount, here.
        self.ended.told.send_replace(true);
        if let Some(invalidator) = self.invalidator.take() {
            let _ = invalidator.join();
        }
        // `fuser` unmounts by path whatever stands there as long as its device
        // lives, so it is dropped only when the session is over; for a detached
        // mount in use it stays until the process ends.
        let session = self.session.take();
        if !*self.ended.flag.lock() {
            std::mem::forget(session);
        }
    }
}

/// Has the kernel read ahead further than FUSE's 128 KiB, which would cap
/// streaming at the rate of such small requests. Only root may; others are
/// left with what they have.
fn read_further(device: Device, bytes: u32) {
    let file = format!(
        "/sys/class/bdi/{}:{}/read_ahead_kb",
        device.major, device.minor
    );
    if let Err(error) = fs::write(&file, (bytes >> 10).to_string()) {
        tracing::debug!("cannot raise {file}: {error}");
    }
}
