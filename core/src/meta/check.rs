//! Whether the tables agree with each other. Needs no key.
//!
//! [`check`] reads every table once, in order, and reports everything that the
//! state machine would never leave behind. It keeps about 150 bytes for each
//! inode and 50 for each chunk in memory.

mod problem;

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
};

pub use problem::{Fault, Problem, Subject};

use crate::{
    Result,
    ids::{ChunkId, Ino},
    meta::{
        inode::{Inode, Kind},
        key::{Key, Table, parse},
        transaction::Read,
        value::{self, Totals},
    },
};

/// Compares the tables and shows what does not hold to `report`. They must not
/// change meanwhile.
///
/// # Errors
/// What the disk says. A record that cannot be understood is a problem, not an
/// error.
pub fn check(tables: &dyn Read, report: &mut dyn FnMut(Problem)) -> Result<()> {
    let mut check = Check {
        tables,
        report,
        inodes: BTreeMap::new(),
        references: HashMap::new(),
        totals: Totals::default(),
    };
    check.inodes()?;
    check.dentries()?;
    check.extents()?;
    check.inline()?;
    check.xattrs()?;
    check.orphans()?;
    check.references()?;
    check.each_inode();
    check.ways_to_root();
    check.totals()
}

/// An inode, and what the other tables say of it.
struct Seen {
    inode: Inode,
    names: u32,
    subdirectories: u32,
    entries: u64,
    stands_in: Option<Ino>,
    extents: u64,
    extent_bytes: u64,
    extents_end: u64,
    xattrs: u64,
    has_inline: bool,
    is_listed: bool,
}

struct Check<'a> {
    tables: &'a dyn Read,
    report: &'a mut dyn FnMut(Problem),
    inodes: BTreeMap<Ino, Seen>,
    references: HashMap<ChunkId, u64>,
    totals: Totals,
}

