//! Giving space back.
//!
//! Why no live chunk is lost, whatever is put meanwhile and wherever a crash
//! falls: `docs/format.md`, "Why collection loses nothing".

use std::{collections::BTreeMap, io};

use bytes::Bytes;

use super::{LocalChunks, Location};
use crate::{
    Error, Result,
    canary::{Canary, planted},
    chunk::{
        Collected, SealedChunk,
        segment::{ENTRY_HEADER_LEN, EntryKind, Place, checksum, decode_entry_header, entry_span},
    },
    ids::ChunkId,
};

/// Dead chunks between two calls of `settle`.
const DOOMED_AT_ONCE: usize = 4096;

/// Chunks asked about, or moved, while nobody can take a hold: some
/// milliseconds at most.
const STEP: usize = 256;

/// Live chunks of sparse segments known at a time; bounds the memory.
const MOVES_AT_ONCE: usize = 1 << 18;

/// Sealed bytes copied at a time.
const COPY_BYTES: usize = 4 << 20;

/// Segments with a smaller share of live bytes, in percent, are emptied.
const SPARSE_PERCENT: u64 = 50;

/// The same where room is scarce: then one at a time, for the copies need room
/// before the old bytes give some.
const SPARSE_PERCENT_TIGHT: u64 = 90;

/// A chunk and where the index had it.
type Entry = (ChunkId, Location);

/// What is known of a segment.
#[derive(Clone, Copy, Default)]
struct Tally {
    len: u64,
    live_bytes: u64,
    live_chunks: usize,
}

/// One run over the store.
pub(super) struct Collection<'c> {
    store: &'c LocalChunks,
    live: &'c dyn Fn(&ChunkId) -> Result<bool>,
    settle: &'c dyn Fn() -> Result<()>,
    progress: &'c mut dyn FnMut(u64, u64),
    /// Segments that nobody writes to and whose chunks are all in the index.
    tallies: BTreeMap<u32, Tally>,
    looked_at: u64,
    total: u64,
    collected: Collected,
}

impl<'c> Collection<'c> {
    pub(super) fn new(
        store: &'c LocalChunks,
        live: &'c dyn Fn(&ChunkId) -> Result<bool>,
        settle: &'c dyn Fn() -> Result<()>,
        progress: &'c mut dyn FnMut(u64, u64),
    ) -> Self {
        Collection {
            store,
            live,
            settle,
            progress,
            tallies: BTreeMap::new(),
            looked_at: 0,
            total: 0,
            collected: Collected::default(),
        }
    }

    pub(super) fn run(mut self) -> Result<Collected> {
        self.choose_segments()?;
        let outcome = self.drop_dead();
        // After an error nothing is doomed any more either.
        self.store.index.spare();
        outcome?;
        self.free(|tally| tally.live_chunks == 0)?;
        match self.empty_sparse() {
            // There is no room for the copies; what could be freed is.
            Err(Error::NoSpace) => {}
            other => other?,
        }
        Ok(self.collected)
    }

    /// Finds the segments that get no more chunks.
    fn choose_segments(&mut self) -> Result<()> {
        let segments = &self.store.segments;
        let active = match segments.seal() {
            // The one that is written to cannot be freed, then.
            Err(Error::NoSpace) => segments.active(),
            other => other?,
        };
        let mut bytes = 0;
        for number in segments.list()? {
            let Some(file) = segments.reader(number)? else {
                continue;
            };
            let len = file
                .len()
                .map_err(|error| segments.io("look at", number, error))?;
            bytes += len;
            if number < active && !segments.in_flight(number) {
                let tally = Tally {
                    len,
                    ..Tally::default()
                };
                self.tallies.insert(number, tally);
                self.total += len;
            }
        }
        segments.set_bytes(bytes);
        Ok(())
    }

