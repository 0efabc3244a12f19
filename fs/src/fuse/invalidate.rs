//! Tells the kernel what other front ends changed, because it believes what it
//! was told for a long time.
//!
//! A thread of its own does it: the kernel takes a directory's lock to drop a
//! name, and a request that holds this lock may be waiting for us.

use std::{
    collections::HashSet,
    ffi::OsStr,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    sync::Arc,
    thread::JoinHandle,
};

use fuser::{INodeNo, Notifier};
use kiseki_core::{
    engine::{Change, FrontId, Missed, Pace, Volume},
    ids::Ino,
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch};

/// Inodes whose contents the kernel may have in its page cache: opened here,
/// and not forgotten. In shards, so that threads seldom meet.
pub(super) struct Opened {
    shards: [Mutex<HashSet<Ino>>; 16],
}

impl Opened {
    pub(super) fn new() -> Opened {
        Opened {
            shards: std::array::from_fn(|_| Mutex::new(HashSet::new())),
        }
    }

    fn shard(&self, ino: Ino) -> &Mutex<HashSet<Ino>> {
        // The remainder is below 16.
        &self.shards[(ino.0 % 16) as usize]
    }

    pub(super) fn insert(&self, ino: Ino) {
        self.shard(ino).lock().insert(ino);
    }

    pub(super) fn remove(&self, ino: Ino) {
        self.shard(ino).lock().remove(&ino);
    }

    fn all(&self) -> Vec<Ino> {
        self.shards
            .iter()
            .flat_map(|shard| shard.lock().iter().copied().collect::<Vec<_>>())
            .collect()
    }
}

/// The kernel of one mount.
pub(super) struct Kernel {
    /// Sends what `fuser` knows to send.
    pub notifier: Notifier,
    /// The device, for the rest.
    pub device: OwnedFd,
    /// See [`Opened`].
    pub opened: Arc<Opened>,
}

/// Starts the thread; it ends when `stop` says true.
///
/// # Errors
/// When there can be no thread.
pub(super) fn start(
    volume: &Volume,
    front: FrontId,
    kernel: Kernel,
    runtime: Handle,
    mut stop: watch::Receiver<bool>,
) -> io::Result<JoinHandle<()>> {
    let mut changes = volume.watch(front, Pace::AtOnce);
    std::thread::Builder::new()
        .name("kiseki-invalidate".into())
        .spawn(move || {
            loop {
                let next = runtime.block_on(async {
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => None,
                        change = changes.next() => Some(change),
                    }
                });
                match next {
                    Some(Ok(change)) => kernel.apply(&change),
                    Some(Err(Missed)) => {
                        tracing::warn!("changes came too fast; dropping all caches");
                        kernel.drop_everything();
                    }
                    None => return,
                }
            }
        })
}

impl Kernel {
    fn apply(&self, change: &Change) {
        let told = match change {
            // From offset 0 to the end.
            Change::Inode(ino) => self.notifier.inval_inode(INodeNo(ino.0), 0, 0),
            Change::Entry(parent, name) => self
                .notifier
                .inval_entry(INodeNo(parent.0), OsStr::from_bytes(name)),
        };
        if let Err(error) = told {
            tracing::debug!(?change, "cannot invalidate: {error}");
        }
    }

    /// The new epoch has every name looked up again before it is used, which
    /// renews attributes as well; cached contents go inode by inode.
    fn drop_everything(&self) {
        if let Err(error) = self.new_epoch() {
            tracing::warn!(
                "this kernel cannot drop all names at once (Linux 6.16 can): {error}; names \
                 that other clients changed may be stale until their time is up"
            );
        }
        for ino in self.opened.all() {
            self.apply(&Change::Inode(ino));
        }
    }

    /// FUSE_NOTIFY_INC_EPOCH, a notification without contents.
    fn new_epoch(&self) -> io::Result<()> {
        const INC_EPOCH: u32 = 8;
        let mut message = [0; 16];
        message[..4].copy_from_slice(&16u32.to_ne_bytes());
        message[4..8].copy_from_slice(&INC_EPOCH.to_ne_bytes());
        nix::unistd::write(&self.device, &message)?;
        Ok(())
    }
}
