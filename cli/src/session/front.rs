//! The FUSE front end of a mount.

use std::{os::fd::OwnedFd, sync::Arc};

use kiseki_core::engine::Volume;
use kiseki_fs::{
    fuse::{FuseMount, MountError, MountOptions},
    stats::Counted,
};
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::{
    failure::{Failure, Result},
    mounts,
    plan::Plan,
    report::{Operation, Statistics},
};

/// A mount of the kernel.
pub type FrontEnd = FuseMount;

impl From<MountError> for Failure {
    fn from(error: MountError) -> Failure {
        // What fusermount3 said ends its lines in the middle of ours.
        let text: String = error.to_string().lines().map(str::trim_end).collect();
        Failure::new(text)
    }
}

/// Mounts; returns when the mount answers.
///
/// # Errors
/// The kernel or fusermount3 refuses.
pub fn mount(volume: &Volume, plan: &Plan) -> Result<FrontEnd> {
    let (volume, options) = (volume.clone(), options(plan)?);
    let runtime = Handle::current();
    Ok(FuseMount::start(
        volume,
        &plan.mountpoint,
        options,
        runtime,
    )?)
}

/// Takes over the mount of a daemon that died; returns when it answers.
///
/// # Errors
/// The device is not what it should be.
pub fn take_over(volume: &Volume, plan: &Plan, device: OwnedFd) -> Result<FrontEnd> {
    let (volume, options) = (volume.clone(), options(plan)?);
    let (point, runtime) = (&plan.mountpoint, Handle::current());
    Ok(FuseMount::take_over(
        volume, point, device, options, runtime,
    )?)
}

fn options(plan: &Plan) -> Result<MountOptions> {
    let mut options = MountOptions::default();
    options.allow_other = plan.allow_other;
    options.read_only = plan.read_only;
    options.fs_name = mounts::source_of(&plan.store);
    for option in &plan.fuse {
        options
            .parse(option)
            .map_err(|error| Failure::usage(error.to_string()))?;
    }
    Ok(options)
}

/// Waits until somebody unmounts.
///
/// # Errors
/// None; the type is that of the other way to end.
pub async fn wait(front: Arc<FrontEnd>) -> Result<()> {
    // Its sender lives in the mount; without it the mount is gone as well.
    let _ = front.ended().wait_for(|ended| *ended).await;
    Ok(())
}

/// Unmounts; a mount in use is detached, and its programs lose it with the
/// end of the process.
///
/// # Errors
/// The kernel or fusermount3 refuses.
pub async fn unmount(front: Arc<FrontEnd>) -> Result<()> {
    let work = move || match front.unmount() {
        Err(MountError::Busy(path)) => {
            tracing::warn!(path = %path.display(), "still in use; detaching it");
            front.detach()
        }
        other => other,
    };
    spawn_blocking(work)
        .await
        .map_err(|error| Failure::new("cannot unmount").why(error))??;
    Ok(())
}

/// Counters of a front end since it began.
#[must_use]
pub fn statistics(front: &dyn Counted) -> Statistics {
    let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6;
    let stats = front.snapshot();
    let bytes = |name| {
        let of_name = stats.iter().filter(|stats| stats.name == name);
        of_name.map(|stats| stats.bytes).sum()
    };
    let operations = stats.iter().map(|stats| Operation {
        name: stats.name.to_owned(),
        count: stats.count,
        p50_us: micros(stats.p50),
        p99_us: micros(stats.p99),
    });
    Statistics {
        read_bytes: bytes("read"),
        written_bytes: bytes("write"),
        operations: operations.collect(),
    }
}
