//! Bounds on unsealed bytes, in memory and on the disk they will need.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{Error, Result};

/// Room on the disk that file contents may not use, so that the log can still
/// record deletions, and collection copy chunks, on a full disk: this, or a
/// tenth of a small disk.
const DISK_RESERVE: u64 = 64 << 20;

/// Accounts for unsealed bytes.
pub(super) struct Budget {
    limit: u64,
    used: AtomicU64,
    /// Bytes that file contents may still take on the disk.
    room: AtomicU64,
    freed: Notify,
    /// Wakes the background sealer.
    pub pressure: Notify,
}

impl Budget {
    pub fn new(limit: u64) -> Budget {
        Budget {
            limit,
            used: AtomicU64::new(0),
            room: AtomicU64::new(u64::MAX),
            freed: Notify::new(),
            pressure: Notify::new(),
        }
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether the background should seal without waiting for age.
    pub fn is_tight(&self) -> bool {
        self.used() > self.limit / 2
    }

    /// Notes how much room the disk has.
    pub fn set_disk(&self, total: u64, available: u64) {
        let reserve = DISK_RESERVE.min(total / 10);
        self.room
            .store(available.saturating_sub(reserve), Ordering::Relaxed);
    }

    /// Takes `bytes` if there is room now.
    ///
    /// # Errors
    /// `NoSpace` when the disk could not hold what is unsealed already.
    pub fn try_take(&self, bytes: u64) -> Result<bool> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let after = before + bytes;
        if after > self.room.load(Ordering::Relaxed) {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Error::NoSpace);
        }
        // One writer may pass an empty budget however large its request.
        if after > self.limit && before > 0 {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return Ok(false);
        }
        if after > self.limit / 2 {
            self.pressure.notify_one();
        }
        Ok(true)
    }

    /// Takes `bytes`, waiting for sealing to free them. Gives up with the
    /// answer of `broken` once there is one.
    pub async fn take(&self, bytes: u64, broken: impl Fn() -> Option<Error>) -> Result<()> {
        loop {
            let freed = self.freed.notified();
            if self.try_take(bytes)? {
                return Ok(());
            }
            if let Some(error) = broken() {
                return Err(error);
            }
            self.pressure.notify_one();
            // The timeout covers a sealing pass that fails and frees nothing.
            let _ = tokio::time::timeout(Duration::from_millis(100), freed).await;
        }
    }

    /// Gives bytes back.
    pub fn free(&self, bytes: u64) {
        if bytes > 0 {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            self.freed.notify_waiters();
        }
    }

    /// Corrects the account by what a write really added.
    pub fn adjust(&self, taken: u64, added: i64) {
        let give = taken as i64 - added;
        if give > 0 {
            self.free(give as u64);
        } else if give < 0 {
            self.used.fetch_add(give.unsigned_abs(), Ordering::Relaxed);
        }
    }
}
