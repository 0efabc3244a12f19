//! The key space: one ordered space of byte strings, cut into tables by the
//! first byte. All integers are big-endian, so that byte order is number order.
//!
//! | table | key behind the table byte | value |
//! |---|---|---|
//! | inode | ino | inode record |
//! | dentry | directory, tag | dentry record |
//! | extent | ino, **end** of the extent | extent record |
//! | inline | ino | sealed contents |
//! | xattr | ino, tag | sealed name and value |
//! | reference | chunk id | count, above 0 |
//! | orphan | ino | empty |
//! | totals | nothing | totals record |
//! | history | reserved | reserved |
//! | lost | chunk id | empty |
//!
//! Extents are keyed by where they end: "the extents behind byte `n`" then is
//! one forward scan from `n + 1`, which finds the one that reaches over `n`
//! first, without a step back.
//!
//! The history table is for snapshots. Its key will be the key of a value that
//! was overwritten, and the revision that did it; every change of every table
//! passes `Transaction::finish`, which is where the old value moves over.

use std::ops::Deref;

use crate::{
    Error, Result,
    ids::{ChunkId, Ino, NameTag},
};

/// The first byte of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// Inodes.
    Inode = 1,
    /// Names in directories.
    Dentry = 2,
    /// Where the contents of files lie.
    Extent = 3,
    /// Sealed contents of small files and targets of symlinks.
    Inline = 4,
    /// Sealed extended attributes.
    Xattr = 5,
    /// How many extents refer to a chunk.
    Reference = 6,
    /// Inodes without a name that wait to be reaped.
    Orphan = 7,
    /// Totals over the volume.
    Totals = 8,
    /// Superseded values; reserved for snapshots.
    History = 9,
    /// Chunks that a repair found to be lost.
    Lost = 10,
}

/// The longest key: a table byte and a chunk id.
const LONGEST: usize = 33;

/// A key, kept without an allocation.
#[derive(Clone, Copy)]
pub struct Key {
    bytes: [u8; LONGEST],
    len: u8,
}

impl Key {
    fn of(table: Table, parts: &[&[u8]]) -> Key {
        let mut key = Key {
            bytes: [0; LONGEST],
            len: 1,
        };
        key.bytes[0] = table as u8;
        for part in parts {
            let from = usize::from(key.len);
            key.bytes[from..from + part.len()].copy_from_slice(part);
            key.len += part.len() as u8;
        }
        key
    }

    /// A key as it was written down; `None` when there is none of that length.
    #[must_use]
    pub fn from_bytes(key: &[u8]) -> Option<Key> {
        let mut bytes = [0; LONGEST];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        let len = key.len() as u8;
        Some(Key { bytes, len })
    }

    /// A chunk that is known to be lost.
    #[must_use]
    pub fn lost(chunk: &ChunkId) -> Key {
        Key::of(Table::Lost, &[&chunk.0])
    }

    /// The first key of a table.
    #[must_use]
    pub fn table(table: Table) -> Key {
        Key::of(table, &[])
    }

    /// The first key behind a table.
    #[must_use]
    pub fn table_end(table: Table) -> Key {
        let mut key = Key::of(table, &[]);
        key.bytes[0] += 1;
        key
    }

    /// An inode.
    #[must_use]
    pub fn inode(ino: Ino) -> Key {
        Key::of(Table::Inode, &[&ino.0.to_be_bytes()])
    }

    /// A name in a directory.
    #[must_use]
    pub fn dentry(parent: Ino, tag: NameTag) -> Key {
        Key::of(Table::Dentry, &[&parent.0.to_be_bytes(), &tag.0])
    }

    /// The extent of a file that ends at `end`.
    #[must_use]
    pub fn extent(ino: Ino, end: u64) -> Key {
        Key::of(Table::Extent, &[&ino.0.to_be_bytes(), &end.to_be_bytes()])
    }

    /// Inline contents.
    #[must_use]
    pub fn inline(ino: Ino) -> Key {
        Key::of(Table::Inline, &[&ino.0.to_be_bytes()])
    }

    /// An extended attribute.
    #[must_use]
    pub fn xattr(ino: Ino, tag: NameTag) -> Key {
        Key::of(Table::Xattr, &[&ino.0.to_be_bytes(), &tag.0])
    }

    /// The count of a chunk.
    #[must_use]
    pub fn reference(chunk: &ChunkId) -> Key {
        Key::of(Table::Reference, &[&chunk.0])
    }

    /// An orphan.
    #[must_use]
    pub fn orphan(ino: Ino) -> Key {
        Key::of(Table::Orphan, &[&ino.0.to_be_bytes()])
    }

    /// The totals.
    #[must_use]
    pub fn totals() -> Key {
        Key::of(Table::Totals, &[])
    }

