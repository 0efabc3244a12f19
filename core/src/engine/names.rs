//! Names: finding, making, moving and removing them.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Error, Result,
    crypto::RecordContext,
    engine::{
        Attr, Caller, Change, Inner, RenameFlags, TARGET_MAX, Volume, acl, check_form, check_name,
        seal::Take,
    },
    ids::{Ino, NameTag},
    meta::{Command, Dentry, Inode, Kind, MetaService, NewInode, RenameMode, Reply},
};

const SGID: u32 = 0o2000;

/// What is to be made.
struct New<'a> {
    kind: Kind,
    mode: u32,
    rdev: u32,
    target: Option<&'a [u8]>,
    note: Option<&'a [u8]>,
}

impl New<'_> {
    fn of(kind: Kind, mode: u32) -> New<'static> {
        New {
            kind,
            mode,
            rdev: 0,
            target: None,
            note: None,
        }
    }
}

impl Volume {
    /// The inode that a name of a directory refers to.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `NameTooLong`.
    pub async fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        if Inner::is_hidden(parent, name) {
            return Err(Error::NotFound);
        }
        let dentry = self.inner.find(parent, name).await?;
        self.getattr(dentry.ino).await
    }

    /// Target of a symbolic link.
    ///
    /// # Errors
    /// `Invalid` when the inode is none.
    pub async fn readlink(&self, ino: Ino) -> Result<Bytes> {
        let inode = self.inner.meta.inode(ino).get().await?;
        if inode.kind != Kind::Symlink {
            return Err(Error::Invalid("not a symbolic link"));
        }
        let sealed = self.inner.meta.inline(ino).get().await?;
        let sealed = sealed
            .ok_or_else(|| Error::damaged(format!("inode {}", ino.0), "the link has no target"))?;
        let target = self
            .inner
            .keys
            .open_record(RecordContext::Target(ino), &sealed)?;
        Ok(Bytes::copy_from_slice(&target))
    }

    /// Makes a regular file and opens it, as [`Volume::open`] does.
    ///
    /// # Errors
    /// `Exists`, `NotFound`, `NotADirectory`, `NameTooLong`.
    pub async fn create(&self, who: &Caller, parent: Ino, name: &[u8], mode: u32) -> Result<Attr> {
        check_name(parent, name)?;
        // Open before it has a name: whoever removes that finds it in use.
        let ino = self.inner.meta.allocate_ino();
        self.inner.nodes.with(ino, |_, state| state.opens += 1);
        let made = self
            .make(who, parent, name, ino, New::of(Kind::File, mode))
            .await;
        if made.is_err() {
            self.release(ino).await?;
        }
        made
    }

    /// Makes a file, device node, pipe or socket.
    ///
    /// # Errors
    /// As [`Volume::create`].
    pub async fn mknod(
        &self,
        who: &Caller,
        parent: Ino,
        name: &[u8],
        kind: Kind,
        mode: u32,
        rdev: u32,
    ) -> Result<Attr> {
        if matches!(kind, Kind::Directory | Kind::Symlink) {
            return Err(Error::Invalid("mknod makes no directories and no links"));
        }
        check_name(parent, name)?;
        let ino = self.inner.meta.allocate_ino();
        let new = New {
            rdev,
            ..New::of(kind, mode)
        };
        self.make(who, parent, name, ino, new).await
    }

    /// Makes a regular file together with a note, see [`Volume::set_note`]:
    /// whoever finds the file finds the note.
    ///
    /// # Errors
    /// As [`Volume::create`]; `OutOfRange` for a long note.
    pub async fn make_noted(
        &self,
        who: &Caller,
        parent: Ino,
        name: &[u8],
        mode: u32,
        note: &[u8],
    ) -> Result<Attr> {
        check_name(parent, name)?;
        let ino = self.inner.meta.allocate_ino();
        let new = New {
            note: Some(note),
            ..New::of(Kind::File, mode)
        };
        self.make(who, parent, name, ino, new).await
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// As [`Volume::create`].
    pub async fn mkdir(&self, who: &Caller, parent: Ino, name: &[u8], mode: u32) -> Result<Attr> {
        check_name(parent, name)?;
        self.make_dir(who, parent, name, mode).await
    }

    pub(super) async fn make_dir(
        &self,
        who: &Caller,
        parent: Ino,
        name: &[u8],
        mode: u32,
    ) -> Result<Attr> {
        let ino = self.inner.meta.allocate_ino();
        self.make(who, parent, name, ino, New::of(Kind::Directory, mode))
            .await
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// As [`Volume::create`]; `NameTooLong` for a long target.
    pub async fn symlink(
        &self,
        who: &Caller,
        parent: Ino,
        name: &[u8],
        target: &[u8],
    ) -> Result<Attr> {
        check_name(parent, name)?;
        if target.is_empty() {
            return Err(Error::NotFound);
        }
        if target.len() > TARGET_MAX {
            return Err(Error::NameTooLong);
        }
        let ino = self.inner.meta.allocate_ino();
        let new = New {
            target: Some(target),
            ..New::of(Kind::Symlink, 0o777)
        };
        self.make(who, parent, name, ino, new).await
    }

    /// Removes a name of something that is no directory.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub async fn unlink(&self, who: &Caller, parent: Ino, name: &[u8]) -> Result<()> {
        self.inner.check_writable()?;
        check_name(parent, name)?;
        let command = Command::Unlink {
            parent,
            tag: self.inner.keys.name_tag(parent, name),
            time: self.inner.now(),
        };
        self.remove(who, parent, name, command).await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `NotEmpty`.
    pub async fn rmdir(&self, who: &Caller, parent: Ino, name: &[u8]) -> Result<()> {
        self.inner.check_writable()?;
        check_name(parent, name)?;
        let command = Command::Rmdir {
            parent,
            tag: self.inner.keys.name_tag(parent, name),
            time: self.inner.now(),
        };
        self.remove(who, parent, name, command).await
    }

    async fn remove(&self, who: &Caller, parent: Ino, name: &[u8], command: Command) -> Result<()> {
        let applied = self.inner.meta.apply_once(command, who.request);
        let (_, reply) = applied.get().await?;
        if let Reply::Removed(inode) = reply
            && is_orphan(&inode)
        {
            self.inner.orphaned(inode.ino);
        }
        self.inner.name_changed(who, parent, name);
        Ok(())
    }

    /// Adds a name to an inode.
    ///
    /// # Errors
    /// `Exists`, `NotFound`, `NotPermitted` for directories, `TooManyLinks`.
    pub async fn link(&self, who: &Caller, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        self.inner.check_writable()?;
        check_name(parent, name)?;
        self.inner.seal_before_naming(ino).await?;
        let (tag, sealed) = self.inner.seal_name(parent, name)?;
        let command = Command::Link {
            ino,
            parent,
            tag,
            name: sealed,
            time: self.inner.now(),
        };
        let applied = self.inner.meta.apply_once(command, who.request);
        applied.get().await?;
        self.inner.name_changed(who, parent, name);
        self.getattr(ino).await
    }

    /// Moves a name. Replacing a name is atomic, contents included: the new
    /// name never shows less than what was written under the old one.
    ///
    /// # Errors
    /// `NotFound`, `Exists`, `NotEmpty`, `IsADirectory`, `NotADirectory`,
    /// `Invalid` for a directory moved below itself.
    pub async fn rename(
        &self,
        who: &Caller,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        self.inner.check_writable()?;
        check_name(parent, name)?;
        check_name(new_parent, new_name)?;
        let dentry = self.inner.find(parent, name).await?;
        self.inner.seal_before_naming(dentry.ino).await?;
        let (new_tag, new_sealed) = self.inner.seal_name(new_parent, new_name)?;
        let (tag, old_sealed) = match flags {
            RenameFlags::Exchange => {
                let (tag, sealed) = self.inner.seal_name(parent, name)?;
                (tag, Some(sealed))
            }
            _ => (dentry.tag, None),
        };
        let command = Command::Rename {
            parent,
            tag,
            new_parent,
            new_tag,
            new_name: new_sealed,
            mode: match flags {
                RenameFlags::Replace => RenameMode::Replace,
                RenameFlags::NoReplace => RenameMode::NoReplace,
                RenameFlags::Exchange => RenameMode::Exchange,
            },
            old_name: old_sealed,
            time: self.inner.now(),
        };
        let applied = self.inner.meta.apply_once(command, who.request);
        let (_, reply) = applied.get().await?;
        if let Reply::Renamed {
            replaced: Some(inode),
            ..
        } = reply
            && is_orphan(&inode)
        {
            self.inner.orphaned(inode.ino);
        }
        self.inner.name_changed(who, parent, name);
        self.inner.name_changed(who, new_parent, new_name);
        Ok(())
    }

    /// A client of the front end knows this inode: one more for every answer
    /// that gave it out. An inode without a name stays until it is forgotten.
    pub fn remember(&self, ino: Ino) {
        self.inner.lookups.add(ino);
    }

    /// Takes back `count` times [`Volume::remember`].
    pub fn forget(&self, ino: Ino, count: u64) {
        if self.inner.lookups.remove(ino, count) {
            self.inner.reap_if_unused(ino);
        }
    }

    async fn make(
        &self,
        who: &Caller,
        parent: Ino,
        name: &[u8],
        ino: Ino,
        new: New<'_>,
    ) -> Result<Attr> {
        let inner = &*self.inner;
        let New { kind, mode, .. } = new;
        inner.check_writable()?;
        check_form(name)?;
        let directory = inner.meta.inode(parent).get().await?;
        let mut inherited = acl::inherit(inner, &directory, ino, kind, mode, who.umask).await?;
        if let Some(note) = new.note {
            inherited.xattrs.push(inner.seal_note(ino, note)?);
        }
        let (tag, sealed) = inner.seal_name(parent, name)?;
        let from_directory = directory.mode & SGID != 0;
        let keeps_sgid = kind == Kind::Directory && from_directory;
        let target = new
            .target
            .map(|target| {
                let sealed = inner.keys.seal_record(RecordContext::Target(ino), target)?;
                Ok::<_, Error>((sealed.into(), target.len() as u32))
            })
            .transpose()?;
        let command = Command::Create {
            parent,
            tag,
            name: sealed,
            inode: NewInode {
                ino,
                kind,
                mode: inherited.mode | if keeps_sgid { SGID } else { 0 },
                uid: who.uid,
                gid: if from_directory {
                    directory.gid
                } else {
                    who.gid
                },
                rdev: new.rdev,
                target,
                xattrs: inherited.xattrs,
            },
            time: inner.now(),
        };
        let applied = inner.meta.apply_once(command, who.request);
        let (_, reply) = applied.get().await?;
        let Reply::Inode(inode) = reply else {
            return Err(Error::damaged(
                "the metadata service",
                "create answered no inode",
            ));
        };
        inner.name_changed(who, parent, name);
        Ok(Attr::from(&*inode))
    }
}

impl Inner {
    pub(super) async fn find(&self, parent: Ino, name: &[u8]) -> Result<Dentry> {
        if name.len() > super::NAME_MAX {
            return Err(Error::NameTooLong);
        }
        let tag = self.keys.name_tag(parent, name);
        self.meta.lookup(parent, tag).get().await
    }

    fn seal_name(&self, dir: Ino, name: &[u8]) -> Result<(NameTag, Arc<[u8]>)> {
        let tag = self.keys.name_tag(dir, name);
        let sealed = self
            .keys
            .seal_record(RecordContext::Name { dir, tag }, name)?;
        Ok((tag, sealed.into()))
    }

    /// Brings a file's unsealed bytes into the history before a name of it
    /// changes, so that no crash shows the name without the contents.
    pub(super) async fn seal_before_naming(self: &Arc<Self>, ino: Ino) -> Result<()> {
        match self.nodes.get(ino) {
            Some(node) => self.seal_soon(&node, Take::All).await,
            None => Ok(()),
        }
    }

    fn name_changed(&self, who: &Caller, parent: Ino, name: &[u8]) {
        self.changed(who.front, || {
            Change::Entry(parent, Bytes::copy_from_slice(name))
        });
    }
}

fn is_orphan(inode: &Inode) -> bool {
    inode.nlink == 0 || (inode.kind == Kind::Directory && inode.nlink < 2)
}
