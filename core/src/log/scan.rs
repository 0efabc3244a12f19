//! Reading a log file, batch by batch, in order; changes nothing.

use std::{io, sync::Arc};

use crate::{
    Error, Result,
    canary::{Canary, planted},
    host::{Disk, DiskFile, OpenMode},
};

use super::format::{
    self, BATCH_HEADER, BatchHeader, Chain, FILE_HEADER, FileHeader, FileHeaderFault, Records,
};

/// How much is read at once.
const WINDOW: u64 = 1 << 20;

/// Where a reader stands in the chain.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    /// Offset in the file of the next batch.
    pub offset: u64,
    /// Revision its first record must have.
    pub next: u64,
    /// The chain before it.
    pub chain: Chain,
}

/// What stands at a position.
pub enum Step<'a> {
    /// A batch that continues the chain, and its records.
    Batch(BatchHeader, &'a [u8]),
    /// The end of the file, or the zeros that stand ready for what comes.
    End,
    /// Something that does not continue the chain.
    Bad(Bad),
}

/// Bytes that do not continue the chain.
#[derive(Debug, Clone, Copy)]
pub struct Bad {
    /// What does not hold.
    pub what: &'static str,
    /// The header, when that is whole by itself.
    pub header: Option<BatchHeader>,
    /// Whether a write that power loss interrupted can leave this.
    pub can_be_torn: bool,
}

/// One log file, read through a window.
pub struct Reader {
    file: Arc<dyn DiskFile>,
    path: String,
    len: u64,
    window: Vec<u8>,
    start: u64,
}

impl Reader {
    /// Opens a log file for reading.
    pub fn open(disk: &dyn Disk, path: String) -> Result<Reader> {
        let opened = disk
            .open(&path, OpenMode::Read)
            .and_then(|file| Ok((file.len()?, file)));
        match opened {
            Ok((len, file)) => Ok(Reader {
                file,
                path,
                len,
                window: Vec::new(),
                start: 0,
            }),
            Err(error) => Err(Error::io(format!("open {path}"), error)),
        }
    }

    /// Length of the file when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Path of the file within the store.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Damage at an offset of this file.
    pub fn damaged(&self, offset: u64, what: &str) -> Error {
        Error::damaged(format!("{} at offset {offset}", self.path), what)
    }

    /// `len` bytes at `offset`, which the caller knows to be in the file.
    fn bytes(&mut self, offset: u64, len: u64) -> Result<&[u8]> {
        let end = offset + len;
        if offset < self.start || end > self.start + self.window.len() as u64 {
            let fill = len.max(WINDOW.min(self.len - offset));
            self.window.resize(fill as usize, 0);
            self.start = offset;
            let read = self.file.read_exact_at(&mut self.window, offset);
            if let Err(error) = read {
                self.window.clear();
                return Err(self.failed(error));
            }
        }
        let from = (offset - self.start) as usize;
        Ok(&self.window[from..from + len as usize])
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::io(format!("read {}", self.path), error)
    }

    /// The header of the file; `None` when it is not whole.
    ///
    /// # Errors
    /// A format version that this code does not read; reading.
    pub fn file_header(&mut self) -> Result<Option<FileHeader>> {
        if self.len < FILE_HEADER as u64 {
            return Ok(None);
        }
        let bytes = format::array(self.bytes(0, FILE_HEADER as u64)?, 0);
        match FileHeader::decode(&bytes) {
            Ok(header) => Ok(Some(header)),
            Err(FileHeaderFault::Damaged) => Ok(None),
            Err(FileHeaderFault::Version(found)) => Err(Error::FormatVersion {
                found,
                supported: format::VERSION,
            }),
        }
    }

    /// Whether there is nothing behind the header of the file.
    pub fn is_unbegun(&mut self) -> Result<bool> {
        self.is_zero(FILE_HEADER as u64)
    }

    /// What stands at a position, which is not moved.
    pub fn step(&mut self, at: &Position) -> Result<Step<'_>> {
        if self.is_zero(at.offset)? {
            return Ok(Step::End);
        }
        let left = self.len - at.offset;
        let bad = |what, header, can_be_torn| {
            Ok(Step::Bad(Bad {
                what,
                header,
                can_be_torn,
            }))
        };
        if left < BATCH_HEADER as u64 {
            return bad("the file ends within the header of a batch", None, true);
        }
        let head = format::array(self.bytes(at.offset, BATCH_HEADER as u64)?, 0);
        let Some(header) = BatchHeader::decode(&head) else {
            return bad("this is no header of a batch", None, true);
        };
        let found = Some(header);
        if header.first != at.next {
            return bad("the batch has the wrong revision", found, false);
        }
        if header.len() > left {
            return bad("the file ends within a batch", found, true);
        }
        let batch = self.bytes(at.offset, header.len())?;
        let payload = &batch[BATCH_HEADER..];
        if !header.agrees(&at.chain, payload) && !planted(Canary::LogHashIgnored) {
            // A tear never leaves bytes behind the end of the torn batch.
            let torn = self.is_zero(at.offset + header.len())?;
            return bad("the hash of the batch does not hold", found, torn);
        }
        if !Records::sound(payload, header.count) {
            return bad("the records of the batch do not add up", found, false);
        }
        Ok(Step::Batch(header, self.window_tail(at.offset, header)))
    }

    /// Whether there is nothing but zeros from `offset` on, if anything.
    fn is_zero(&mut self, mut offset: u64) -> Result<bool> {
        while offset < self.len {
            let take = WINDOW.min(self.len - offset);
            // Where there is a batch, the first byte of its header tells.
            if self.bytes(offset, 1)?[0] != 0 || self.bytes(offset, take)?.iter().any(|b| *b != 0) {
                return Ok(false);
            }
            offset += take;
        }
        Ok(true)
    }

    /// The records of a batch that the window holds.
    fn window_tail(&self, offset: u64, header: BatchHeader) -> &[u8] {
        let from = (offset - self.start) as usize + BATCH_HEADER;
        &self.window[from..from + header.payload as usize]
    }

    /// The first valid batch header at or behind `offset` that satisfies
    /// `wanted`, with its offset.
    pub fn find(
        &mut self,
        mut offset: u64,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Option<(u64, BatchHeader)>> {
        const OVERLAP: u64 = BATCH_HEADER as u64 - 1;
        while self.len.saturating_sub(offset) > OVERLAP {
            let take = WINDOW.min(self.len - offset);
            let bytes = self.bytes(offset, take)?;
            let mut from = 0;
            while let Some((at, header)) = format::find_batch(bytes, from) {
                if wanted(&header) {
                    return Ok(Some((offset + at as u64, header)));
                }
                from = at + 1;
            }
            offset += take - OVERLAP;
        }
        Ok(None)
    }
}

/// First revisions of the log files in `dir`, ascending.
pub fn list(disk: &dyn Disk, dir: &str) -> Result<Vec<u64>> {
    let names = disk
        .list(dir)
        .map_err(|error| Error::io(format!("list {dir}"), error))?;
    let mut firsts: Vec<u64> = names
        .iter()
        .filter_map(|name| format::parse_file_name(name))
        .collect();
    firsts.sort_unstable();
    Ok(firsts)
}
