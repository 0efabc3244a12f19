//! The service as the engine sees it.

use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
};

use super::LocalMeta;
use crate::{
    Error, Result,
    ids::{ChunkId, Ino, NameTag, RequestId, Revision},
    meta::{
        Answer, MetaService,
        command::{Command, Reply},
        inode::{Dentry, Extent, Inode, Usage},
        key::{Key, Table, parse},
        transaction::Read,
        value,
    },
};

/// Entries that [`MetaService::entries`] sets room aside for at once.
const FIRST_ENTRIES: usize = 256;

impl MetaService for LocalMeta {
    fn apply_once(&self, command: Command, request: RequestId) -> Answer<(Revision, Reply)> {
        self.inner.apply(&command, request).into()
    }

    fn sync(&self, revision: Revision) -> Answer<()> {
        self.inner.log.sync(revision)
    }

    fn revision(&self) -> Revision {
        Revision(self.inner.revision.load(Ordering::Acquire))
    }

    fn inode(&self, ino: Ino) -> Answer<Arc<Inode>> {
        let found = self.inner.tables.inode(ino);
        found.and_then(|inode| inode.ok_or(Error::NotFound)).into()
    }

    fn lookup(&self, parent: Ino, tag: NameTag) -> Answer<Dentry> {
        let found = self.inner.tables.dentry(parent, tag);
        found
            .and_then(|dentry| dentry.ok_or(Error::NotFound))
            .into()
    }

    fn entries(&self, parent: Ino, after: Option<NameTag>, limit: usize) -> Answer<Vec<Dentry>> {
        self.read_entries(parent, after, limit).into()
    }

    fn extents(&self, ino: Ino, from: u64, to: u64) -> Answer<Vec<Extent>> {
        self.read_extents(ino, from, to).into()
    }

    fn inline(&self, ino: Ino) -> Answer<Option<Arc<[u8]>>> {
        self.inner.tables.get(&Key::inline(ino)).into()
    }

    fn xattr(&self, ino: Ino, tag: NameTag) -> Answer<Option<Arc<[u8]>>> {
        self.inner.tables.get(&Key::xattr(ino, tag)).into()
    }

    fn xattrs(&self, ino: Ino) -> Answer<Vec<(NameTag, Arc<[u8]>)>> {
        let mut found = Vec::new();
        let from = Key::first_of(Table::Xattr, ino);
        let to = Key::behind(Table::Xattr, ino);
        self.collect(from, to, &mut |key, record| {
            found.push((parse::tagged(key)?.1, record.into()));
            Ok(ControlFlow::Continue(()))
        })
        .map(|()| found)
        .into()
    }

    fn references(&self, chunk: ChunkId) -> Answer<u64> {
        let record = self.inner.tables.get(&Key::reference(&chunk));
        record
            .and_then(|record| match record {
                Some(record) => value::decode_count(&chunk, &record),
                None => Ok(0),
            })
            .into()
    }

    fn orphans(&self) -> Answer<Vec<Ino>> {
        let mut found = Vec::new();
        let (from, to) = (Key::table(Table::Orphan), Key::table_end(Table::Orphan));
        self.collect(from, to, &mut |key, _| {
            found.push(parse::ino(key)?);
            Ok(ControlFlow::Continue(()))
        })
        .map(|()| found)
        .into()
    }

    fn usage(&self) -> Usage {
        self.inner.tables.current_totals().usage
    }

    fn allocate_ino(&self) -> Ino {
        Ino(self.inner.next_ino.fetch_add(1, Ordering::Relaxed))
    }
}

impl LocalMeta {
    fn collect(
        &self,
        from: Key,
        to: Key,
        visit: &mut crate::meta::transaction::Visit<'_>,
    ) -> Result<()> {
        self.inner.tables.scan(&from, &to, visit)
    }

    fn read_entries(
        &self,
        parent: Ino,
        after: Option<NameTag>,
        limit: usize,
    ) -> Result<Vec<Dentry>> {
        let mut found = Vec::with_capacity(limit.min(FIRST_ENTRIES));
        if limit == 0 {
            return Ok(found);
        }
        let from = match after {
            Some(tag) => Key::dentry(parent, tag).successor(),
            None => Key::first_of(Table::Dentry, parent),
        };
        let to = Key::behind(Table::Dentry, parent);
        self.collect(from, to, &mut |key, record| {
            let (_, tag) = parse::tagged(key)?;
            found.push(value::decode_dentry(parent, tag, record)?);
            Ok(match found.len() < limit {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
        })?;
        Ok(found)
    }

    fn read_extents(&self, ino: Ino, from: u64, to: u64) -> Result<Vec<Extent>> {
        let mut found = Vec::new();
        // No extent ends at `from` or before and yet overlaps what follows.
        let first = Key::extent(ino, from.saturating_add(1));
        let behind = Key::behind(Table::Extent, ino);
        self.collect(first, behind, &mut |key, record| {
            let (_, end) = parse::extent(key)?;
            let extent = value::decode_extent(ino, end, record)?;
            if extent.offset >= to {
                return Ok(ControlFlow::Break(()));
            }
            found.push(extent);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }
}
