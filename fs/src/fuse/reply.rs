//! Answers, in the form the `fuser` crate sends.
//!
//! An answer that gives the kernel an inode number counts one reference first:
//! the kernel may give it back as soon as the answer is sent.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, sync::Arc, time::Duration};

use bytes::Bytes;
use fuser::{
    FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
};
use kiseki_core::{
    engine::{Attr, Statfs},
    ids::Ino,
    meta::Kind,
};
use parking_lot::Mutex;

use super::{
    convert,
    fail::{Fail, Outcome},
    ops::{
        dirs::{Page, PagePlus},
        xattrs::{self, Room},
    },
    session::Shared,
};

/// Inode numbers are never used twice.
const GENERATION: Generation = Generation(0);

/// The engine knows files by inode; there is nothing to tell two opens apart.
const HANDLE: FileHandle = FileHandle(0);

pub(super) fn empty(reply: ReplyEmpty, outcome: Outcome<()>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(Fail(errno)) => reply.error(convert::errno(errno)),
    }
}

pub(super) fn data(reply: ReplyData, outcome: Outcome<Bytes>) {
    match outcome {
        Ok(data) => reply.data(&data),
        Err(Fail(errno)) => reply.error(convert::errno(errno)),
    }
}

pub(super) fn written(reply: ReplyWrite, outcome: Outcome<u32>) {
    match outcome {
        Ok(bytes) => reply.written(bytes),
        Err(Fail(errno)) => reply.error(convert::errno(errno)),
    }
}

pub(super) fn statfs(reply: ReplyStatfs, outcome: Outcome<Statfs>) {
    match outcome {
        Ok(s) => reply.statfs(
            s.blocks,
            s.blocks_free,
            s.blocks_available,
            s.files,
            s.files_free,
            s.block_size,
            s.name_max,
            s.block_size,
        ),
        Err(Fail(errno)) => reply.error(convert::errno(errno)),
    }
}

/// A value or list of names, for a caller with `room` bytes.
pub(super) fn xattr(reply: ReplyXattr, room: u32, outcome: &Outcome<Bytes>) {
    let fitted = match outcome {
        Ok(value) => xattrs::fit(value, room),
        Err(fail) => Err(*fail),
    };
    match fitted {
        Ok(Room::Length(length)) => reply.size(length),
        Ok(Room::Value(value)) => reply.data(value),
        Err(Fail(errno)) => reply.error(convert::errno(errno)),
    }
}

impl Shared {
    pub(super) fn attr(&self, reply: ReplyAttr, outcome: Outcome<Attr>) {
        match outcome {
            Ok(attr) => reply.attr(&self.ttl, &convert::attr(&attr)),
            Err(Fail(errno)) => reply.error(convert::errno(errno)),
        }
    }

    /// The answer to a lookup; "no such name" is one to remember as well.
    pub(super) fn found(&self, reply: ReplyEntry, outcome: Outcome<Option<Attr>>) {
        match outcome {
            Ok(Some(attr)) => self.entry(reply, Ok(attr)),
            Ok(None) if self.ttl.is_zero() => reply.error(fuser::Errno::ENOENT),
            Ok(None) => reply.entry(&self.ttl, &convert::absent(), GENERATION),
            Err(fail) => self.entry(reply, Err(fail)),
        }
    }

    pub(super) fn entry(&self, reply: ReplyEntry, outcome: Outcome<Attr>) {
        match outcome {
            Ok(attr) => {
                self.volume.remember(attr.ino);
                reply.entry(&self.ttl, &convert::attr(&attr), GENERATION);
            }
            Err(Fail(errno)) => reply.error(convert::errno(errno)),
        }
    }

