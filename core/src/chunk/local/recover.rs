//! Opening a store: bringing the index up to the segments.
//!
//! What the index covers is taken as it is. Behind that, every entry is read
//! and checked, and what is torn is marked as void, so that a later check of
//! all segments finds no traces of the crash. Nothing is ever cut off but the
//! last bytes of a file that are too few to be marked.

use std::{io, sync::Arc};

use parking_lot::RwLock;

use super::{
    LocalOptions, Location,
    index::{Index, State},
    segments::{Segments, void_header},
};
use crate::{
    Error, Result,
    chunk::segment::{
        ALIGN, ENTRY_HEADER_LEN, EntryHeader, EntryKind, Found, Place, SEGMENT_HEADER_LEN,
        SegmentHeader, decode_segment_header, encode_entry_header, encode_segment_header, scan,
    },
    host::{DiskFile, OpenMode},
    ids::ChunkId,
    kv::{NEVER, Projection, ProjectionOptions, RedbBackend},
    repair,
};

const INDEX_FILE: &str = "index.redb";

/// Opens the index of a store and scans what it does not cover.
pub(super) fn open(
    segments: &Arc<Segments>,
    hold: &Arc<RwLock<()>>,
    options: &LocalOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Index> {
    let mut index = open_index(segments, hold, options)?;
    let known = index.state()?;
    if known.is_none() && index.projection.applied().0 > 0 {
        // Of another volume, or the begin of a rebuild: rather from nothing.
        drop(index);
        remove_index(segments)?;
        index = open_index(segments, hold, options)?;
    }
    Recovery {
        segments,
        index: &index,
        known,
        read_only: options.read_only,
        progress,
    }
    .run()?;
    Ok(index)
}

fn open_index(
    segments: &Arc<Segments>,
    hold: &Arc<RwLock<()>>,
    options: &LocalOptions,
) -> Result<Index> {
    let path = format!("{}/{INDEX_FILE}", segments.dir);
    let owner = super::owner(segments.volume);
    let open = || RedbBackend::open(&segments.disk, &path, owner, options.index_bytes);
    let backend = match open() {
        Err(Error::Damaged { place, what }) => {
            // Set aside, for what lies there may be another file of the store.
            let aside = repair::set_aside(&*segments.disk, &path)?;
            tracing::warn!(%place, %what, aside, "the chunk index is damaged and built anew");
            open()?
        }
        opened => opened?,
    };
    let synced = segments.clone();
    // The index must not tell of bytes that a power loss can take.
    let before_checkpoint = Arc::new(move |_| synced.sync());
    let mut projection = ProjectionOptions::new(before_checkpoint);
    if options.read_only {
        // What a scan finds then is not synced, so it stays in memory.
        projection.checkpoint_every = NEVER;
    }
    if !options.unasked {
        projection = projection.only_when_asked();
    }
    let projection = Projection::open(Arc::new(backend), projection)?;
    let hold = hold.clone();
    Ok(Index::new(
        projection,
        segments.volume,
        hold,
        options.locations,
    ))
}

fn remove_index(segments: &Segments) -> Result<()> {
    let path = format!("{}/{INDEX_FILE}", segments.dir);
    match segments.disk.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {path}"), error))
        }
        _ => Ok(()),
    }
}

struct Recovery<'r> {
    segments: &'r Segments,
    index: &'r Index,
    /// What the index covers; nothing when it is new.
    known: Option<State>,
    read_only: bool,
    progress: &'r mut dyn FnMut(u64, u64),
}

/// A segment that is scanned.
struct Behind {
    number: u32,
    file: Arc<dyn DiskFile>,
    from: u64,
    len: u64,
    /// Whether the file says what it is.
    titled: bool,
}

