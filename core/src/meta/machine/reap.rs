//! Orphans go, with all that hangs on them.

use super::{contents, ranges};
use crate::{
    Result,
    ids::Ino,
    meta::{command::Reply, key::Key, transaction::Transaction},
};

pub(super) fn reap(tx: &mut Transaction<'_>, inos: &[Ino]) -> Result<Reply> {
    for ino in inos {
        if tx.get(Key::orphan(*ino))?.is_none() {
            continue;
        }
        tx.delete(Key::orphan(*ino));
        let Some(inode) = tx.find_inode(*ino)? else {
            continue;
        };
        let mut inode = (*inode).clone();
        let all = inode.size;
        ranges::clear(tx, &mut inode, 0, all)?;
        contents::drop_inline(tx, &mut inode)?;
        if inode.xattrs > 0 {
            for tag in tx.xattr_tags(*ino)? {
                tx.delete(Key::xattr(*ino, tag));
            }
        }
        tx.delete_inode(*ino)?;
    }
    Ok(Reply::Done)
}
