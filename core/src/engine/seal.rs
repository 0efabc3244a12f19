//! Sealing passes: unsealed bytes become chunks, extents and attributes.
//!
//! One pass at a time works on a file (it holds the node's `body` lock). It
//! takes the unsealed bytes, cuts them, asks for each chunk's id whether it is
//! stored already, seals and stores the others, and commits all extents and
//! attribute changes as one record of the log. A pass that fails puts back
//! what it took: nothing is lost, and the next pass tries again.

use std::{ops::Range, sync::Arc, time::Instant};

use bytes::Bytes;
use parking_lot::MutexGuard;

use zeroize::Zeroizing;

use crate::{
    Error, Result,
    chunk::{SealedChunk, cut},
    crypto::RecordContext,
    engine::{
        Inner,
        dirty::{DirtyMap, FrozenMap},
        node::{Node, Pending, Sealing},
        runs::{BLOCK, Run, runs, shares},
        workers,
    },
    ids::{ChunkId, Ino},
    meta::{AttrChange, Body, Command, Extent, Inode, MetaService},
};

/// Files up to this length lie sealed in the metadata.
pub(super) const INLINE_MAX: u64 = 4096;

/// The most that one worker seals at a time.
const SHARE: usize = 1 << 20;

/// Less than this is not worth waking another worker for.
const SHARE_MIN: usize = 128 << 10;

/// Most chunks stored at once: runs may be of a few bytes each.
const TOGETHER: usize = 1024;

/// Passes of this many bytes have the disk begin while they still seal: less
/// is not worth a write of its own, and more comes from a stream, which nobody
/// waits for.
const EARLY: Range<usize> = (512 << 10)..(8 << 20);

/// How much of the unsealed bytes a pass takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// Everything: somebody waits for it, or it is old.
    All,
    /// What a stream has finished: its last bytes, whose cut is not decided,
    /// stay behind.
    Finished,
}

/// What a pass made of the bytes it took.
struct Stored {
    extents: Vec<Extent>,
    /// Bytes at the end of a stream whose cut is not decided yet.
    kept: Option<(u64, Bytes)>,
}

impl Inner {
    /// Seals what a file has unsealed, waiting for a pass that runs already.
    /// May compute and wait for the disk.
    pub(super) fn seal(self: &Arc<Self>, node: &Arc<Node>, take: Take) -> Result<()> {
        let body = node.body.lock();
        self.seal_locked(node, take, &body)
    }

    /// The same, for a caller that holds the body lock.
    pub(super) fn seal_locked(
        self: &Arc<Self>,
        node: &Arc<Node>,
        take: Take,
        _body: &MutexGuard<'_, ()>,
    ) -> Result<()> {
        let Some(sealing) = self.begin(node) else {
            return Ok(());
        };
        let taken = sealing.data.bytes() as u64;
        let mut result = self.commit(node.ino, &sealing, take);
        let mut state = node.state.lock();
        if state.dead || matches!(result, Err(Error::NotFound)) {
            // The file was deleted meanwhile.
            result = Ok(None);
        }
        state.sealing = None;
        let held_before = state.dirty.bytes();
        let result = match result {
            Ok(tail) => {
                state.contents_changed();
                if let Some((offset, tail)) = tail {
                    state.dirty.insert_under(offset, &tail);
                    let of_tail = Pending {
                        end: offset + tail.len() as u64,
                        mtime: sealing.pending.mtime,
                        ctime: sealing.pending.ctime,
                        ..Pending::default()
                    };
                    self.keep_under(node.ino, &mut state, &of_tail, offset, &tail);
                    state.pending.merge_under(of_tail);
                }
                Ok(())
            }
            Err(error) => {
                state.kept.splice(..0, sealing.kept.iter().copied());
                for (offset, piece) in sealing.data.pieces() {
                    state.dirty.insert_under(offset, piece);
                }
                state.pending.merge_under(sealing.pending);
                Err(error)
            }
        };
        state.since = state.has_changes().then(Instant::now);
        // More than was taken, when bytes of the file before it are kept too.
        let back = state.dirty.bytes() - held_before;
        drop(state);
        if result.is_ok() {
            self.release(sealing.kept.iter().copied());
        }
        drop(sealing);
        self.budget.adjust(taken, back as i64);
        result
    }

    fn begin(&self, node: &Node) -> Option<Arc<Sealing>> {
        let mut state = node.state.lock();
        state.queued = false;
        if state.dead || !state.has_changes() {
            return None;
        }
        let sealing = Arc::new(Sealing {
            data: std::mem::take(&mut state.dirty).freeze(),
            pending: std::mem::take(&mut state.pending),
            kept: std::mem::take(&mut state.kept),
        });
        state.sealing = Some(sealing.clone());
        Some(sealing)
    }

