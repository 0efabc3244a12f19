//! What repair does to a chunk store that nobody uses.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{LocalChunks, Location};
use crate::{
    Error, Result,
    chunk::{
        Intact, Problem,
        segment::{ALIGN, ENTRY_HEADER_LEN, SegmentHeader, encode_segment_header},
        verify,
    },
    host::{Disk, DiskFile, OpenMode},
    ids::{ChunkId, VolumeId},
};

use super::segments::void_header;

impl LocalChunks {
    /// Whether the copy of a chunk that readers are sent to is an intact one;
    /// nothing when the chunk is not stored.
    ///
    /// # Errors
    /// What the disk says.
    pub fn is_intact(&self, id: &ChunkId, intact: &Intact) -> Result<Option<bool>> {
        let at = self.index.get(id)?;
        Ok(at.map(|at| intact.holds(at.segment, at.offset, id)))
    }

    /// Chunks whose copy is not an intact one.
    ///
    /// # Errors
    /// What the disk says.
    pub fn suspects(&self, intact: &Intact) -> Result<Vec<ChunkId>> {
        let mut found = Vec::new();
        self.index.scan(&mut |id, at: Location| {
            if !intact.holds(at.segment, at.offset, &id) {
                found.push(id);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// How many chunks of the index are not where it says, by the path of the
    /// segment; and whether there is such a file.
    ///
    /// # Errors
    /// What the disk says.
    pub fn absent(&self, intact: &Intact) -> Result<BTreeMap<String, (u64, bool)>> {
        let mut found: BTreeMap<u32, u64> = BTreeMap::new();
        self.index.scan(&mut |id, at: Location| {
            if !intact.holds(at.segment, at.offset, &id) {
                *found.entry(at.segment).or_default() += 1;
            }
            Ok(())
        })?;
        let found = found.into_iter().map(|(segment, count)| {
            let is_there = intact.has_segment(segment);
            (self.segments.path(segment), (count, is_there))
        });
        Ok(found.collect())
    }

    /// Writes no more to the segments there are.
    ///
    /// # Errors
    /// What the disk says.
    pub fn begin_segment(&self) -> Result<()> {
        self.check_writable()?;
        self.segments.seal().map(drop)
    }
}

/// Marks what is damaged in the segments in `dir` as holding nothing, so that
/// they can be read from one end to the other again. Only headers are written
/// over. To be called when no chunk that is needed is in such a place, and the
/// store is not open. Returns how many places were marked.
///
/// # Errors
/// What the disk says.
pub fn void_damage(disk: &dyn Disk, dir: &str, volume: VolumeId) -> Result<u64> {
    let mut problems = Vec::new();
    verify(disk, dir, volume, None, &mut |_, _| {}, &mut |problem| {
        problems.push(problem);
    })?;
    for problem in &problems {
        let failed = |error| Error::io(format!("mark damage in {}", problem.path), error);
        let file = disk.open(&problem.path, OpenMode::Write).map_err(failed)?;
        void(&file, volume, problem).map_err(failed)?;
        file.sync_data().map_err(failed)?;
    }
    Ok(problems.len() as u64)
}

fn void(file: &Arc<dyn DiskFile>, volume: VolumeId, problem: &Problem) -> io::Result<()> {
    let number = problem.segment;
    if problem.len == 0 {
        return file.write_at(&encode_segment_header(&SegmentHeader { volume, number }), 0);
    }
    let offset = u64::from(problem.offset);
    let end = file
        .len()?
        .next_multiple_of(ALIGN)
        .min(offset + u64::from(problem.len));
    match end.saturating_sub(offset) {
        // Too short for a mark, and so at the end of the file.
        len if len < ENTRY_HEADER_LEN as u64 => file.set_len(offset),
        len => file.write_at(&void_header(volume, number, offset, len), offset),
    }
}
