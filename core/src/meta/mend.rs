//! Bringing tables that lost records back to where they agree with each other.
//!
//! [`mend`] works out what has to change; the changes are applied as commands,
//! so that the log tells of them. It keeps what can be kept: an inode without a
//! name gets one in `lost+found`, an inode whose record is gone but whose
//! contents are there gets a new record, and counts follow from what they
//! count. Where a record is missing that said what a file holds, the file
//! answers with an error there: nothing reads as zeros that was not zeros. It
//! keeps about 400 bytes for each inode and name in memory.

mod bodies;
mod counts;
mod names;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::ControlFlow,
    sync::Arc,
};

use crate::{
    Result,
    ids::{ChunkId, Ino, NameTag, Timestamp},
    meta::{
        command::Record,
        inode::{Dentry, Inode, Kind},
        key::{Key, Table, parse},
        machine::fresh_inode,
        transaction::Read,
        value,
    },
};

/// The directory for what has no name, in the root.
pub const LOST_AND_FOUND: &[u8] = b"lost+found";

/// Stands for a chunk that nobody knows any more. No chunk has this id.
pub const NOBODY: ChunkId = ChunkId([0; 32]);

/// What is to change, and what that means to people.
#[derive(Debug, Default)]
pub struct Mended {
    /// Records to be set, in an order in which any part of them does good.
    pub records: Vec<Record>,
    /// What was done.
    pub done: Vec<String>,
}

/// Makes the tag and the sealed form of a name in a directory.
pub type SealName<'s> = dyn FnMut(Ino, &[u8]) -> Result<(NameTag, Arc<[u8]>)> + 's;

/// Works out what has to change for the tables to agree with each other. New
/// inodes are made at `time`.
///
/// # Errors
/// What the disk and `seal_name` say.
pub fn mend(tables: &dyn Read, time: Timestamp, seal_name: &mut SealName<'_>) -> Result<Mended> {
    let mut mend = Mend::load(tables, time)?;
    mend.remake_inodes();
    mend.fix_bodies(tables)?;
    mend.fix_names();
    mend.adopt(seal_name)?;
    mend.fix_counts();
    mend.finish(tables)
}

/// An inode as it is recorded and as it is to be.
struct Node {
    before: Option<Inode>,
    now: Inode,
}

/// What the tables hold of an inode beside its record.
#[derive(Default)]
struct Held {
    extents: u64,
    extent_bytes: u64,
    end: u64,
    /// Length of the inline contents in plaintext.
    inline: Option<u32>,
    /// Bytes of the sealed inline contents.
    sealed: u64,
    xattrs: u32,
}

struct Mend {
    time: Timestamp,
    nodes: BTreeMap<Ino, Node>,
    gone: BTreeSet<Ino>,
    /// The highest inode number ever used, as far as that is known.
    highest: u64,
    names: BTreeMap<(Ino, NameTag), Dentry>,
    changed_names: BTreeSet<(Ino, NameTag)>,
    held: HashMap<Ino, Held>,
    references: HashMap<ChunkId, u64>,
    mended: Mended,
}

/// Is shown keys and values.
type EachRecord<'v> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'v;

/// Shows every record of a table; what cannot be read is passed to `broken`.
fn each(
    tables: &dyn Read,
    table: Table,
    broken: &mut dyn FnMut(&[u8]),
    visit: &mut EachRecord<'_>,
) -> Result<()> {
    let (from, to) = (Key::table(table), Key::table_end(table));
    tables.scan(&from, &to, &mut |key, record| {
        if visit(key, record).is_err() {
            broken(key);
        }
        Ok(ControlFlow::Continue(()))
    })
}

