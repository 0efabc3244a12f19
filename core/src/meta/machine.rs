//! The state machine: what each command does to the tables.
//!
//! [`apply`] promises that the same commands in the same order make the same
//! tables, byte for byte, on every machine: it reads nothing but the tables
//! and the command. A command it refuses is to be forgotten with its
//! [`Transaction`]; then nothing of it stays.
//!
//! The rules are those of POSIX, and where POSIX leaves a choice, those of
//! Linux, down to the order of errors. Permissions are not looked at: whoever
//! sends commands has done that.

mod amend;
mod attributes;
mod contents;
mod names;
mod ranges;
mod reap;
mod rename;
#[cfg(test)]
pub(crate) mod tests;
mod xattrs;

use std::sync::Arc;

use crate::{
    Error, Result,
    ids::{Ino, Timestamp},
    meta::{
        command::{Command, Reply},
        inode::{Inode, Kind},
        transaction::Transaction,
    },
};

/// The most names an inode can have, and subdirectories a directory. `st_nlink`
/// of 32-bit callers has to hold it.
pub const MAX_LINKS: u32 = i32::MAX as u32;

/// The largest size of a file, as `off_t` has it.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// The permission bits of an inode.
const MODE_BITS: u32 = 0o7777;

/// Applies a command.
///
/// # Errors
/// Why the command is refused; `Damaged` and what the disk says when the
/// tables cannot be read. The transaction is of no use after an error.
pub fn apply(tx: &mut Transaction<'_>, command: &Command) -> Result<Reply> {
    match command {
        Command::Format { .. }
        | Command::Create { .. }
        | Command::Link { .. }
        | Command::Unlink { .. }
        | Command::Rmdir { .. } => names::apply(tx, command),
        Command::Rename {
            parent,
            tag,
            new_parent,
            new_tag,
            new_name,
            mode,
            old_name,
            time,
        } => rename::Rename {
            from: (*parent, *tag),
            to: (*new_parent, *new_tag),
            new_name,
            old_name: old_name.as_ref(),
            mode: *mode,
            time: *time,
        }
        .apply(tx),
        Command::SetAttr { ino, change } => attributes::set(tx, *ino, change),
        Command::Write { ino, body, change } => contents::write(tx, *ino, body, change),
        Command::Punch {
            ino,
            offset,
            len,
            time,
        } => contents::punch(tx, *ino, *offset, *len, *time),
        Command::Shift {
            ino,
            offset,
            len,
            insert,
            time,
        } => contents::shift(tx, *ino, *offset, *len, *insert, *time),
        Command::Clone(clone) => contents::clone(tx, clone),
        Command::SetXattr {
            ino,
            tag,
            value,
            mode,
            file_mode,
            time,
        } => xattrs::set(tx, (*ino, *tag), value, *mode, *file_mode, *time),
        Command::RemoveXattr { ino, tag, time } => xattrs::remove(tx, *ino, *tag, *time),
        Command::Reap { inos } => reap::reap(tx, inos),
        Command::Amend { records } => amend::amend(tx, records),
    }
}

/// An inode without names or contents.
pub(crate) fn fresh_inode(ino: Ino, kind: Kind, time: Timestamp) -> Inode {
    Inode {
        ino,
        kind,
        mode: 0,
        uid: 0,
        gid: 0,
        nlink: 0,
        rdev: 0,
        size: 0,
        allocated: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        parent: ino,
        inline: None,
        xattrs: 0,
        extents: 0,
    }
}

/// A directory that can take and give names. One that was removed has none
/// and takes none.
fn directory(tx: &mut Transaction<'_>, ino: Ino) -> Result<Arc<Inode>> {
    let inode = tx.inode(ino)?;
    if inode.kind != Kind::Directory {
        return Err(Error::NotADirectory);
    }
    if inode.nlink == 0 {
        return Err(Error::NotFound);
    }
    Ok(inode)
}

/// A regular file, to be changed.
fn file(tx: &mut Transaction<'_>, ino: Ino) -> Result<Inode> {
    let inode = tx.inode(ino)?;
    match inode.kind {
        Kind::File => Ok((*inode).clone()),
        Kind::Directory => Err(Error::IsADirectory),
        _ => Err(Error::Invalid("only regular files have contents")),
    }
}
