//! Contents: what a file holds, and what of it is gone.

use std::ops::ControlFlow;

use super::{Mend, NOBODY, each};
use crate::{
    Result,
    ids::Ino,
    meta::{
        inode::{Extent, Kind},
        key::{Key, Table, parse},
        transaction::Read,
        value,
    },
};

impl Mend {
    pub(super) fn fix_bodies(&mut self, tables: &dyn Read) -> Result<()> {
        let inos: Vec<Ino> = self.nodes.keys().copied().collect();
        for ino in inos {
            match self.kind(ino) {
                Some(Kind::File) => self.file(tables, ino)?,
                Some(Kind::Symlink) => self.symlink(ino),
                _ => self.without_body(ino),
            }
        }
        self.drop_attributes_of_nobody(tables)
    }

    /// Attributes of an inode of which nothing else is left.
    fn drop_attributes_of_nobody(&mut self, tables: &dyn Read) -> Result<()> {
        let mut records = Vec::new();
        each(tables, Table::Xattr, &mut |_| {}, &mut |key, _| {
            if !self.nodes.contains_key(&parse::tagged(key)?.0) {
                records.push((key.to_vec(), None));
            }
            Ok(())
        })?;
        self.mended.records.extend(records);
        Ok(())
    }

    fn file(&mut self, tables: &dyn Read, ino: Ino) -> Result<()> {
        let (Some(node), held) = (self.nodes.get(&ino), self.held.entry(ino).or_default()) else {
            return Ok(());
        };
        let mut inode = node.now.clone();
        if held.inline.is_some()
            && (held.extents > 0 || inode.inline.is_none() && inode.extents > 0)
        {
            held.inline = None;
            self.mended.records.push((Key::inline(ino).to_vec(), None));
        }
        let held = self.held.entry(ino).or_default();
        inode.size = inode.size.max(held.end);
        let lost = match (inode.inline, held.inline) {
            // Contents that were in a record that is gone.
            (Some(len), None) => {
                inode.inline = None;
                (held.extents == 0 && len > 0) || held.extents < inode.extents
            }
            (None, Some(len)) => {
                let len = len.min(u32::try_from(inode.size).unwrap_or(u32::MAX));
                inode.inline = Some(len);
                false
            }
            _ => held.extents < inode.extents,
        };
        if lost && inode.size > 0 {
            let gaps = self.fill(tables, ino, inode.size)?;
            if gaps > 0 {
                self.say(format!(
                    "inode {}: {gaps} bytes of it are lost, and reading them is an error",
                    ino.0
                ));
            }
        }
        let held = self.held.entry(ino).or_default();
        inode.extents = held.extents;
        inode.allocated = held.extent_bytes + u64::from(inode.inline.unwrap_or(0));
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.now = inode;
        }
        Ok(())
    }

    /// Lets everything of a file that no extent covers refer to a chunk that
    /// is not there. Returns how many bytes that are.
    fn fill(&mut self, tables: &dyn Read, ino: Ino, size: u64) -> Result<u64> {
        let mut gaps = Vec::new();
        let mut at = 0;
        let (from, to) = (
            Key::first_of(Table::Extent, ino),
            Key::behind(Table::Extent, ino),
        );
        tables.scan(&from, &to, &mut |key, record| {
            let end = parse::extent(key)?.1;
            if let Ok(extent) = value::decode_extent(ino, end, record)
                && extent.offset >= at
            {
                gaps.push((at, extent.offset));
                at = end;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        gaps.push((at, size));
        let mut bytes = 0;
        for (mut from, to) in gaps {
            while from < to {
                let len = (to - from).min(1 << 30) as u32;
                let extent = Extent {
                    offset: from,
                    len,
                    chunk: NOBODY,
                    chunk_offset: 0,
                };
                let record = value::encode_extent(&extent);
                self.set(Key::extent(ino, extent.end()), Some(&record));
                from = extent.end();
                bytes += u64::from(len);
                let held = self.held.entry(ino).or_default();
                held.extents += 1;
                *self.references.entry(NOBODY).or_insert(0) += 1;
            }
        }
        self.held.entry(ino).or_default().extent_bytes += bytes;
        Ok(bytes)
    }

    /// A link without a target leads nowhere, and is removed.
    fn symlink(&mut self, ino: Ino) {
        let found = self.held.entry(ino).or_default().inline;
        if found.is_none() {
            self.nodes.remove(&ino);
            self.gone.insert(ino);
            self.say(format!(
                "inode {}: a symbolic link that lost its target is removed",
                ino.0
            ));
        } else if let Some(node) = self.nodes.get_mut(&ino) {
            let len = node.now.inline.or(found).unwrap_or(0);
            node.now.inline = Some(len);
            node.now.allocated = u64::from(len);
            node.now.size = node.now.size.max(u64::from(len));
        }
    }

    fn without_body(&mut self, ino: Ino) {
        if self.held.entry(ino).or_default().inline.take().is_some() {
            self.set(Key::inline(ino), None);
        }
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.now.inline = None;
            node.now.allocated = 0;
            node.now.extents = 0;
        }
    }
}
