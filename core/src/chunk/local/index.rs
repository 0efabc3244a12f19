//! Where each chunk is: a projection of the segments.
//!
//! Promises the store above: a lookup finds what was published, and what is
//! durable of the index never tells of bytes that are not. It says up to which
//! position it covers the segments; what is behind has to be scanned after a
//! crash. `docs/format.md`, "Chunk index", describes the file.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;

use super::{Covered, Location, Position};
use crate::{
    Error, Result,
    chunk::ChunkInfo,
    ids::{ChunkId, Epoch, VolumeId},
    kv::{Batch, Projection},
};

const CHUNK_KEY: u8 = b'c';
const STATE_KEY: &[u8] = b"s";
const LOCATION_LEN: usize = 20;
const STATE_LEN: usize = 44;

/// What the index knows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) volume: VolumeId,
    /// Everything before this position in the segments is in the index.
    pub(super) covered: Position,
    /// Chunks in the index.
    pub(super) chunks: u64,
    /// Bytes of all segments.
    pub(super) bytes: u64,
}

/// See the module.
pub(super) struct Index {
    pub(super) projection: Projection,
    cache: Cache<ChunkId, Location>,
    volume: VolumeId,
    /// The lock behind [`crate::chunk::Hold`].
    hold: Arc<RwLock<()>>,
    /// Held to change the index, so that what was read is still so.
    writer: Mutex<Batch>,
    /// Chunks that collection found dead, gone for everyone who asks but not
    /// for a crash until what made them dead is durable.
    doomed: RwLock<HashMap<ChunkId, Location>>,
    any_doomed: AtomicBool,
    chunks: AtomicU64,
}

impl Index {
    pub(super) fn new(
        projection: Projection,
        volume: VolumeId,
        hold: Arc<RwLock<()>>,
        cached: usize,
    ) -> Index {
        Index {
            projection,
            cache: Cache::new(cached.max(16)),
            volume,
            hold,
            writer: Mutex::new(Batch::default()),
            doomed: RwLock::default(),
            any_doomed: AtomicBool::new(false),
            chunks: AtomicU64::new(0),
        }
    }

    /// What the index says of itself; nothing when it was never complete.
    pub(super) fn state(&self) -> Result<Option<State>> {
        let value = self.projection.get(STATE_KEY)?;
        let state = value.as_deref().and_then(decode_state);
        let state = state.filter(|state| state.volume == self.volume);
        self.chunks
            .store(state.map_or(0, |state| state.chunks), Ordering::Relaxed);
        Ok(state)
    }

    /// Where a chunk is.
    pub(super) fn get(&self, id: &ChunkId) -> Result<Option<Location>> {
        if self.is_doomed(id) {
            return Ok(None);
        }
        if let Some(location) = self.cache.get(id) {
            return Ok(Some(location));
        }
        // While this is held no chunk is doomed or moved, so what goes into
        // the cache is still true then. A collection that is at it has the
        // answer uncached.
        let settled = self.hold.try_read_recursive();
        if self.is_doomed(id) {
            return Ok(None);
        }
        let location = self.stored(id)?;
        if let (Some(location), Some(_)) = (location, settled) {
            self.cache.insert(*id, location);
        }
        Ok(location)
    }

    /// Where a chunk is, if that is known without the projection.
    pub(super) fn cached(&self, id: &ChunkId) -> Option<Location> {
        (!self.is_doomed(id)).then(|| self.cache.get(id)).flatten()
    }

    fn stored(&self, id: &ChunkId) -> Result<Option<Location>> {
        match self.projection.get(&key(id))? {
            None => Ok(None),
            Some(value) => decode_location(&value).map(Some),
        }
    }

    fn is_doomed(&self, id: &ChunkId) -> bool {
        self.any_doomed.load(Ordering::Acquire) && self.doomed.read().contains_key(id)
    }

    /// Refuses when changes no longer reach the disk.
    pub(super) fn check(&self) -> Result<()> {
        match self.projection.failed() {
            Some(reason) => Err(Error::ReadOnly(reason)),
            None => Ok(()),
        }
    }

