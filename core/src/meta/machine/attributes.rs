//! Attributes of an inode.

use super::{MAX_SIZE, MODE_BITS, contents, file};
use crate::{
    Error, Result,
    ids::{Ino, Timestamp},
    meta::{
        command::{AttrChange, Reply},
        inode::Inode,
        transaction::Transaction,
    },
};

pub(super) fn set(tx: &mut Transaction<'_>, ino: Ino, change: &AttrChange) -> Result<Reply> {
    let mut inode = match change.size {
        Some(size) => {
            let mut inode = file(tx, ino)?;
            refuse_large(size)?;
            contents::resize(tx, &mut inode, size)?;
            inode
        }
        None => (*tx.inode(ino)?).clone(),
    };
    change_all_but_size(&mut inode, change)?;
    Ok(Reply::Inode(tx.put_inode(inode)?))
}

pub(super) fn refuse_large(size: u64) -> Result<()> {
    if size > MAX_SIZE {
        return Err(Error::FileTooLarge);
    }
    Ok(())
}

pub(super) fn change_all_but_size(inode: &mut Inode, change: &AttrChange) -> Result<()> {
    fn set<T: Copy>(field: &mut T, new: Option<T>) {
        if let Some(new) = new {
            *field = new;
        }
    }
    fn refuse_wrong(time: Option<Timestamp>) -> Result<()> {
        match time {
            Some(time) if time.nanos >= 1_000_000_000 => {
                Err(Error::Invalid("a second has 1,000,000,000 nanoseconds"))
            }
            _ => Ok(()),
        }
    }
    for time in [change.atime, change.mtime, change.ctime] {
        refuse_wrong(time)?;
    }
    set(&mut inode.mode, change.mode.map(|mode| mode & MODE_BITS));
    set(&mut inode.uid, change.uid);
    set(&mut inode.gid, change.gid);
    set(&mut inode.atime, change.atime);
    set(&mut inode.mtime, change.mtime);
    set(&mut inode.ctime, change.ctime);
    Ok(())
}
