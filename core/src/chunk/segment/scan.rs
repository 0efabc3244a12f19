//! Reading a segment from one end to the other.

use std::io;

use super::{
    ALIGN, ENTRY_HEADER_LEN, EntryHeader, EntryKind, Place, checksum, decode_entry_header,
    entry_span,
};
use crate::{
    Error, Result,
    canary::{Canary, planted},
    host::DiskFile,
    ids::VolumeId,
};

/// Bytes read at a time: more than the longest entry.
const WINDOW: usize = 1 << 20;

/// A part of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// An entry whose header holds; `whole` when its sealed bytes do as well.
    Chunk {
        /// Offset of the header.
        offset: u32,
        /// What it says.
        header: EntryHeader,
        /// Whether the bytes behind it are those it tells of.
        whole: bool,
        /// Where the scan goes on.
        end: u64,
    },
    /// A place known to hold nothing.
    Void {
        /// Offset of the header.
        offset: u32,
    },
    /// Bytes that are no entry, up to the next one.
    Gap {
        /// Offset of the first.
        offset: u32,
        /// How many.
        len: u32,
    },
}

/// Shows all of a segment from offset `from` (where an entry begins) to `len`,
/// in order and without a break; with a whole chunk, its sealed bytes. Where no
/// entry header holds it goes on at the next place where one does, so damage
/// hides nothing but what it hit.
pub fn scan(
    file: &dyn DiskFile,
    volume: VolumeId,
    segment: u32,
    from: u64,
    len: u64,
    visit: &mut dyn FnMut(Found, &[u8]) -> Result<()>,
) -> Result<()> {
    // Entries are found at 32-bit offsets only.
    let len = len.min(u64::from(u32::MAX));
    let mut window = Window::new(file, len);
    let mut at = from;
    let mut gap: Option<u64> = None;
    while at < len {
        let place = Place {
            volume,
            segment,
            offset: at as u32,
        };
        let bytes = window.get(segment, at, ENTRY_HEADER_LEN)?;
        let Ok(header) = decode_entry_header(bytes, place) else {
            gap.get_or_insert(at);
            at = (at + 1).next_multiple_of(ALIGN);
            continue;
        };
        report_gap(&mut gap, at, visit)?;
        let offset = at as u32;
        let mut end = at + entry_span(header.sealed_len);
        match header.kind {
            EntryKind::Void => visit(Found::Void { offset }, &[])?,
            EntryKind::Chunk => {
                let begin = at + ENTRY_HEADER_LEN as u64;
                let sealed = window.get(segment, begin, header.sealed_len as usize)?;
                let whole = sealed.len() == header.sealed_len as usize
                    && (checksum(sealed) == header.checksum
                        || planted(Canary::ChunkChecksumIgnored));
                if !whole {
                    // Its length may reach over entries that were written
                    // where its own bytes never arrived.
                    end = next_header(&mut window, place, begin, end)?;
                }
                let sealed = match whole {
                    true => window.get(segment, begin, header.sealed_len as usize)?,
                    false => &[],
                };
                let found = Found::Chunk {
                    offset,
                    header,
                    whole,
                    end,
                };
                visit(found, sealed)?;
            }
        }
        at = end;
    }
    report_gap(&mut gap, len, visit)
}

/// The next place from `at` on where an entry header holds, but at most the
/// end of the damaged entry.
fn next_header(window: &mut Window<'_>, damaged: Place, mut at: u64, end: u64) -> Result<u64> {
    while at < end.min(window.len) {
        let place = Place {
            offset: at as u32,
            ..damaged
        };
        let bytes = window.get(damaged.segment, at, ENTRY_HEADER_LEN)?;
        if decode_entry_header(bytes, place).is_ok() {
            return Ok(at);
        }
        at += ALIGN;
    }
    Ok(end)
}

fn report_gap(
    gap: &mut Option<u64>,
    end: u64,
    visit: &mut dyn FnMut(Found, &[u8]) -> Result<()>,
) -> Result<()> {
    match gap.take() {
        Some(begin) => {
            let found = Found::Gap {
                offset: begin as u32,
                len: (end - begin) as u32,
            };
            visit(found, &[])
        }
        None => Ok(()),
    }
}

/// The part of a file that is in memory.
struct Window<'f> {
    file: &'f dyn DiskFile,
    len: u64,
    begin: u64,
    bytes: Vec<u8>,
}

impl<'f> Window<'f> {
    fn new(file: &'f dyn DiskFile, len: u64) -> Window<'f> {
        Window {
            file,
            len,
            begin: 0,
            bytes: Vec::new(),
        }
    }

    /// `count` bytes from `offset`, fewer when the file ends before.
    fn get(&mut self, segment: u32, offset: u64, count: usize) -> Result<&[u8]> {
        let count = (self.len.saturating_sub(offset)).min(count as u64) as usize;
        let loaded = self.begin + self.bytes.len() as u64;
        if offset < self.begin || offset + count as u64 > loaded {
            let size = (self.len - offset).min(WINDOW.max(count) as u64) as usize;
            self.bytes.resize(size, 0);
            self.begin = offset;
            let got = read_up_to(self.file, &mut self.bytes, offset)
                .map_err(|error| Error::io(format!("read {}", super::file_name(segment)), error));
            self.bytes.truncate(*got.as_ref().unwrap_or(&0));
            got?;
        }
        let begin = (offset - self.begin) as usize;
        let end = self.bytes.len().min(begin + count);
        Ok(&self.bytes[begin.min(end)..end])
    }
}

/// Fills the buffer, less far when the file ends.
fn read_up_to(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
