//! Reading: unsealed bytes over committed extents.

use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::{
    Error, Result,
    crypto::{self, RecordContext},
    engine::{Inner, Volume, files::only_file, node::Sealing},
    ids::{ChunkId, Ino},
    meta::{Extent, Inode, MetaService},
};

/// Reads up to this length keep the frames they open; longer ones are streams,
/// whose bytes the kernel keeps.
const KEEP_FRAMES_UP_TO: usize = 64 << 10;

/// Files with more extents than this have them looked up range by range.
const MAP_MAX: u64 = 8192;

const FRAME: u32 = crypto::FRAME as u32;

/// How a read may get at sealed bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Only if they are in memory.
    No,
    /// From the disk if needed; on a thread that may block.
    Yes,
}

/// What a read found above the committed extents.
#[derive(Default)]
struct Upper {
    /// The file reaches at least to here.
    end: u64,
    /// Newest bytes of the range, copied; absent when there are none.
    dirty: Vec<(u64, Vec<u8>)>,
    sealing: Option<Arc<Sealing>>,
    map: Option<Arc<[Extent]>>,
    version: u64,
}

impl Volume {
    /// Reads; short only at the end of the file.
    ///
    /// # Errors
    /// `Damaged` or `MissingChunk` when the range does not authenticate,
    /// `IsADirectory`, or `NotFound`.
    pub async fn read(&self, ino: Ino, offset: u64, len: u32) -> Result<Bytes> {
        if let Some(bytes) = self.inner.read_with(ino, offset, len as usize, Wait::No)? {
            return Ok(bytes);
        }
        let inner = self.inner.clone();
        self.inner
            .readers
            .run(move || {
                let read = inner.read_with(ino, offset, len as usize, Wait::Yes)?;
                Ok(read.unwrap_or_default())
            })
            .await
    }
}

impl Inner {
    /// `None` when it would have to wait and may not.
    fn read_with(&self, ino: Ino, offset: u64, len: usize, wait: Wait) -> Result<Option<Bytes>> {
        match self.read_once(ino, offset, len, wait) {
            // The chunk may have been collected since its extent was looked
            // up, because the file was written over: the extents are new then.
            Err(Error::MissingChunk(_)) => self.read_once(ino, offset, len, wait),
            other => other,
        }
    }

    fn read_once(&self, ino: Ino, offset: u64, len: usize, wait: Wait) -> Result<Option<Bytes>> {
        let upper = self.upper(ino, offset, len);
        let inode = only_file(self.meta.inode(ino).wait()?)?;
        let size = inode.size.max(upper.end);
        if offset >= size {
            return Ok(Some(Bytes::new()));
        }
        let len = (len as u64).min(size - offset) as usize;
        let mut buffer = vec![0; len];
        let end = offset + len as u64;
        let covered = matches!(upper.dirty.as_slice(), [(at, piece)]
            if *at <= offset && at + piece.len() as u64 >= end);
        if !covered && !self.read_committed(&inode, &upper, offset, &mut buffer, wait)? {
            return Ok(None);
        }
        if let Some(sealing) = &upper.sealing {
            sealing.data.copy_into(offset, &mut buffer);
        }
        for (at, piece) in &upper.dirty {
            let from = (at - offset) as usize;
            let stop = (from + piece.len()).min(len);
            if from < stop {
                buffer[from..stop].copy_from_slice(&piece[..stop - from]);
            }
        }
        Ok(Some(buffer.into()))
    }

    /// Takes what lies above the committed extents, before the inode is asked
    /// for: bytes and a length that are committed in between are then seen
    /// twice, not missed.
    fn upper(&self, ino: Ino, offset: u64, len: usize) -> Upper {
        let Some(node) = self.nodes.get(ino) else {
            return Upper::default();
        };
        let state = node.state.lock();
        let sealing_end = state.sealing.as_ref().map_or(0, |s| s.pending.end);
        let end = offset.saturating_add(len as u64);
        Upper {
            end: state.pending.end.max(sealing_end),
            dirty: state
                .dirty
                .range(offset, end)
                .map(|(at, piece)| (at, piece.to_vec()))
                .collect(),
            sealing: state
                .sealing
                .clone()
                .filter(|sealing| sealing.data.touches(offset, end)),
            map: state.map.clone(),
            version: state.version,
        }
    }

    fn read_committed(
        &self,
        inode: &Inode,
        upper: &Upper,
        offset: u64,
        buffer: &mut [u8],
        wait: Wait,
    ) -> Result<bool> {
        let ino = inode.ino;
        if let Some(map) = &upper.map {
            return self.read_extents(overlapping(map, offset, buffer.len()), offset, buffer, wait);
        }
        if let Some(valid) = inode.inline {
            return self
                .read_inline(inode, valid, offset, buffer)
                .map(|()| true);
        }
        if inode.extents == 0 {
            return Ok(true);
        }
        if inode.extents <= MAP_MAX {
            let map: Arc<[Extent]> = self.meta.extents(ino, 0, u64::MAX).wait()?.into();
            self.keep_map(ino, upper.version, &map);
            return self.read_extents(
                overlapping(&map, offset, buffer.len()),
                offset,
                buffer,
                wait,
            );
        }
        let extents = self
            .meta
            .extents(ino, offset, offset + buffer.len() as u64)
            .wait()?;
        self.read_extents(&extents, offset, buffer, wait)
    }

