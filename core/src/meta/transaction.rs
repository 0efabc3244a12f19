//! What a command reads and what it would change.
//!
//! A [`Transaction`] sees the tables through a [`Read`] with its own changes on
//! top, and collects the changes until [`Transaction::finish`]. One that is
//! dropped has changed nothing: that is how a refused command leaves no trace.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use crate::{
    Error, Result,
    ids::{ChunkId, Ino, NameTag},
    meta::{
        inode::{Dentry, Extent, Inode, Kind},
        key::{Key, Table, parse},
        value::{self, Totals},
    },
};

/// Is shown keys and values in order until it breaks off or fails.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>> + 'a;

/// The tables as they are.
pub trait Read {
    /// The value of a key.
    ///
    /// # Errors
    /// What the disk says.
    fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>>;

    /// Shows all keys in `from..to` and their values, in order.
    ///
    /// # Errors
    /// What the disk or the visitor says.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()>;

    /// An inode. A reader that keeps decoded ones gives those.
    ///
    /// # Errors
    /// What the disk says; `Damaged`.
    fn inode(&self, ino: Ino) -> Result<Option<Arc<Inode>>> {
        match self.get(&Key::inode(ino))? {
            Some(record) => Ok(Some(Arc::new(value::decode_inode(ino, &record)?))),
            None => Ok(None),
        }
    }

    /// A name in a directory. A reader that keeps decoded ones gives those.
    ///
    /// # Errors
    /// What the disk says; `Damaged`.
    fn dentry(&self, parent: Ino, tag: NameTag) -> Result<Option<Dentry>> {
        match self.get(&Key::dentry(parent, tag))? {
            Some(record) => Ok(Some(value::decode_dentry(parent, tag, &record)?)),
            None => Ok(None),
        }
    }

    /// The totals; zeros before the volume is formatted.
    ///
    /// # Errors
    /// What the disk says; `Damaged`.
    fn totals(&self) -> Result<Totals> {
        match self.get(&Key::totals())? {
            Some(record) => value::decode_totals(&record),
            None => Ok(Totals::default()),
        }
    }
}

/// Everything that an applied command changes.
pub struct Changes {
    /// New values by key, in key order; `None` removes the key.
    pub writes: BTreeMap<Key, Option<Arc<[u8]>>>,
    /// Inodes that changed; `None` for those that are gone.
    pub inodes: Vec<(Ino, Option<Arc<Inode>>)>,
    /// Names that changed; `None` for those that are gone.
    pub dentries: BTreeMap<(Ino, NameTag), Option<Dentry>>,
    /// The totals after it.
    pub totals: Totals,
}

/// An inode as the transaction found it and as it is now.
struct Slot {
    before: Option<Arc<Inode>>,
    now: Option<Arc<Inode>>,
}

impl Slot {
    fn is_changed(&self) -> bool {
        match (&self.before, &self.now) {
            (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
            (None, None) => false,
            _ => true,
        }
    }
}

/// Reads with pending changes on top.
pub struct Transaction<'a> {
    base: &'a dyn Read,
    writes: BTreeMap<Key, Option<Arc<[u8]>>>,
    inodes: BTreeMap<Ino, Slot>,
    dentries: BTreeMap<(Ino, NameTag), Option<Dentry>>,
    /// How the count of each chunk changes. Only the sum is looked up and
    /// written, so that an extent that is cut costs its chunk nothing.
    references: BTreeMap<ChunkId, i64>,
    totals: Totals,
    /// What the totals are to be, whatever else changes.
    set_totals: Option<Totals>,
}

impl<'a> Transaction<'a> {
    /// Begins one.
    ///
    /// # Errors
    /// What reading the totals says.
    pub fn new(base: &'a dyn Read) -> Result<Self> {
        Ok(Transaction {
            base,
            writes: BTreeMap::new(),
            inodes: BTreeMap::new(),
            dentries: BTreeMap::new(),
            references: BTreeMap::new(),
            totals: base.totals()?,
            set_totals: None,
        })
    }

    /// Sets the totals; what else the transaction changes does not count.
    pub(crate) fn set_totals(&mut self, totals: Totals) {
        self.set_totals = Some(totals);
    }

