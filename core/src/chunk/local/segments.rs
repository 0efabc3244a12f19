//! The segment files of a store: appending, syncing, reading.
//!
//! Promises the store above: bytes handed to [`Segments::write`] stand where
//! the reservation says, survive power loss after a [`Segments::sync`] that
//! begins later, and are found by a scan whatever happens to the writes around
//! them. Writers share a lock only to reserve space.

mod sync;
mod write;

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use quick_cache::sync::Cache;

pub(super) use self::write::void_header;
use super::{Covered, LocalOptions, Location, Position};
use crate::{
    Error, Result,
    chunk::segment::{
        ALIGN, SEGMENT_HEADER_LEN, SegmentHeader, encode_segment_header, entry_span, file_name,
        parse_file_name,
    },
    host::{Disk, DiskFile, OpenMode},
    ids::VolumeId,
};

/// What writers hold of a segment.
pub(super) struct Segment {
    number: u32,
    file: Arc<dyn DiskFile>,
    /// Whether something was written that no sync has covered.
    dirty: AtomicBool,
    /// Up to where writing back was asked for.
    written_back: AtomicU64,
}

impl Segment {
    /// Asks the machine to begin writing back up to `end`, if that is at least
    /// `least` bytes more than it was asked for before.
    fn start_writeback(&self, end: u64, least: u64) {
        let from = self.written_back.load(Ordering::Relaxed);
        if end < from + least {
            return;
        }
        let changed =
            self.written_back
                .compare_exchange(from, end, Ordering::Relaxed, Ordering::Relaxed);
        if changed.is_ok() {
            self.file.start_writeback(from, end - from);
        }
    }
}

/// Space in a segment that is to be written.
pub(super) struct Reservation {
    segment: Arc<Segment>,
    offset: u64,
    len: u64,
}

/// What the reserving lock guards.
struct Tail {
    active: Option<Arc<Segment>>,
    /// Where the next entry of the active segment begins.
    end: u64,
    /// Number of the next segment.
    next: u32,
    /// Segments that may hold bytes without a sync.
    writing: Vec<Arc<Segment>>,
    /// Where reservations begin that no index entry tells of yet.
    in_flight: BTreeSet<Position>,
    /// Reserved space that could not be written and not be marked either.
    unmarked: Vec<(Arc<Segment>, u64, u64)>,
}

/// See the module.
pub(super) struct Segments {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: String,
    pub(super) volume: VolumeId,
    limit: u64,
    tail: Mutex<Tail>,
    /// Held to make a new segment, so that one writer does it.
    rotating: Mutex<()>,
    /// Held to sync, so that those who wait share the next one.
    syncing: Mutex<()>,
    /// Writes that are done.
    written: AtomicU64,
    /// Writes that a sync has covered.
    synced: AtomicU64,
    new_files: AtomicBool,
    failure: OnceLock<Arc<str>>,
    open: Cache<u32, Arc<dyn DiskFile>>,
    bytes: AtomicU64,
    count: AtomicU64,
}

