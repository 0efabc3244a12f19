//! Chunks that do not open: what is whole of them is kept.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::losses::{Frame, frames};
use crate::{
    Error, Result,
    chunk::{
        ChunkInfo, ChunkService, LocalChunks, LocalOptions, SealedChunk, local::void_damage, verify,
    },
    crypto::{FRAME, VolumeKeys, sealed_len},
    host::Disk,
    ids::{ChunkId, Ino},
    meta::{AttrChange, Body, Command, Extent, LocalMeta, MetaOptions, MetaService, key::Key},
    store::VolumeRecord,
};

/// Most extents of one command.
const EXTENTS: usize = 4096;

/// Brings a chunk store back to where every chunk it tells of can be read, and
/// every byte of its segments is a chunk or known to be none. Frames that open
/// are kept, those of damaged chunks as chunks of their own; what is lost
/// beyond that is noted in the tables. Says what was done.
///
/// # Errors
/// What the disk says; `Damaged` when the tables cannot be read.
pub fn mend_chunks(
    disk: &Arc<dyn Disk>,
    record: &VolumeRecord,
    keys: &VolumeKeys,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<String>> {
    let dir = format!("{}/chunks", record.dir());
    let mut done = Vec::new();
    let open_chunks = || {
        let options = LocalOptions::default();
        LocalChunks::open(disk.clone(), &dir, record.id, options, &mut |_, _| {})
    };
    let mut chunks = open_chunks()?;
    let barrier: Arc<Mutex<Option<Arc<LocalChunks>>>> = Arc::default();
    let synced = barrier.clone();
    let options = MetaOptions {
        signing_key: Some(keys.log_signing_key()),
        barrier: Arc::new(move || match &*synced.lock() {
            Some(chunks) => chunks.sync(),
            None => Ok(()),
        }),
        ..MetaOptions::default()
    };
    let meta = LocalMeta::open(disk.clone(), &record.dir(), record.id, options)?;
    if !lost(&meta, &chunks)?.is_subset(&noted(&meta)?) {
        // The index may have lost them alone.
        drop(chunks);
        let index = super::index_path(record);
        disk.remove(&index)
            .map_err(|error| Error::io(format!("remove {index}"), error))?;
        chunks = open_chunks()?;
    }
    *barrier.lock() = Some(chunks.clone());
    let found = verify(&**disk, &dir, record.id, Some(keys), progress, &mut |_| {})?;
    let mut mend = Mend {
        chunks: &chunks,
        meta: &meta,
        keys,
        pieces: HashMap::new(),
        saved: 0,
    };
    let suspects = chunks.suspects(&found.intact)?;
    if found.problems > 0 || !suspects.is_empty() {
        // Damaged segments are closed: nothing is written to them any more.
        chunks.begin_segment()?;
        for id in &suspects {
            mend.chunk(id)?;
        }
        chunks.sync()?;
        mend.rewrite()?;
    }
    done.extend(mend.describe(suspects.len()));
    done.extend(note_lost(&meta, &chunks)?);
    meta.close()?;
    chunks.checkpoint()?;
    drop((meta, barrier, chunks));
    if found.problems > 0 {
        let count = void_damage(&**disk, &dir, record.id)?;
        done.push(format!(
            "{count} damaged places in segments are marked as empty"
        ));
    }
    Ok(done)
}

struct Mend<'m> {
    chunks: &'m LocalChunks,
    meta: &'m LocalMeta,
    keys: &'m VolumeKeys,
    /// For chunks of which a part opens: where such parts begin, and the chunks
    /// that hold them now.
    pieces: HashMap<ChunkId, Vec<Piece>>,
    /// Chunks that were stored anew as they were.
    saved: usize,
}

struct Piece {
    from: u32,
    len: u32,
    id: ChunkId,
}