    pub(super) fn created(&self, reply: ReplyCreate, outcome: Outcome<Attr>) {
        match outcome {
            Ok(attr) => {
                self.volume.remember(attr.ino);
                self.opened.insert(attr.ino);
                let attr = convert::attr(&attr);
                reply.created(&self.ttl, &attr, GENERATION, HANDLE, OPEN_FLAGS);
            }
            Err(Fail(errno)) => reply.error(convert::errno(errno)),
        }
    }

    pub(super) fn open(&self, reply: ReplyOpen, ino: Ino, outcome: Outcome<()>) {
        match outcome {
            Ok(()) => {
                self.opened.insert(ino);
                reply.opened(HANDLE, OPEN_FLAGS);
            }
            Err(Fail(errno)) => reply.error(convert::errno(errno)),
        }
    }

    pub(super) fn opened_directory(&self, reply: ReplyOpen) {
        let flags = if self.cache_directories {
            FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE
        } else {
            FopenFlags::empty()
        };
        reply.opened(HANDLE, flags);
    }

    /// Sends the page, unless it is sent already. What was found before a
    /// failure comes first; the failure comes back with the next page.
    pub(super) fn list(page: &Mutex<Option<ListPage>>, outcome: Outcome<()>) {
        let Some(page) = page.lock().take() else {
            return;
        };
        match outcome {
            Err(Fail(errno)) if page.entries == 0 => page.reply.error(convert::errno(errno)),
            _ => page.reply.ok(),
        }
    }

    /// As [`Shared::list`], for a page with attributes.
    pub(super) fn list_plus(&self, page: &Mutex<Option<ListPlusPage>>, outcome: Outcome<()>) {
        let Some(page) = page.lock().take() else {
            return;
        };
        match outcome {
            Err(Fail(errno)) if page.entries == 0 => page.reply.error(convert::errno(errno)),
            _ => {
                for &ino in &page.known {
                    self.volume.remember(ino);
                }
                page.reply.ok();
            }
        }
    }
}

/// Pages stay in the kernel's cache from one open to the next, because every
/// change comes through here or is announced. Closing costs no round trip:
/// every `write` has been answered by then, with its error if it had one.
const OPEN_FLAGS: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);

/// A page of a listing on its way.
pub(super) struct ListPage {
    reply: ReplyDirectory,
    entries: usize,
}

/// A page with attributes.
pub(super) struct ListPlusPage {
    reply: ReplyDirectoryPlus,
    entries: usize,
    ttl: Duration,
    /// Inodes the kernel will count a reference for.
    known: Vec<Ino>,
}

pub(super) fn list_page(reply: ReplyDirectory) -> Arc<Mutex<Option<ListPage>>> {
    Arc::new(Mutex::new(Some(ListPage { reply, entries: 0 })))
}

pub(super) fn list_plus_page(
    reply: ReplyDirectoryPlus,
    ttl: Duration,
) -> Arc<Mutex<Option<ListPlusPage>>> {
    Arc::new(Mutex::new(Some(ListPlusPage {
        reply,
        entries: 0,
        ttl,
        known: Vec::new(),
    })))
}

impl Page for Option<ListPage> {
    fn add(&mut self, ino: Ino, kind: Kind, cookie: u64, name: &[u8]) -> bool {
        let Some(page) = self else { return true };
        let full = page.reply.add(
            INodeNo(ino.0),
            cookie,
            convert::kind(kind),
            OsStr::from_bytes(name),
        );
        page.entries += usize::from(!full);
        full
    }
}

impl PagePlus for Option<ListPlusPage> {
    fn add(&mut self, attr: &Attr, cookie: u64, name: &[u8]) -> bool {
        let Some(page) = self else { return true };
        let full = page.reply.add(
            INodeNo(attr.ino.0),
            cookie,
            OsStr::from_bytes(name),
            &page.ttl,
            &convert::attr(attr),
            GENERATION,
        );
        if !full {
            page.entries += 1;
            // The kernel takes no reference for these two.
            if name != b"." && name != b".." {
                page.known.push(attr.ino);
            }
        }
        full
    }
}
