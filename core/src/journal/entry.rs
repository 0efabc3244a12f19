//! An entry, byte by byte:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the data |
//! | 4 | 1 | kind |
//! | 5 | 1 | state: 0 being written, 1 there, 2 released |
//! | 6 | 1 | flags |
//! | 8 | 8 | sequence number |
//! | 16 | 8 | inode, or revision of a command |
//! | 24 | 8 | offset in the file, or request of a command |
//! | 32 | 8 | least length of the file, or inode that a command made |
//! | 40 | 24 | seconds of atime, mtime, ctime |
//! | 64 | 12 | their nanoseconds |
//! | 80 | | data |
//!
//! The state is written last, so a process that dies half-way leaves an entry
//! that is not there; nobody was answered for it.

use std::sync::atomic::Ordering;

use crate::{
    host::SharedMemory,
    ids::{Ino, Timestamp},
};

pub(super) const HEADER: usize = 80;

const AT_STATE: usize = 5;
const THERE: u8 = 1;
const RELEASED: u8 = 2;

const UNDER: u8 = 1;
const STRIP: u8 = 2;
const KEEPS_MODE: u8 = 4;
const ATIME: u8 = 8;
const MTIME: u8 = 16;
const CTIME: u8 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Command,
    Write,
}

/// What a write changes beside the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// The file.
    pub ino: Ino,
    /// It reaches at least to here.
    pub end: u64,
    /// Access time.
    pub atime: Option<Timestamp>,
    /// Time of the last change of contents.
    pub mtime: Option<Timestamp>,
    /// Time of the last change of the inode.
    pub ctime: Option<Timestamp>,
    /// Set-id bits go.
    pub strip: bool,
    /// What earlier changes wanted stripped stays: the mode was set since.
    pub keeps_mode: bool,
}

impl Default for FileChange {
    fn default() -> FileChange {
        FileChange {
            ino: Ino(0),
            end: 0,
            atime: None,
            mtime: None,
            ctime: None,
            strip: false,
            keeps_mode: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub kind: Kind,
    pub under: bool,
    pub change: FileChange,
    pub offset: u64,
}

/// Bytes from one entry to the next.
pub(super) fn span(len: usize) -> usize {
    (HEADER + len).next_multiple_of(8)
}

/// Writes an entry that is not there yet; [`fill`] brings it about.
pub(super) fn begin(memory: &SharedMemory, at: usize, entry: &Entry, seq: u64, len: usize) {
    let change = &entry.change;
    let mut bytes = [0; HEADER];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(entry.under, UNDER)
        | flag(change.strip, STRIP)
        | flag(change.keeps_mode, KEEPS_MODE)
        | flag(change.atime.is_some(), ATIME)
        | flag(change.mtime.is_some(), MTIME)
        | flag(change.ctime.is_some(), CTIME);
    // Within a block, so far below 4 GiB.
    put(0, &(len as u32).to_le_bytes());
    put(4, &[entry.kind as u8, 0, flags]);
    put(8, &seq.to_le_bytes());
    put(16, &change.ino.0.to_le_bytes());
    put(24, &entry.offset.to_le_bytes());
    put(32, &change.end.to_le_bytes());
    for (index, time) in [change.atime, change.mtime, change.ctime]
        .into_iter()
        .enumerate()
    {
        let time = time.unwrap_or_default();
        put(40 + 8 * index, &time.secs.to_le_bytes());
        put(64 + 4 * index, &time.nanos.to_le_bytes());
    }
    memory.write(at, &bytes);
}

/// Writes the data; from then on the entry is there.
pub(super) fn fill(memory: &SharedMemory, at: usize, data: &[u8]) {
    memory.write(at + HEADER, data);
    memory.byte(at + AT_STATE).store(THERE, Ordering::Release);
}

pub(super) fn free(memory: &SharedMemory, at: usize) {
    memory
        .byte(at + AT_STATE)
        .store(RELEASED, Ordering::Release);
}

/// An entry as it is found.
pub(super) struct Read {
    pub entry: Entry,
    pub seq: u64,
    pub len: usize,
    pub is_there: bool,
}

/// Reads the header of an entry; `None` when there can be none like it.
pub(super) fn read(memory: &SharedMemory, at: usize) -> Option<Read> {
    let mut bytes = [0; HEADER];
    memory.read(at, &mut bytes);
    let long = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let word = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&bytes[at..at + 4]);
        u32::from_le_bytes(word)
    };
    let flags = bytes[6];
    let time = |index: usize, flag: u8| {
        (flags & flag != 0).then(|| Timestamp {
            secs: long(40 + 8 * index).cast_signed(),
            nanos: word(64 + 4 * index),
        })
    };
    let kind = match bytes[4] {
        0 => Kind::Command,
        1 => Kind::Write,
        _ => return None,
    };
    Some(Read {
        entry: Entry {
            kind,
            under: flags & UNDER != 0,
            change: FileChange {
                ino: Ino(long(16)),
                end: long(32),
                atime: time(0, ATIME),
                mtime: time(1, MTIME),
                ctime: time(2, CTIME),
                strip: flags & STRIP != 0,
                keeps_mode: flags & KEEPS_MODE != 0,
            },
            offset: long(24),
        },
        seq: long(8),
        len: word(0) as usize,
        is_there: bytes[AT_STATE] == THERE,
    })
}
