//! One change of an inode at a time, among the clients of this front end, so
//! that the attributes before a change that an answer carries are those that
//! the change met (RFC 1813, section 2.3.8: `wcc_data`). Where another front
//! end changed the inode in between, they are left out.

use std::sync::atomic::{AtomicU64, Ordering};

use kiseki_core::{
    engine::{Change, FrontId, Missed, Pace, Volume, Watch},
    ids::Ino,
};
use parking_lot::Mutex;
use tokio::sync::MutexGuard;

const LOCKS: usize = 1024;

/// Locks and counters, shared by inodes whose numbers leave the same rest.
pub struct Order {
    /// Of tokio: who waits gives the thread away, and what is done under one
    /// waits for no disk but where writers have to wait for room.
    locks: Vec<tokio::sync::Mutex<()>>,
    /// How often others changed an inode.
    foreign: Vec<AtomicU64>,
    /// How often it is not known what others changed.
    missed: AtomicU64,
    watch: Mutex<Watch>,
}

/// One or two inodes that nobody else of this front end changes.
pub struct Turn<'a> {
    _locks: [Option<MutexGuard<'a, ()>>; 2],
}

/// How often others had changed an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64, u64);

fn place(ino: Ino) -> usize {
    // The rest is less than the length of a vector.
    (ino.0 % LOCKS as u64) as usize
}

impl Order {
    /// Begins to watch a volume.
    #[must_use]
    pub fn new(volume: &Volume, front: FrontId) -> Order {
        Order {
            locks: (0..LOCKS).map(|_| tokio::sync::Mutex::new(())).collect(),
            foreign: (0..LOCKS).map(|_| AtomicU64::new(0)).collect(),
            missed: AtomicU64::new(0),
            watch: Mutex::new(volume.watch(front, Pace::WhenUsed)),
        }
    }

    /// Waits for the turn to change an inode.
    pub async fn one(&self, ino: Ino) -> Turn<'_> {
        Turn {
            _locks: [Some(self.locks[place(ino)].lock().await), None],
        }
    }

    /// The same for two. The order of the locks keeps two such from waiting
    /// for each other.
    pub async fn two(&self, a: Ino, b: Ino) -> Turn<'_> {
        let (first, second) = (place(a).min(place(b)), place(a).max(place(b)));
        let one = self.locks[first].lock().await;
        let two = match first == second {
            true => None,
            false => Some(self.locks[second].lock().await),
        };
        Turn {
            _locks: [Some(one), two],
        }
    }

    /// How often others have changed an inode by now. To be asked before its
    /// attributes are.
    pub fn mark(&self, ino: Ino) -> Mark {
        let mut watch = self.watch.lock();
        while let Some(next) = watch.try_next() {
            match next {
                Ok(Change::Inode(ino) | Change::Entry(ino, _)) => {
                    self.foreign[place(ino)].fetch_add(1, Ordering::Relaxed);
                }
                Err(Missed) => {
                    self.missed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Mark(
            self.foreign[place(ino)].load(Ordering::Relaxed),
            self.missed.load(Ordering::Relaxed),
        )
    }
}
