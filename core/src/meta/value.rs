//! How the values of the tables are written down and read back.
//!
//! Readers take bytes from a disk that may lie: they answer `Damaged`, naming
//! the record, and never panic.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    ids::{ChunkId, Ino, NameTag},
    meta::{
        Command,
        inode::{Dentry, Extent, Inode, Kind, Usage},
    },
};

/// Version of inode, dentry and totals records and of logged commands.
const VERSION: u8 = 1;

/// Bytes of an extent record.
const EXTENT_LEN: usize = 40;

/// Bytes of a dentry record before the sealed name.
const DENTRY_HEADER: usize = 10;

/// The record of totals: what `statfs` shows, and the inode numbers given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Totals over the volume.
    pub usage: Usage,
    /// The highest inode number ever used.
    pub last_ino: u64,
}

fn postcard_record<T: Serialize>(value: &T, mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer.push(VERSION);
    // Writing to a vector cannot fail, and every type here is one that the
    // format can express.
    #[allow(clippy::expect_used)]
    postcard::to_extend(value, buffer).expect("records are written to memory")
}

fn from_postcard<'a, T: Deserialize<'a>>(bytes: &'a [u8], place: impl Fn() -> String) -> Result<T> {
    let body = match bytes.split_first() {
        Some((&VERSION, body)) => body,
        Some((version, _)) => {
            return Err(Error::damaged(
                place(),
                format!("record version {version} is unknown"),
            ));
        }
        None => return Err(Error::damaged(place(), "the record is empty")),
    };
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(Error::damaged(place(), "the record is too long")),
        Err(error) => Err(Error::damaged(place(), error.to_string())),
    }
}

/// Writes a command as the log keeps it. Takes a buffer to write into and
/// gives it back, so that a caller can use one over and over.
#[must_use]
pub fn encode_command(command: &Command, buffer: Vec<u8>) -> Vec<u8> {
    postcard_record(command, buffer)
}

/// Reads a command of the log.
///
/// # Errors
/// `Damaged` when the bytes are no command.
pub fn decode_command(bytes: &[u8]) -> Result<Command> {
    from_postcard(bytes, || "a log record".into())
}

pub(crate) fn encode_inode(inode: &Inode) -> Arc<[u8]> {
    postcard_record(inode, Vec::with_capacity(96)).into()
}

/// Reads an inode record.
///
/// # Errors
/// `Damaged` when the bytes are no inode, or another one.
pub fn decode_inode(ino: Ino, bytes: &[u8]) -> Result<Inode> {
    let inode: Inode = from_postcard(bytes, || format!("inode {}", ino.0))?;
    if inode.ino != ino {
        return Err(Error::damaged(
            format!("inode {}", ino.0),
            format!("the record is of inode {}", inode.ino.0),
        ));
    }
    Ok(inode)
}

pub(crate) fn encode_totals(totals: &Totals) -> Arc<[u8]> {
    postcard_record(totals, Vec::with_capacity(64)).into()
}

/// Reads the totals record.
///
/// # Errors
/// `Damaged` when the bytes are none.
pub fn decode_totals(bytes: &[u8]) -> Result<Totals> {
    from_postcard(bytes, || "the totals record".into())
}

fn kind_byte(kind: Kind) -> u8 {
    match kind {
        Kind::File => 1,
        Kind::Directory => 2,
        Kind::Symlink => 3,
        Kind::Fifo => 4,
        Kind::Socket => 5,
        Kind::CharDevice => 6,
        Kind::BlockDevice => 7,
    }
}

fn kind_of(byte: u8) -> Option<Kind> {
    Some(match byte {
        1 => Kind::File,
        2 => Kind::Directory,
        3 => Kind::Symlink,
        4 => Kind::Fifo,
        5 => Kind::Socket,
        6 => Kind::CharDevice,
        7 => Kind::BlockDevice,
        _ => return None,
    })
}

pub(crate) fn encode_dentry(dentry: &Dentry) -> Arc<[u8]> {
    let mut record = Vec::with_capacity(DENTRY_HEADER + dentry.sealed_name.len());
    record.push(VERSION);
    record.push(kind_byte(dentry.kind));
    record.extend_from_slice(&dentry.ino.0.to_le_bytes());
    record.extend_from_slice(&dentry.sealed_name);
    record.into()
}

