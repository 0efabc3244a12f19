//! What front ends keep with files and no client of theirs sees: a note about
//! the contents of a file, and directories of their own.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Error, Result,
    engine::{Attr, Caller, Inner, Volume},
    ids::{Ino, NameTag},
    meta::{Command, MetaService, XattrMode},
};

/// Holds the directories of front ends, in the root. It is neither listed nor
/// found there, and nothing else can have its name.
const HIDDEN: &[u8] = b".kiseki";

/// Longest note, as for attributes.
const NOTE_MAX: usize = 65_536;

impl Volume {
    /// What [`Volume::set_note`] kept of these contents; `None` once they
    /// have changed.
    ///
    /// # Errors
    /// `NotFound`, `Damaged`.
    pub async fn note(&self, ino: Ino) -> Result<Option<Bytes>> {
        let inner = &self.inner;
        if inner.meta.inode(ino).get().await?.xattrs == 0 {
            return Ok(None);
        }
        let sealed = inner.meta.xattr(ino, NameTag::CONTENTS).get().await?;
        // Asked behind the note: bytes that were still unsealed when it was
        // read are seen here, and those sealed since had been.
        let unsealed = inner
            .nodes
            .get(ino)
            .is_some_and(|node| node.state.lock().has_new_contents());
        match sealed {
            Some(sealed) if !unsealed => {
                let (_, value) = inner.open_xattr(ino, NameTag::CONTENTS, &sealed)?;
                Ok(Some(value))
            }
            _ => Ok(None),
        }
    }

    /// Keeps a value with the contents of a file. The first change of them,
    /// through whatever front end, removes it in the same step.
    ///
    /// # Errors
    /// `NotFound`, `OutOfRange` for a long note.
    pub async fn set_note(&self, ino: Ino, value: &[u8]) -> Result<()> {
        let inner = &self.inner;
        inner.check_writable()?;
        let (tag, value) = inner.seal_note(ino, value)?;
        inner.seal_before_naming(ino).await?;
        let command = Command::SetXattr {
            ino,
            tag,
            value,
            mode: XattrMode::Any,
            file_mode: None,
            time: inner.now(),
        };
        inner.meta.apply(command).get().await?;
        Ok(())
    }

    /// A directory of a front end's own, which it alone sees.
    ///
    /// # Errors
    /// `NotFound` when there is none and the volume takes no writes.
    pub async fn private_dir(&self, name: &[u8]) -> Result<Ino> {
        let root = self.getattr(Ino::ROOT).await?;
        let owner = Caller {
            uid: root.uid,
            gid: root.gid,
            ..Caller::default()
        };
        let hidden = self.find_or_make(&owner, Ino::ROOT, HIDDEN).await?;
        Ok(self.find_or_make(&owner, hidden.ino, name).await?.ino)
    }

    async fn find_or_make(&self, owner: &Caller, parent: Ino, name: &[u8]) -> Result<Attr> {
        loop {
            match self.inner.find(parent, name).await {
                Ok(dentry) => return self.getattr(dentry.ino).await,
                Err(Error::NotFound) if self.inner.broken().is_none() => {}
                Err(error) => return Err(error),
            }
            match self.make_dir(owner, parent, name, 0o700).await {
                Err(Error::Exists) => {}
                made => return made,
            }
        }
    }
}

impl Inner {
    pub(super) fn seal_note(&self, ino: Ino, note: &[u8]) -> Result<(NameTag, Arc<[u8]>)> {
        if note.len() > NOTE_MAX {
            return Err(Error::OutOfRange);
        }
        let tag = NameTag::CONTENTS;
        Ok((tag, self.seal_xattr(ino, tag, b"", note)?.into()))
    }

    /// Whether a name is one that clients neither see nor take.
    pub(super) fn is_hidden(parent: Ino, name: &[u8]) -> bool {
        parent == Ino::ROOT && name == HIDDEN
    }
}
