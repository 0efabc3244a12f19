//! Room for entries: blocks of 4 MiB that are filled from the front and used
//! again when everything in them is released.
//!
//! Short writes, long writes and commands go to blocks of their own, because
//! they live differently long: a few bytes of a file that is seldom sealed
//! would keep a block of a fast stream.

use std::{collections::VecDeque, sync::atomic::Ordering};

use super::{
    AT_BLOCKS, AT_DATA,
    entry::{self, Entry, HEADER},
};
use crate::{Error, Result, host::SharedMemory, ids::Revision, spare::Spare};

pub(super) const BLOCK: usize = 4 << 20;

/// Of address space, not of memory: 16 GiB.
pub(super) const MOST_BLOCKS: usize = 4096;

/// In front of the entries of a block: how far it is used.
const BLOCK_HEADER: usize = 64;

/// The longest data of an entry. A command is a record of the log, which may
/// be longer; see [`Arena::reserve`].
pub(super) const LONGEST: usize = 2 << 20;

/// Released blocks that keep their pages while nobody writes.
const WARM: usize = 8;

/// A write at least this long is a long one.
const LONG: usize = 64 << 10;

#[derive(Clone, Copy)]
pub(super) enum Class {
    Command,
    Short,
    Long,
}

impl Class {
    pub fn of_write(len: usize) -> Class {
        if len < LONG {
            Class::Short
        } else {
            Class::Long
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Block {
    used: usize,
    /// Entries that are not released.
    live: usize,
}

/// An entry left by a process that died.
pub(super) struct Found {
    pub at: usize,
    pub entry: Entry,
    pub data: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Arena {
    blocks: Vec<Block>,
    /// Released blocks that keep their pages, because the next writes need
    /// them: a page costs more to get than to fill.
    warm: Spare<usize>,
    cold: Vec<usize>,
    /// The block that each class fills.
    current: [Option<usize>; 3],
    next_seq: u64,
    /// Newest revision in the block that commands fill.
    newest: Revision,
    /// Full blocks of commands, and the newest revision in each.
    full: VecDeque<(usize, Revision)>,
}

impl Arena {
    /// Blocks that hold something or are being filled.
    pub fn in_use(&self) -> u32 {
        // At most `MOST_BLOCKS`.
        (self.blocks.len() - self.warm.len() - self.cold.len()) as u32
    }

    /// Makes room for an entry and writes its header.
    ///
    /// # Errors
    /// `NoSpace` when the address space is used up, or the data is longer than
    /// a block.
    pub fn reserve(
        &mut self,
        memory: &SharedMemory,
        class: Class,
        entry: &Entry,
        len: usize,
    ) -> Result<usize> {
        let span = entry::span(len);
        if BLOCK_HEADER + span > BLOCK {
            return Err(Error::NoSpace);
        }
        let full = |block: &Block| block.used + span > BLOCK;
        let current = self.current[class as usize].filter(|index| !full(&self.blocks[*index]));
        let index = match current {
            Some(index) => index,
            None => self.next_block(memory, class)?,
        };
        let block = &mut self.blocks[index];
        let at = start(index) + block.used;
        entry::begin(memory, at, entry, self.next_seq, len);
        self.next_seq += 1;
        block.used += span;
        block.live += 1;
        // Behind the header: whoever finds the block can walk through it.
        let used = block.used as u64;
        memory.long(start(index)).store(used, Ordering::Release);
        Ok(at)
    }

    /// Notes the revision of the command that was just reserved.
    pub fn reserved_command(&mut self, revision: Revision) {
        self.newest = self.newest.max(revision);
    }

    /// Gives up commands that the log has made durable.
    pub fn retire(&mut self, memory: &SharedMemory, durable: Revision) {
        while let Some((index, newest)) = self.full.front().copied() {
            if newest > durable {
                return;
            }
            self.full.pop_front();
            self.recycle(memory, index);
        }
    }

    pub fn release(&mut self, memory: &SharedMemory, at: usize) {
        entry::free(memory, at);
        let index = (at - AT_DATA) / BLOCK;
        let block = &mut self.blocks[index];
        block.live -= 1;
        if block.live > 0 {
            return;
        }
        if self.current.contains(&Some(index)) {
            block.used = BLOCK_HEADER;
            clear(memory, index);
        } else {
            self.recycle(memory, index);
        }
    }

    fn next_block(&mut self, memory: &SharedMemory, class: Class) -> Result<usize> {
        if let (Class::Command, Some(full)) = (class, self.current[class as usize]) {
            self.full.push_back((full, self.newest));
        }
        // What is left of a block of writes goes with its last entry.
        self.current[class as usize] = None;
        let index = match self.warm.take().or_else(|| self.cold.pop()) {
            Some(index) => index,
            None if self.blocks.len() < MOST_BLOCKS => {
                self.blocks.push(Block::default());
                let count = self.blocks.len() as u64;
                memory.long(AT_BLOCKS).store(count, Ordering::Release);
                self.blocks.len() - 1
            }
            None => return Err(Error::NoSpace),
        };
        self.blocks[index].used = BLOCK_HEADER;
        self.current[class as usize] = Some(index);
        Ok(index)
    }

    fn recycle(&mut self, memory: &SharedMemory, index: usize) {
        self.blocks[index] = Block::default();
        clear(memory, index);
        self.warm.put(index);
    }

    /// Takes out blocks that writes have not needed for a while; once their
    /// pages are given back they go to [`Arena::cooled`].
    pub fn surplus(&mut self) -> Vec<usize> {
        self.warm.surplus(WARM)
    }

    /// Blocks without pages.
    pub fn cooled(&mut self, blocks: Vec<usize>) {
        self.cold.extend(blocks);
    }

    /// Takes over what another process left, and shows all that is there to
    /// `visit` in the order in which it was written. `visit` answers the
    /// revision of a command.
    ///
    /// # Errors
    /// `Damaged`.
    pub fn adopt(
        &mut self,
        memory: &SharedMemory,
        visit: &mut dyn FnMut(Found) -> Option<Revision>,
    ) -> Result<()> {
        let count = memory.long(AT_BLOCKS).load(Ordering::Acquire) as usize;
        if count > MOST_BLOCKS {
            return Err(damaged("it claims more blocks than there can be"));
        }
        let mut found = Vec::new();
        for index in 0..count {
            self.blocks.push(Block::default());
            self.adopt_block(memory, index, &mut found)?;
        }
        found.sort_by_key(|(seq, _)| *seq);
        let mut commands: Vec<(usize, Revision)> = Vec::new();
        for (_, found) in found {
            let index = (found.at - AT_DATA) / BLOCK;
            let Some(revision) = visit(found) else {
                continue;
            };
            match commands.iter_mut().find(|(block, _)| *block == index) {
                Some((_, newest)) => *newest = revision.max(*newest),
                None => commands.push((index, revision)),
            }
        }
        commands.sort_by_key(|(_, newest)| *newest);
        self.full.extend(commands);
        Ok(())
    }

    fn adopt_block(
        &mut self,
        memory: &SharedMemory,
        index: usize,
        found: &mut Vec<(u64, Found)>,
    ) -> Result<()> {
        let used = memory.long(start(index)).load(Ordering::Acquire) as usize;
        if used > BLOCK {
            return Err(damaged("a block is longer than it can be"));
        }
        let mut at = BLOCK_HEADER;
        let mut live = 0;
        while at < used {
            let place = start(index) + at;
            let read = entry::read(memory, place)
                .filter(|read| at + entry::span(read.len) <= used)
                .ok_or_else(|| damaged("an entry does not fit its block"))?;
            self.next_seq = self.next_seq.max(read.seq + 1);
            if read.is_there {
                live += 1;
                let mut data = vec![0; read.len];
                memory.read(place + HEADER, &mut data);
                let at = place;
                let entry = read.entry;
                found.push((read.seq, Found { at, entry, data }));
            }
            at += entry::span(read.len);
        }
        if live > 0 {
            self.blocks[index] = Block { used, live };
        } else {
            clear(memory, index);
            give_back(memory, index);
            self.cold.push(index);
        }
        Ok(())
    }
}

/// Says in a block that nothing is in it.
fn clear(memory: &SharedMemory, index: usize) {
    memory.long(start(index)).store(0, Ordering::Release);
}

/// Gives the pages of a cleared block back, where the system takes them.
pub(super) fn give_back(memory: &SharedMemory, index: usize) {
    memory.give_back(start(index), BLOCK);
}

fn start(index: usize) -> usize {
    AT_DATA + index * BLOCK
}

fn damaged(what: &str) -> Error {
    Error::damaged("the journal of the mount", what)
}
