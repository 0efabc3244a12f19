//! Extended attributes. The sealed value holds the name too: a length byte,
//! the name, the value.

use bytes::Bytes;

use crate::{
    Error, Result,
    crypto::RecordContext,
    engine::{Caller, Change, Inner, Volume, XattrSet, acl},
    ids::{Ino, NameTag},
    meta::{Command, MetaService, XattrMode},
};

/// Longest value, as Linux has it.
const VALUE_MAX: usize = 65_536;

const CAPABILITY: &[u8] = b"security.capability";

impl Volume {
    /// Value of an attribute.
    ///
    /// # Errors
    /// `NoAttribute`.
    pub async fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Bytes> {
        let value = self.inner.xattr(ino, name).await?;
        value.ok_or(Error::NoAttribute)
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// `Exists` or `NoAttribute` where `how` forbids, `OutOfRange` for a name or
    /// value that is too long, `Invalid` for an ACL that makes no sense.
    pub async fn setxattr(
        &self,
        who: &Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        how: XattrSet,
    ) -> Result<()> {
        let inner = &self.inner;
        inner.check_writable()?;
        if name.is_empty() || name.len() > super::NAME_MAX || value.len() > VALUE_MAX {
            return Err(Error::OutOfRange);
        }
        let mut file_mode = None;
        if acl::is_acl(name) {
            match acl::set(inner, ino, name, value).await? {
                acl::Set::Store(mode) => file_mode = mode,
                acl::Set::Remove(mode) => {
                    acl::apply_mode(inner, ino, mode).await?;
                    match self.removexattr(who, ino, name).await {
                        Err(Error::NoAttribute) => {}
                        other => return other,
                    }
                    return Ok(());
                }
            }
        }
        let tag = inner.keys.xattr_tag(ino, name);
        let command = Command::SetXattr {
            ino,
            tag,
            value: inner.seal_xattr(ino, tag, name, value)?.into(),
            mode: match how {
                XattrSet::Any => XattrMode::Any,
                XattrSet::Create => XattrMode::Create,
                XattrSet::Replace => XattrMode::Replace,
            },
            file_mode,
            time: inner.now(),
        };
        inner.meta.apply_once(command, who.request).get().await?;
        inner.changed(who.front, || Change::Inode(ino));
        Ok(())
    }

    /// Names of all attributes.
    ///
    /// # Errors
    /// `NotFound`, `Damaged`.
    pub async fn listxattr(&self, ino: Ino) -> Result<Vec<Bytes>> {
        let inner = &self.inner;
        if inner.meta.inode(ino).get().await?.xattrs == 0 {
            return Ok(Vec::new());
        }
        let sealed = inner.meta.xattrs(ino).get().await?;
        sealed
            .iter()
            .filter(|(tag, _)| *tag != NameTag::CONTENTS)
            .map(|(tag, sealed)| Ok(inner.open_xattr(ino, *tag, sealed)?.0))
            .collect()
    }

    /// All attributes with their values.
    ///
    /// # Errors
    /// `NotFound`, `Damaged`.
    pub async fn xattrs(&self, ino: Ino) -> Result<Vec<(Bytes, Bytes)>> {
        let inner = &self.inner;
        if inner.meta.inode(ino).get().await?.xattrs == 0 {
            return Ok(Vec::new());
        }
        let sealed = inner.meta.xattrs(ino).get().await?;
        sealed
            .iter()
            .filter(|(tag, _)| *tag != NameTag::CONTENTS)
            .map(|(tag, sealed)| inner.open_xattr(ino, *tag, sealed))
            .collect()
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// `NoAttribute`.
    pub async fn removexattr(&self, who: &Caller, ino: Ino, name: &[u8]) -> Result<()> {
        let inner = &self.inner;
        inner.check_writable()?;
        let command = Command::RemoveXattr {
            ino,
            tag: inner.keys.xattr_tag(ino, name),
            time: inner.now(),
        };
        inner.meta.apply_once(command, who.request).get().await?;
        inner.changed(who.front, || Change::Inode(ino));
        Ok(())
    }
}

impl Inner {
    pub(super) async fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Bytes>> {
        if self.meta.inode(ino).get().await?.xattrs == 0 {
            return Ok(None);
        }
        let tag = self.keys.xattr_tag(ino, name);
        let sealed = self.meta.xattr(ino, tag).get().await?;
        sealed
            .map(|sealed| Ok(self.open_xattr(ino, tag, &sealed)?.1))
            .transpose()
    }

    pub(super) fn seal_xattr(
        &self,
        ino: Ino,
        tag: NameTag,
        name: &[u8],
        value: &[u8],
    ) -> Result<Vec<u8>> {
        let mut plain = zeroize::Zeroizing::new(Vec::with_capacity(1 + name.len() + value.len()));
        plain.push(name.len() as u8);
        plain.extend_from_slice(name);
        plain.extend_from_slice(value);
        self.keys
            .seal_record(RecordContext::Xattr { ino, tag }, &plain)
    }

    pub(super) fn open_xattr(
        &self,
        ino: Ino,
        tag: NameTag,
        sealed: &[u8],
    ) -> Result<(Bytes, Bytes)> {
        let plain = self
            .keys
            .open_record(RecordContext::Xattr { ino, tag }, sealed)?;
        let parts = plain
            .split_first()
            .and_then(|(len, rest)| rest.split_at_checked(usize::from(*len)));
        let Some((name, value)) = parts else {
            let place = format!("an attribute of inode {}", ino.0);
            return Err(Error::damaged(place, "it is shorter than its name"));
        };
        Ok((Bytes::copy_from_slice(name), Bytes::copy_from_slice(value)))
    }

    /// A write takes file capabilities away, whoever writes.
    pub(super) fn drop_capabilities(&self, ino: Ino) -> Result<()> {
        let tag = self.keys.xattr_tag(ino, CAPABILITY);
        if self.meta.xattr(ino, tag).wait()?.is_none() {
            return Ok(());
        }
        let time = self.now();
        self.meta
            .apply(Command::RemoveXattr { ino, tag, time })
            .wait()?;
        Ok(())
    }
}