    /// Takes dead chunks out of the index and counts the live ones.
    fn drop_dead(&mut self) -> Result<()> {
        let store = self.store;
        let mut dead: Vec<Entry> = Vec::new();
        store.index.scan(&mut |id, at| {
            if !self.tallies.contains_key(&at.segment) {
                return Ok(());
            }
            self.looked_at += entry_span(at.sealed_len);
            if (self.live)(&id)? {
                self.count(&at);
            } else {
                dead.push((id, at));
                if dead.len() == DOOMED_AT_ONCE {
                    self.bury(&mut dead)?;
                }
            }
            if self.looked_at.is_multiple_of(64) {
                (self.progress)(self.looked_at.min(self.total), self.total);
            }
            Ok(())
        })?;
        self.bury(&mut dead)?;
        (self.progress)(self.total, self.total);
        Ok(())
    }

    fn count(&mut self, at: &Location) {
        if let Some(tally) = self.tallies.get_mut(&at.segment) {
            tally.live_bytes += entry_span(at.sealed_len);
            tally.live_chunks += 1;
        }
    }

    /// Asks once more, with nobody between a probe and a commit, and lets go
    /// of what is dead still.
    fn bury(&mut self, dead: &mut Vec<Entry>) -> Result<()> {
        if dead.is_empty() {
            return Ok(());
        }
        for step in dead.chunks(STEP) {
            let alone = self.store.hold.write();
            let mut doomed = Vec::with_capacity(step.len());
            let mut spared = Vec::new();
            for entry in step {
                match (self.live)(&entry.0)? {
                    true => spared.push(*entry),
                    false => doomed.push(*entry),
                }
            }
            self.store.index.doom(&doomed);
            drop(alone);
            spared.iter().for_each(|(_, at)| self.count(at));
        }
        if !planted(Canary::ChunksGivenUpEarly) {
            (self.settle)()?;
        }
        self.collected.chunks += self.store.index.bury()?;
        dead.clear();
        Ok(())
    }

    /// Removes segments, once the index is durable that does not need them.
    fn free(&mut self, unneeded: impl Fn(&Tally) -> bool) -> Result<()> {
        let store = self.store;
        let mut numbers: Vec<u32> = Vec::new();
        self.tallies.retain(|number, tally| {
            let free = unneeded(tally);
            if free {
                numbers.push(*number);
            }
            !free
        });
        if numbers.is_empty() {
            return Ok(());
        }
        store.index.cover(|| store.segments.covered());
        // Syncs the segments, so copies are there before the index tells of
        // them, and the index, before the old bytes go.
        store.index.projection.checkpoint()?;
        for number in numbers {
            self.collected.freed_bytes += store.segments.remove(number)?;
        }
        let dir = &store.segments.dir;
        let synced = store.segments.disk.sync_dir(dir);
        synced.map_err(|error| Error::io(format!("sync {dir}"), error))
    }

    /// Copies live chunks out of segments that hold few, and removes those.
    fn empty_sparse(&mut self) -> Result<()> {
        let tight = self.is_tight();
        let percent = match tight {
            true => SPARSE_PERCENT_TIGHT,
            false => SPARSE_PERCENT,
        };
        let sparse = |tally: &Tally| tally.live_bytes * 100 < tally.len * percent;
        self.tallies.retain(|_, tally| sparse(tally));
        while !self.tallies.is_empty() {
            let group = self.next_group(if tight { 1 } else { usize::MAX });
            let mut entries: BTreeMap<u32, Vec<Entry>> =
                group.iter().map(|number| (*number, Vec::new())).collect();
            self.store.index.scan(&mut |id, at| {
                if let Some(of_segment) = entries.get_mut(&at.segment) {
                    of_segment.push((id, at));
                }
                Ok(())
            })?;
            for (number, mut entries) in entries {
                entries.sort_unstable_by_key(|(_, at)| at.offset);
                // A chunk that was stored twice at once is counted in the
                // segment that lost it: next time the count is right.
                let counted = self.tallies.get(&number).map(|tally| tally.live_chunks);
                if counted != Some(entries.len()) || !self.empty(&entries)? {
                    self.tallies.remove(&number);
                }
            }
            for number in &group {
                if let Some(tally) = self.tallies.get_mut(number) {
                    tally.live_chunks = 0;
                }
            }
            self.free(|tally| tally.live_chunks == 0)?;
        }
        Ok(())
    }