    /// The totals as the transaction found them, but for
    /// [`Transaction::inline_changed`] and [`Transaction::note_ino`].
    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The inode, if there is one.
    pub(crate) fn find_inode(&mut self, ino: Ino) -> Result<Option<Arc<Inode>>> {
        if let Some(slot) = self.inodes.get(&ino) {
            return Ok(slot.now.clone());
        }
        let found = self.base.inode(ino)?;
        let slot = Slot {
            before: found.clone(),
            now: found.clone(),
        };
        self.inodes.insert(ino, slot);
        Ok(found)
    }

    /// The inode.
    pub(crate) fn inode(&mut self, ino: Ino) -> Result<Arc<Inode>> {
        self.find_inode(ino)?.ok_or(Error::NotFound)
    }

    /// Puts an inode in place of what was there.
    pub(crate) fn put_inode(&mut self, inode: Inode) -> Result<Arc<Inode>> {
        let ino = inode.ino;
        self.find_inode(ino)?;
        let inode = Arc::new(inode);
        if let Some(slot) = self.inodes.get_mut(&ino) {
            slot.now = Some(Arc::clone(&inode));
        }
        Ok(inode)
    }

    /// An inode of a number that was never used.
    pub(crate) fn add_inode(&mut self, inode: Inode) -> Arc<Inode> {
        self.totals.last_ino = self.totals.last_ino.max(inode.ino.0);
        let (ino, inode) = (inode.ino, Arc::new(inode));
        let slot = Slot {
            before: None,
            now: Some(Arc::clone(&inode)),
        };
        self.inodes.insert(ino, slot);
        inode
    }

    /// Changes an inode.
    pub(crate) fn edit(&mut self, ino: Ino, edit: impl FnOnce(&mut Inode)) -> Result<Arc<Inode>> {
        let mut inode = (*self.inode(ino)?).clone();
        edit(&mut inode);
        self.put_inode(inode)
    }

    /// Removes an inode.
    pub(crate) fn delete_inode(&mut self, ino: Ino) -> Result<()> {
        self.find_inode(ino)?;
        if let Some(slot) = self.inodes.get_mut(&ino) {
            slot.now = None;
        }
        Ok(())
    }

    /// A name in a directory, if it exists.
    pub(crate) fn dentry(&self, parent: Ino, tag: NameTag) -> Result<Option<Dentry>> {
        match self.dentries.get(&(parent, tag)) {
            Some(pending) => Ok(pending.clone()),
            None => self.base.dentry(parent, tag),
        }
    }

    pub(crate) fn put_dentry(&mut self, parent: Ino, dentry: Dentry) {
        self.dentries.insert((parent, dentry.tag), Some(dentry));
    }

    pub(crate) fn delete_dentry(&mut self, parent: Ino, tag: NameTag) {
        self.dentries.insert((parent, tag), None);
    }

    /// Changes the count of a chunk.
    pub(crate) fn refer(&mut self, chunk: ChunkId, by: i64) {
        *self.references.entry(chunk).or_insert(0) += by;
    }

    /// Sealed inline bytes came and went.
    pub(crate) fn inline_changed(&mut self, from: usize, to: usize) {
        let bytes = &mut self.totals.usage.inline_bytes;
        *bytes = bytes.saturating_sub(from as u64).saturating_add(to as u64);
    }

    /// A value of a table that has no method of its own here.
    pub(crate) fn get(&self, key: Key) -> Result<Option<Arc<[u8]>>> {
        match self.writes.get(&key) {
            Some(pending) => Ok(pending.clone()),
            None => self.base.get(&key),
        }
    }

    pub(crate) fn put(&mut self, key: Key, value: Arc<[u8]>) {
        self.writes.insert(key, Some(value));
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.writes.insert(key, None);
    }

    /// Shows keys in `from..to` of a table that [`Transaction::put`] writes.
    fn scan(&self, from: Key, to: Key, visit: &mut Visit<'_>) -> Result<()> {
        let mut pending = self.writes.range(from..to).peekable();
        if pending.peek().is_none() {
            return self.base.scan(&from, &to, visit);
        }
        let mut stopped = false;
        self.base.scan(&from, &to, &mut |key, value| {
            while let Some((own, change)) = pending.next_if(|(own, _)| &***own < key) {
                if let Some(new) = change
                    && visit(own, new)?.is_break()
                {
                    stopped = true;
                    return Ok(ControlFlow::Break(()));
                }
            }
            let flow = match pending.next_if(|(own, _)| &***own == key) {
                Some((_, None)) => ControlFlow::Continue(()),
                Some((own, Some(new))) => visit(own, new)?,
                None => visit(key, value)?,
            };
            stopped = flow.is_break();
            Ok(flow)
        })?;
        for (own, change) in pending {
            if stopped {
                break;
            }
            if let Some(new) = change {
                stopped = visit(own, new)?.is_break();
            }
        }
        Ok(())
    }

