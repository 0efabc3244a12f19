//! Tables lose records at random; what is mended agrees with itself.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use proptest::{collection::vec, prelude::*};

use super::{Mended, NOBODY, mend};
use crate::{
    Result,
    ids::{ChunkId, Ino, Timestamp},
    meta::{
        check::check,
        command::{Body, Command},
        inode::{Extent, Kind},
        key::{Key, Table, parse},
        machine::{
            self,
            tests::{
                create,
                generate::{command, number},
                tag,
            },
        },
        transaction::{Read, Transaction, Visit},
        value,
    },
};

#[derive(Clone, Default)]
struct Tables(BTreeMap<Vec<u8>, Arc<[u8]>>);

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
    fn apply(&mut self, command: &Command) -> Result<()> {
        let mut tx = Transaction::new(&*self)?;
        machine::apply(&mut tx, command)?;
        for (key, value) in tx.finish()?.writes {
            match value {
                Some(value) => self.0.insert(key.to_vec(), value),
                None => self.0.remove(&key.to_vec()),
            };
        }
        Ok(())
    }

    fn formatted() -> Tables {
        let mut tables = Tables::default();
        let (uid, gid, mode, time) = (0, 0, 0o755, Timestamp::default());
        tables
            .apply(&Command::Format {
                uid,
                gid,
                mode,
                time,
            })
            .unwrap();
        tables
    }

    fn mend(&mut self) -> Mended {
        let mut seal = |dir: Ino, name: &[u8]| -> Result<_> {
            let mut tag = tag(200);
            tag.0[..8].copy_from_slice(&dir.0.to_le_bytes());
            let at = name.len().min(8);
            tag.0[8..8 + at].copy_from_slice(&name[name.len() - at..]);
            Ok((tag, Arc::from(name)))
        };
        let mended = mend(self, Timestamp::default(), &mut seal).unwrap();
        for part in mended.records.chunks(3) {
            let records = part.to_vec();
            self.apply(&Command::Amend { records }).unwrap();
        }
        mended
    }

    fn assert_sound(&self) {
        check(self, &mut |problem| panic!("{problem}")).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_is_lost_the_rest_agrees(
        commands in vec(command(), 0..80),
        lost in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut tables = Tables::formatted();
        let mut next = 2;
        for command in commands {
            let _ = tables.apply(&number(command, &mut next));
        }
        for index in lost {
            let keys: Vec<_> = tables.0.keys().cloned().collect();
            if !keys.is_empty() {
                tables.0.remove(&keys[index.index(keys.len())]);
            }
        }
        tables.mend();
        tables.assert_sound();
        let again = tables.mend();
        prop_assert_eq!(again.records, vec![]);
    }

    #[test]
    fn sound_tables_are_left_alone(commands in vec(command(), 0..80)) {
        let mut tables = Tables::formatted();
        let mut next = 2;
        for command in commands {
            let _ = tables.apply(&number(command, &mut next));
        }
        let before = tables.0.clone();
        prop_assert_eq!(tables.mend().records, vec![]);
        prop_assert!(tables.0 == before);
    }
}

fn file_of_three_extents() -> Tables {
    let mut tables = Tables::formatted();
    tables.apply(&create(1, 1, 2, Kind::File)).unwrap();
    let extents = (0..3_u8).map(|n| Extent {
        offset: u64::from(n) * 100,
        len: 100,
        chunk: ChunkId([n + 1; 32]),
        chunk_offset: 0,
    });
    let body = Body::Extents(extents.collect());
    let (ino, change) = (Ino(2), Default::default());
    tables.apply(&Command::Write { ino, body, change }).unwrap();
    tables
}

#[test]
fn a_lost_extent_is_an_error_and_no_hole() {
    let mut tables = file_of_three_extents();
    tables.0.remove(&Key::extent(Ino(2), 200).to_vec());
    let said = tables.mend().done;
    assert!(said[0].contains("100 bytes of it are lost"), "{said:?}");
    let record = tables.get(&Key::extent(Ino(2), 200)).unwrap().unwrap();
    assert_eq!(
        value::decode_extent(Ino(2), 200, &record).unwrap().chunk,
        NOBODY
    );
}

fn attribute(ino: u64) -> Command {
    Command::SetXattr {
        ino: Ino(ino),
        tag: tag(7),
        value: Arc::from(&b"sealed"[..]),
        mode: crate::meta::XattrMode::Any,
        file_mode: None,
        time: Timestamp::default(),
    }
}

#[test]
fn lost_and_found_gets_no_number_of_which_something_is_left() {
    let mut tables = file_of_three_extents();
    tables.apply(&create(1, 2, 3, Kind::File)).unwrap();
    tables.apply(&attribute(3)).unwrap();
    tables.0.remove(&Key::dentry(Ino(1), tag(1)).to_vec());
    tables.0.remove(&Key::dentry(Ino(1), tag(2)).to_vec());
    tables.0.remove(&Key::inode(Ino(3)).to_vec());
    tables.0.remove(&Key::totals().to_vec());
    tables.mend();
    tables.assert_sound();
    assert!(tables.inode(Ino(3)).unwrap().is_none());
    assert!(tables.inode(Ino(4)).unwrap().is_some());
}

#[test]
fn a_link_that_lost_its_target_goes_with_its_attributes() {
    let mut tables = Tables::formatted();
    tables.apply(&create(1, 1, 2, Kind::Symlink)).unwrap();
    tables.apply(&attribute(2)).unwrap();
    tables.0.remove(&Key::inline(Ino(2)).to_vec());
    tables.mend();
    tables.assert_sound();
    assert!(tables.inode(Ino(2)).unwrap().is_none());
}

#[test]
fn an_inode_without_a_name_is_found_again() {
    let mut tables = file_of_three_extents();
    tables.0.remove(&Key::dentry(Ino(1), tag(1)).to_vec());
    tables.0.remove(&Key::inode(Ino(2)).to_vec());
    let said = tables.mend().done.join("\n");
    assert!(said.contains("/lost+found/#2"), "{said}");
    tables.assert_sound();
    let inode = tables.inode(Ino(2)).unwrap().unwrap();
    assert_eq!((inode.size, inode.extents, inode.nlink), (300, 3, 1));
    let names = tables.0.keys().filter(|key| key[0] == Table::Dentry as u8);
    let parents: Vec<Ino> = names.map(|key| parse::tagged(key).unwrap().0).collect();
    assert_eq!(parents, [Ino(1), Ino(3)]);
}