    /// Commits, and gives back what is to stay unsealed.
    fn commit(
        self: &Arc<Self>,
        ino: Ino,
        sealing: &Sealing,
        take: Take,
    ) -> Result<Option<(u64, Bytes)>> {
        let inode = self.meta.inode(ino).wait()?;
        let mut change = sealing.pending.change(&inode);
        if sealing.data.is_empty() {
            self.meta.apply(Command::SetAttr { ino, change }).wait()?;
            return Ok(None);
        }
        let size = inode.size.max(sealing.pending.end);
        if inode.extents == 0 && size <= INLINE_MAX {
            let body = self.inline_body(&inode, sealing, size)?;
            self.meta
                .apply(Command::Write { ino, body, change })
                .wait()?;
            return Ok(None);
        }
        let _hold = self.chunks.hold();
        let Stored { extents, kept } = self.store(&inode, &sealing.data, take)?;
        if let (Some(size), Some((offset, _))) = (change.size, &kept) {
            // The file must not be seen longer than what is stored of it.
            change.size = Some(size.min(*offset)).filter(|size| *size > inode.size);
        }
        let body = Body::Extents(extents);
        self.meta
            .apply(Command::Write { ino, body, change })
            .wait()?;
        Ok(kept)
    }

    fn inline_body(&self, inode: &Inode, sealing: &Sealing, size: u64) -> Result<Body> {
        let mut plain = Zeroizing::new(vec![0; size as usize]);
        self.read_base(inode.ino, 0, &mut plain)?;
        // Bytes cut off by an earlier truncation must not come back.
        plain[inode.size.min(size) as usize..].fill(0);
        sealing.data.copy_into(0, &mut plain);
        let sealed = self
            .keys
            .seal_record(RecordContext::Inline(inode.ino), &plain)?;
        Ok(Body::Inline(sealed.into(), size as u32))
    }

    /// Moves inline contents into a chunk. The caller holds the body lock.
    pub(super) fn inline_to_extent(self: &Arc<Self>, inode: &Inode) -> Result<()> {
        let mut bytes = vec![0; inode.inline.unwrap_or(0) as usize];
        self.read_base(inode.ino, 0, &mut bytes)?;
        let _hold = self.chunks.hold();
        let mut extents = Vec::new();
        self.store_chunks(vec![(0, bytes.into())], false, &mut extents)?;
        let command = Command::Write {
            ino: inode.ino,
            body: Body::Extents(extents),
            change: AttrChange::default(),
        };
        self.meta.apply(command).wait()?;
        Ok(())
    }

    /// Stores all runs and says where they lie.
    fn store(self: &Arc<Self>, inode: &Inode, data: &FrozenMap, take: Take) -> Result<Stored> {
        let mut stored = Stored {
            extents: Vec::new(),
            kept: None,
        };
        let with_inline;
        let data = if inode.inline.is_some_and(|valid| valid > 0) {
            with_inline = self.over_inline(inode, data)?;
            &with_inline
        } else {
            data
        };
        let runs = runs(data);
        let last = runs.len().saturating_sub(1);
        // Short runs are stored together, in one write.
        let mut gathered = Vec::new();
        let mut bytes = 0;
        let early = EARLY.contains(&data.bytes());
        for (index, (from, to)) in runs.into_iter().enumerate() {
            let append = from >= inode.size;
            let run = self.gather(inode, data, from, to, append)?;
            let ends = take == Take::All || index != last || !append;
            let (chunks, kept) = run.cut(self.policy, ends);
            stored.kept = kept;
            bytes += chunks.iter().map(|(_, chunk)| chunk.len()).sum::<usize>();
            gathered.extend(chunks);
            if bytes >= SHARE || gathered.len() >= TOGETHER {
                bytes = 0;
                let chunks = std::mem::take(&mut gathered);
                self.store_chunks(chunks, early, &mut stored.extents)?;
            }
        }
        self.store_chunks(gathered, early, &mut stored.extents)?;
        Ok(stored)
    }

    /// What is unsealed over the inline contents of the file: its first
    /// extents take them along.
    fn over_inline(&self, inode: &Inode, data: &FrozenMap) -> Result<FrozenMap> {
        let mut base = Zeroizing::new(vec![0; inode.inline.unwrap_or(0) as usize]);
        self.read_base(inode.ino, 0, &mut base)?;
        let mut whole = DirtyMap::default();
        for (offset, piece) in data.pieces() {
            whole.insert(offset, piece);
        }
        whole.insert_under(0, &base);
        Ok(whole.freeze())
    }