    /// Extents of a file that overlap `from..to`, whole, in order.
    pub(crate) fn extents(&self, ino: Ino, from: u64, to: u64) -> Result<Vec<Extent>> {
        let mut found = Vec::new();
        let first = Key::extent(ino, from.saturating_add(1));
        let behind = Key::behind(Table::Extent, ino);
        self.scan(first, behind, &mut |key, record| {
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

    /// Tags of the extended attributes of an inode.
    pub(crate) fn xattr_tags(&self, ino: Ino) -> Result<Vec<NameTag>> {
        let mut tags = Vec::new();
        let first = Key::first_of(Table::Xattr, ino);
        let behind = Key::behind(Table::Xattr, ino);
        self.scan(first, behind, &mut |key, _| {
            tags.push(parse::tagged(key)?.1);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(tags)
    }

    /// Everything that changed. All writes of all tables come by here: when
    /// snapshots exist, this is where an overwritten value moves to the
    /// history table.
    ///
    /// # Errors
    /// What reading the counts of chunks says; `Damaged` when a count would
    /// fall below 0.
    pub fn finish(mut self) -> Result<Changes> {
        self.settle_references()?;
        let mut inodes = Vec::with_capacity(self.inodes.len());
        for (ino, slot) in std::mem::take(&mut self.inodes) {
            if !slot.is_changed() {
                continue;
            }
            self.count(slot.before.as_deref(), slot.now.as_deref());
            let record = slot.now.as_deref().map(value::encode_inode);
            self.writes.insert(Key::inode(ino), record);
            inodes.push((ino, slot.now));
        }
        for ((parent, tag), dentry) in &self.dentries {
            let record = dentry.as_ref().map(value::encode_dentry);
            self.writes.insert(Key::dentry(*parent, *tag), record);
        }
        self.totals = self.set_totals.unwrap_or(self.totals);
        self.put(Key::totals(), value::encode_totals(&self.totals));
        Ok(Changes {
            writes: self.writes,
            inodes,
            dentries: self.dentries,
            totals: self.totals,
        })
    }

    fn settle_references(&mut self) -> Result<()> {
        for (chunk, by) in std::mem::take(&mut self.references) {
            if by == 0 {
                continue;
            }
            let key = Key::reference(&chunk);
            let before = match self.base.get(&key)? {
                Some(record) => value::decode_count(&chunk, &record)?,
                None => 0,
            };
            let now = before.checked_add_signed(by).ok_or_else(|| {
                Error::damaged(
                    format!("the count of chunk {chunk}"),
                    format!(
                        "{before} references, and {} fewer wanted",
                        by.unsigned_abs()
                    ),
                )
            })?;
            let chunks = &mut self.totals.usage.chunks;
            *chunks = chunks
                .saturating_add(u64::from(before == 0))
                .saturating_sub(u64::from(now == 0));
            let record = (now > 0).then(|| value::encode_count(now));
            self.writes.insert(key, record);
        }
        Ok(())
    }

    /// Totals follow from the inodes, so that no command can forget them.
    fn count(&mut self, before: Option<&Inode>, now: Option<&Inode>) {
        fn parts(inode: Option<&Inode>) -> [u64; 4] {
            let Some(inode) = inode else { return [0; 4] };
            let file = inode.kind == Kind::File;
            let size = if file { inode.size } else { 0 };
            [1, u64::from(file), size, inode.extents]
        }
        let usage = &mut self.totals.usage;
        let totals = [
            &mut usage.inodes,
            &mut usage.files,
            &mut usage.logical_bytes,
            &mut usage.extents,
        ];
        for ((total, before), now) in totals.into_iter().zip(parts(before)).zip(parts(now)) {
            *total = total.saturating_sub(before).saturating_add(now);
        }
    }
}
