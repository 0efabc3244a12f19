//! Which bytes of which files cannot be read.

use std::collections::{BTreeMap, HashMap, HashSet};

use zeroize::Zeroizing;

use crate::{
    Error, Result,
    chunk::{ChunkInfo, ChunkService, Intact, LocalChunks, MAX_CHUNK},
    crypto::{self, FRAME, VolumeKeys},
    ids::{ChunkId, Ino},
    meta::{Extent, LocalMeta},
};

/// Bytes of a file that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// First byte.
    pub from: u64,
    /// The byte behind the last one.
    pub to: u64,
    /// Whether a repair has noted it already.
    pub is_known: bool,
}

/// Losses by file, in order of their offsets.
pub type Losses = BTreeMap<Ino, Vec<Loss>>;

/// Finds what cannot be read of all files. Without keys, all of a chunk is lost
/// with any part of it.
///
/// # Errors
/// What the disk says; `Damaged` when the tables cannot be read.
pub fn losses(
    meta: &LocalMeta,
    chunks: &LocalChunks,
    intact: &Intact,
    keys: Option<&VolumeKeys>,
) -> Result<Losses> {
    let mut noted = HashSet::new();
    meta.for_each_lost(&mut |id| {
        noted.insert(id);
    })?;
    let mut states = HashMap::new();
    let mut losses = Losses::new();
    let mut outcome = Ok(());
    meta.for_each_extent(&mut |ino, extent| {
        if outcome.is_ok() {
            outcome = of_extent(chunks, intact, keys, extent, &mut states).map(|lost| {
                let is_known = noted.contains(&extent.chunk);
                for (from, to) in lost {
                    add(losses.entry(ino).or_default(), Loss { from, to, is_known });
                }
            });
        }
    })?;
    outcome.map(|()| losses)
}

/// Adds a loss behind the others, or lengthens the last one.
fn add(losses: &mut Vec<Loss>, new: Loss) {
    match losses.last_mut() {
        Some(last) if last.to == new.from && last.is_known == new.is_known => last.to = new.to,
        _ => losses.push(new),
    }
}

/// Ranges of a chunk that do not open, and how long it is.
#[derive(Clone, Default)]
struct State {
    /// 0 when nothing is stored.
    len: u32,
    holes: Vec<(u32, u32)>,
}

/// Ranges of the file that an extent does not give.
fn of_extent(
    chunks: &LocalChunks,
    intact: &Intact,
    keys: Option<&VolumeKeys>,
    extent: &Extent,
    states: &mut HashMap<ChunkId, State>,
) -> Result<Vec<(u64, u64)>> {
    let id = &extent.chunk;
    let (first, end) = (
        extent.chunk_offset,
        extent.chunk_offset.saturating_add(extent.len),
    );
    let state = match chunks.info(id)? {
        None => &State::default(),
        Some(info) if chunks.is_intact(id, intact)? == Some(true) => &State {
            len: info.plain_len,
            holes: Vec::new(),
        },
        Some(info) => {
            if !states.contains_key(id) {
                let holes = match keys {
                    Some(keys) => holes(chunks, keys, id, info)?,
                    None => vec![(0, info.plain_len)],
                };
                let len = info.plain_len;
                states.insert(*id, State { len, holes });
            }
            &states[id]
        }
    };
    let behind = (end > state.len).then_some((state.len, end));
    let all = state.holes.iter().copied().chain(behind);
    let cut = all.map(|(from, to)| (from.max(first), to.min(end)));
    let in_file = |at: u32| extent.offset + u64::from(at - first);
    let lost = cut.filter(|(from, to)| from < to);
    Ok(lost
        .map(|(from, to)| (in_file(from), in_file(to)))
        .collect())
}

fn holes(
    chunks: &LocalChunks,
    keys: &VolumeKeys,
    id: &ChunkId,
    info: ChunkInfo,
) -> Result<Vec<(u32, u32)>> {
    let mut holes: Vec<(u32, u32)> = Vec::new();
    for (from, frame) in frames(chunks, keys, id, info)? {
        let to = (from + FRAME as u32).min(info.plain_len);
        match (frame, holes.last_mut()) {
            (Some(_), _) => {}
            (None, Some(last)) if last.1 == from => last.1 = to,
            (None, _) => holes.push((from, to)),
        }
    }
    Ok(holes)
}

/// Plaintext of a frame, if it opens.
pub(super) type Frame = Option<Zeroizing<Vec<u8>>>;

/// The frames of a chunk with their offsets in its plaintext, each read and
/// opened by itself.
pub(super) fn frames(
    chunks: &LocalChunks,
    keys: &VolumeKeys,
    id: &ChunkId,
    info: ChunkInfo,
) -> Result<Vec<(u32, Frame)>> {
    // Longer than any chunk: what the index says is not so.
    let len = info.plain_len.min(MAX_CHUNK as u32);
    let mut found = Vec::new();
    for from in (0..len).step_by(FRAME) {
        let to = (from + FRAME as u32).min(info.plain_len);
        let (first, offset, sealed_len) = crypto::frame_span(info, from, to);
        let mut sealed = vec![0; sealed_len as usize];
        let mut plain = Zeroizing::new(vec![0; (to - from) as usize]);
        let opened = chunks
            .read(id, offset, &mut sealed)
            .and_then(|()| keys.open_frames(id, info, first, &sealed, &mut plain));
        let frame = match opened {
            Ok(()) => Some(plain),
            Err(Error::Damaged { .. } | Error::MissingChunk(_) | Error::Invalid(_)) => None,
            Err(error) => return Err(error),
        };
        found.push((from, frame));
    }
    Ok(found)
}