    /// Tells of chunks that were written. `cover` is asked, when nobody else
    /// changes the index, for the position that this brings it to.
    pub(super) fn publish(&self, entries: &[(ChunkId, Location)], cover: impl FnOnce() -> Covered) {
        let mut batch = self.writer.lock();
        let mut added = 0;
        for (id, location) in entries {
            // Two writers may have stored it at once. The later copy wins; it
            // is as good as the other. A doomed one is in the projection still.
            let known = self.cache.get(id).is_some() || matches!(self.stored(id), Ok(Some(_)));
            added += u64::from(!known);
            batch.put(key(id), encode_location(location));
            self.cache.insert(*id, *location);
        }
        self.chunks.fetch_add(added, Ordering::Relaxed);
        self.apply(&mut batch, Some(cover()));
        if self.any_doomed.load(Ordering::Acquire) {
            let mut doomed = self.doomed.write();
            for (id, _) in entries {
                doomed.remove(id);
            }
        }
    }

    /// Adds chunks that a scan found and that are not there yet. Leaves the
    /// covered position as it is.
    pub(super) fn recover(&self, entries: &[(ChunkId, Location)]) -> Result<()> {
        let mut batch = self.writer.lock();
        for (id, location) in entries {
            if self.stored(id)?.is_none() {
                batch.put(key(id), encode_location(location));
                self.chunks.fetch_add(1, Ordering::Relaxed);
                // One at a time: a chunk may be in the entries twice.
                self.apply(&mut batch, None);
            }
        }
        Ok(())
    }

    /// Takes a chunk out of the index; storing it again stores it anew.
    pub(super) fn forget(&self, id: &ChunkId) -> Result<()> {
        let mut batch = self.writer.lock();
        if self.stored(id)?.is_some() {
            batch.delete(key(id));
            let sub = |chunks: u64| Some(chunks.saturating_sub(1));
            let _ = self
                .chunks
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, sub);
            self.apply(&mut batch, None);
        }
        self.cache.remove(id);
        Ok(())
    }

    /// Notes that the index is complete up to a position.
    pub(super) fn cover(&self, cover: impl FnOnce() -> Covered) {
        let mut batch = self.writer.lock();
        self.apply(&mut batch, Some(cover()));
    }

    /// Points chunks that are still where they were to their copies. The
    /// caller holds the exclusive side of the hold lock.
    pub(super) fn relocate(
        &self,
        moves: &[(ChunkId, Location, Location)],
        cover: impl FnOnce() -> Covered,
    ) -> Result<()> {
        let mut batch = self.writer.lock();
        let mut current = Vec::with_capacity(moves.len());
        for (id, old, new) in moves {
            if self.stored(id)? == Some(*old) {
                current.push((id, new));
            }
        }
        for (id, new) in current {
            batch.put(key(id), encode_location(new));
            self.cache.insert(*id, *new);
        }
        self.apply(&mut batch, Some(cover()));
        Ok(())
    }

    /// Makes chunks disappear for everyone who asks, but not for a crash. The
    /// caller holds the exclusive side of the hold lock.
    pub(super) fn doom(&self, dead: &[(ChunkId, Location)]) {
        let mut doomed = self.doomed.write();
        self.any_doomed.store(true, Ordering::Release);
        for (id, location) in dead {
            doomed.insert(*id, *location);
            self.cache.remove(id);
        }
    }

    /// Takes all doomed chunks, but those that were stored anew, out of the
    /// index. Returns how many are gone.
    pub(super) fn bury(&self) -> Result<u64> {
        let mut batch = self.writer.lock();
        let buried = self.delete_doomed(&mut batch);
        self.forget_doomed();
        buried
    }

    /// Lets all doomed chunks live.
    pub(super) fn spare(&self) {
        let _batch = self.writer.lock();
        self.forget_doomed();
    }

    fn delete_doomed(&self, batch: &mut Batch) -> Result<u64> {
        let doomed: Vec<_> = self
            .doomed
            .read()
            .iter()
            .map(|(id, at)| (*id, *at))
            .collect();
        let mut dead = Vec::with_capacity(doomed.len());
        for (id, location) in doomed {
            if self.stored(&id)? == Some(location) {
                dead.push(id);
            }
        }
        dead.iter().for_each(|id| batch.delete(key(id)));
        let gone = dead.len() as u64;
        let sub = |chunks: u64| Some(chunks.saturating_sub(gone));
        let _ = self
            .chunks
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, sub);
        self.apply(batch, None);
        Ok(gone)
    }

    fn forget_doomed(&self) {
        self.doomed.write().clear();
        self.any_doomed.store(false, Ordering::Release);
    }

    /// Visits all chunks, those published meanwhile or not.
    pub(super) fn scan(
        &self,
        visit: &mut dyn FnMut(ChunkId, Location) -> Result<()>,
    ) -> Result<()> {
        let mut outcome = Ok(());
        self.projection
            .scan(&[CHUNK_KEY], &[CHUNK_KEY + 1], &mut |key, value| {
                let found = decode_key(key).and_then(|id| Ok((id, decode_location(value)?)));
                outcome = found.and_then(|(id, location)| visit(id, location));
                match outcome {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })?;
        outcome
    }

    pub(super) fn chunks(&self) -> u64 {
        self.chunks.load(Ordering::Relaxed)
    }

    fn apply(&self, batch: &mut Batch, covered: Option<Covered>) {
        if let Some(covered) = covered {
            let state = State {
                volume: self.volume,
                covered: covered.position,
                chunks: self.chunks(),
                bytes: covered.bytes,
            };
            batch.put(STATE_KEY, encode_state(&state));
        }
        if !batch.is_empty() {
            self.projection
                .apply(self.projection.applied().next(), batch);
        }
    }
}

