//! Taking a mount away from the kernel.

use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
    sys::statvfs::statvfs,
    unistd::Uid,
};

use crate::{
    failure::{Failure, Result},
    mounts,
};

/// How long a mount may be busy before that is an answer.
const BUSY_PATIENCE: Duration = Duration::from_secs(1);

/// Time between two attempts.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Unmounts what a daemon that died left at `point`, and says so. `false`
/// when the mount is alive.
///
/// # Errors
/// The kernel or fusermount3 refuses.
pub fn detach_dead(point: &Path) -> Result<bool> {
    // Attributes may still come from the kernel's cache; this question always
    // goes to the daemon.
    let dead = statvfs(point).is_err_and(|errno| errno == Errno::ENOTCONN);
    if dead {
        // Whatever is open there is lost already.
        unmount(point, true)?;
        eprintln!(
            "kiseki: the daemon of {} had died; detached what it left there, and nothing that was synced is lost",
            point.display()
        );
    }
    Ok(dead)
}

/// Unmounts. A mount that is busy is given a moment: a program that ended, or
/// one that another one was just starting, may be about to let go of a file.
///
/// # Errors
/// Somebody uses the mount, and `lazy` was not asked for; the kernel or
/// fusermount3 refuses.
pub fn detach(point: &Path, lazy: bool) -> Result<()> {
    let began = Instant::now();
    loop {
        match unmount(point, lazy)? {
            State::Gone => return Ok(()),
            State::Busy if began.elapsed() < BUSY_PATIENCE => thread::sleep(BUSY_PAUSE),
            State::Busy => return Err(busy(point)),
        }
    }
}

enum State {
    Gone,
    Busy,
}

fn unmount(point: &Path, lazy: bool) -> Result<State> {
    let shown = point.display();
    let failed = |why: String| Failure::new(format!("cannot unmount {shown}")).why(why);
    if Uid::effective().is_root() {
        let flags = if lazy {
            MntFlags::MNT_DETACH
        } else {
            MntFlags::empty()
        };
        return match umount2(point, flags | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => Ok(State::Gone),
            Err(Errno::EBUSY) => Ok(State::Busy),
            Err(errno) => Err(failed(errno.desc().to_owned())),
        };
    }
    let mut command = Command::new("fusermount3");
    command
        .arg("-u")
        .args(lazy.then_some("-z"))
        .arg("--")
        .arg(point);
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        failed(format!("cannot run fusermount3: {error}")).remedy("install the package fuse3")
    })?;
    if output.status.success() {
        return Ok(State::Gone);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.contains("busy") {
        Ok(State::Busy)
    } else {
        Err(failed(said))
    }
}

/// Names at most this many programs.
const SHOWN: usize = 5;

fn busy(point: &Path) -> Failure {
    let holders = mounts::holders(point, SHOWN);
    let who: Vec<String> = holders
        .iter()
        .map(|holder| {
            format!(
                "{} (process {}, {})",
                holder.name,
                holder.pid,
                holder.path.display()
            )
        })
        .collect();
    let why = match who.as_slice() {
        [] => "something that this user cannot see is using it".to_owned(),
        who => format!("it is used by {}", who.join(", ")),
    };
    Failure::new(format!("{} stays mounted", point.display()))
        .why(why)
        .remedy("end these programs, or detach with `kiseki umount --lazy`")
}
