#![allow(clippy::unwrap_used)]

pub(crate) mod generate;
mod model;
mod rules;
mod sequences;

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use super::apply;
use crate::{
    Result,
    ids::{Ino, NameTag, Timestamp},
    meta::{
        check::{Problem, check},
        command::{Command, NewInode, Reply},
        inode::{Extent, Inode, Kind},
        transaction::{Read, Transaction, Visit},
    },
};

/// Tables in a map.
#[derive(Default)]
pub(crate) struct Tables(pub(crate) BTreeMap<Vec<u8>, Arc<[u8]>>);

impl Read for Tables {
    fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        for (key, value) in self.0.range(from.to_vec()..to.to_vec()) {
            if let ControlFlow::Break(()) = visit(key, value)? {
                break;
            }
        }
        Ok(())
    }
}

impl Tables {
    /// Tables with a root directory.
    fn formatted() -> Tables {
        let mut tables = Tables::default();
        tables
            .run(&Command::Format {
                uid: 0,
                gid: 0,
                mode: 0o755,
                time: at(0),
            })
            .unwrap();
        tables
    }

    fn run(&mut self, command: &Command) -> Result<Reply> {
        let mut tx = Transaction::new(self)?;
        let reply = apply(&mut tx, command)?;
        for (key, value) in tx.finish()?.writes {
            match value {
                Some(value) => self.0.insert(key.to_vec(), value),
                None => self.0.remove(&*key),
            };
        }
        Ok(reply)
    }

    fn extents(&self, ino: Ino) -> Vec<Extent> {
        Transaction::new(self)
            .unwrap()
            .extents(ino, 0, u64::MAX)
            .unwrap()
    }

    fn node(&self, ino: u64) -> Arc<Inode> {
        self.inode(Ino(ino)).unwrap().unwrap()
    }

    fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        check(self, &mut |problem| found.push(problem)).unwrap();
        found
    }
}

pub(crate) fn at(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

pub(crate) fn tag(of: u8) -> NameTag {
    NameTag([of; 16])
}

pub(crate) fn bytes(of: &[u8]) -> Arc<[u8]> {
    Arc::from(of)
}

pub(crate) fn new_inode(ino: u64, kind: Kind) -> NewInode {
    NewInode {
        ino: Ino(ino),
        kind,
        mode: 0o644,
        uid: 1,
        gid: 2,
        rdev: 0,
        target: (kind == Kind::Symlink).then(|| (bytes(b"sealed target"), 6)),
        xattrs: Vec::new(),
    }
}

pub(crate) fn create(parent: u64, name: u8, ino: u64, kind: Kind) -> Command {
    Command::Create {
        parent: Ino(parent),
        tag: tag(name),
        name: bytes(&[name]),
        inode: new_inode(ino, kind),
        time: at(1),
    }
}