fn key(id: &ChunkId) -> [u8; 33] {
    let mut key = [CHUNK_KEY; 33];
    key[1..].copy_from_slice(&id.0);
    key
}

fn decode_key(key: &[u8]) -> Result<ChunkId> {
    let id = key.get(1..).and_then(|id| id.try_into().ok());
    id.map(ChunkId)
        .ok_or_else(|| damaged("a key is no chunk id"))
}

fn damaged(what: &str) -> Error {
    Error::damaged("the chunk index", what)
}

fn encode_location(location: &Location) -> [u8; LOCATION_LEN] {
    let mut bytes = [0; LOCATION_LEN];
    let words = [
        location.segment,
        location.offset,
        location.sealed_len,
        location.info.plain_len,
        location.info.epoch.0,
    ];
    for (slot, word) in bytes.chunks_exact_mut(4).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Reads a location of the index.
pub(in crate::chunk) fn decode_location(bytes: &[u8]) -> Result<Location> {
    let bytes: &[u8; LOCATION_LEN] = bytes
        .try_into()
        .map_err(|_| damaged("a location has a wrong length"))?;
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let location = Location {
        segment: word(0),
        offset: word(4),
        sealed_len: word(8),
        info: ChunkInfo {
            plain_len: word(12),
            epoch: Epoch(word(16)),
        },
    };
    if location.sealed_len as usize > crate::chunk::segment::MAX_SEALED {
        return Err(damaged("a location tells of a chunk that is too long"));
    }
    Ok(location)
}

fn encode_state(state: &State) -> [u8; STATE_LEN] {
    let mut bytes = [0; STATE_LEN];
    bytes[..16].copy_from_slice(&state.volume.0);
    bytes[16..20].copy_from_slice(&state.covered.0.to_le_bytes());
    bytes[20..28].copy_from_slice(&state.covered.1.to_le_bytes());
    bytes[28..36].copy_from_slice(&state.chunks.to_le_bytes());
    bytes[36..].copy_from_slice(&state.bytes.to_le_bytes());
    bytes
}

fn decode_state(bytes: &[u8]) -> Option<State> {
    let (volume, rest) = bytes.split_first_chunk::<16>()?;
    let (segment, rest) = rest.split_first_chunk::<4>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (chunks, rest) = rest.split_first_chunk::<8>()?;
    let bytes: [u8; 8] = rest.try_into().ok()?;
    Some(State {
        volume: VolumeId(*volume),
        covered: (u32::from_le_bytes(*segment), u64::from_le_bytes(*offset)),
        chunks: u64::from_le_bytes(*chunks),
        bytes: u64::from_le_bytes(bytes),
    })
}

/// Hands bytes to everything that reads a record.
#[cfg(any(test, fuzzing))]
pub(crate) fn decoders(bytes: &[u8]) {
    if let Ok(location) = decode_location(bytes) {
        assert_eq!(encode_location(&location), bytes);
    }
    if let Some(state) = decode_state(bytes) {
        assert_eq!(encode_state(&state), bytes);
    }
    if let Ok(id) = decode_key(bytes) {
        assert_eq!(key(&id)[1..], bytes[1..]);
    }
}
