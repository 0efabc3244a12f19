//! The extents of one file: cutting and putting, with everything that counts
//! them.
//!
//! Each extent record is one reference to its chunk. The functions here keep
//! the counts of chunks and `extents` and `allocated` of the inode in step;
//! the totals follow from the inode.

use crate::{
    Result,
    meta::{
        inode::{Extent, Inode},
        key::Key,
        transaction::Transaction,
        value,
    },
};

/// The part of an extent that lies in `from..to`, if any.
pub(super) fn part(extent: &Extent, from: u64, to: u64) -> Option<Extent> {
    let offset = extent.offset.max(from);
    let end = extent.end().min(to);
    if offset >= end {
        return None;
    }
    // Both differences are at most the length of the extent.
    let skipped = (offset - extent.offset) as u32;
    Some(Extent {
        offset,
        len: (end - offset) as u32,
        chunk: extent.chunk,
        chunk_offset: extent.chunk_offset.saturating_add(skipped),
    })
}

fn write(tx: &mut Transaction<'_>, inode: &Inode, extent: &Extent) {
    let record = value::encode_extent(extent);
    tx.put(Key::extent(inode.ino, extent.end()), record);
}

fn remove(tx: &mut Transaction<'_>, inode: &mut Inode, extent: &Extent) {
    tx.delete(Key::extent(inode.ino, extent.end()));
    tx.refer(extent.chunk, -1);
    inode.extents = inode.extents.saturating_sub(1);
    inode.allocated = inode.allocated.saturating_sub(u64::from(extent.len));
}

/// Puts an extent where there is none.
pub(super) fn put(tx: &mut Transaction<'_>, inode: &mut Inode, extent: &Extent) {
    write(tx, inode, extent);
    tx.refer(extent.chunk, 1);
    inode.extents += 1;
    inode.allocated = inode.allocated.saturating_add(u64::from(extent.len));
}

/// Puts an extent where there is none, and makes it one with that before it
/// when they are one piece of one chunk: what is cloned in small steps does
/// not stay in small pieces.
pub(super) fn put_joined(
    tx: &mut Transaction<'_>,
    inode: &mut Inode,
    extent: &Extent,
) -> Result<()> {
    let key = Key::extent(inode.ino, extent.offset);
    if let Some(record) = tx.get(key)? {
        let before = value::decode_extent(inode.ino, extent.offset, &record)?;
        let continues = before.chunk == extent.chunk
            && before.chunk_offset.checked_add(before.len) == Some(extent.chunk_offset);
        if continues && let Some(len) = before.len.checked_add(extent.len) {
            remove(tx, inode, &before);
            put(tx, inode, &Extent { len, ..before });
            return Ok(());
        }
    }
    put(tx, inode, extent);
    Ok(())
}

/// Makes `from..to` a hole.
pub(super) fn clear(tx: &mut Transaction<'_>, inode: &mut Inode, from: u64, to: u64) -> Result<()> {
    // No extent reaches behind the size: an append looks for nothing.
    if from >= inode.size || from >= to || inode.extents == 0 {
        return Ok(());
    }
    for extent in tx.extents(inode.ino, from, to)? {
        remove(tx, inode, &extent);
        let kept = [part(&extent, 0, from), part(&extent, to, u64::MAX)];
        for kept in kept.iter().flatten() {
            put(tx, inode, kept);
        }
    }
    Ok(())
}

/// Cuts the extent that lies across `at` in two, if one does.
pub(super) fn split(tx: &mut Transaction<'_>, inode: &mut Inode, at: u64) -> Result<()> {
    for extent in tx.extents(inode.ino, at, at.saturating_add(1))? {
        if let (Some(head), Some(tail)) = (part(&extent, 0, at), part(&extent, at, u64::MAX)) {
            remove(tx, inode, &extent);
            put(tx, inode, &head);
            put(tx, inode, &tail);
        }
    }
    Ok(())
}

/// Moves the extents from `from` on to `to`. Nothing may lie across `from`,
/// nor between `to` and `from` when they move to the front.
pub(super) fn slide(tx: &mut Transaction<'_>, inode: &Inode, from: u64, to: u64) -> Result<()> {
    let moved = tx.extents(inode.ino, from, u64::MAX)?;
    for extent in &moved {
        tx.delete(Key::extent(inode.ino, extent.end()));
    }
    for extent in &moved {
        let offset = extent.offset - from + to;
        write(tx, inode, &Extent { offset, ..*extent });
    }
    Ok(())
}
