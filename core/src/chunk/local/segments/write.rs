//! Writing into reserved space.

use std::{io, sync::atomic::Ordering};

use super::{Location, Reservation, Segments};
use crate::{
    Error, Result,
    chunk::{
        ChunkInfo, SealedChunk,
        segment::{
            ENTRY_HEADER_LEN, EntryHeader, EntryKind, Place, checksum, encode_entry_header,
            entry_span,
        },
    },
    ids::{ChunkId, Epoch, VolumeId},
};

/// Written bytes after which the machine is asked to begin writing them back,
/// so that a sync finds little left to do.
const WRITEBACK: u64 = 8 << 20;

/// Frames of at least this length are written from where they are; shorter
/// ones are copied together first.
const COALESCE_BELOW: usize = 32 << 10;

impl Segments {
    /// Writes chunks into their space and says where each is. To be followed
    /// by [`Segments::publish`]; after an error the space is given up.
    ///
    /// # Errors
    /// `NoSpace`, after which the store goes on; others make it read-only.
    pub(in crate::chunk::local) fn write(
        &self,
        space: &Reservation,
        chunks: &[&SealedChunk],
    ) -> Result<Vec<Location>> {
        match self.write_entries(space, chunks) {
            Ok(locations) => {
                let segment = &space.segment;
                // In this order: a sync that has counted the write sees the flag.
                segment.dirty.store(true, Ordering::Release);
                self.written.fetch_add(1, Ordering::Release);
                segment.start_writeback(space.offset + space.len, WRITEBACK);
                Ok(locations)
            }
            Err(error) => {
                let error = self.io("write", space.segment.number, error);
                if !matches!(error, Error::NoSpace) {
                    self.fail(&error);
                }
                self.give_up(space);
                Err(error)
            }
        }
    }

    fn write_entries(
        &self,
        space: &Reservation,
        chunks: &[&SealedChunk],
    ) -> io::Result<Vec<Location>> {
        let segment = &space.segment;
        let mut locations = Vec::with_capacity(chunks.len());
        // Headers and short frames that wait to be written, and where they go.
        let mut buffer = Vec::with_capacity(COALESCE_BELOW.min(space.len as usize));
        let mut buffer_at = space.offset;
        let mut at = space.offset;
        for chunk in chunks {
            let sealed_len = chunk.frames.len() as u32;
            let place = Place {
                volume: self.volume,
                segment: segment.number,
                offset: at as u32,
            };
            let header = EntryHeader {
                kind: EntryKind::Chunk,
                id: chunk.id,
                info: chunk.info,
                sealed_len,
                checksum: checksum(&chunk.frames),
            };
            buffer.resize((at - buffer_at) as usize, 0);
            buffer.extend_from_slice(&encode_entry_header(&header, place));
            if chunk.frames.len() < COALESCE_BELOW {
                buffer.extend_from_slice(&chunk.frames);
            }
            let end = at + ENTRY_HEADER_LEN as u64 + u64::from(sealed_len);
            if chunk.frames.len() >= COALESCE_BELOW {
                segment.file.write_at(&buffer, buffer_at)?;
                segment
                    .file
                    .write_at(&chunk.frames, at + ENTRY_HEADER_LEN as u64)?;
                buffer.clear();
                buffer_at = end;
            } else if buffer.len() >= COALESCE_BELOW {
                segment.file.write_at(&buffer, buffer_at)?;
                buffer.clear();
                buffer_at = end;
            }
            locations.push(Location {
                segment: segment.number,
                offset: at as u32,
                sealed_len,
                info: chunk.info,
            });
            at += entry_span(sealed_len);
        }
        if !buffer.is_empty() {
            segment.file.write_at(&buffer, buffer_at)?;
        }
        Ok(locations)
    }

    /// Takes back space that could not be written. Where others wrote behind
    /// it, it is marked as void, now or at a later sync.
    fn give_up(&self, space: &Reservation) {
        let mut tail = self.tail.lock();
        let number = space.segment.number;
        tail.in_flight.remove(&(number, space.offset));
        let active = tail
            .active
            .as_ref()
            .is_some_and(|active| active.number == number);
        if active && tail.end == space.offset + space.len {
            tail.end = space.offset;
            self.bytes.fetch_sub(space.len, Ordering::Relaxed);
            // With the lock, so that nobody writes there meanwhile. What stays
            // when this fails is only in the way of a check.
            let file = &space.segment.file;
            if file.len().is_ok_and(|len| len > space.offset) {
                let _ = file.set_len(space.offset);
            }
        } else {
            tail.unmarked
                .push((space.segment.clone(), space.offset, space.len));
            drop(tail);
            self.mark_voids();
        }
    }

    pub(super) fn mark_voids(&self) {
        let voids = std::mem::take(&mut self.tail.lock().unmarked);
        for (segment, offset, len) in voids {
            let header = void_header(self.volume, segment.number, offset, len);
            match segment.file.write_at(&header, offset) {
                Ok(()) => {
                    segment.dirty.store(true, Ordering::Release);
                    self.written.fetch_add(1, Ordering::Release);
                }
                Err(_) => self.tail.lock().unmarked.push((segment, offset, len)),
            }
        }
    }
}

/// The header that marks `len` bytes from `offset` on as holding nothing.
pub(in crate::chunk::local) fn void_header(
    volume: VolumeId,
    segment: u32,
    offset: u64,
    len: u64,
) -> [u8; ENTRY_HEADER_LEN] {
    let header = EntryHeader {
        kind: EntryKind::Void,
        id: ChunkId([0; 32]),
        info: ChunkInfo {
            plain_len: 0,
            epoch: Epoch(0),
        },
        sealed_len: len.saturating_sub(ENTRY_HEADER_LEN as u64) as u32,
        checksum: 0,
    };
    let place = Place {
        volume,
        segment,
        offset: offset as u32,
    };
    encode_entry_header(&header, place)
}
