//! The chunk store of one machine.
//!
//! Promises what [`ChunkService`] says, with the segment files of one
//! directory as the truth and an index beside them that can be lost. It holds
//! no key. Several threads may put, read, sync and collect at once.

mod collect;
mod index;
mod mend;
mod recover;
mod segments;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, io, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};

pub use self::mend::void_damage;
pub(super) use self::segments::list;
use self::{index::Index, segments::Segments};
use super::{
    ChunkInfo, ChunkService, ChunkUsage, Collected, Hold, SealedChunk,
    cut::MAX_CHUNK,
    segment::{ENTRY_HEADER_LEN, MAX_SEALED},
};
use crate::{
    Error, Result,
    host::Disk,
    ids::{ChunkId, VolumeId},
    kv::Owner,
};

/// How a local chunk store is kept.
#[derive(Clone, Copy, Debug)]
pub struct LocalOptions {
    /// Take no chunks and collect nothing.
    pub read_only: bool,
    /// Bytes after which a new segment begins, at most 1 GiB.
    pub segment_bytes: u64,
    /// Memory in bytes for pages of the index.
    pub index_bytes: usize,
    /// Locations kept in memory, about 100 bytes each.
    pub locations: usize,
    /// Segment files kept open.
    pub open_files: usize,
    /// Whether the index moves to its file by itself.
    pub unasked: bool,
}

impl Default for LocalOptions {
    fn default() -> Self {
        LocalOptions {
            read_only: false,
            segment_bytes: 64 << 20,
            index_bytes: 32 << 20,
            locations: 1 << 16,
            open_files: 256,
            unasked: true,
        }
    }
}

/// Segment number and offset; orders entries by age.
type Position = (u32, u64);

/// Up to where the index tells of everything, and the bytes of all segments.
#[derive(Clone, Copy, Debug)]
struct Covered {
    position: Position,
    bytes: u64,
}

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    segment: u32,
    /// Of the entry header.
    offset: u32,
    sealed_len: u32,
    info: ChunkInfo,
}

impl Location {
    fn frames(&self) -> u64 {
        u64::from(self.offset) + ENTRY_HEADER_LEN as u64
    }
}

/// What reads the records of the index, for fuzzing.
#[cfg(any(test, fuzzing))]
pub(crate) use index::decoders as index_decoders;

/// How long taking a hold gives way to a collection that waits for its turn.
/// Bounded, since whoever takes one may have another, which the collection
/// waits for.
const GIVE_WAY: Duration = Duration::from_millis(2);

/// A chunk store in a directory of a disk.
pub struct LocalChunks {
    segments: Arc<Segments>,
    index: Index,
    hold: Arc<RwLock<()>>,
    collecting: Mutex<()>,
    read_only: bool,
}

impl LocalChunks {
    /// Opens the store in `dir`, making it when there is none. The segments
    /// behind the last checkpoint of the index are scanned; all of them when
    /// the index is missing or damaged, and it is built anew. `progress` is
    /// told bytes scanned and bytes to scan.
    ///
    /// # Errors
    /// `Io`, `NoSpace`; `FormatVersion` when a newer kiseki wrote it.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &str,
        volume: VolumeId,
        options: LocalOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Arc<LocalChunks>> {
        if !(1 << 12..=1 << 30).contains(&options.segment_bytes) {
            return Err(Error::Invalid("segments have from 4 KiB to 1 GiB"));
        }
        create_dir(&*disk, dir, options.read_only)?;
        let segments = Arc::new(Segments::new(disk, dir, volume, &options));
        let hold = Arc::new(RwLock::new(()));
        let index = recover::open(&segments, &hold, &options, progress)?;
        Ok(Arc::new(LocalChunks {
            segments,
            index,
            hold,
            collecting: Mutex::new(()),
            read_only: options.read_only,
        }))
    }

    /// Forgets where a chunk is, because it cannot be read: who reads it is
    /// told that it is missing, and storing it again heals that. Durable after
    /// [`ChunkService::checkpoint`]. Nobody else may use the store meanwhile.
    ///
    /// # Errors
    /// `ReadOnly`; what the disk says.
    pub fn forget(&self, id: &ChunkId) -> Result<()> {
        self.check_writable()?;
        self.index.forget(id)
    }

    fn check_writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::ReadOnly("it was opened without writing".into()));
        }
        self.segments.check()?;
        self.index.check()
    }

    /// The chunks of a put that are to be written.
    fn wanted<'c>(&self, chunks: &'c [SealedChunk]) -> Result<Vec<&'c SealedChunk>> {
        let mut wanted = Vec::with_capacity(chunks.len());
        let mut seen = HashSet::with_capacity(if chunks.len() > 1 { chunks.len() } else { 0 });
        for chunk in chunks {
            if chunk.frames.len() > MAX_SEALED || chunk.info.plain_len as usize > MAX_CHUNK {
                return Err(Error::Invalid("a chunk is longer than chunks can be"));
            }
            if (chunks.len() == 1 || seen.insert(chunk.id)) && self.index.get(&chunk.id)?.is_none()
            {
                wanted.push(chunk);
            }
        }
        Ok(wanted)
    }

    fn located(&self, id: &ChunkId) -> Result<Location> {
        self.index.get(id)?.ok_or(Error::MissingChunk(*id))
    }

    fn damaged(&self, at: &Location, what: &str) -> Error {
        let place = format!("{} offset {}", self.segments.path(at.segment), at.offset);
        Error::damaged(place, what)
    }
}

