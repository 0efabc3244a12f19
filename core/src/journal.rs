//! The journal: what was acknowledged and is not in the log yet, in memory
//! that outlives this process.
//!
//! [`Journal`] promises the engine: when this process is killed at any moment,
//! the next one finds every command, every written byte and every change of
//! attributes whose caller was answered, unless log and segments have it
//! already. It knows which inodes the clients of a front end hold, so that a
//! file without a name stays as long as somebody has it open, and which
//! requests were done, so that one that is sent again is not done twice. It is
//! no part of durability: it goes with the power, and with its last descriptor.
//!
//! - `arena`: room for entries, and giving it back
//! - `entry`: an entry, byte by byte
//! - `tables`: inodes that clients know, requests that were done
//!
//! Somebody who outlives this process holds the descriptor; see
//! `docs/decisions/takeover.md`.

mod arena;
mod entry;
mod tables;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;

pub use entry::FileChange;

use self::{
    arena::{Arena, Class},
    entry::{Entry, Kind},
    tables::Tables,
};
use crate::{
    Error, Result,
    host::SharedMemory,
    ids::{Ino, RequestId, Revision, VolumeId},
};

/// Changes with every change of the layout: a process takes over only what it
/// understands.
pub const LAYOUT: u32 = 2;

const MAGIC: u64 = u64::from_le_bytes(*b"kisekijl");

// Where things are. The first page: magic, layout, volume, head of the ring of
// requests, number of blocks ever used.
const AT_MAGIC: usize = 0;
const AT_LAYOUT: usize = 8;
const AT_VOLUME: usize = 16;
const AT_RING_HEAD: usize = 40;
const AT_BLOCKS: usize = 48;
const AT_RING: usize = 4096;
const AT_KNOWN: usize = 1 << 20;
const AT_DATA: usize = AT_KNOWN + tables::KNOWN_BYTES;
const LEN: usize = AT_DATA + arena::MOST_BLOCKS * arena::BLOCK;

/// Names an entry, to release it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// A command that was applied and may be missing in the log.
pub struct KeptCommand {
    /// Its revision.
    pub revision: Revision,
    /// It, encoded as in the log.
    pub record: Vec<u8>,
}

/// Bytes, or attributes alone, that were written and not sealed.
pub struct KeptWrite {
    /// To release it.
    pub ticket: Ticket,
    /// What changed beside the bytes.
    pub change: FileChange,
    /// Where the bytes belong.
    pub offset: u64,
    /// They lie below what came before.
    pub under: bool,
    /// The bytes.
    pub data: Vec<u8>,
}

/// What a process that died leaves to the next, in the order of events.
#[derive(Default)]
pub struct Remains {
    /// Commands.
    pub commands: Vec<KeptCommand>,
    /// Writes.
    pub writes: Vec<KeptWrite>,
}

/// See the [module](self).
pub struct Journal {
    memory: SharedMemory,
    arena: Mutex<Arena>,
    tables: Tables,
    remains: Mutex<Option<Remains>>,
    blocks_max: u32,
    /// Blocks in use, to look at without the lock.
    in_use: AtomicU32,
}

impl Journal {
    /// Opens the journal in `file`: a new one in empty memory, or the one that
    /// a process before this one left. About `limit` bytes are used before
    /// [`Journal::is_full`].
    ///
    /// # Errors
    /// `Io` when it cannot be mapped; `Damaged` when it is of another volume or
    /// layout, or makes no sense.
    pub fn open(file: OwnedFd, volume: VolumeId, limit: u64) -> Result<Arc<Journal>> {
        let cannot = |error| Error::io("map the journal", error);
        let memory = SharedMemory::map(file, LEN).map_err(cannot)?;
        let mut arena = Arena::default();
        let tables = Tables::default();
        let mut remains = None;
        if memory.long(AT_MAGIC).load(Ordering::Acquire) == MAGIC {
            check_identity(&memory, volume)?;
            let mut left = Remains::default();
            let mut last = (RequestId::NONE, Ino(0));
            arena.adopt(&memory, &mut |entry| collect(entry, &mut left, &mut last))?;
            // Commands come one at a time, so death can have come between the
            // entry and the note of the last one alone.
            if last.0 != RequestId::NONE && tables.find_done(&memory, last.0).is_none() {
                tables.note_done(&memory, last.0, last.1);
            }
            remains = Some(left);
        } else {
            memory.word(AT_LAYOUT).store(LAYOUT, Ordering::Relaxed);
            memory.write(AT_VOLUME, &volume.0);
            memory.long(AT_MAGIC).store(MAGIC, Ordering::Release);
        }
        let in_use = arena.in_use();
        Ok(Arc::new(Journal {
            memory,
            arena: Mutex::new(arena),
            tables,
            remains: Mutex::new(remains),
            blocks_max: (limit / arena::BLOCK as u64).clamp(8, arena::MOST_BLOCKS as u64 / 2)
                as u32,
            in_use: AtomicU32::new(in_use),
        }))
    }

    /// Memory for a new journal.
    ///
    /// # Errors
    /// The kernel has no room or does not know how.
    pub fn memory() -> io::Result<OwnedFd> {
        SharedMemory::create()
    }

    /// What a process before this one left; given out once. `None` when the
    /// journal is new.
    pub fn remains(&self) -> Option<Remains> {
        self.remains.lock().take()
    }

