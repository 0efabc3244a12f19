//! Records are set as a repair found that they have to be.

use std::sync::Arc;

use crate::{
    Error, Result,
    meta::{
        command::{Record, Reply},
        key::{Key, Table, parse},
        transaction::Transaction,
        value,
    },
};

/// Tables whose records are bytes here and below.
const PLAIN: [Table; 6] = [
    Table::Extent,
    Table::Inline,
    Table::Xattr,
    Table::Reference,
    Table::Orphan,
    Table::Lost,
];

pub(super) fn amend(tx: &mut Transaction<'_>, records: &[Record]) -> Result<Reply> {
    for (key, value) in records {
        let value = value.as_deref();
        let table = key.first().copied().unwrap_or(0);
        let plain = PLAIN.iter().any(|plain| *plain as u8 == table);
        match (Key::from_bytes(key), value) {
            (Some(key), Some(value)) if plain => tx.put(key, Arc::from(value)),
            (Some(key), None) if plain => tx.delete(key),
            _ if table == Table::Inode as u8 => inode(tx, key, value)?,
            _ if table == Table::Dentry as u8 => dentry(tx, key, value)?,
            (_, Some(value)) if table == Table::Totals as u8 => {
                tx.set_totals(value::decode_totals(value)?);
            }
            _ => return Err(Error::Invalid("a record of no table is amended")),
        }
    }
    Ok(Reply::Done)
}

fn inode(tx: &mut Transaction<'_>, key: &[u8], value: Option<&[u8]>) -> Result<()> {
    let ino = parse::ino(key)?;
    match value {
        Some(value) => tx.put_inode(value::decode_inode(ino, value)?).map(drop),
        None => tx.delete_inode(ino),
    }
}

fn dentry(tx: &mut Transaction<'_>, key: &[u8], value: Option<&[u8]>) -> Result<()> {
    let (parent, tag) = parse::tagged(key)?;
    match value {
        Some(value) => tx.put_dentry(parent, value::decode_dentry(parent, tag, value)?),
        None => tx.delete_dentry(parent, tag),
    }
    Ok(())
}