/// Whose the index is.
pub(crate) fn owner(volume: VolumeId) -> Owner {
    Owner::new(volume, "chunk index")
}

/// Makes the directory, and makes it durable, with those above it.
fn create_dir(disk: &dyn Disk, dir: &str, read_only: bool) -> Result<()> {
    let failed = |error| Error::io(format!("create {dir}"), error);
    disk.create_dir(dir).map_err(failed)?;
    let mut below = dir;
    while !read_only && !below.is_empty() {
        below = below.rsplit_once('/').map_or("", |(above, _)| above);
        disk.sync_dir(below).map_err(failed)?;
    }
    Ok(())
}

/// Refuses a range that a chunk does not have.
fn check_range(at: &Location, offset: u32, len: usize) -> Result<()> {
    if u64::from(offset) + len as u64 > u64::from(at.sealed_len) {
        return Err(Error::Invalid("a read reaches over the end of the chunk"));
    }
    Ok(())
}

impl ChunkService for LocalChunks {
    fn hold(&self) -> Hold {
        self.hold
            .try_read_arc_for(GIVE_WAY)
            .unwrap_or_else(|| self.hold.read_arc_recursive())
    }

    fn info(&self, id: &ChunkId) -> Result<Option<ChunkInfo>> {
        Ok(self.index.get(id)?.map(|at| at.info))
    }

    fn put(&self, chunks: &[SealedChunk]) -> Result<()> {
        self.check_writable()?;
        let wanted = self.wanted(chunks)?;
        let mut rest = &wanted[..];
        while !rest.is_empty() {
            let lens = rest.iter().map(|chunk| chunk.frames.len() as u32);
            let (space, count) = self.segments.reserve(lens)?;
            let (now, later) = rest.split_at(count);
            let locations = self.segments.write(&space, now)?;
            let ids = now.iter().map(|chunk| chunk.id);
            let entries: Vec<_> = ids.zip(locations).collect();
            self.index
                .publish(&entries, || self.segments.publish(&space));
            rest = later;
        }
        Ok(())
    }

    fn read_cached(&self, id: &ChunkId, offset: u32, buffer: &mut [u8]) -> Result<bool> {
        let Some(at) = self.index.cached(id) else {
            return Ok(false);
        };
        check_range(&at, offset, buffer.len())?;
        let Some(file) = self.segments.opened(at.segment) else {
            return Ok(false);
        };
        let begin = at.frames() + u64::from(offset);
        let mut done = 0;
        while done < buffer.len() {
            match file.read_cached_at(&mut buffer[done..], begin + done as u64) {
                Ok(Some(n)) if n > 0 => done += n,
                // Of what goes wrong here the other read tells.
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    fn read(&self, id: &ChunkId, offset: u32, buffer: &mut [u8]) -> Result<()> {
        let mut at = self.located(id)?;
        let file = loop {
            if let Some(file) = self.segments.reader(at.segment)? {
                break file;
            }
            // A collection may have moved it meanwhile.
            let again = self.located(id)?;
            if again == at {
                return Err(self.damaged(&at, "the segment file is missing"));
            }
            at = again;
        };
        check_range(&at, offset, buffer.len())?;
        file.read_exact_at(buffer, at.frames() + u64::from(offset))
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    self.damaged(&at, "the segment file ends within the chunk")
                }
                _ => self.segments.io("read", at.segment, error),
            })
    }

    fn sync(&self) -> Result<()> {
        self.segments.sync()
    }

    fn begin_sync(&self) {
        self.segments.begin_sync();
    }

    fn checkpoint(&self) -> Result<()> {
        self.segments.sync()?;
        if !self.read_only {
            self.index.cover(|| self.segments.covered());
            self.index.projection.checkpoint()?;
        }
        Ok(())
    }

    fn collect(
        &self,
        live: &dyn Fn(&ChunkId) -> Result<bool>,
        settle: &dyn Fn() -> Result<()>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Collected> {
        self.check_writable()?;
        let _collecting = self.collecting.lock();
        collect::Collection::new(self, live, settle, progress).run()
    }

    fn usage(&self) -> ChunkUsage {
        let (stored_bytes, segments) = self.segments.totals();
        ChunkUsage {
            chunks: self.index.chunks(),
            stored_bytes,
            segments,
        }
    }
}
