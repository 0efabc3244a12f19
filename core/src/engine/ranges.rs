//! Operations on ranges of a file: holes, shifts, shared extents, seeking.

use std::{collections::HashSet, sync::Arc};

use crate::{
    Error, Result, crypto,
    engine::{
        Allocate, Caller, Change, FileInfo, Inner, SIZE_MAX, Seek, Volume,
        files::only_file,
        node::Node,
        runs::BLOCK,
        seal::{INLINE_MAX, Take},
    },
    ids::{Ino, RequestId},
    meta::{AttrChange, CloneRange, Command, Inode, MetaService},
};

/// Most that one call copies, so that its reply fits the protocols.
const COPY_MAX: u64 = 1 << 30;

impl Volume {
    /// `fallocate(2)`. Space is not reserved: chunks are deduplicated, so what
    /// a later write needs cannot be known.
    ///
    /// # Errors
    /// `Invalid` for ranges that the operation does not allow, `FileTooLarge`,
    /// `NoSpace`.
    pub async fn allocate(
        &self,
        who: &Caller,
        ino: Ino,
        how: Allocate,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        let inner = &self.inner;
        inner.check_writable()?;
        let end = offset
            .checked_add(len)
            .filter(|end| *end <= SIZE_MAX)
            .ok_or(Error::FileTooLarge)?;
        if len == 0 {
            return Err(Error::Invalid("an empty range"));
        }
        only_file(inner.meta.inode(ino).get().await?)?;
        let node = inner.nodes.with(ino, |node, _| node.clone());
        let (job, request) = (inner.clone(), who.request);
        let result = inner
            .exclusively(node, move |node, body| {
                job.seal_locked(node, Take::All, body)?;
                let done = job.allocate_sealed(node, request, how, offset, end);
                // Also of a failure: it may have come half-way.
                node.state.lock().contents_changed();
                done
            })
            .await;
        inner.nodes.release(ino);
        inner.changed(who.front, || Change::Inode(ino));
        result
    }

    /// Finds data or a hole from `offset` on.
    ///
    /// # Errors
    /// `NoSuchRegion` when there is none.
    pub async fn seek(&self, ino: Ino, offset: u64, what: Seek) -> Result<u64> {
        let inner = &self.inner;
        if let Some(node) = inner.nodes.get(ino) {
            inner.seal_soon(&node, Take::All).await?;
        }
        let inode = only_file(inner.meta.inode(ino).get().await?)?;
        if offset >= inode.size {
            return Err(Error::NoSuchRegion);
        }
        if let Some(valid) = inode.inline {
            let valid = u64::from(valid);
            return match what {
                Seek::Data if offset < valid => Ok(offset),
                Seek::Data => Err(Error::NoSuchRegion),
                Seek::Hole => Ok(offset.max(valid).min(inode.size)),
            };
        }
        let extents = inner.meta.extents(ino, offset, u64::MAX).get().await?;
        match what {
            Seek::Data => extents
                .first()
                .map(|extent| extent.offset.max(offset))
                .filter(|at| *at < inode.size)
                .ok_or(Error::NoSuchRegion),
            Seek::Hole => {
                let mut at = offset;
                for extent in &extents {
                    if extent.offset > at {
                        break;
                    }
                    at = extent.end();
                }
                Ok(at.min(inode.size))
            }
        }
    }

    /// Copies between files, or within one, by sharing extents: takes time
    /// for each extent, not for each byte. How much was copied; less at the
    /// end of the source.
    ///
    /// # Errors
    /// `Invalid` when the ranges overlap, and as [`Volume::write`].
    pub async fn copy_range(
        &self,
        who: &Caller,
        from: Ino,
        from_offset: u64,
        to: Ino,
        to_offset: u64,
        len: u64,
    ) -> Result<u64> {
        let inner = &self.inner;
        inner.check_writable()?;
        for ino in [from, to] {
            if let Some(node) = inner.nodes.get(ino) {
                inner.seal_soon(&node, Take::All).await?;
            }
        }
        let source = only_file(inner.meta.inode(from).get().await?)?;
        only_file(inner.meta.inode(to).get().await?)?;
        let len = len
            .min(COPY_MAX)
            .min(source.size.saturating_sub(from_offset));
        if len == 0 {
            return Ok(0);
        }
        if from == to && from_offset < to_offset + len && to_offset < from_offset + len {
            return Err(Error::Invalid("the ranges overlap"));
        }
        if to_offset.checked_add(len).is_none_or(|end| end > SIZE_MAX) {
            return Err(Error::FileTooLarge);
        }
        if source.size <= INLINE_MAX {
            let bytes = self.read(from, from_offset, len as u32).await?;
            return self.write(who, to, to_offset, bytes).await.map(u64::from);
        }
        if source.inline.is_some() {
            // A few bytes and a long hole: extents can say that, bytes cannot.
            inner.with_extents(from).await?;
        }
        let range = CloneRange {
            from,
            from_offset,
            to,
            to_offset,
            len,
            time: inner.now(),
        };
        let node = inner.nodes.with(to, |node, _| node.clone());
        let job = inner.clone();
        let cloned = inner
            .exclusively(node, move |node, body| {
                job.seal_locked(node, Take::All, body)?;
                job.clear_inline(to)?;
                let cloned = job.meta.apply(Command::Clone(range)).wait();
                node.state.lock().contents_changed();
                cloned.map(|_| len)
            })
            .await;
        inner.nodes.release(to);
        inner.changed(who.front, || Change::Inode(to));
        cloned
    }

