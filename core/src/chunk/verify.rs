//! Checking segments.
//!
//! Promises `fsck` that every byte of every segment was looked at: what is not
//! reported is a chunk with the bytes that were written, or known to be none.
//! A store that was killed has to be opened once before, which marks what the
//! crash tore. Without a key the checksums are compared; with one, every frame
//! is opened as well. Segments are read by all cores at once, each of which
//! needs memory for two chunks and eight bytes for every chunk of a segment.

use std::{
    collections::HashMap,
    num::NonZero,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use zeroize::Zeroizing;

use crate::{
    Error, Result,
    chunk::{
        local::list,
        segment::{EntryHeader, Found, SEGMENT_HEADER_LEN, decode_segment_header, file_name, scan},
    },
    crypto::{self, VolumeKeys},
    host::{Disk, DiskFile, OpenMode},
    ids::{ChunkId, VolumeId},
};

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The segment file, below the directory of the store.
    pub path: String,
    /// Number of the segment.
    pub segment: u32,
    /// Where in the file.
    pub offset: u32,
    /// Bytes that are damaged, with the headers of entries; 0 for the header of
    /// the file.
    pub len: u32,
    /// The chunk that cannot be read, where that is known.
    pub chunk: Option<ChunkId>,
    /// What does not hold.
    pub what: String,
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Segment files.
    pub segments: u64,
    /// Chunks whose bytes are intact, counted once for each copy.
    pub chunks: u64,
    /// Bytes of plaintext in them.
    pub plain_bytes: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Things reported.
    pub problems: u64,
    /// Where intact chunks are.
    pub intact: Intact,
}

/// Where the intact entries of all segments are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intact {
    /// By segment: offset and the first bytes of the id, in order.
    entries: HashMap<u32, Vec<(u32, u32)>>,
}

impl Intact {
    /// Whether there is an intact copy of a chunk at a place.
    pub(super) fn holds(&self, segment: u32, offset: u32, id: &ChunkId) -> bool {
        let entry = (offset, begin_of(id));
        let found = self.entries.get(&segment);
        found.is_some_and(|entries| entries.binary_search(&entry).is_ok())
    }

    /// Whether there is such a segment.
    pub(super) fn has_segment(&self, segment: u32) -> bool {
        self.entries.contains_key(&segment)
    }
}

fn begin_of(id: &ChunkId) -> u32 {
    let [a, b, c, d, ..] = id.0;
    u32::from_le_bytes([a, b, c, d])
}

/// What was found in one segment.
struct Outcome {
    segment: u32,
    len: u64,
    plain_bytes: u64,
    intact: Vec<(u32, u32)>,
    problems: Vec<Problem>,
}