impl Mend {
    fn load(tables: &dyn Read, time: Timestamp) -> Result<Mend> {
        let mut broken = Vec::new();
        let mut drop_it = |key: &[u8]| broken.push((key.to_vec(), None));
        let mut nodes = BTreeMap::new();
        each(tables, Table::Inode, &mut drop_it, &mut |key, record| {
            let inode = value::decode_inode(parse::ino(key)?, record)?;
            let before = Some(inode.clone());
            nodes.insert(inode.ino, Node { before, now: inode });
            Ok(())
        })?;
        let mut names = BTreeMap::new();
        each(tables, Table::Dentry, &mut drop_it, &mut |key, record| {
            let (parent, tag) = parse::tagged(key)?;
            names.insert((parent, tag), value::decode_dentry(parent, tag, record)?);
            Ok(())
        })?;
        let mut held: HashMap<Ino, Held> = HashMap::new();
        let mut references = HashMap::new();
        let mut overlapping = Vec::new();
        each(tables, Table::Extent, &mut drop_it, &mut |key, record| {
            let (ino, end) = parse::extent(key)?;
            let extent = value::decode_extent(ino, end, record)?;
            let held = held.entry(ino).or_default();
            if extent.offset < held.end {
                overlapping.push((key.to_vec(), None));
                return Ok(());
            }
            held.extents += 1;
            held.extent_bytes += u64::from(extent.len);
            held.end = end;
            *references.entry(extent.chunk).or_insert(0) += 1;
            Ok(())
        })?;
        each(tables, Table::Inline, &mut drop_it, &mut |key, record| {
            let len = record.len().saturating_sub(crate::crypto::RECORD_OVERHEAD);
            let held = held.entry(parse::ino(key)?).or_default();
            held.inline = Some(len as u32);
            held.sealed = record.len() as u64;
            Ok(())
        })?;
        each(tables, Table::Xattr, &mut drop_it, &mut |key, _| {
            held.entry(parse::tagged(key)?.0).or_default().xattrs += 1;
            Ok(())
        })?;
        broken.extend(overlapping);
        // No new inode may have the number of one of which something is left.
        let recorded = tables.totals().map_or(0, |totals| totals.last_ino);
        let named = names
            .iter()
            .flat_map(|((parent, _), name)| [*parent, name.ino]);
        let known = held.keys().copied().chain(named).map(|ino| ino.0);
        let highest = known.fold(recorded, u64::max);
        let mut mended = Mended::default();
        if !broken.is_empty() {
            let said = format!("{} records that cannot be are removed", broken.len());
            mended.done.push(said);
        }
        mended.records = broken;
        Ok(Mend {
            time,
            nodes,
            gone: BTreeSet::new(),
            highest,
            names,
            changed_names: BTreeSet::new(),
            held,
            references,
            mended,
        })
    }

    fn say(&mut self, what: String) {
        self.mended.done.push(what);
    }

    fn set(&mut self, key: Key, value: Option<&[u8]>) {
        let record = (key.to_vec(), value.map(<[u8]>::to_vec));
        self.mended.records.push(record);
    }

    fn kind(&self, ino: Ino) -> Option<Kind> {
        self.nodes.get(&ino).map(|node| node.now.kind)
    }

    /// Makes records for inodes that something belongs to and that have none.
    fn remake_inodes(&mut self) {
        let mut wanted: BTreeMap<Ino, Kind> = BTreeMap::new();
        wanted.insert(Ino::ROOT, Kind::Directory);
        for (ino, held) in &self.held {
            if held.extents > 0 || held.inline.is_some() {
                wanted.insert(*ino, Kind::File);
            }
        }
        for ((parent, _), name) in &self.names {
            wanted.insert(*parent, Kind::Directory);
            // What an empty file, a pipe or a device was nobody knows any more.
            let is_known = wanted.contains_key(&name.ino);
            if is_known && name.kind == Kind::Symlink || name.kind == Kind::Directory {
                wanted.insert(name.ino, name.kind);
            }
        }
        wanted.retain(|ino, _| !self.nodes.contains_key(ino));
        let root = self.nodes.get(&Ino::ROOT).map(|root| &root.now);
        let (uid, gid) = root.map_or((0, 0), |root| (root.uid, root.gid));
        for (ino, kind) in wanted {
            let held = self.held.entry(ino).or_default();
            let is_directory = kind == Kind::Directory;
            let now = Inode {
                mode: if is_directory { 0o700 } else { 0o600 },
                uid,
                gid,
                nlink: 1,
                size: match is_directory {
                    true => 0,
                    false => held.end.max(held.inline.unwrap_or(0).into()),
                },
                inline: held.inline.filter(|_| !is_directory),
                // More than there are, so that what lies between them is not
                // taken for holes.
                extents: if held.extents > 0 { u64::MAX } else { 0 },
                ..fresh_inode(ino, kind, self.time)
            };
            self.nodes.insert(ino, Node { before: None, now });
            self.say(format!(
                "inode {}: its record was lost, and is made anew for what there is of it",
                ino.0
            ));
        }
    }
}
