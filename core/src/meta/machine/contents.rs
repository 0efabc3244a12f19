//! Contents of files: write, resize, punch, shift, clone.
//!
//! A file has extents or inline contents, never both. Inline contents are
//! sealed as one, so a command that would need to change their middle is
//! refused; the sender opens and writes them anew.

use std::sync::Arc;

use super::{
    MAX_SIZE,
    attributes::{change_all_but_size, refuse_large},
    file, ranges, xattrs,
};
use crate::{
    Error, Result,
    ids::{Ino, Timestamp},
    meta::{
        command::{AttrChange, Body, CloneRange, Reply},
        inode::{Extent, Inode},
        key::Key,
        transaction::Transaction,
    },
};

const INLINE: Error = Error::Invalid("inline contents can only be written as a whole");

pub(super) fn write(
    tx: &mut Transaction<'_>,
    ino: Ino,
    body: &Body,
    change: &AttrChange,
) -> Result<Reply> {
    let mut inode = file(tx, ino)?;
    let size = change.size.unwrap_or(0);
    refuse_large(size)?;
    xattrs::contents_change(tx, &mut inode)?;
    match body {
        Body::Extents(extents) => {
            drop_inline(tx, &mut inode)?;
            for extent in extents {
                write_extent(tx, &mut inode, extent)?;
            }
        }
        Body::Inline(sealed, len) => {
            let all = inode.size;
            ranges::clear(tx, &mut inode, 0, all)?;
            put_inline(tx, &mut inode, sealed, *len)?;
        }
    }
    inode.size = inode.size.max(size);
    change_all_but_size(&mut inode, change)?;
    Ok(Reply::Inode(tx.put_inode(inode)?))
}

fn write_extent(tx: &mut Transaction<'_>, inode: &mut Inode, extent: &Extent) -> Result<()> {
    if extent.len == 0 || extent.chunk_offset.checked_add(extent.len).is_none() {
        return Err(Error::Invalid("an extent is a part of a chunk"));
    }
    let end = end_of(extent.offset, u64::from(extent.len))?;
    ranges::clear(tx, inode, extent.offset, end)?;
    ranges::put(tx, inode, extent);
    inode.size = inode.size.max(end);
    Ok(())
}

/// The end of a range that a file can have.
fn end_of(offset: u64, len: u64) -> Result<u64> {
    match offset.checked_add(len) {
        Some(end) if end <= MAX_SIZE => Ok(end),
        _ => Err(Error::FileTooLarge),
    }
}

fn put_inline(
    tx: &mut Transaction<'_>,
    inode: &mut Inode,
    sealed: &Arc<[u8]>,
    len: u32,
) -> Result<()> {
    let key = Key::inline(inode.ino);
    let before = match inode.inline {
        Some(_) => tx.get(key)?.map_or(0, |record| record.len()),
        None => 0,
    };
    tx.inline_changed(before, sealed.len());
    tx.put(key, Arc::clone(sealed));
    inode.inline = Some(len);
    inode.allocated = u64::from(len);
    inode.size = inode.size.max(u64::from(len));
    Ok(())
}

/// Removes inline contents, if there are such.
pub(super) fn drop_inline(tx: &mut Transaction<'_>, inode: &mut Inode) -> Result<()> {
    if inode.inline.take().is_none() {
        return Ok(());
    }
    let key = Key::inline(inode.ino);
    let before = tx.get(key)?.map_or(0, |record| record.len());
    tx.inline_changed(before, 0);
    tx.delete(key);
    inode.allocated = 0;
    Ok(())
}