impl Mend<'_> {
    /// Stores what opens of a chunk again, and forgets the damaged copy.
    fn chunk(&mut self, id: &ChunkId) -> Result<()> {
        let Some(info) = self.chunks.info(id)? else {
            return Ok(());
        };
        let frames = frames(self.chunks, self.keys, id, info)?;
        let is_whole = info.plain_len as usize <= frames.len() * FRAME
            && frames.iter().all(|(_, frame)| frame.is_some());
        if is_whole {
            self.again(id, info)?;
            self.saved += 1;
            return Ok(());
        }
        self.chunks.forget(id)?;
        let mut pieces = Vec::new();
        for (from, plain) in runs(frames) {
            let piece = self.keys.chunk_id(&plain);
            let (info, sealed) = self.keys.seal_chunk(&piece, &plain)?;
            self.chunks.put(&[SealedChunk {
                id: piece,
                info,
                frames: sealed.into(),
            }])?;
            pieces.push(Piece {
                from,
                len: info.plain_len,
                id: piece,
            });
        }
        if !pieces.is_empty() {
            self.pieces.insert(*id, pieces);
        }
        Ok(())
    }

    /// Only the header of the entry is damaged, or its checksum: writes it
    /// anew elsewhere.
    fn again(&self, id: &ChunkId, info: ChunkInfo) -> Result<()> {
        let mut frames = vec![0; sealed_len(info.plain_len) as usize];
        self.chunks.read(id, 0, &mut frames)?;
        self.chunks.forget(id)?;
        self.chunks.put(&[SealedChunk {
            id: *id,
            info,
            frames: Bytes::from(frames),
        }])
    }

    /// Points files to the pieces of damaged chunks. What is lost goes on to
    /// refer to the old chunk, so that writing the same again heals it.
    fn rewrite(&self) -> Result<()> {
        let mut changes: BTreeMap<Ino, Vec<Extent>> = BTreeMap::new();
        self.meta.for_each_extent(&mut |ino, extent| {
            for piece in self.pieces.get(&extent.chunk).into_iter().flatten() {
                let end = extent.chunk_offset.saturating_add(extent.len);
                let from = piece.from.max(extent.chunk_offset);
                let to = (piece.from + piece.len).min(end);
                if from < to {
                    changes.entry(ino).or_default().push(Extent {
                        offset: extent.offset + u64::from(from - extent.chunk_offset),
                        len: to - from,
                        chunk: piece.id,
                        chunk_offset: from - piece.from,
                    });
                }
            }
        })?;
        for (ino, extents) in changes {
            for part in extents.chunks(EXTENTS) {
                let command = Command::Write {
                    ino,
                    body: Body::Extents(part.to_vec()),
                    change: AttrChange::default(),
                };
                self.meta.apply(command).wait()?;
            }
        }
        Ok(())
    }

    fn describe(&self, suspects: usize) -> Vec<String> {
        let mut done = Vec::new();
        if self.saved > 0 {
            done.push(format!(
                "{} chunks are stored anew, as they were",
                self.saved
            ));
        }
        if suspects > self.saved {
            done.push(format!(
                "{} chunks have lost bytes; what opens of {} of them is kept",
                suspects - self.saved,
                self.pieces.len()
            ));
        }
        done
    }
}

/// Runs of frames that open, joined.
fn runs(frames: Vec<(u32, Frame)>) -> Vec<(u32, Zeroizing<Vec<u8>>)> {
    let mut runs: Vec<(u32, Zeroizing<Vec<u8>>)> = Vec::new();
    for (from, frame) in frames {
        let Some(frame) = frame else { continue };
        match runs.last_mut() {
            Some((begin, run)) if *begin as usize + run.len() == from as usize => {
                run.extend_from_slice(&frame);
            }
            _ => runs.push((from, frame)),
        }
    }
    runs
}

/// Notes in the tables which chunks are lost, so that they are told from those
/// that will be lost later.
fn note_lost(meta: &LocalMeta, chunks: &LocalChunks) -> Result<Option<String>> {
    let (lost, noted) = (lost(meta, chunks)?, noted(meta)?);
    let new = lost.difference(&noted).map(|id| (id, Some(Vec::new())));
    let found_again = noted.difference(&lost).map(|id| (id, None));
    let records: Vec<_> = new
        .chain(found_again)
        .map(|(id, value)| (Key::lost(id).to_vec(), value))
        .collect();
    for part in records.chunks(EXTENTS) {
        let records = part.to_vec();
        meta.apply(Command::Amend { records }).wait()?;
    }
    let count = lost.difference(&noted).count();
    Ok((count > 0).then(|| {
        format!("{count} lost chunks are noted; writing the same content again heals their files")
    }))
}

/// Chunks that files refer to and that are not stored.
fn lost(meta: &LocalMeta, chunks: &LocalChunks) -> Result<BTreeSet<ChunkId>> {
    let mut lost = BTreeSet::new();
    let mut outcome = Ok(());
    meta.for_each_reference(&mut |id, _| match chunks.info(&id) {
        Ok(Some(_)) => {}
        Ok(None) => {
            lost.insert(id);
        }
        Err(error) => outcome = Err(error),
    })?;
    outcome.map(|()| lost)
}

/// Chunks of which an earlier repair noted that they are lost.
fn noted(meta: &LocalMeta) -> Result<BTreeSet<ChunkId>> {
    let mut noted = BTreeSet::new();
    meta.for_each_lost(&mut |id| {
        noted.insert(id);
    })?;
    Ok(noted)
}