    /// How a file is stored.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn info(&self, ino: Ino) -> Result<FileInfo> {
        let inner = &self.inner;
        if let Some(node) = inner.nodes.get(ino) {
            inner.seal_soon(&node, Take::All).await?;
        }
        let inode = inner.meta.inode(ino).get().await?;
        let mut info = FileInfo {
            ino: ino.0,
            size: inode.size,
            inline: inode.inline.is_some(),
            extents: inode.extents,
            ..FileInfo::default()
        };
        if info.inline {
            let sealed = inner.meta.inline(ino).get().await?;
            info.stored_bytes = sealed.map_or(0, |sealed| sealed.len() as u64);
            return Ok(info);
        }
        let mut seen = HashSet::new();
        for extent in inner.meta.extents(ino, 0, u64::MAX).get().await? {
            if !seen.insert(extent.chunk) {
                continue;
            }
            if inner.meta.references(extent.chunk).get().await? > 1 {
                info.shared_chunks += 1;
            }
            if let Some(chunk) = inner.chunks.info(&extent.chunk)? {
                info.stored_bytes += u64::from(crypto::sealed_len(chunk.plain_len));
            }
        }
        info.chunks = seen.len() as u64;
        Ok(info)
    }
}

impl Inner {
    fn allocate_sealed(
        self: &Arc<Self>,
        node: &Arc<Node>,
        request: RequestId,
        how: Allocate,
        offset: u64,
        end: u64,
    ) -> Result<()> {
        let ino = node.ino;
        let inode = self.meta.inode(ino).wait()?;
        let time = self.now();
        match how {
            Allocate::Keep => {}
            Allocate::Extend => self.extend(&inode, end)?,
            Allocate::Punch | Allocate::Zero | Allocate::ZeroKeep => {
                self.clear_inline(ino)?;
                let len = end - offset;
                self.meta
                    .apply(Command::Punch {
                        ino,
                        offset,
                        len,
                        time,
                    })
                    .wait()?;
                if how == Allocate::Zero {
                    self.extend(&inode, end)?;
                }
            }
            Allocate::Collapse | Allocate::Insert => {
                let insert = how == Allocate::Insert;
                if !offset.is_multiple_of(BLOCK) || !end.is_multiple_of(BLOCK) {
                    return Err(Error::Invalid("the range is not aligned to 4,096 bytes"));
                }
                let reaches = if insert { offset } else { end };
                if reaches >= inode.size {
                    return Err(Error::Invalid("the range reaches the end of the file"));
                }
                let len = end - offset;
                if insert
                    && inode
                        .size
                        .checked_add(len)
                        .is_none_or(|size| size > SIZE_MAX)
                {
                    return Err(Error::FileTooLarge);
                }
                self.clear_inline(ino)?;
                let command = Command::Shift {
                    ino,
                    offset,
                    len,
                    insert,
                    time,
                };
                self.meta.apply_once(command, request).wait()?;
            }
        }
        Ok(())
    }

    async fn with_extents(self: &Arc<Self>, ino: Ino) -> Result<()> {
        let node = self.nodes.with(ino, |node, _| node.clone());
        let job = self.clone();
        let done = self
            .exclusively(node, move |node, _| {
                let done = job.clear_inline(ino);
                node.state.lock().contents_changed();
                done
            })
            .await;
        self.nodes.release(ino);
        done
    }

    fn extend(&self, inode: &Inode, end: u64) -> Result<()> {
        if end <= inode.size {
            return Ok(());
        }
        let now = self.now();
        let change = AttrChange {
            size: Some(end),
            mtime: Some(now),
            ctime: Some(now),
            ..AttrChange::default()
        };
        let ino = inode.ino;
        self.meta.apply(Command::SetAttr { ino, change }).wait()?;
        Ok(())
    }

    /// Turns inline contents into an extent, for operations on extents. The
    /// caller holds the body lock.
    fn clear_inline(self: &Arc<Self>, ino: Ino) -> Result<()> {
        let inode = self.meta.inode(ino).wait()?;
        if inode.inline.is_none_or(|valid| valid == 0) {
            return Ok(());
        }
        self.inline_to_extent(&inode)
    }
}