    /// A run's bytes, with what stands around it where that makes fewer
    /// extents: up to block boundaries for an overwrite, and the small extents
    /// that an append continues.
    fn gather(
        &self,
        inode: &Inode,
        data: &FrozenMap,
        from: u64,
        to: u64,
        append: bool,
    ) -> Result<Run> {
        let long = to - from >= cut::BLOCK as u64;
        let (start, stop) = if long {
            (from, to)
        } else if append {
            (self.absorb(inode.ino, from, to)?, to)
        } else {
            let stop = to.next_multiple_of(BLOCK).min(inode.size).max(to);
            (from - from % BLOCK, stop)
        };
        let gaps = data.gaps(start, stop);
        let parts = if gaps.is_empty() && (start, stop) == (from, to) {
            let of_run = data
                .shared()
                .filter(|(at, _)| (from..to).contains(at))
                .map(|(_, piece)| piece.clone());
            of_run.collect()
        } else {
            let mut bytes = vec![0; (stop - start) as usize];
            for (gap, end) in gaps {
                let hole = &mut bytes[(gap - start) as usize..(end - start) as usize];
                self.read_base(inode.ino, gap, hole)?;
            }
            data.copy_into(start, &mut bytes);
            vec![bytes.into()]
        };
        Ok(Run {
            offset: start,
            parts,
            append,
        })
    }

    /// Where an append should start so that the tail of a growing file does
    /// not become ever more tiny extents: one before it that is no longer than
    /// the run is taken in. Each byte is rewritten a logarithmic number of
    /// times, and whole chunks of a stream are left alone.
    fn absorb(&self, ino: Ino, from: u64, to: u64) -> Result<u64> {
        let reach = from.saturating_sub(cut::BLOCK as u64);
        let near = self.meta.extents(ino, reach, from).wait()?;
        let mut start = from;
        for extent in near.iter().rev() {
            let small =
                (extent.len as usize) < cut::MIN_CHUNK && u64::from(extent.len) <= to - start;
            if extent.end() != start || !small {
                break;
            }
            start = extent.offset;
        }
        Ok(start)
    }

    /// Stores chunks, spread over the cores; `early` has the disk begin before
    /// the last of them is sealed.
    fn store_chunks(
        self: &Arc<Self>,
        chunks: Vec<(u64, Bytes)>,
        early: bool,
        extents: &mut Vec<Extent>,
    ) -> Result<()> {
        let inner = self.clone();
        let bytes: usize = chunks.iter().map(|(_, chunk)| chunk.len()).sum();
        // Twice as many as there are cores, so that all end at about one time.
        let share = (bytes / (2 * self.cores)).clamp(SHARE_MIN, SHARE);
        let stored = workers::spread(
            &self.sealers,
            self.cores - 1,
            shares(chunks, share),
            move |share| {
                let stored = inner.store_share(&share)?;
                if early {
                    inner.chunks.begin_sync();
                }
                Ok(stored)
            },
        )?;
        extents.extend(stored.into_iter().flatten());
        Ok(())
    }

    fn store_share(&self, share: &[(u64, Bytes)]) -> Result<Vec<Extent>> {
        let mut extents = Vec::with_capacity(share.len());
        let mut new: Vec<SealedChunk> = Vec::new();
        for (offset, plain) in share {
            let id = self.keys.chunk_id(plain);
            if self.chunks.info(&id)?.is_none() && !new.iter().any(|chunk| chunk.id == id) {
                new.push(self.seal_chunk(id, plain)?);
            }
            extents.push(Extent {
                offset: *offset,
                len: plain.len() as u32,
                chunk: id,
                chunk_offset: 0,
            });
        }
        if !new.is_empty() {
            self.chunks.put(&new)?;
        }
        Ok(extents)
    }

    fn seal_chunk(&self, id: ChunkId, plain: &[u8]) -> Result<SealedChunk> {
        let (info, frames) = self.keys.seal_chunk(&id, plain)?;
        Ok(SealedChunk {
            id,
            info,
            frames: frames.into(),
        })
    }

    /// Why nothing can be written any more, if so.
    pub(super) fn broken(&self) -> Option<Error> {
        if self.closed.load(std::sync::atomic::Ordering::Relaxed) {
            return Some(Error::Closed);
        }
        if self.options.read_only {
            return Some(Error::ReadOnly("it was mounted read-only".into()));
        }
        self.meta.failed().map(Error::ReadOnly)
    }
}