    /// The first key of an inode in a table whose keys begin with one.
    #[must_use]
    pub fn first_of(table: Table, ino: Ino) -> Key {
        Key::of(table, &[&ino.0.to_be_bytes()])
    }

    /// The first key behind those of an inode in such a table.
    #[must_use]
    pub fn behind(table: Table, ino: Ino) -> Key {
        match ino.0.checked_add(1) {
            Some(next) => Key::of(table, &[&next.to_be_bytes()]),
            None => Key::table_end(table),
        }
    }

    /// The first key behind this one.
    #[must_use]
    pub fn successor(mut self) -> Key {
        if usize::from(self.len) < LONGEST {
            self.bytes[usize::from(self.len)] = 0;
            self.len += 1;
            return self;
        }
        // A key of full length has no room for a zero; the next key of the
        // same length follows it directly instead.
        for byte in self.bytes.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        self
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        **self == **other
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

/// Takes keys apart again. What they hold comes from the disk.
pub mod parse {
    use super::{ChunkId, Error, Ino, NameTag, Result};

    fn part<const N: usize>(key: &[u8], from: usize, what: &'static str) -> Result<[u8; N]> {
        key.get(from..from + N)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| wrong(key, what))
    }

    fn whole(key: &[u8], len: usize, what: &'static str) -> Result<()> {
        if key.len() == len {
            Ok(())
        } else {
            Err(wrong(key, what))
        }
    }

    fn wrong(key: &[u8], what: &'static str) -> Error {
        Error::damaged(
            format!("metadata key {}", hex::encode(key)),
            format!("not the key of {what}"),
        )
    }

    /// A key that is an inode number.
    ///
    /// # Errors
    /// `Damaged` when it is not.
    pub fn ino(key: &[u8]) -> Result<Ino> {
        whole(key, 9, "an inode")?;
        Ok(Ino(u64::from_be_bytes(part(key, 1, "an inode")?)))
    }

    /// A key that is an inode number and a tag.
    ///
    /// # Errors
    /// `Damaged` when it is not.
    pub fn tagged(key: &[u8]) -> Result<(Ino, NameTag)> {
        let what = "a name or an attribute";
        whole(key, 25, what)?;
        let ino = Ino(u64::from_be_bytes(part(key, 1, what)?));
        Ok((ino, NameTag(part(key, 9, what)?)))
    }

    /// The file of an extent, and where it ends.
    ///
    /// # Errors
    /// `Damaged` when it is no such key.
    pub fn extent(key: &[u8]) -> Result<(Ino, u64)> {
        whole(key, 17, "an extent")?;
        let ino = Ino(u64::from_be_bytes(part(key, 1, "an extent")?));
        Ok((ino, u64::from_be_bytes(part(key, 9, "an extent")?)))
    }

    /// The chunk of a count.
    ///
    /// # Errors
    /// `Damaged` when it is no such key.
    pub fn reference(key: &[u8]) -> Result<ChunkId> {
        whole(key, 33, "a chunk")?;
        Ok(ChunkId(part(key, 1, "a chunk")?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_come_apart_as_they_were_made() {
        let (ino, tag, chunk) = (Ino(0x0102), NameTag([7; 16]), ChunkId([0xff; 32]));
        assert_eq!(parse::ino(&Key::inode(ino)).unwrap(), ino);
        assert_eq!(parse::tagged(&Key::dentry(ino, tag)).unwrap(), (ino, tag));
        assert_eq!(parse::extent(&Key::extent(ino, 9)).unwrap(), (ino, 9));
        assert_eq!(parse::reference(&Key::reference(&chunk)).unwrap(), chunk);
        assert!(parse::ino(&Key::extent(ino, 9)).is_err());
        assert!(parse::extent(&[]).is_err());
    }

    #[test]
    fn key_order_is_number_order() {
        assert!(Key::extent(Ino(1), 255) < Key::extent(Ino(1), 256));
        assert!(Key::extent(Ino(1), u64::MAX) < Key::behind(Table::Extent, Ino(1)));
        assert!(Key::extent(Ino(u64::MAX), 1) < Key::behind(Table::Extent, Ino(u64::MAX)));
        assert!(Key::table(Table::Orphan) < Key::orphan(Ino(0)));
    }

    #[test]
    fn nothing_lies_between_a_key_and_its_successor() {
        let key = Key::dentry(Ino(1), NameTag([255; 16]));
        assert!(key < key.successor());
        assert!(key.successor() <= Key::behind(Table::Dentry, Ino(1)));
        let full = Key::reference(&ChunkId([255; 32]));
        assert_eq!(full.successor()[0], Table::Reference as u8 + 1);
    }
}
