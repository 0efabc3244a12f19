//! Open files: writing, flushing, syncing.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use parking_lot::MutexGuard;

use crate::{
    Error, Result,
    canary::{Canary, planted},
    engine::{
        AtimePolicy, Caller, Change, Inner, SIZE_MAX, Volume,
        attributes::without_privileges,
        buffer,
        node::{Node, NodeState},
        seal::Take,
    },
    ids::{Ino, Timestamp},
    meta::{Inode, Kind, MetaService},
};

/// Sealing this much takes less time than handing it to another thread.
const SEAL_INLINE: usize = 128 << 10;

/// How old an access time may get under the relative policy.
const DAY: i64 = 24 * 60 * 60;

impl Volume {
    /// Counts an open file; each needs one [`Volume::release`].
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn open(&self, ino: Ino) -> Result<()> {
        let inode = self.inner.meta.inode(ino).get().await?;
        let inner = &self.inner;
        inner.nodes.with(ino, |_, state| {
            state.opens += 1;
            if inode.kind == Kind::File && inner.wants_atime(&inode, state) {
                state.pending.atime = Some(inner.now());
                state.since.get_or_insert_with(Instant::now);
            }
        });
        Ok(())
    }

    /// Ends an open.
    ///
    /// # Errors
    /// None now.
    pub async fn release(&self, ino: Ino) -> Result<()> {
        if let Some(node) = self.inner.nodes.get(ino) {
            let mut state = node.state.lock();
            state.opens = state.opens.saturating_sub(1);
            let last = state.opens == 0;
            if last {
                state.map = None;
            }
            drop(state);
            drop(node);
            if last {
                self.inner.nodes.release(ino);
                self.inner.reap_if_unused(ino);
            }
        }
        Ok(())
    }

    /// Writes; all of `data` or nothing.
    ///
    /// # Errors
    /// `NoSpace`, `ReadOnly`, `FileTooLarge`, `IsADirectory`.
    pub async fn write(&self, who: &Caller, ino: Ino, offset: u64, data: Bytes) -> Result<u32> {
        if let Some(written) = self.try_write(who, ino, offset, &data)? {
            return Ok(written);
        }
        self.inner.journal_has_room().await?;
        self.inner
            .budget
            .take(data.len() as u64, || self.inner.broken())
            .await?;
        self.inner.put(who, ino, offset, &data)
    }

    /// The same without waiting: `None` when there is no room for unsealed
    /// bytes now. Lets a front end keep the data in its own buffer.
    ///
    /// # Errors
    /// As [`Volume::write`].
    pub fn try_write(
        &self,
        who: &Caller,
        ino: Ino,
        offset: u64,
        data: &[u8],
    ) -> Result<Option<u32>> {
        self.inner.check_writable()?;
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > SIZE_MAX) {
            return Err(Error::FileTooLarge);
        }
        if data.is_empty() {
            return Ok(Some(0));
        }
        if !self.inner.try_take(data.len() as u64)? {
            return Ok(None);
        }
        self.inner.put(who, ino, offset, data).map(Some)
    }

    /// Makes an inode survive power loss: contents and the names, attributes
    /// and structures needed to reach it.
    ///
    /// # Errors
    /// What sealing or syncing met; the bytes stay in memory, and the next
    /// call tries again or fails again.
    pub async fn fsync(&self, ino: Ino, _data_only: bool) -> Result<()> {
        if let Some(node) = self.inner.nodes.get(ino) {
            self.inner.seal_soon(&node, Take::All).await?;
        }
        if planted(Canary::FsyncAnswersEarly) {
            return Ok(());
        }
        let revision = self.inner.meta.revision();
        self.inner.meta.sync(revision).get().await
    }

    /// Makes everything survive power loss.
    ///
    /// # Errors
    /// The first that any file met; the others are still tried.
    pub async fn sync(&self) -> Result<()> {
        let mut result = Ok(());
        for node in self.inner.nodes.all() {
            let sealed = self.inner.seal_soon(&node, Take::All).await;
            result = result.and(sealed);
        }
        let revision = self.inner.meta.revision();
        result.and(self.inner.meta.sync(revision).get().await)
    }
}

impl Inner {
    /// Takes room for unsealed bytes if there is some now. A disk is not called
    /// full by an old look at it.
    fn try_take(&self, bytes: u64) -> Result<bool> {
        if self.journal_is_full() {
            return Ok(false);
        }
        match self.budget.try_take(bytes) {
            Err(Error::NoSpace) => {
                self.look_at_disk();
                self.budget.try_take(bytes)
            }
            taken => taken,
        }
    }

