//! Extended attributes.

use std::sync::Arc;

use super::MODE_BITS;
use crate::{
    Error, Result,
    ids::{Ino, NameTag, Timestamp},
    meta::{
        command::{Reply, XattrMode},
        inode::Inode,
        key::Key,
        transaction::Transaction,
    },
};

pub(super) fn set(
    tx: &mut Transaction<'_>,
    (ino, tag): (Ino, NameTag),
    value: &Arc<[u8]>,
    mode: XattrMode,
    file_mode: Option<u32>,
    time: Timestamp,
) -> Result<Reply> {
    tx.inode(ino)?;
    let key = Key::xattr(ino, tag);
    let exists = tx.get(key)?.is_some();
    match mode {
        XattrMode::Create if exists => return Err(Error::Exists),
        XattrMode::Replace if !exists => return Err(Error::NoAttribute),
        _ => {}
    }
    tx.put(key, Arc::clone(value));
    let inode = tx.edit(ino, |inode| {
        inode.xattrs += u32::from(!exists);
        inode.ctime = time;
        if let Some(file_mode) = file_mode {
            inode.mode = file_mode & MODE_BITS;
        }
    })?;
    Ok(Reply::Inode(inode))
}

pub(super) fn remove(
    tx: &mut Transaction<'_>,
    ino: Ino,
    tag: NameTag,
    time: Timestamp,
) -> Result<Reply> {
    tx.inode(ino)?;
    let key = Key::xattr(ino, tag);
    if tx.get(key)?.is_none() {
        return Err(Error::NoAttribute);
    }
    tx.delete(key);
    let inode = tx.edit(ino, |inode| {
        inode.xattrs = inode.xattrs.saturating_sub(1);
        inode.ctime = time;
    })?;
    Ok(Reply::Inode(inode))
}

/// Removes what describes contents that are about to change.
pub(super) fn contents_change(tx: &mut Transaction<'_>, inode: &mut Inode) -> Result<()> {
    if inode.xattrs == 0 {
        return Ok(());
    }
    let key = Key::xattr(inode.ino, NameTag::CONTENTS);
    if tx.get(key)?.is_some() {
        tx.delete(key);
        inode.xattrs -= 1;
    }
    Ok(())
}
