//! Names move: rename(2) and renameat2(2).

use std::sync::Arc;

use super::{
    MAX_LINKS, directory,
    names::{Place, drop_name, edit_directory},
};
use crate::{
    Error, Result,
    ids::{Ino, Timestamp},
    meta::{
        command::{RenameMode, Reply},
        inode::{Dentry, Inode, Kind},
        transaction::Transaction,
    },
};

pub(super) struct Rename<'a> {
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) new_name: &'a Arc<[u8]>,
    pub(super) old_name: Option<&'a Arc<[u8]>>,
    pub(super) mode: RenameMode,
    pub(super) time: Timestamp,
}

impl Rename<'_> {
    pub(super) fn apply(&self, tx: &mut Transaction<'_>) -> Result<Reply> {
        directory(tx, self.from.0)?;
        directory(tx, self.to.0)?;
        let moved = tx
            .dentry(self.from.0, self.from.1)?
            .ok_or(Error::NotFound)?;
        let standing = tx.dentry(self.to.0, self.to.1)?;
        match (self.mode, &standing) {
            (RenameMode::NoReplace, Some(_)) => return Err(Error::Exists),
            (RenameMode::Exchange, None) => return Err(Error::NotFound),
            _ => {}
        }
        self.refuse_loops(tx, &moved, standing.as_ref())?;
        let moved_ino = moved.ino;
        let replaced = match standing {
            // Two names of one inode: rename(2) does nothing, by its letter.
            Some(standing) if standing.ino == moved.ino => None,
            Some(standing) if self.mode == RenameMode::Exchange => {
                Some(self.exchange(tx, moved, standing)?)
            }
            standing => self.replace(tx, moved, standing)?,
        };
        Ok(Reply::Renamed {
            moved: moved_ino,
            replaced,
        })
    }

    fn moves_between_directories(&self) -> bool {
        self.from.0 != self.to.0
    }

    /// No directory may come to stand below itself, and none that is above the
    /// other name can be replaced.
    fn refuse_loops(
        &self,
        tx: &mut Transaction<'_>,
        moved: &Dentry,
        standing: Option<&Dentry>,
    ) -> Result<()> {
        if !self.moves_between_directories() {
            return Ok(());
        }
        if moved.kind == Kind::Directory && is_within(tx, self.to.0, moved.ino)? {
            return Err(Error::Invalid("a directory cannot move below itself"));
        }
        if let Some(standing) = standing
            && standing.kind == Kind::Directory
            && is_within(tx, self.from.0, standing.ino)?
        {
            return Err(match self.mode {
                RenameMode::Exchange => Error::Invalid("a directory cannot move below itself"),
                _ => Error::NotEmpty,
            });
        }
        Ok(())
    }

    fn replace(
        &self,
        tx: &mut Transaction<'_>,
        moved: Dentry,
        standing: Option<Dentry>,
    ) -> Result<Option<Arc<Inode>>> {
        let is_directory = moved.kind == Kind::Directory;
        if let Some(standing) = &standing {
            match (is_directory, standing.kind == Kind::Directory) {
                (true, false) => return Err(Error::NotADirectory),
                (false, true) => return Err(Error::IsADirectory),
                (true, true) if tx.inode(standing.ino)?.size > 0 => return Err(Error::NotEmpty),
                _ => {}
            }
        }
        let gains = standing.is_none();
        if is_directory && gains && self.moves_between_directories() {
            self.refuse_full(tx, self.to.0)?;
        }
        tx.delete_dentry(self.from.0, self.from.1);
        edit_directory(tx, self.from.0, self.time, |holder| {
            holder.size = holder.size.saturating_sub(1);
            holder.nlink = holder.nlink.saturating_sub(u32::from(is_directory));
        })?;
        // What it replaces is of the same sort and gives its place and count.
        edit_directory(tx, self.to.0, self.time, |holder| {
            holder.size = holder.size.saturating_add(u64::from(gains));
            holder.nlink += u32::from(is_directory && gains);
        })?;
        self.settle(tx, moved, self.to, self.new_name)?;
        match standing {
            Some(standing) => Ok(Some(drop_name(tx, standing.ino, self.time)?)),
            None => Ok(None),
        }
    }

    fn exchange(
        &self,
        tx: &mut Transaction<'_>,
        moved: Dentry,
        standing: Dentry,
    ) -> Result<Arc<Inode>> {
        let old_name = self
            .old_name
            .ok_or(Error::Invalid("an exchange needs both names"))?;
        let comes = moved.kind == Kind::Directory;
        let goes = standing.kind == Kind::Directory;
        if comes != goes && self.moves_between_directories() {
            let (loser, winner) = match comes {
                true => (self.from.0, self.to.0),
                false => (self.to.0, self.from.0),
            };
            self.refuse_full(tx, winner)?;
            tx.edit(loser, |holder| {
                holder.nlink = holder.nlink.saturating_sub(1)
            })?;
            tx.edit(winner, |holder| holder.nlink += 1)?;
        }
        edit_directory(tx, self.from.0, self.time, |_| {})?;
        edit_directory(tx, self.to.0, self.time, |_| {})?;
        self.settle(tx, moved, self.to, self.new_name)?;
        self.settle(tx, standing, self.from, old_name)
    }

    fn refuse_full(&self, tx: &mut Transaction<'_>, ino: Ino) -> Result<()> {
        if tx.inode(ino)?.nlink >= MAX_LINKS {
            return Err(Error::TooManyLinks);
        }
        Ok(())
    }

    /// Puts a name at its new place.
    fn settle(
        &self,
        tx: &mut Transaction<'_>,
        moved: Dentry,
        (parent, tag): Place,
        name: &Arc<[u8]>,
    ) -> Result<Arc<Inode>> {
        let inode = tx.edit(moved.ino, |inode| {
            inode.ctime = self.time;
            if inode.kind == Kind::Directory {
                inode.parent = parent;
            }
        })?;
        let dentry = Dentry {
            tag,
            sealed_name: Arc::clone(name),
            ..moved
        };
        tx.put_dentry(parent, dentry);
        Ok(inode)
    }
}

/// Whether `directory` is `top` or lies below it.
fn is_within(tx: &mut Transaction<'_>, directory: Ino, top: Ino) -> Result<bool> {
    let mut at = directory;
    // Damaged parents may form a ring; no path is longer than there are inodes.
    for _ in 0..=tx.totals().usage.inodes {
        if at == top {
            return Ok(true);
        }
        if at == Ino::ROOT {
            return Ok(false);
        }
        at = tx.inode(at)?.parent;
    }
    Err(Error::damaged(
        format!("inode {}", directory.0),
        "its parents form a ring",
    ))
}
