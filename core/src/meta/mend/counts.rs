//! Numbers that follow from records, and writing down what changed.

use std::collections::BTreeMap;

use super::{Mend, Mended, each};
use crate::{
    Result,
    ids::{ChunkId, Ino},
    meta::{
        inode::{Kind, Usage},
        key::{Key, Table, parse},
        transaction::Read,
        value::{self, Totals},
    },
};

impl Mend {
    /// Links, entries, parents and attributes, from the names there are.
    pub(super) fn fix_counts(&mut self) {
        let mut names: BTreeMap<Ino, u32> = BTreeMap::new();
        let mut inside: BTreeMap<Ino, (u64, u32)> = BTreeMap::new();
        let mut parents: BTreeMap<Ino, Ino> = BTreeMap::new();
        for ((parent, _), name) in &self.names {
            *names.entry(name.ino).or_default() += 1;
            let (entries, subdirectories) = inside.entry(*parent).or_default();
            *entries += 1;
            if name.kind == Kind::Directory {
                *subdirectories += 1;
                parents.insert(name.ino, *parent);
            }
        }
        for (ino, node) in &mut self.nodes {
            let inode = &mut node.now;
            let links = names.get(ino).copied().unwrap_or(0);
            inode.xattrs = self.held.get(ino).map_or(0, |held| held.xattrs);
            if inode.kind != Kind::Directory {
                inode.nlink = links;
                continue;
            }
            let (entries, subdirectories) = inside.get(ino).copied().unwrap_or((0, 0));
            let is_root = *ino == Ino::ROOT;
            inode.size = entries;
            inode.nlink = match links > 0 || is_root {
                true => 2 + subdirectories,
                false => 0,
            };
            if let Some(parent) = parents.get(ino) {
                inode.parent = *parent;
            }
        }
    }

    pub(super) fn finish(mut self, tables: &dyn Read) -> Result<Mended> {
        for ino in std::mem::take(&mut self.gone) {
            self.set(Key::inode(ino), None);
        }
        let mut changed = Vec::new();
        for (ino, node) in &self.nodes {
            if node.before.as_ref() != Some(&node.now) {
                changed.push((Key::inode(*ino), value::encode_inode(&node.now)));
            }
        }
        for (key, record) in &changed {
            self.set(*key, Some(record));
        }
        for place in std::mem::take(&mut self.changed_names) {
            let record = self.names.get(&place).map(value::encode_dentry);
            self.set(Key::dentry(place.0, place.1), record.as_deref());
        }
        self.orphans(tables)?;
        let chunks = self.references(tables)?;
        self.totals(tables, chunks);
        if self.mended.done.is_empty() && !self.mended.records.is_empty() {
            let said = format!(
                "{} numbers of the tables are corrected",
                self.mended.records.len()
            );
            self.say(said);
        }
        Ok(self.mended)
    }

    fn orphans(&mut self, tables: &dyn Read) -> Result<()> {
        let mut listed = Vec::new();
        each(tables, Table::Orphan, &mut |_| {}, &mut |key, _| {
            listed.push(parse::ino(key)?);
            Ok(())
        })?;
        let unlinked = |node: &super::Node| node.now.nlink == 0;
        let mut changes = Vec::new();
        for ino in &listed {
            if !self.nodes.get(ino).is_some_and(unlinked) {
                changes.push((Key::orphan(*ino), None));
            }
        }
        for (ino, node) in &self.nodes {
            if unlinked(node) && listed.binary_search(ino).is_err() {
                changes.push((Key::orphan(*ino), Some(&[][..])));
            }
        }
        for (key, value) in changes {
            self.set(key, value);
        }
        Ok(())
    }

    /// Counts of chunks; returns how many are referred to.
    fn references(&mut self, tables: &dyn Read) -> Result<u64> {
        let mut wanted = std::mem::take(&mut self.references);
        let chunks = wanted.len() as u64;
        let mut records: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        let mut broken = Vec::new();
        let mut drop_it = |key: &[u8]| broken.push((key.to_vec(), None));
        each(
            tables,
            Table::Reference,
            &mut drop_it,
            &mut |key, record| {
                let chunk = parse::reference(key)?;
                let recorded = value::decode_count(&chunk, record);
                let count = wanted.remove(&chunk);
                if recorded.ok() != count {
                    let value = count.map(|count| value::encode_count(count).to_vec());
                    records.push((key.to_vec(), value));
                }
                Ok(())
            },
        )?;
        let mut left: Vec<(ChunkId, u64)> = wanted.into_iter().collect();
        left.sort_unstable();
        records.extend(left.into_iter().map(|(chunk, count)| {
            let value = value::encode_count(count).to_vec();
            (Key::reference(&chunk).to_vec(), Some(value))
        }));
        self.mended.records.extend(broken);
        self.mended.records.extend(records);
        Ok(chunks)
    }

    fn totals(&mut self, tables: &dyn Read, chunks: u64) {
        let mut usage = Usage {
            chunks,
            ..Usage::default()
        };
        for (ino, node) in &self.nodes {
            usage.inodes += 1;
            usage.extents += node.now.extents;
            if node.now.kind == Kind::File {
                usage.files += 1;
                usage.logical_bytes = usage.logical_bytes.saturating_add(node.now.size);
            }
            let held = self.held.get(ino);
            let held = held.filter(|held| held.inline.is_some());
            usage.inline_bytes += held.map_or(0, |held| held.sealed);
        }
        let recorded = tables.totals().ok();
        let highest = self.nodes.keys().next_back().map_or(0, |ino| ino.0);
        let totals = Totals {
            usage,
            last_ino: highest.max(self.highest),
        };
        if recorded != Some(totals) || !self.mended.records.is_empty() {
            let record = value::encode_totals(&totals);
            self.set(Key::totals(), Some(&record));
        }
    }
}