    fn keep_map(&self, ino: Ino, version: u64, map: &Arc<[Extent]>) {
        if let Some(node) = self.nodes.get(ino) {
            let mut state = node.state.lock();
            if state.version == version && state.opens > 0 {
                state.map = Some(map.clone());
            }
        }
    }

    /// Committed bytes only, for sealing passes: holes and what lies behind
    /// the end read as zeros.
    pub(super) fn read_base(&self, ino: Ino, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let inode = self.meta.inode(ino).wait()?;
        if let Some(valid) = inode.inline {
            return self.read_inline(&inode, valid, offset, buffer);
        }
        let end = offset + buffer.len() as u64;
        let extents = self.meta.extents(ino, offset, end).wait()?;
        self.read_extents(&extents, offset, buffer, Wait::Yes)?;
        Ok(())
    }

    fn read_inline(&self, inode: &Inode, valid: u32, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let Some(sealed) = self.meta.inline(inode.ino).wait()? else {
            // Extents took its place since the inode was read; the caller's
            // view of the file is older than that change, and zeros would be wrong.
            if self.meta.inode(inode.ino).wait()?.inline.is_none() {
                return self.read_base(inode.ino, offset, buffer);
            }
            let place = format!("inode {}", inode.ino.0);
            return Err(Error::damaged(place, "its contents are missing"));
        };
        let plain = self
            .keys
            .open_record(RecordContext::Inline(inode.ino), &sealed)?;
        let valid = plain.len().min(valid as usize);
        if (offset as usize) < valid {
            let part = &plain[offset as usize..valid.min(offset as usize + buffer.len())];
            buffer[..part.len()].copy_from_slice(part);
        }
        Ok(())
    }

    fn read_extents(
        &self,
        extents: &[Extent],
        offset: u64,
        buffer: &mut [u8],
        wait: Wait,
    ) -> Result<bool> {
        let end = offset + buffer.len() as u64;
        let keep = buffer.len() <= KEEP_FRAMES_UP_TO;
        for extent in extents {
            let from = extent.offset.max(offset);
            let to = extent.end().min(end);
            if from >= to {
                continue;
            }
            let chunk_from = extent.chunk_offset + (from - extent.offset) as u32;
            let part = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            if !self.read_chunk(&extent.chunk, chunk_from, part, wait, keep)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Plain bytes of a chunk from `from` on; `false` when that needs a wait
    /// that is not allowed.
    fn read_chunk(
        &self,
        id: &ChunkId,
        from: u32,
        out: &mut [u8],
        wait: Wait,
        keep: bool,
    ) -> Result<bool> {
        if keep && self.frames.read(id, from, out) {
            return Ok(true);
        }
        let info = self.chunks.info(id)?.ok_or(Error::MissingChunk(*id))?;
        let to = from + out.len() as u32;
        if to > info.plain_len {
            return Err(Error::damaged(
                format!("chunk {id}"),
                format!("it has {} bytes, {to} were expected", info.plain_len),
            ));
        }
        let (first_frame, sealed_offset, sealed_len) = crypto::frame_span(info, from, to);
        let mut sealed = vec![0; sealed_len as usize];
        if wait == Wait::Yes {
            self.chunks.read(id, sealed_offset, &mut sealed)?;
        } else if !self.chunks.read_cached(id, sealed_offset, &mut sealed)? {
            return Ok(false);
        }
        let plain_len = crypto::plain_len(sealed_len) as usize;
        // Whole frames that are not kept are opened where they are wanted:
        // wiping a copy costs more than opening it.
        if !keep && from == first_frame * FRAME && out.len() == plain_len {
            self.keys.open_frames(id, info, first_frame, &sealed, out)?;
            return Ok(true);
        }
        let mut plain = Zeroizing::new(vec![0; plain_len]);
        self.keys
            .open_frames(id, info, first_frame, &sealed, &mut plain)?;
        let skip = (from - first_frame * FRAME) as usize;
        out.copy_from_slice(&plain[skip..skip + out.len()]);
        if keep {
            self.frames.keep(id, first_frame, plain);
        }
        Ok(true)
    }
}

fn overlapping(map: &[Extent], offset: u64, len: usize) -> &[Extent] {
    let end = offset + len as u64;
    let first = map.partition_point(|extent| extent.end() <= offset);
    let last = map.partition_point(|extent| extent.offset < end);
    &map[first..last.max(first)]
}