/// Reads a dentry record.
///
/// # Errors
/// `Damaged` when the bytes are none.
pub fn decode_dentry(parent: Ino, tag: NameTag, bytes: &[u8]) -> Result<Dentry> {
    let wrong =
        |what: &'static str| Error::damaged(format!("entry {tag} of directory {}", parent.0), what);
    let (header, name) = bytes
        .split_first_chunk::<DENTRY_HEADER>()
        .ok_or_else(|| wrong("the record is too short"))?;
    let [version, kind, ino @ ..] = *header;
    if version != VERSION {
        return Err(wrong("the record version is unknown"));
    }
    Ok(Dentry {
        tag,
        ino: Ino(u64::from_le_bytes(ino)),
        kind: kind_of(kind).ok_or_else(|| wrong("the kind is unknown"))?,
        sealed_name: name.into(),
    })
}

pub(crate) fn encode_extent(extent: &Extent) -> Arc<[u8]> {
    let mut record = [0; EXTENT_LEN];
    record[..4].copy_from_slice(&extent.len.to_le_bytes());
    record[4..8].copy_from_slice(&extent.chunk_offset.to_le_bytes());
    record[8..].copy_from_slice(&extent.chunk.0);
    Arc::new(record)
}

/// Reads the extent record of a file that ends at `end`.
///
/// # Errors
/// `Damaged` when the bytes are none, or it would begin before the file.
pub fn decode_extent(ino: Ino, end: u64, bytes: &[u8]) -> Result<Extent> {
    let wrong = |what: &'static str| {
        Error::damaged(
            format!("the extent of inode {} that ends at {end}", ino.0),
            what,
        )
    };
    let record: &[u8; EXTENT_LEN] = bytes
        .try_into()
        .map_err(|_| wrong("the record has a wrong length"))?;
    let [a, b, c, d, e, f, g, h, chunk @ ..] = *record;
    let len = u32::from_le_bytes([a, b, c, d]);
    if len == 0 {
        return Err(wrong("the extent is empty"));
    }
    Ok(Extent {
        offset: end
            .checked_sub(u64::from(len))
            .ok_or_else(|| wrong("the extent begins before the file"))?,
        len,
        chunk: ChunkId(chunk),
        chunk_offset: u32::from_le_bytes([e, f, g, h]),
    })
}

pub(crate) fn encode_count(count: u64) -> Arc<[u8]> {
    Arc::new(count.to_le_bytes())
}

/// Reads how many extents refer to a chunk.
///
/// # Errors
/// `Damaged` when the bytes are no count above 0.
pub fn decode_count(chunk: &ChunkId, bytes: &[u8]) -> Result<u64> {
    match bytes.try_into().map(u64::from_le_bytes) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(Error::damaged(
            format!("the count of chunk {chunk}"),
            "the record is no count",
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_come_back_as_they_were_written() {
        let dentry = Dentry {
            tag: NameTag([3; 16]),
            ino: Ino(77),
            kind: Kind::Socket,
            sealed_name: Arc::from(&b"sealed"[..]),
        };
        let read = decode_dentry(Ino(1), dentry.tag, &encode_dentry(&dentry)).unwrap();
        assert_eq!(read, dentry);
        let extent = Extent {
            offset: 5,
            len: 7,
            chunk: ChunkId([9; 32]),
            chunk_offset: 11,
        };
        let read = decode_extent(Ino(1), extent.end(), &encode_extent(&extent)).unwrap();
        assert_eq!(read, extent);
        assert!(decode_extent(Ino(1), 6, &encode_extent(&extent)).is_err());
        assert_eq!(decode_count(&extent.chunk, &encode_count(2)).unwrap(), 2);
        assert!(decode_count(&extent.chunk, &encode_count(0)).is_err());
    }

    #[test]
    fn the_record_of_another_inode_is_damage() {
        let inode = crate::meta::machine::fresh_inode(Ino(5), Kind::File, Default::default());
        let record = encode_inode(&inode);
        assert_eq!(decode_inode(Ino(5), &record).unwrap(), inode);
        assert!(matches!(
            decode_inode(Ino(6), &record),
            Err(Error::Damaged { .. })
        ));
    }

    #[test]
    fn trailing_bytes_and_unknown_versions_are_damage() {
        let mut record = encode_totals(&Totals::default()).to_vec();
        record.push(0);
        assert!(decode_totals(&record).is_err());
        record.pop();
        record[0] = 2;
        assert!(decode_totals(&record).is_err());
        assert!(decode_totals(&[]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = decode_command(&bytes);
            let _ = decode_inode(Ino(1), &bytes);
            let _ = decode_dentry(Ino(1), NameTag([0; 16]), &bytes);
            let _ = decode_extent(Ino(1), 50, &bytes);
            let _ = decode_totals(&bytes);
            let _ = decode_count(&ChunkId([0; 32]), &bytes);
        }
    }
}