    /// Whether writers should wait for entries to be released.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.in_use.load(Ordering::Relaxed) > self.blocks_max
    }

    /// Keeps a command that is about to enter the log as `revision`. What the
    /// log has made durable is no longer kept.
    ///
    /// # Errors
    /// `NoSpace` when it is longer than any room, or entries are not released:
    /// then the log has to make it durable before somebody is answered.
    pub fn command(
        &self,
        revision: Revision,
        durable: Revision,
        request: RequestId,
        made: Ino,
        record: &[u8],
    ) -> Result<Ticket> {
        let mut arena = self.arena.lock();
        arena.retire(&self.memory, durable);
        let entry = Entry {
            kind: Kind::Command,
            under: false,
            change: FileChange {
                ino: Ino(revision.0),
                end: made.0,
                ..FileChange::default()
            },
            offset: request.0,
        };
        let at = arena.reserve(&self.memory, Class::Command, &entry, record.len())?;
        arena.reserved_command(revision);
        entry::fill(&self.memory, at, record);
        if request != RequestId::NONE {
            self.tables.note_done(&self.memory, request, made);
        }
        self.in_use.store(arena.in_use(), Ordering::Relaxed);
        Ok(Ticket(at as u64))
    }

    /// Takes back a command that did not enter the log.
    pub fn cancel(&self, command: Ticket, request: RequestId) {
        let _arena = self.arena.lock();
        // In this order: a request counts as done only while its command is kept.
        if request != RequestId::NONE {
            self.tables.forget_done(&self.memory, request);
        }
        entry::free(&self.memory, command.0 as usize);
    }

    /// Keeps a change of a file: `data` at `offset`, which may be empty, and
    /// attributes. `under` says that it lies below what was kept before.
    ///
    /// # Errors
    /// `NoSpace` when entries are not released.
    pub fn write(
        &self,
        change: &FileChange,
        offset: u64,
        data: &[u8],
        under: bool,
        tickets: &mut Vec<Ticket>,
    ) -> Result<()> {
        // Pieces, so that each fits a block; no piece for no data would be none.
        let mut at = 0;
        loop {
            let piece = &data[at..data.len().min(at + arena::LONGEST)];
            let entry = Entry {
                kind: Kind::Write,
                under,
                change: *change,
                offset: offset + at as u64,
            };
            let class = Class::of_write(piece.len());
            let place = {
                let mut arena = self.arena.lock();
                let place = arena.reserve(&self.memory, class, &entry, piece.len())?;
                self.in_use.store(arena.in_use(), Ordering::Relaxed);
                place
            };
            entry::fill(&self.memory, place, piece);
            tickets.push(Ticket(place as u64));
            at += piece.len();
            if at == data.len() {
                return Ok(());
            }
        }
    }

    /// Lets go of writes that log and segments have, or that nobody wants.
    pub fn release(&self, tickets: impl IntoIterator<Item = Ticket>) {
        let mut arena = self.arena.lock();
        for ticket in tickets {
            arena.release(&self.memory, ticket.0 as usize);
        }
        self.in_use.store(arena.in_use(), Ordering::Relaxed);
    }

    /// What a request made, if it was done: the inode, or 0.
    #[must_use]
    pub fn done(&self, request: RequestId) -> Option<Ino> {
        if request == RequestId::NONE {
            return None;
        }
        self.tables.find_done(&self.memory, request)
    }

    /// A client knows this inode, once more.
    pub fn remember(&self, ino: Ino) {
        self.tables.remember(&self.memory, ino);
    }

    /// Takes `count` back; whether no client knows the inode any more.
    pub fn forget(&self, ino: Ino, count: u64) -> bool {
        self.tables.forget(&self.memory, ino, count)
    }

    /// Gives memory back that writes and inodes of the past took, a little at a
    /// time.
    pub fn trim(&self) {
        let surplus = self.arena.lock().surplus();
        if !surplus.is_empty() {
            // Without the lock, which every write takes.
            for index in &surplus {
                arena::give_back(&self.memory, *index);
            }
            self.arena.lock().cooled(surplus);
        }
        if self.tables.have_grown() {
            self.tables.trim(&self.memory);
        }
    }

    /// Whether a client knows this inode.
    #[must_use]
    pub fn knows(&self, ino: Ino) -> bool {
        self.tables.knows(&self.memory, ino)
    }
}

fn check_identity(memory: &SharedMemory, volume: VolumeId) -> Result<()> {
    let layout = memory.word(AT_LAYOUT).load(Ordering::Relaxed);
    let mut of = [0; 16];
    memory.read(AT_VOLUME, &mut of);
    if layout != LAYOUT {
        let what = format!("it has layout {layout}, and this version knows {LAYOUT}");
        return Err(Error::damaged("the journal of the mount", what));
    }
    if of != volume.0 {
        return Err(Error::damaged(
            "the journal of the mount",
            "it belongs to another volume",
        ));
    }
    Ok(())
}

/// Puts an entry that the arena found where it belongs.
fn collect(
    found: arena::Found,
    left: &mut Remains,
    last: &mut (RequestId, Ino),
) -> Option<Revision> {
    let arena::Found { at, entry, data } = found;
    match entry.kind {
        Kind::Command => {
            let revision = Revision(entry.change.ino.0);
            *last = (RequestId(entry.offset), Ino(entry.change.end));
            left.commands.push(KeptCommand {
                revision,
                record: data,
            });
            Some(revision)
        }
        Kind::Write => {
            left.writes.push(KeptWrite {
                ticket: Ticket(at as u64),
                change: entry.change,
                offset: entry.offset,
                under: entry.under,
                data,
            });
            None
        }
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}
