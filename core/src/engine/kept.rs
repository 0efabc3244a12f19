//! What the journal keeps of a volume, so that the next process goes on where
//! this one died, and taking that over.
//!
//! Every unsealed byte and attribute change of a node is kept as long as it is
//! unsealed. The order in which entries of one file are written is that in
//! which they took effect, because both happen under the lock of its state.

use std::{sync::Arc, time::Instant};

use crate::{
    Error, Result,
    engine::{
        Inner, Volume,
        node::{NodeState, Pending},
    },
    ids::{Ino, RequestId},
    journal::{KeptWrite, Ticket},
    meta::MetaService,
};

/// How often a writer that waits for the journal looks again.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

impl Volume {
    /// What a request made that was sent before, if it was done then: the
    /// inode, or 0 when it made none.
    #[must_use]
    pub fn done(&self, request: RequestId) -> Option<Ino> {
        self.inner.journal.as_ref()?.done(request)
    }
}

impl Inner {
    pub(super) fn journal_is_full(&self) -> bool {
        self.journal
            .as_ref()
            .is_some_and(|journal| journal.is_full())
    }

    /// Waits until sealing has released entries. Gives up when nothing is
    /// sealed any more.
    pub(super) async fn journal_has_room(&self) -> Result<()> {
        while self.journal_is_full() {
            self.broken().map_or(Ok(()), Err)?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Keeps bytes that are about to be put into the node, and what its
    /// pending attributes will be.
    pub(super) fn keep_write(
        &self,
        ino: Ino,
        state: &mut NodeState,
        pending: &Pending,
        offset: u64,
        data: &[u8],
    ) -> Result<()> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        let change = pending.kept(ino, false);
        journal.write(&change, offset, data, false, &mut state.kept)
    }

    /// Keeps pending attributes that changed without bytes.
    pub(super) fn keep_attributes(
        &self,
        ino: Ino,
        state: &mut NodeState,
        keeps_mode: bool,
    ) -> Result<()> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        let change = state.pending.kept(ino, keeps_mode);
        journal.write(&change, 0, &[], false, &mut state.kept)
    }

    /// Keeps bytes that a sealing pass gave back. They are kept already, with
    /// others that are sealed now; where there is no room, these stay as well.
    pub(super) fn keep_under(
        &self,
        ino: Ino,
        state: &mut NodeState,
        pending: &Pending,
        offset: u64,
        data: &[u8],
    ) {
        if let Some(journal) = &self.journal {
            let change = pending.kept(ino, false);
            let kept = journal.write(&change, offset, data, true, &mut state.kept);
            if let Err(error) = kept {
                tracing::error!(%error, "the end of a stream is not kept beyond this process");
            }
        }
    }

    pub(super) fn release(&self, tickets: impl IntoIterator<Item = Ticket>) {
        if let Some(journal) = &self.journal {
            journal.release(tickets);
        }
    }

    pub(super) fn let_go(&self, kept: &mut Vec<Ticket>) {
        if !kept.is_empty() {
            self.release(std::mem::take(kept));
        }
    }

    /// Inodes without a name wait for their clients, who may know them from
    /// the time of a process before this one; the others go.
    pub(super) fn adopt_orphans(&self) -> Result<()> {
        for ino in self.meta.orphans().wait()? {
            if self.lookups.knows(ino) {
                self.orphans.add(ino);
            } else {
                self.orphans.to_reap.lock().push(ino);
            }
        }
        Ok(())
    }

    /// Puts writes that were kept back into their nodes.
    pub(super) fn adopt_writes(self: &Arc<Self>, writes: Vec<KeptWrite>) {
        let mut bytes = 0;
        for write in writes {
            let ino = write.change.ino;
            if matches!(self.meta.inode(ino).wait(), Err(Error::NotFound)) {
                self.release([write.ticket]);
                continue;
            }
            bytes += self.nodes.with(ino, |_, state| {
                let before = state.dirty.bytes();
                if write.under {
                    state.dirty.insert_under(write.offset, &write.data);
                } else {
                    state.dirty.insert(write.offset, &write.data);
                }
                let under = write.under.then_some(state.pending);
                state.pending.merge_kept(&write.change);
                if let Some(over) = under {
                    let older = std::mem::replace(&mut state.pending, over);
                    state.pending.merge_under(older);
                }
                state.kept.push(write.ticket);
                state.since.get_or_insert_with(Instant::now);
                state.dirty.bytes() as i64 - before as i64
            });
        }
        self.budget.adjust(0, bytes);
    }
}
