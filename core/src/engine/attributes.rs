//! Attributes.

use std::sync::Arc;

use crate::{
    Error, Result,
    engine::{
        Attr, Caller, Change, Inner, SIZE_MAX, SetAttr, Volume, acl, node::Node, seal::Take,
        set_time,
    },
    ids::Ino,
    meta::{AttrChange, Command, Kind, MetaService, Reply},
};

const SUID: u32 = 0o4000;
const SGID: u32 = 0o2000;
const GROUP_EXEC: u32 = 0o0010;

impl Volume {
    /// Attributes of an inode.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn getattr(&self, ino: Ino) -> Result<Attr> {
        // What is pending is taken before the inode is asked for: a change that
        // is committed in between is then seen twice, not missed.
        let unsealed = self.inner.nodes.get(ino).map(|node| {
            let state = node.state.lock();
            (state.all_pending(), state.unsealed())
        });
        let inode = self.inner.meta.inode(ino).get().await?;
        let mut attr = Attr::from(&*inode);
        if let Some((pending, bytes)) = unsealed {
            pending.overlay(&mut attr);
            // Some programs take a file without blocks for one without data.
            attr.blocks += bytes.div_ceil(512);
        }
        Ok(attr)
    }

    /// Changes attributes. A change of owner takes away set-user-id and
    /// set-group-id, and so does a change of length by a caller without
    /// privilege.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory` or `Invalid` for a length of what is no
    /// file, `FileTooLarge`.
    pub async fn setattr(&self, who: &Caller, ino: Ino, change: SetAttr) -> Result<Attr> {
        let inner = &self.inner;
        inner.check_writable()?;
        if let Some(mode) = change.mode {
            acl::mode_changed(inner, ino, mode).await?;
        }
        let mut attr = self.getattr(ino).await?;
        if let Some(size) = change.size {
            match attr.kind {
                Kind::File => {}
                Kind::Directory => return Err(Error::IsADirectory),
                _ => return Err(Error::Invalid("only regular files have a length")),
            }
            if size > SIZE_MAX {
                return Err(Error::FileTooLarge);
            }
        }
        let command = inner.attr_change(who, &attr, &change);
        let node = match change.size {
            // A node even if nobody has the file open, so that whoever opens it
            // meanwhile shares its lock.
            Some(_) => Some(inner.nodes.with(ino, |node, _| node.clone())),
            None => inner.nodes.get(ino),
        };
        match node {
            Some(node) => {
                let changed = inner.change_open(node, command).await;
                inner.nodes.release(ino);
                changed?;
            }
            None => inner.apply_change(ino, command)?,
        }
        inner.changed(who.front, || Change::Inode(ino));
        attr = self.getattr(ino).await?;
        Ok(attr)
    }
}

impl Inner {
    fn attr_change(&self, who: &Caller, attr: &Attr, change: &SetAttr) -> AttrChange {
        let now = self.now();
        let owner_changes = change.uid.is_some() || change.gid.is_some();
        let mut mode = change.mode;
        if attr.kind != Kind::Directory && mode.is_none() {
            let loses = owner_changes || (change.size.is_some() && !who.privileged);
            if loses {
                mode = without_privileges(attr.mode);
            }
        }
        AttrChange {
            mode: mode.map(|mode| mode & 0o7777),
            uid: change.uid,
            gid: change.gid,
            size: change.size,
            atime: set_time(change.atime, now),
            mtime: set_time(change.mtime, now)
                .or_else(|| change.size.filter(|_| change.mtime.is_none()).map(|_| now)),
            ctime: Some(change.ctime.unwrap_or(now)),
        }
    }

    /// Changes attributes of a file in use: what is unsealed comes first, so
    /// that a later sealing pass does not bring back older attributes.
    async fn change_open(self: &Arc<Self>, node: Arc<Node>, change: AttrChange) -> Result<()> {
        if change.size.is_none() && self.change_pending(&node, &change)? {
            return Ok(());
        }
        let inner = self.clone();
        let ino = node.ino;
        self.exclusively(node, move |node, body| {
            if change.size == Some(0) {
                inner.drop_unsealed(node);
            }
            inner.seal_locked(node, Take::All, body)?;
            let changed = inner.apply_change(ino, change);
            node.state.lock().contents_changed();
            changed
        })
        .await
    }

    /// The short way for a file that was just written and is not being sealed:
    /// times wait with its bytes. `false` when it does not apply.
    fn change_pending(&self, node: &Node, change: &AttrChange) -> Result<bool> {
        let Some(_body) = node.body.try_lock() else {
            return Ok(false);
        };
        let mut state = node.state.lock();
        if !state.has_changes() {
            drop(state);
            self.apply_change(node.ino, change.clone())?;
            return Ok(true);
        }
        state.pending.atime = change.atime.or(state.pending.atime);
        state.pending.mtime = change.mtime.or(state.pending.mtime);
        state.pending.ctime = change.ctime.or(state.pending.ctime);
        if change.mode.is_some() {
            state.pending.strip = false;
        }
        self.keep_attributes(node.ino, &mut state, change.mode.is_some())?;
        drop(state);
        if change.mode.is_some() || change.uid.is_some() || change.gid.is_some() {
            let change = AttrChange {
                atime: None,
                mtime: None,
                ..change.clone()
            };
            self.apply_change(node.ino, change)?;
        }
        Ok(true)
    }

    fn apply_change(&self, ino: Ino, change: AttrChange) -> Result<()> {
        let (_, reply) = self.meta.apply(Command::SetAttr { ino, change }).wait()?;
        debug_assert!(matches!(reply, Reply::Inode(_) | Reply::Done));
        Ok(())
    }

    /// Throws unsealed bytes away, because the file is being emptied.
    fn drop_unsealed(&self, node: &Node) {
        let mut state = node.state.lock();
        let dropped = std::mem::take(&mut state.dirty).bytes() as u64;
        state.pending.end = 0;
        self.let_go(&mut state.kept);
        drop(state);
        self.budget.free(dropped);
    }
}

/// The mode without set-user-id and set-group-id, if it has them. A
/// set-group-id bit without group execution is a mark for mandatory locking
/// and stays.
pub(super) fn without_privileges(mode: u32) -> Option<u32> {
    let mut stripped = mode & !SUID;
    if mode & GROUP_EXEC != 0 {
        stripped &= !SGID;
    }
    (stripped != mode).then_some(stripped)
}