impl Check<'_> {
    fn problem(&mut self, subject: Subject, fault: Fault) {
        (self.report)(Problem { subject, fault });
    }

    fn of_inode(&mut self, ino: Ino, fault: Fault) {
        self.problem(Subject::Inode(ino), fault);
    }

    /// Shows each record of a table to `visit`; what that cannot read becomes
    /// a problem.
    fn each(
        &mut self,
        table: Table,
        mut visit: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let tables = self.tables;
        let (from, to) = (Key::table(table), Key::table_end(table));
        tables.scan(&from, &to, &mut |key, record| {
            if let Err(error) = visit(self, key, record) {
                self.problem(Subject::Volume, Fault::Unreadable(error.to_string()));
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// What is known of an inode; its absence is a problem for the one who
    /// brings `what`.
    fn seen(&mut self, ino: Ino, what: &'static str) -> Option<&mut Seen> {
        if !self.inodes.contains_key(&ino) {
            self.of_inode(ino, Fault::NoInode(what));
        }
        self.inodes.get_mut(&ino)
    }

    fn inodes(&mut self) -> Result<()> {
        self.each(Table::Inode, |check, key, record| {
            let ino = parse::ino(key)?;
            let inode = value::decode_inode(ino, record)?;
            let usage = &mut check.totals.usage;
            usage.inodes += 1;
            if inode.kind == Kind::File {
                usage.files += 1;
                usage.logical_bytes = usage.logical_bytes.saturating_add(inode.size);
            }
            check.totals.last_ino = ino.0;
            let seen = Seen {
                inode,
                names: 0,
                subdirectories: 0,
                entries: 0,
                stands_in: None,
                extents: 0,
                extent_bytes: 0,
                extents_end: 0,
                xattrs: 0,
                has_inline: false,
                is_listed: false,
            };
            check.inodes.insert(ino, seen);
            Ok(())
        })?;
        if !self.inodes.contains_key(&Ino::ROOT) {
            self.problem(Subject::Volume, Fault::NoRoot);
        }
        Ok(())
    }

    fn dentries(&mut self) -> Result<()> {
        self.each(Table::Dentry, |check, key, record| {
            let (parent, tag) = parse::tagged(key)?;
            let dentry = value::decode_dentry(parent, tag, record)?;
            let is_directory = dentry.kind == Kind::Directory;
            if let Some(holder) = check.seen(parent, "an entry in it") {
                holder.entries += 1;
                holder.subdirectories += u32::from(is_directory);
            }
            let Some(named) = check.seen(dentry.ino, "a name of it") else {
                return Ok(());
            };
            named.names += 1;
            named.stands_in = Some(parent);
            if named.inode.kind != dentry.kind {
                check.of_inode(dentry.ino, Fault::Kind { directory: parent });
            }
            Ok(())
        })
    }

    fn extents(&mut self) -> Result<()> {
        self.each(Table::Extent, |check, key, record| {
            let (ino, end) = parse::extent(key)?;
            let extent = value::decode_extent(ino, end, record)?;
            *check.references.entry(extent.chunk).or_insert(0) += 1;
            check.totals.usage.extents += 1;
            let Some(seen) = check.seen(ino, "an extent of it") else {
                return Ok(());
            };
            let before = seen.extents_end;
            let size = seen.inode.size;
            seen.extents += 1;
            seen.extent_bytes += u64::from(extent.len);
            seen.extents_end = end;
            if extent.offset < before {
                check.of_inode(ino, Fault::Overlap(extent.offset));
            }
            if end > size {
                check.of_inode(ino, Fault::BehindEnd { end, size });
            }
            Ok(())
        })
    }

    fn inline(&mut self) -> Result<()> {
        self.each(Table::Inline, |check, key, record| {
            check.totals.usage.inline_bytes += record.len() as u64;
            if let Some(seen) = check.seen(parse::ino(key)?, "inline contents of it") {
                seen.has_inline = true;
            }
            Ok(())
        })
    }

    fn xattrs(&mut self) -> Result<()> {
        self.each(Table::Xattr, |check, key, _| {
            if let Some(seen) = check.seen(parse::tagged(key)?.0, "an attribute of it") {
                seen.xattrs += 1;
            }
            Ok(())
        })
    }

    fn orphans(&mut self) -> Result<()> {
        self.each(Table::Orphan, |check, key, _| {
            if let Some(seen) = check.seen(parse::ino(key)?, "an orphan record of it") {
                seen.is_listed = true;
            }
            Ok(())
        })
    }

    fn references(&mut self) -> Result<()> {
        self.each(Table::Reference, |check, key, record| {
            let chunk = parse::reference(key)?;
            let recorded = value::decode_count(&chunk, record)?;
            let counted = check.references.remove(&chunk).unwrap_or(0);
            check.totals.usage.chunks += u64::from(counted > 0);
            if counted != recorded {
                check.problem(
                    Subject::Chunk(chunk),
                    Fault::References { recorded, counted },
                );
            }
            Ok(())
        })?;
        // What is left has extents but no count.
        let mut left: Vec<_> = self.references.drain().collect();
        left.sort_unstable();
        self.totals.usage.chunks += left.len() as u64;
        for (chunk, counted) in left {
            let fault = Fault::References {
                recorded: 0,
                counted,
            };
            self.problem(Subject::Chunk(chunk), fault);
        }
        Ok(())
    }

    fn each_inode(&mut self) {
        let mut faults = Vec::new();
        for (ino, seen) in std::mem::take(&mut self.inodes) {
            seen.faults(&mut faults);
            for fault in faults.drain(..) {
                self.of_inode(ino, fault);
            }
            self.inodes.insert(ino, seen);
        }
    }

    /// Directories that hold each other in a ring have all their counts right.
    fn ways_to_root(&mut self) {
        let mut reaches: HashMap<Ino, bool> = HashMap::from([(Ino::ROOT, true)]);
        let mut lost = Vec::new();
        for (&start, seen) in &self.inodes {
            if seen.inode.kind != Kind::Directory || seen.inode.nlink == 0 {
                continue;
            }
            let mut way = Vec::new();
            let mut at = start;
            let found = loop {
                if let Some(known) = reaches.get(&at) {
                    break *known;
                }
                // Until the way has an end, a second visit is a ring.
                reaches.insert(at, false);
                way.push(at);
                match self.inodes.get(&at).and_then(|seen| seen.stands_in) {
                    Some(parent) => at = parent,
                    None => break false,
                }
            };
            for ino in way {
                reaches.insert(ino, found);
            }
            if !found {
                lost.push(start);
            }
        }
        for ino in lost {
            self.of_inode(ino, Fault::Unreachable);
        }
    }

    fn totals(&mut self) -> Result<()> {
        let recorded = match self.tables.totals() {
            Ok(recorded) => recorded,
            Err(error @ crate::Error::Damaged { .. }) => {
                self.problem(Subject::Volume, Fault::Unreadable(error.to_string()));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let counted = self.totals;
        // The highest number may be of an inode that is gone.
        if recorded.usage != counted.usage || recorded.last_ino < counted.last_ino {
            self.problem(Subject::Volume, Fault::Totals { recorded, counted });
        }
        Ok(())
    }
}

impl Seen {
    fn faults(&self, faults: &mut Vec<Fault>) {
        self.name_faults(faults);
        let inode = &self.inode;
        let inline = u64::from(inode.inline.unwrap_or(0));
        let entries = match inode.kind {
            Kind::Directory => self.entries,
            _ => inode.size,
        };
        let counts = [
            ("the number of extents", inode.extents, self.extents),
            (
                "the bytes allocated",
                inode.allocated,
                self.extent_bytes + inline,
            ),
            (
                "the number of attributes",
                u64::from(inode.xattrs),
                self.xattrs,
            ),
            ("the number of entries", inode.size, entries),
        ];
        for (what, recorded, counted) in counts {
            if recorded != counted {
                faults.push(Fault::Count {
                    what,
                    recorded,
                    counted,
                });
            }
        }
        if inode.kind != Kind::Directory && self.entries > 0 {
            faults.push(Fault::NotADirectory);
        }
        if self.has_inline && self.extents > 0 {
            faults.push(Fault::TwoBodies);
        }
        if self.has_inline != inode.inline.is_some() {
            faults.push(Fault::Inline {
                recorded: inode.inline.is_some(),
                found: self.has_inline,
            });
        }
        if inode.kind != Kind::Directory && inline > inode.size {
            faults.push(Fault::BehindEnd {
                end: inline,
                size: inode.size,
            });
        }
    }

    fn name_faults(&self, faults: &mut Vec<Fault>) {
        let inode = &self.inode;
        let is_root = inode.ino == Ino::ROOT;
        let counted = match inode.kind {
            Kind::Directory if is_root => 2 + self.subdirectories,
            // A directory stands in one place only.
            Kind::Directory if self.names == 1 => 2 + self.subdirectories,
            _ => self.names,
        };
        if inode.nlink != counted {
            faults.push(Fault::Links {
                recorded: inode.nlink,
                counted,
            });
        }
        if self.is_listed != (inode.nlink == 0) {
            faults.push(Fault::Orphan {
                links: inode.nlink,
                listed: self.is_listed,
            });
        }
        let found = if is_root {
            Some(inode.ino)
        } else {
            self.stands_in
        };
        if let Some(found) = found
            && inode.kind == Kind::Directory
            && found != inode.parent
        {
            faults.push(Fault::Parent {
                recorded: inode.parent,
                found,
            });
        }
    }
}
