//! Commands of the log, the tables, and values that users hand in.

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use super::split::{Pieces, choice};
use crate::{
    Result,
    engine::acl_decoder,
    ids::{ChunkId, Ino, NameTag, Timestamp},
    meta::{
        Command,
        check::check,
        key::parse,
        machine::apply,
        transaction::{Read, Transaction, Visit},
        value,
    },
};

/// Values (0), keys (1), a log of commands (2), tables full of anything (3),
/// access control lists (4).
pub fn meta(input: &[u8]) {
    let (choice, bytes) = choice(input);
    match choice % 5 {
        0 => values(bytes),
        1 => keys(bytes),
        2 => commands(bytes),
        3 => tables(bytes),
        _ => acl_decoder(bytes),
    }
}

/// What is read is written as it was read, or at least read the same again.
fn values(bytes: &[u8]) {
    if let Ok(command) = value::decode_command(bytes) {
        let again = value::encode_command(&command, Vec::new());
        let again = value::decode_command(&again).expect("a command just written");
        assert_eq!(again, command);
    }
    if let Ok(inode) = value::decode_inode(Ino(1), bytes) {
        let again = value::decode_inode(Ino(1), &value::encode_inode(&inode));
        assert_eq!(again.expect("an inode just written"), inode);
    }
    let tag = NameTag([0; 16]);
    if let Ok(dentry) = value::decode_dentry(Ino(1), tag, bytes) {
        assert_eq!(*value::encode_dentry(&dentry), *bytes);
    }
    if let Ok(extent) = value::decode_extent(Ino(1), 5000, bytes) {
        assert_eq!(*value::encode_extent(&extent), *bytes);
    }
    if let Ok(totals) = value::decode_totals(bytes) {
        let again = value::decode_totals(&value::encode_totals(&totals));
        assert_eq!(again.expect("totals just written"), totals);
    }
    let _ = value::decode_count(&ChunkId([0; 32]), bytes);
}

fn keys(bytes: &[u8]) {
    let _ = parse::ino(bytes);
    let _ = parse::tagged(bytes);
    let _ = parse::extent(bytes);
    let _ = parse::reference(bytes);
}

/// Somebody who can write the log can write any command into it.
fn commands(bytes: &[u8]) {
    let mut tables = Tables::formatted();
    for piece in Pieces(bytes).take(64) {
        if let Ok(command) = value::decode_command(piece) {
            let _ = tables.run(&command);
        }
    }
    look(&tables);
}

/// Keys and values in turn, on top of a sound volume; then commands that meet
/// them.
fn tables(bytes: &[u8]) {
    let mut tables = Tables::formatted();
    let mut pieces = Pieces(bytes);
    while let (Some(key), Some(value)) = (pieces.next(), pieces.next()) {
        tables.0.insert(key.to_vec(), value.into());
    }
    look(&tables);
    let time = Timestamp::default();
    for ino in (1..4).map(Ino) {
        let reap = Command::Reap { inos: vec![ino] };
        let punch = Command::Punch {
            ino,
            offset: 1,
            len: 5000,
            time,
        };
        let unlink = Command::Unlink {
            parent: Ino::ROOT,
            tag: NameTag([ino.0 as u8; 16]),
            time,
        };
        for command in [punch, unlink, reap] {
            let _ = tables.run(&command);
        }
    }
    look(&tables);
}

fn look(tables: &Tables) {
    check(tables, &mut |_| {}).expect("tables in memory can be read");
}

#[derive(Default)]
struct Tables(BTreeMap<Vec<u8>, Arc<[u8]>>);

impl Tables {
    fn formatted() -> Tables {
        let mut tables = Tables::default();
        let format = Command::Format {
            uid: 0,
            gid: 0,
            mode: 0o755,
            time: Timestamp::default(),
        };
        tables.run(&format).expect("empty tables can be formatted");
        tables
    }

    fn run(&mut self, command: &Command) -> Result<()> {
        let mut transaction = Transaction::new(self)?;
        apply(&mut transaction, command)?;
        for (key, value) in transaction.finish()?.writes {
            match value {
                Some(value) => self.0.insert(key.to_vec(), value),
                None => self.0.remove(&*key),
            };
        }
        Ok(())
    }
}

impl Read for Tables {
    fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        for (key, value) in self.0.range(from.to_vec()..to.to_vec()) {
            if let ControlFlow::Break(()) = visit(key, value)? {
                break;
            }
        }
        Ok(())
    }
}