/// Checks all segments in `dir`. `progress` is told bytes looked at and bytes
/// in all, `report` what does not hold, in the order of the segments.
///
/// # Errors
/// `Io` when the directory or a file cannot be read, `FormatVersion` when a
/// newer kiseki wrote a segment; damage is no error but reported.
pub fn verify(
    disk: &dyn Disk,
    dir: &str,
    volume: VolumeId,
    keys: Option<&VolumeKeys>,
    progress: &mut dyn FnMut(u64, u64),
    report: &mut dyn FnMut(Problem),
) -> Result<Verified> {
    let mut files = Vec::new();
    let mut total = 0;
    for segment in list(disk, dir)? {
        let path = format!("{dir}/{}", file_name(segment));
        let len = open(disk, &path)?.len();
        let len = len.map_err(|error| Error::io(format!("look at {path}"), error))?;
        total += len;
        files.push((segment, path, len));
    }
    let mut verified = Verified::default();
    let mut problems = Vec::new();
    let next = AtomicUsize::new(0);
    let cores = thread::available_parallelism().map_or(2, NonZero::get);
    let (tell, told) = crossbeam_channel::bounded(cores);
    thread::scope(|scope| {
        for _ in 0..cores.min(files.len()) {
            let (tell, next, files) = (tell.clone(), &next, &files);
            scope.spawn(move || {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // Nobody listens any more once there was an error.
                    if tell.send(look(disk, file, volume, keys)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(tell);
        for outcome in &told {
            let outcome: Outcome = outcome?;
            verified.segments += 1;
            verified.bytes += outcome.len;
            verified.chunks += outcome.intact.len() as u64;
            verified.plain_bytes += outcome.plain_bytes;
            verified.problems += outcome.problems.len() as u64;
            let intact = &mut verified.intact.entries;
            intact.insert(outcome.segment, outcome.intact);
            problems.extend(outcome.problems);
            progress(verified.bytes, total);
        }
        drop(told);
        Ok(())
    })?;
    problems.sort_by_key(|problem| (problem.segment, problem.offset));
    problems.into_iter().for_each(report);
    Ok(verified)
}

fn open(disk: &dyn Disk, path: &str) -> Result<std::sync::Arc<dyn DiskFile>> {
    disk.open(path, OpenMode::Read)
        .map_err(|error| Error::io(format!("open {path}"), error))
}

fn look(
    disk: &dyn Disk,
    (segment, path, len): &(u32, String, u64),
    volume: VolumeId,
    keys: Option<&VolumeKeys>,
) -> Result<Outcome> {
    let file = open(disk, path)?;
    let mut check = Check {
        path,
        volume,
        keys,
        plain: Zeroizing::default(),
        outcome: Outcome {
            segment: *segment,
            len: *len,
            plain_bytes: 0,
            intact: Vec::new(),
            problems: Vec::new(),
        },
    };
    check.title(&*file, *len)?;
    check.entries(&*file, *len)?;
    Ok(check.outcome)
}

struct Check<'c> {
    path: &'c str,
    volume: VolumeId,
    keys: Option<&'c VolumeKeys>,
    plain: Zeroizing<Vec<u8>>,
    outcome: Outcome,
}

impl Check<'_> {
    fn report(&mut self, (offset, len): (u32, u32), chunk: Option<ChunkId>, what: String) {
        self.outcome.problems.push(Problem {
            path: self.path.to_owned(),
            segment: self.outcome.segment,
            offset,
            len,
            chunk,
            what,
        });
    }

    fn title(&mut self, file: &dyn DiskFile, len: u64) -> Result<()> {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        let header = &mut bytes[..SEGMENT_HEADER_LEN.min(len as usize)];
        file.read_exact_at(header, 0)
            .map_err(|error| Error::io(format!("read {}", self.path), error))?;
        let what = match decode_segment_header(header) {
            Ok(header) if header.volume != self.volume => {
                format!("it belongs to volume {}", header.volume)
            }
            Ok(header) if header.number != self.outcome.segment => {
                format!("it was written as {}", file_name(header.number))
            }
            Ok(_) => return Ok(()),
            Err(error @ Error::FormatVersion { .. }) => return Err(error),
            Err(error) => error.to_string(),
        };
        self.report((0, 0), None, what);
        Ok(())
    }

    fn entries(&mut self, file: &dyn DiskFile, len: u64) -> Result<()> {
        let (volume, segment) = (self.volume, self.outcome.segment);
        let begin = SEGMENT_HEADER_LEN as u64;
        scan(file, volume, segment, begin, len, &mut |found, sealed| {
            match found {
                Found::Chunk {
                    offset,
                    header,
                    whole,
                    end,
                } => {
                    let span = (offset, (end - u64::from(offset)) as u32);
                    if !whole {
                        let what = "the stored bytes do not match their checksum".to_owned();
                        self.report(span, Some(header.id), what);
                    } else if let Err(error) = self.opens(&header, sealed) {
                        self.report(span, Some(header.id), error.to_string());
                    } else {
                        let entry = (offset, begin_of(&header.id));
                        self.outcome.intact.push(entry);
                        self.outcome.plain_bytes += u64::from(header.info.plain_len);
                    }
                }
                Found::Void { .. } => {}
                Found::Gap { offset, len } => {
                    let what = format!("{len} bytes are no chunk; chunks there are lost");
                    self.report((offset, len), None, what);
                }
            }
            Ok(())
        })
    }

    /// Whether the key opens all frames of an entry.
    fn opens(&mut self, header: &EntryHeader, sealed: &[u8]) -> Result<()> {
        let Some(keys) = self.keys else { return Ok(()) };
        self.plain.resize(header.info.plain_len as usize, 0);
        if crypto::sealed_len(header.info.plain_len) as usize != sealed.len() {
            let what = "its lengths do not agree";
            return Err(Error::damaged(format!("chunk {}", header.id), what));
        }
        keys.open_frames(&header.id, header.info, 0, sealed, &mut self.plain)
    }
}