    /// Puts bytes whose room in the budget is taken into the node.
    fn put(self: &Arc<Self>, who: &Caller, ino: Ino, offset: u64, data: &[u8]) -> Result<u32> {
        let taken = data.len() as u64;
        let inode = match self.meta.inode(ino).wait().and_then(only_file) {
            Ok(inode) => inode,
            Err(error) => {
                self.budget.free(taken);
                return Err(error);
            }
        };
        let now = self.now();
        let placed = self.nodes.with(ino, |node, state| {
            // Looked at under the lock: what comes later is refused, and what
            // came before is sealed by whoever closes the volume.
            if self.closed.load(Ordering::SeqCst) {
                return Err(Error::Closed);
            }
            if state.dead {
                return Err(Error::NotFound);
            }
            let before = state.dirty.bytes();
            let mut pending = state.pending;
            pending.end = pending.end.max(offset + taken);
            pending.mtime = Some(now);
            pending.ctime = Some(now);
            pending.strip |= !who.privileged && without_privileges(inode.mode).is_some();
            self.keep_write(ino, state, &pending, offset, data)?;
            state.dirty.insert(offset, data);
            state.pending = pending;
            state.since.get_or_insert_with(Instant::now);
            let full = state.dirty.bytes() >= buffer::LONG && !state.queued;
            state.queued |= full;
            Ok((
                state.dirty.bytes() as i64 - before as i64,
                full.then(|| node.clone()),
            ))
        });
        let (added, full) = placed.inspect_err(|_| self.budget.free(taken))?;
        self.budget.adjust(taken, added);
        if let Some(node) = full {
            self.seal_in_background(node);
        }
        if inode.xattrs > 0 {
            self.drop_capabilities(ino)?;
        }
        self.changed(who.front, || Change::Inode(ino));
        Ok(data.len() as u32)
    }

    fn seal_in_background(self: &Arc<Self>, node: Arc<Node>) {
        let inner = self.clone();
        let again = node.clone();
        let queued = self.sealers.offer(move || {
            if let Err(error) = inner.seal(&node, Take::Finished) {
                tracing::warn!(ino = node.ino.0, %error, "sealing failed; the bytes stay in memory");
            }
        });
        if !queued {
            again.state.lock().queued = false;
        }
    }

    /// Seals a node and waits: here when that is quick, else on a worker.
    pub(super) async fn seal_soon(self: &Arc<Self>, node: &Arc<Node>, take: Take) -> Result<()> {
        let (nothing, small) = {
            let state = node.state.lock();
            let nothing = !state.has_changes() && state.sealing.is_none();
            (nothing, state.dirty.bytes() <= SEAL_INLINE)
        };
        if nothing {
            return Ok(());
        }
        if small && let Some(body) = node.body.try_lock() {
            return self.seal_locked(node, take, &body);
        }
        let (inner, node) = (self.clone(), node.clone());
        self.sealers.run(move || inner.seal(&node, take)).await
    }

    /// Runs a change of committed contents alone on its file: here when no
    /// one else works on it and little is unsealed, else on a worker.
    pub(super) async fn exclusively<T: Send + 'static>(
        self: &Arc<Self>,
        node: Arc<Node>,
        change: impl FnOnce(&Arc<Node>, &MutexGuard<'_, ()>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let small = node.state.lock().dirty.bytes() <= SEAL_INLINE;
        if small && let Some(body) = node.body.try_lock() {
            return change(&node, &body);
        }
        self.sealers
            .run(move || {
                let body = node.body.lock();
                change(&node, &body)
            })
            .await
    }

    fn wants_atime(&self, inode: &Inode, state: &NodeState) -> bool {
        if self.broken().is_some() {
            return false;
        }
        let now: Timestamp = self.now();
        let atime = state.pending.atime.unwrap_or(inode.atime);
        match self.options.atime {
            AtimePolicy::Never => false,
            AtimePolicy::Strict => true,
            AtimePolicy::Relative => {
                let mtime = state.pending.mtime.unwrap_or(inode.mtime);
                atime < mtime || atime < inode.ctime || now.secs - atime.secs > DAY
            }
        }
    }
}

pub(super) fn only_file(inode: Arc<Inode>) -> Result<Arc<Inode>> {
    match inode.kind {
        Kind::File => Ok(inode),
        Kind::Directory => Err(Error::IsADirectory),
        _ => Err(Error::Invalid("only regular files have contents")),
    }
}