    /// Whether less than a tenth of the disk is free.
    fn is_tight(&self) -> bool {
        let space = self.store.segments.disk.space();
        space.is_ok_and(|space| space.available < space.total / 10)
    }

    /// The sparsest segments, as many as memory allows, but at most `limit`.
    fn next_group(&self, limit: usize) -> Vec<u32> {
        let mut numbers: Vec<u32> = self.tallies.keys().copied().collect();
        numbers.sort_unstable_by_key(|number| self.tallies[number].live_bytes);
        let mut chunks = 0;
        let fits = |number: &u32| {
            let first = chunks == 0;
            chunks += self.tallies[number].live_chunks;
            first || chunks <= MOVES_AT_ONCE
        };
        numbers.into_iter().take(limit).take_while(fits).collect()
    }

    /// Copies the chunks of a segment to the active one. `false` when one of
    /// them is damaged: then the segment has to stay.
    fn empty(&mut self, entries: &[Entry]) -> Result<bool> {
        let mut copies: Vec<SealedChunk> = Vec::new();
        let mut olds: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for (id, at) in entries {
            let Some(frames) = self.read_intact(id, at)? else {
                tracing::warn!(chunk = %id, segment = at.segment, offset = at.offset,
                    "a chunk is damaged; its segment is not collected");
                return Ok(false);
            };
            bytes += frames.len();
            let info = at.info;
            copies.push(SealedChunk {
                id: *id,
                info,
                frames,
            });
            olds.push((*id, *at));
            if bytes >= COPY_BYTES || copies.len() == STEP {
                self.relocate(&copies, &olds)?;
                copies.clear();
                olds.clear();
                bytes = 0;
            }
        }
        self.relocate(&copies, &olds)?;
        Ok(true)
    }

    /// The sealed bytes of a chunk, if they are what was written.
    fn read_intact(&self, id: &ChunkId, at: &Location) -> Result<Option<Bytes>> {
        let segments = &self.store.segments;
        let Some(file) = segments.reader(at.segment)? else {
            return Ok(None);
        };
        let mut bytes = vec![0; ENTRY_HEADER_LEN + at.sealed_len as usize];
        match file.read_exact_at(&mut bytes, u64::from(at.offset)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(segments.io("read", at.segment, error)),
        }
        let place = Place {
            volume: segments.volume,
            segment: at.segment,
            offset: at.offset,
        };
        let Ok(header) = decode_entry_header(&bytes, place) else {
            return Ok(None);
        };
        let frames = Bytes::from(bytes).slice(ENTRY_HEADER_LEN..);
        let intact = header.kind == EntryKind::Chunk
            && header.id == *id
            && header.info == at.info
            && header.sealed_len == at.sealed_len
            && header.checksum == checksum(&frames);
        Ok(intact.then_some(frames))
    }

    /// Writes copies and points the index to them.
    fn relocate(&mut self, copies: &[SealedChunk], olds: &[Entry]) -> Result<()> {
        let store = self.store;
        let copies: Vec<&SealedChunk> = copies.iter().collect();
        let (mut copies, mut olds) = (&copies[..], olds);
        while !copies.is_empty() {
            let lens = copies.iter().map(|copy| copy.frames.len() as u32);
            let (space, count) = store.segments.reserve(lens)?;
            let (now, later) = copies.split_at(count);
            let news = store.segments.write(&space, now)?;
            let moved = olds.iter().zip(&news);
            let moves: Vec<_> = moved.map(|((id, old), new)| (*id, *old, *new)).collect();
            let spans = news.iter().map(|new| entry_span(new.sealed_len));
            self.collected.copied_bytes += spans.sum::<u64>();
            {
                let _alone = store.hold.write();
                store
                    .index
                    .relocate(&moves, || store.segments.publish(&space))?;
            }
            copies = later;
            olds = &olds[count..];
        }
        Ok(())
    }
}
