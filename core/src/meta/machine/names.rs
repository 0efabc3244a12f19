//! Names come and go: format, create, link, unlink, rmdir.

use std::sync::Arc;

use super::{MAX_LINKS, MODE_BITS, directory, fresh_inode};
use crate::{
    Error, Result,
    ids::{Ino, NameTag, Timestamp},
    meta::{
        command::{Command, NewInode, Reply},
        inode::{Dentry, Inode, Kind},
        key::Key,
        transaction::Transaction,
    },
};

/// Where a name stands: directory and tag.
pub(super) type Place = (Ino, NameTag);

pub(super) fn apply(tx: &mut Transaction<'_>, command: &Command) -> Result<Reply> {
    match command {
        Command::Format {
            uid,
            gid,
            mode,
            time,
        } => format(tx, *uid, *gid, *mode, *time),
        Command::Create {
            parent,
            tag,
            name,
            inode,
            time,
        } => create(tx, (*parent, *tag), name, inode, *time),
        Command::Link {
            ino,
            parent,
            tag,
            name,
            time,
        } => link(tx, *ino, (*parent, *tag), name, *time),
        Command::Unlink { parent, tag, time } => unlink(tx, (*parent, *tag), *time),
        Command::Rmdir { parent, tag, time } => rmdir(tx, (*parent, *tag), *time),
        _ => Err(Error::Invalid("not a command about names")),
    }
}

fn format(
    tx: &mut Transaction<'_>,
    uid: u32,
    gid: u32,
    mode: u32,
    time: Timestamp,
) -> Result<Reply> {
    if tx.find_inode(Ino::ROOT)?.is_some() {
        return Err(Error::Exists);
    }
    let root = Inode {
        mode: mode & MODE_BITS,
        uid,
        gid,
        nlink: 2,
        ..fresh_inode(Ino::ROOT, Kind::Directory, time)
    };
    Ok(Reply::Inode(tx.add_inode(root)))
}

fn create(
    tx: &mut Transaction<'_>,
    (parent, tag): Place,
    name: &Arc<[u8]>,
    new: &NewInode,
    time: Timestamp,
) -> Result<Reply> {
    let holder = directory(tx, parent)?;
    if tx.dentry(parent, tag)?.is_some() {
        return Err(Error::Exists);
    }
    let is_directory = new.kind == Kind::Directory;
    if is_directory && holder.nlink >= MAX_LINKS {
        return Err(Error::TooManyLinks);
    }
    if new.target.is_some() != (new.kind == Kind::Symlink) {
        return Err(Error::Invalid("symlinks have a target, others have none"));
    }
    refuse_used(tx, new.ino)?;
    let inode = born(tx, parent, new, time)?;
    edit_directory(tx, parent, time, |holder| {
        holder.size = holder.size.saturating_add(1);
        holder.nlink += u32::from(is_directory);
    })?;
    let dentry = Dentry {
        tag,
        ino: new.ino,
        kind: new.kind,
        sealed_name: Arc::clone(name),
    };
    tx.put_dentry(parent, dentry);
    Ok(Reply::Inode(inode))
}

/// Numbers are never used twice, so that a handle of an inode that is gone
/// never opens another.
fn refuse_used(tx: &mut Transaction<'_>, ino: Ino) -> Result<()> {
    let is_used = ino <= Ino::ROOT
        // A number above all that were used needs no look.
        || (ino.0 <= tx.totals().last_ino && tx.find_inode(ino)?.is_some());
    if is_used {
        return Err(Error::damaged(
            format!("inode {}", ino.0),
            "its number was given out again",
        ));
    }
    Ok(())
}