impl Segments {
    /// The segments in `dir`, none of them open for writing yet.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: &str,
        volume: VolumeId,
        options: &LocalOptions,
    ) -> Segments {
        Segments {
            disk,
            dir: dir.to_owned(),
            volume,
            limit: options.segment_bytes,
            tail: Mutex::new(Tail {
                active: None,
                end: 0,
                next: 1,
                writing: Vec::new(),
                in_flight: BTreeSet::new(),
                unmarked: Vec::new(),
            }),
            rotating: Mutex::new(()),
            syncing: Mutex::new(()),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            new_files: AtomicBool::new(false),
            failure: OnceLock::new(),
            open: Cache::new(options.open_files.max(1)),
            bytes: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }

    pub(super) fn path(&self, segment: u32) -> String {
        format!("{}/{}", self.dir, file_name(segment))
    }

    pub(super) fn io(&self, what: &str, segment: u32, error: io::Error) -> Error {
        Error::io(format!("{what} {}", self.path(segment)), error)
    }

    /// Numbers of the segments there are, in order.
    pub(super) fn list(&self) -> Result<Vec<u32>> {
        list(&*self.disk, &self.dir)
    }

    /// Takes over what is there: `count` files of `bytes` together. Goes on
    /// numbering behind `last` and, if `append` gives its end, writing there.
    pub(super) fn resume(
        &self,
        count: u64,
        bytes: u64,
        last: u32,
        append: Option<u64>,
    ) -> Result<()> {
        let mut tail = self.tail.lock();
        tail.next = last.saturating_add(1);
        self.count.store(count, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        if let Some(end) = append.filter(|end| *end < self.limit) {
            let file = self
                .disk
                .open(&self.path(last), OpenMode::Write)
                .map_err(|error| self.io("open", last, error))?;
            self.activate(&mut tail, last, file, end.next_multiple_of(ALIGN));
        }
        Ok(())
    }

    /// Corrects the total that is kept in passing.
    pub(super) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn activate(&self, tail: &mut Tail, number: u32, file: Arc<dyn DiskFile>, end: u64) {
        self.open.insert(number, file.clone());
        let segment = Arc::new(Segment {
            number,
            file,
            // Its header is not synced yet.
            dirty: AtomicBool::new(true),
            written_back: AtomicU64::new(end),
        });
        tail.writing.push(segment.clone());
        tail.active = Some(segment);
        tail.end = end;
    }

    /// Refuses when nothing can be written any more.
    pub(super) fn check(&self) -> Result<()> {
        match self.failure.get() {
            Some(reason) => Err(Error::ReadOnly(reason.clone())),
            None => Ok(()),
        }
    }

    /// Puts the store in doubt: from here on it only reads. What the failed
    /// call left on the disk is unknown, and another sync would not tell.
    fn fail(&self, error: &Error) {
        let reason: Arc<str> = format!(
            "{error}; chunks written since the last sync may be lost, remount after the disk is repaired"
        )
        .into();
        if self.failure.set(reason).is_ok() {
            tracing::error!(%error, dir = self.dir, "the chunk store takes no more writes");
        }
    }

    /// Space for as many entries as fit one segment, at least one. Lengths are
    /// sealed lengths. Returns for how many.
    pub(super) fn reserve(
        &self,
        lens: impl Iterator<Item = u32> + Clone,
    ) -> Result<(Reservation, usize)> {
        loop {
            {
                let mut tail = self.tail.lock();
                if let Some(active) = tail.active.clone() {
                    let room = self.limit.saturating_sub(tail.end);
                    let (mut count, mut span) = fitting(lens.clone(), room);
                    if count == 0 && tail.end == SEGMENT_HEADER_LEN as u64 {
                        // Longer than a segment is to be: it gets its own.
                        (count, span) = (1, lens.clone().next().map_or(0, entry_span));
                    }
                    if count > 0 {
                        let offset = tail.end;
                        tail.end += span;
                        tail.in_flight.insert((active.number, offset));
                        self.bytes.fetch_add(span, Ordering::Relaxed);
                        let reservation = Reservation {
                            segment: active,
                            offset,
                            len: span,
                        };
                        return Ok((reservation, count));
                    }
                }
            }
            self.rotate(|tail| {
                tail.active.is_none()
                    || fitting(lens.clone(), self.limit.saturating_sub(tail.end)).0 == 0
            })?;
        }
    }

    /// Begins a new segment if, with the lock held, it is `needed`.
    fn rotate(&self, needed: impl Fn(&Tail) -> bool) -> Result<()> {
        let _rotating = self.rotating.lock();
        self.check()?;
        let number = {
            let tail = self.tail.lock();
            if !needed(&tail) {
                return Ok(());
            }
            tail.next
        };
        let file = match self.create(number) {
            Ok(file) => file,
            Err(error) => {
                // Its number is not tried again: a file of that name may stay.
                self.tail.lock().next = number.saturating_add(1);
                return Err(error);
            }
        };
        let mut tail = self.tail.lock();
        if let Some(old) = tail.active.take() {
            old.start_writeback(tail.end, 1);
        }
        tail.next = number
            .checked_add(1)
            .ok_or(Error::Invalid("the store has used up its segment numbers"))?;
        self.activate(&mut tail, number, file, SEGMENT_HEADER_LEN as u64);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes
            .fetch_add(SEGMENT_HEADER_LEN as u64, Ordering::Relaxed);
        Ok(())
    }

    fn create(&self, number: u32) -> Result<Arc<dyn DiskFile>> {
        let path = self.path(number);
        let header = encode_segment_header(&SegmentHeader {
            volume: self.volume,
            number,
        });
        let file = self
            .disk
            .open(&path, OpenMode::CreateNew)
            .map_err(|error| self.io("create", number, error))?;
        self.new_files.store(true, Ordering::Release);
        if let Err(error) = file.write_at(&header, 0) {
            // Without a header it would only be in the way.
            let _ = self.disk.remove(&path);
            return Err(self.io("write", number, error));
        }
        Ok(file)
    }

    /// Begins a new segment, unless the active one is empty, so that all that
    /// was written before stands in segments below the number returned.
    pub(super) fn seal(&self) -> Result<u32> {
        let used = |tail: &Tail| tail.active.is_some() && tail.end > SEGMENT_HEADER_LEN as u64;
        if used(&self.tail.lock()) {
            self.rotate(used)?;
        }
        Ok(self.active())
    }

    /// Number of the segment that is written to, or of the next one.
    pub(super) fn active(&self) -> u32 {
        let tail = self.tail.lock();
        tail.active
            .as_ref()
            .map_or(tail.next, |active| active.number)
    }

    /// Whether a write to the segment is not in the index yet.
    pub(super) fn in_flight(&self, segment: u32) -> bool {
        let tail = self.tail.lock();
        let mut of_segment = tail.in_flight.range((segment, 0)..=(segment, u64::MAX));
        of_segment.next().is_some()
    }

    /// The index is about to tell of what was written. Returns the position up
    /// to which it then tells of everything.
    pub(super) fn publish(&self, space: &Reservation) -> Covered {
        let mut tail = self.tail.lock();
        tail.in_flight.remove(&(space.segment.number, space.offset));
        self.covered_by(&tail)
    }

    /// The position up to which the index tells of everything.
    pub(super) fn covered(&self) -> Covered {
        self.covered_by(&self.tail.lock())
    }

    fn covered_by(&self, tail: &Tail) -> Covered {
        let end = match &tail.active {
            Some(active) => (active.number, tail.end),
            None => (tail.next, 0),
        };
        Covered {
            position: tail.in_flight.first().copied().unwrap_or(end),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// A segment for reading, if it is open.
    pub(super) fn opened(&self, segment: u32) -> Option<Arc<dyn DiskFile>> {
        self.open.get(&segment)
    }

    /// A segment for reading; nothing when there is no such file.
    pub(super) fn reader(&self, segment: u32) -> Result<Option<Arc<dyn DiskFile>>> {
        if let Some(file) = self.open.get(&segment) {
            return Ok(Some(file));
        }
        match self.disk.open(&self.path(segment), OpenMode::Read) {
            Ok(file) => {
                self.open.insert(segment, file.clone());
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io("open", segment, error)),
        }
    }

    /// Removes a segment that the durable index does not tell of. Returns the
    /// bytes it had.
    pub(super) fn remove(&self, segment: u32) -> Result<u64> {
        let len = match self.reader(segment)? {
            Some(file) => file
                .len()
                .map_err(|error| self.io("look at", segment, error))?,
            None => return Ok(0),
        };
        self.open.remove(&segment);
        self.disk
            .remove(&self.path(segment))
            .map_err(|error| self.io("remove", segment, error))?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        let sub = |bytes: u64| Some(bytes.saturating_sub(len));
        let _ = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, sub);
        Ok(len)
    }

    /// Bytes and number of the segments.
    pub(super) fn totals(&self) -> (u64, u64) {
        let bytes = self.bytes.load(Ordering::Relaxed);
        (bytes, self.count.load(Ordering::Relaxed))
    }
}

/// How many entries fit into `room`, and the space they take.
fn fitting(lens: impl Iterator<Item = u32>, room: u64) -> (usize, u64) {
    let mut count = 0;
    let mut span = 0;
    for len in lens {
        let next = span + entry_span(len);
        if next > room {
            break;
        }
        span = next;
        count += 1;
    }
    (count, span)
}

/// Numbers of the segments in a directory, in order.
pub(in crate::chunk) fn list(disk: &dyn Disk, dir: &str) -> Result<Vec<u32>> {
    let names = disk
        .list(dir)
        .map_err(|error| Error::io(format!("list {dir}"), error))?;
    let mut numbers: Vec<u32> = names
        .iter()
        .filter_map(|name| parse_file_name(name))
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}