impl Recovery<'_> {
    fn run(mut self) -> Result<()> {
        let numbers = self.segments.list()?;
        if self.known.is_none() && !numbers.is_empty() {
            tracing::warn!(
                dir = self.segments.dir,
                "the chunk index is built anew from the segments"
            );
        }
        let covered = self.known.map_or((0, 0), |state| state.covered);
        let mut behind = Vec::new();
        for number in numbers
            .iter()
            .copied()
            .filter(|number| *number >= covered.0)
        {
            behind.push(self.look(number, if number == covered.0 { covered.1 } else { 0 })?);
        }
        let rest = |segment: &Behind| segment.len.saturating_sub(segment.from);
        let total: u64 = behind.iter().map(rest).sum();
        let mut done = 0;
        for segment in &mut behind {
            self.scan(segment)?;
            done += rest(segment);
            (self.progress)(done, total);
        }
        self.resume(&numbers, &behind)?;
        self.cover()
    }

    fn look(&self, number: u32, from: u64) -> Result<Behind> {
        let mode = if self.read_only {
            OpenMode::Read
        } else {
            OpenMode::Write
        };
        let segments = self.segments;
        let file = segments
            .disk
            .open(&segments.path(number), mode)
            .map_err(|error| segments.io("open", number, error))?;
        let len = file
            .len()
            .map_err(|error| segments.io("look at", number, error))?;
        let mut header = [0; SEGMENT_HEADER_LEN];
        let titled = match file.read_exact_at(&mut header, 0) {
            Ok(()) => match decode_segment_header(&header) {
                Ok(header) => header.volume == segments.volume && header.number == number,
                Err(error @ Error::FormatVersion { .. }) => return Err(error),
                Err(_) => false,
            },
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(segments.io("read", number, error)),
        };
        Ok(Behind {
            number,
            file,
            from: from.max(SEGMENT_HEADER_LEN as u64).next_multiple_of(ALIGN),
            len,
            titled,
        })
    }

    /// Brings the entries of a segment into the index.
    fn scan(&mut self, segment: &mut Behind) -> Result<()> {
        let segments = self.segments;
        if !self.read_only {
            // What a process wrote that was killed may be in memory only, and
            // the index must not be durable before it.
            sync(segments, segment)?;
        }
        let mut found: Vec<(ChunkId, Location)> = Vec::new();
        let mut torn = Vec::new();
        let number = segment.number;
        let (from, len) = (segment.from, segment.len);
        scan(
            &*segment.file,
            segments.volume,
            number,
            from,
            len,
            &mut |part, _| {
                match part {
                    Found::Chunk {
                        offset,
                        header,
                        whole: true,
                        ..
                    } => {
                        found.push((header.id, location(number, offset, &header)));
                    }
                    Found::Void { .. } => {}
                    part => torn.push(part),
                }
                if found.len() >= 1024 {
                    self.index.recover(&found)?;
                    found.clear();
                }
                Ok(())
            },
        )?;
        self.index.recover(&found)?;
        // Without an index nobody knows whether a crash or decay did it.
        if self.known.is_some() && !self.read_only && !(torn.is_empty() && segment.titled) {
            self.mark(segment, &torn)
                .map_err(|error| segments.io("repair", number, error))?;
            sync(segments, segment)?;
        }
        Ok(())
    }

    /// Marks what is torn, so that the next scan steps over it.
    fn mark(&self, segment: &mut Behind, torn: &[Found]) -> io::Result<()> {
        let volume = self.segments.volume;
        let number = segment.number;
        if !segment.titled {
            let title = encode_segment_header(&SegmentHeader { volume, number });
            segment.file.write_at(&title, 0)?;
            segment.len = segment.len.max(SEGMENT_HEADER_LEN as u64);
            segment.titled = true;
        }
        for part in torn {
            let (offset, bytes) = match *part {
                Found::Void { .. } => continue,
                Found::Chunk {
                    offset,
                    header,
                    end,
                    ..
                } => {
                    // Never over the end of the file, where the next entry goes.
                    let end = end.min(segment.len.next_multiple_of(ALIGN));
                    let void = EntryHeader {
                        kind: EntryKind::Void,
                        sealed_len: (end - u64::from(offset)) as u32 - ENTRY_HEADER_LEN as u32,
                        ..header
                    };
                    let place = Place {
                        volume,
                        segment: number,
                        offset,
                    };
                    (u64::from(offset), encode_entry_header(&void, place))
                }
                Found::Gap { offset, len } if len as usize >= ENTRY_HEADER_LEN => {
                    let offset = u64::from(offset);
                    (offset, void_header(volume, number, offset, u64::from(len)))
                }
                Found::Gap { offset, len } => {
                    if u64::from(offset) + u64::from(len) >= segment.len {
                        segment.len = u64::from(offset);
                        segment.file.set_len(segment.len)?;
                    }
                    continue;
                }
            };
            segment.file.write_at(&bytes, offset)?;
        }
        Ok(())
    }

    /// Tells the segments where to go on.
    fn resume(&self, numbers: &[u32], behind: &[Behind]) -> Result<()> {
        let (state_bytes, covered) = match self.known {
            Some(state) => (state.bytes, state.covered),
            None => (0, (0, 0)),
        };
        let grown: u64 = behind
            .iter()
            .map(|segment| match segment.number == covered.0 {
                true => segment.len.saturating_sub(covered.1),
                false => segment.len,
            })
            .sum();
        let begun = if covered.1 == 0 {
            covered.0.saturating_sub(1)
        } else {
            covered.0
        };
        let last = numbers.last().copied().unwrap_or(0).max(begun);
        let append = behind
            .last()
            .filter(|segment| segment.number == last && segment.titled && !self.read_only)
            // A file that lost its end is not written where the index
            // still tells of chunks.
            .map(|segment| segment.len.max(segment.from));
        let count = numbers.len() as u64;
        self.segments
            .resume(count, state_bytes + grown, last, append)
    }

    fn cover(&self) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        let dir = &self.segments.dir;
        self.segments
            .disk
            .sync_dir(dir)
            .map_err(|error| Error::io(format!("sync {dir}"), error))?;
        self.index.cover(|| self.segments.covered());
        if self.known.is_none() {
            // So that the next open does not do it all again, and can tell
            // what a crash tears from damage.
            self.index.projection.checkpoint()?;
        }
        Ok(())
    }
}

fn sync(segments: &Segments, segment: &Behind) -> Result<()> {
    segment
        .file
        .sync_data()
        .map_err(|error| segments.io("sync", segment.number, error))
}

fn location(segment: u32, offset: u32, header: &EntryHeader) -> Location {
    Location {
        segment,
        offset,
        sealed_len: header.sealed_len,
        info: header.info,
    }
}