fn born(
    tx: &mut Transaction<'_>,
    parent: Ino,
    new: &NewInode,
    time: Timestamp,
) -> Result<Arc<Inode>> {
    let mut inode = Inode {
        mode: new.mode & MODE_BITS,
        uid: new.uid,
        gid: new.gid,
        nlink: 1,
        rdev: new.rdev,
        ..fresh_inode(new.ino, new.kind, time)
    };
    if new.kind == Kind::Directory {
        inode.nlink = 2;
        inode.parent = parent;
    }
    if let Some((target, len)) = &new.target {
        inode.size = u64::from(*len);
        inode.allocated = u64::from(*len);
        inode.inline = Some(*len);
        tx.inline_changed(0, target.len());
        tx.put(Key::inline(new.ino), Arc::clone(target));
    }
    for (tag, value) in &new.xattrs {
        let key = Key::xattr(new.ino, *tag);
        if tx.get(key)?.is_some() {
            return Err(Error::Invalid("an attribute is given twice"));
        }
        tx.put(key, Arc::clone(value));
        inode.xattrs += 1;
    }
    Ok(tx.add_inode(inode))
}

fn link(
    tx: &mut Transaction<'_>,
    ino: Ino,
    (parent, tag): Place,
    name: &Arc<[u8]>,
    time: Timestamp,
) -> Result<Reply> {
    let inode = tx.inode(ino)?;
    directory(tx, parent)?;
    if tx.dentry(parent, tag)?.is_some() {
        return Err(Error::Exists);
    }
    if inode.kind == Kind::Directory {
        return Err(Error::NotPermitted);
    }
    if inode.nlink == 0 {
        return Err(Error::NotFound);
    }
    if inode.nlink >= MAX_LINKS {
        return Err(Error::TooManyLinks);
    }
    let dentry = Dentry {
        tag,
        ino,
        kind: inode.kind,
        sealed_name: Arc::clone(name),
    };
    tx.put_dentry(parent, dentry);
    edit_directory(tx, parent, time, |holder| {
        holder.size = holder.size.saturating_add(1);
    })?;
    let inode = tx.edit(ino, |inode| {
        inode.nlink += 1;
        inode.ctime = time;
    })?;
    Ok(Reply::Inode(inode))
}

fn unlink(tx: &mut Transaction<'_>, (parent, tag): Place, time: Timestamp) -> Result<Reply> {
    directory(tx, parent)?;
    let dentry = tx.dentry(parent, tag)?.ok_or(Error::NotFound)?;
    if dentry.kind == Kind::Directory {
        return Err(Error::IsADirectory);
    }
    tx.delete_dentry(parent, tag);
    edit_directory(tx, parent, time, |holder| {
        holder.size = holder.size.saturating_sub(1);
    })?;
    Ok(Reply::Removed(drop_name(tx, dentry.ino, time)?))
}

fn rmdir(tx: &mut Transaction<'_>, (parent, tag): Place, time: Timestamp) -> Result<Reply> {
    directory(tx, parent)?;
    let dentry = tx.dentry(parent, tag)?.ok_or(Error::NotFound)?;
    if dentry.kind != Kind::Directory {
        return Err(Error::NotADirectory);
    }
    if tx.inode(dentry.ino)?.size > 0 {
        return Err(Error::NotEmpty);
    }
    tx.delete_dentry(parent, tag);
    edit_directory(tx, parent, time, |holder| {
        holder.size = holder.size.saturating_sub(1);
        holder.nlink = holder.nlink.saturating_sub(1);
    })?;
    Ok(Reply::Removed(drop_name(tx, dentry.ino, time)?))
}

/// Changes a directory, and the times that change with its entries.
pub(super) fn edit_directory(
    tx: &mut Transaction<'_>,
    ino: Ino,
    time: Timestamp,
    edit: impl FnOnce(&mut Inode),
) -> Result<Arc<Inode>> {
    tx.edit(ino, |holder| {
        edit(holder);
        holder.mtime = time;
        holder.ctime = time;
    })
}

/// Takes a name from an inode; the last one leaves an orphan. A directory has
/// but one name, and its own count goes with it.
pub(super) fn drop_name(tx: &mut Transaction<'_>, ino: Ino, time: Timestamp) -> Result<Arc<Inode>> {
    let inode = tx.edit(ino, |inode| {
        inode.nlink = match inode.kind {
            Kind::Directory => 0,
            _ => inode.nlink.saturating_sub(1),
        };
        inode.ctime = time;
    })?;
    if inode.nlink == 0 {
        tx.put(Key::orphan(ino), Arc::new([]));
    }
    Ok(inode)
}