/// Lets inline contents end at `end` at the latest.
fn cut_inline(tx: &mut Transaction<'_>, inode: &mut Inode, end: u64) -> Result<()> {
    match inode.inline {
        Some(len) if end == 0 && len > 0 => drop_inline(tx, inode),
        Some(len) if end < u64::from(len) => {
            // Below `len`, so it fits.
            inode.inline = Some(end as u32);
            inode.allocated = end;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Cuts or lengthens a file.
pub(super) fn resize(tx: &mut Transaction<'_>, inode: &mut Inode, size: u64) -> Result<()> {
    xattrs::contents_change(tx, inode)?;
    ranges::clear(tx, inode, size, u64::MAX)?;
    cut_inline(tx, inode, size)?;
    inode.size = size;
    Ok(())
}

pub(super) fn punch(
    tx: &mut Transaction<'_>,
    ino: Ino,
    offset: u64,
    len: u64,
    time: Timestamp,
) -> Result<Reply> {
    let mut inode = file(tx, ino)?;
    if len == 0 {
        return Err(Error::Invalid("the range is empty"));
    }
    let end = end_of(offset, len)?;
    match inode.inline {
        Some(inline) if offset < u64::from(inline) => {
            if end < u64::from(inline) {
                return Err(INLINE);
            }
            cut_inline(tx, &mut inode, offset)?;
        }
        _ => ranges::clear(tx, &mut inode, offset, end)?,
    }
    xattrs::contents_change(tx, &mut inode)?;
    touch(&mut inode, time);
    Ok(Reply::Inode(tx.put_inode(inode)?))
}

fn touch(inode: &mut Inode, time: Timestamp) {
    inode.mtime = time;
    inode.ctime = time;
}

pub(super) fn shift(
    tx: &mut Transaction<'_>,
    ino: Ino,
    offset: u64,
    len: u64,
    insert: bool,
    time: Timestamp,
) -> Result<Reply> {
    let mut inode = file(tx, ino)?;
    if len == 0 {
        return Err(Error::Invalid("the range is empty"));
    }
    let end = end_of(offset, len)?;
    if matches!(inode.inline, Some(inline) if offset < u64::from(inline)) {
        return Err(INLINE);
    }
    if insert {
        if offset >= inode.size {
            return Err(Error::Invalid(
                "a hole is inserted before the end of the file",
            ));
        }
        let size = end_of(inode.size, len)?;
        ranges::split(tx, &mut inode, offset)?;
        ranges::slide(tx, &inode, offset, end)?;
        inode.size = size;
    } else {
        if end >= inode.size {
            return Err(Error::Invalid(
                "a range is taken out before the end of the file",
            ));
        }
        ranges::clear(tx, &mut inode, offset, end)?;
        ranges::slide(tx, &inode, end, offset)?;
        inode.size -= len;
    }
    xattrs::contents_change(tx, &mut inode)?;
    touch(&mut inode, time);
    Ok(Reply::Inode(tx.put_inode(inode)?))
}

pub(super) fn clone(tx: &mut Transaction<'_>, range: &CloneRange) -> Result<Reply> {
    let source = file(tx, range.from)?;
    let mut target = file(tx, range.to)?;
    let from_end = end_of(range.from_offset, range.len)?;
    let to_end = end_of(range.to_offset, range.len)?;
    if range.len == 0 || from_end > source.size {
        return Err(Error::Invalid("the source does not have the range"));
    }
    if source.inline.is_some() {
        return Err(INLINE);
    }
    if range.from == range.to && range.from_offset < to_end && range.to_offset < from_end {
        return Err(Error::Invalid("the ranges overlap"));
    }
    if let Some(inline) = target.inline {
        if inline > 0 && (range.to_offset > 0 || to_end < u64::from(inline)) {
            return Err(INLINE);
        }
        drop_inline(tx, &mut target)?;
    }
    let shared = tx.extents(range.from, range.from_offset, from_end)?;
    ranges::clear(tx, &mut target, range.to_offset, to_end)?;
    for extent in &shared {
        if let Some(part) = ranges::part(extent, range.from_offset, from_end) {
            let offset = part.offset - range.from_offset + range.to_offset;
            ranges::put_joined(tx, &mut target, &Extent { offset, ..part })?;
        }
    }
    target.size = target.size.max(to_end);
    xattrs::contents_change(tx, &mut target)?;
    touch(&mut target, range.time);
    Ok(Reply::Inode(tx.put_inode(target)?))
}
