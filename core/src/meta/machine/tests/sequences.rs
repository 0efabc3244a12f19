//! Generated commands, run by the machine and by the model, compared after each.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::{
    Tables,
    generate::{about_contents, command, number, small_tree},
    model::{Byte, Model},
};
use crate::{
    ids::Ino,
    meta::{
        command::Command,
        inode::Kind,
        key::{Key, Table, parse},
        transaction::Read,
        value,
    },
};

/// Everything the tables hold of a file's contents, byte by byte.
fn bytes_of(tables: &Tables, ino: u64) -> Vec<Byte> {
    let mut bytes = vec![None; tables.node(ino).size as usize];
    for extent in tables.extents(Ino(ino)) {
        for index in 0..extent.len {
            let byte = (extent.chunk, extent.chunk_offset + index);
            bytes[extent.offset as usize + index as usize] = Some(byte);
        }
    }
    bytes
}

fn count(tables: &Tables, table: Table) -> usize {
    let range = Key::table(table).to_vec()..Key::table_end(table).to_vec();
    tables.0.range(range).count()
}

fn compare(tables: &Tables, model: &Model) {
    assert_eq!(count(tables, Table::Inode), model.0.len());
    let names = model.0.values().map(|node| node.entries.len());
    assert_eq!(count(tables, Table::Dentry), names.sum::<usize>());
    let xattrs = model.0.values().map(|node| node.xattrs.len());
    assert_eq!(count(tables, Table::Xattr), xattrs.sum::<usize>());
    for (&ino, node) in &model.0 {
        let inode = tables.node(ino);
        assert_eq!(inode.kind, node.kind);
        assert_eq!(inode.nlink, model.nlink(ino), "links of {ino}");
        assert_eq!((inode.mode, inode.uid), (node.mode, node.uid));
        assert_eq!((inode.mtime, inode.ctime), (node.mtime, node.ctime));
        assert_eq!(inode.inline, node.inline);
        if node.kind == Kind::Directory {
            assert_eq!(inode.size, node.entries.len() as u64);
            if inode.nlink > 0 {
                assert_eq!(inode.parent.0, model.holder(ino));
            }
            for (tag, named) in &node.entries {
                let dentry = tables.dentry(Ino(ino), *tag).unwrap().unwrap();
                assert_eq!(dentry.ino.0, *named);
                assert_eq!(dentry.sealed_name[..], tag.0[..1]);
            }
        } else {
            let inline = node.inline.unwrap_or(0) as usize;
            let covered = node.bytes.iter().flatten().count() + inline;
            assert_eq!(inode.allocated, covered as u64);
            assert_eq!(bytes_of(tables, ino), node.bytes, "contents of {ino}");
        }
        for (tag, value) in &node.xattrs {
            let found = tables.get(&Key::xattr(Ino(ino), *tag)).unwrap().unwrap();
            assert_eq!(found[..], value[..]);
        }
    }
    let orphans: BTreeSet<u64> = model
        .0
        .keys()
        .copied()
        .filter(|ino| model.names(*ino) == 0)
        .collect();
    let range = Key::table(Table::Orphan).to_vec()..Key::table_end(Table::Orphan).to_vec();
    let listed = tables
        .0
        .range(range)
        .map(|(key, _)| parse::ino(key).unwrap().0);
    assert_eq!(listed.collect::<BTreeSet<_>>(), orphans);
}

/// Runs commands on both, comparing after each.
fn run(prepared: Vec<Command>, commands: Vec<Command>) {
    let mut tables = Tables::formatted();
    let mut model = Model::default();
    model.add(1, Kind::Directory, 0o755, 0, super::at(0));
    let mut next = 6;
    for command in prepared.into_iter().chain(commands) {
        let command = number(command, &mut next);
        let before = tables.0.clone();
        match (tables.run(&command), model.apply(&command)) {
            (Ok(_), Ok(())) => {}
            (Err(got), Err(wanted)) => {
                assert_eq!(got.errno(), wanted.errno(), "{command:?}: {got}");
                assert!(
                    tables.0 == before,
                    "{command:?} was refused and left a trace"
                );
            }
            (got, wanted) => panic!("{command:?}: {got:?}, wanted {wanted:?}"),
        }
        compare(&tables, &model);
        assert_eq!(tables.problems(), [], "after {command:?}");
        let record = value::encode_command(&command, Vec::new());
        assert_eq!(value::decode_command(&record).unwrap(), command);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_commands_do_what_the_simple_filesystem_does(commands in vec(command(), 0..80)) {
        run(small_tree(), commands);
    }

    #[test]
    fn contents_are_right_byte_by_byte(
        commands in vec(about_contents((2_u64..4).prop_map(Ino)), 0..60),
    ) {
        let files = vec![
            super::create(1, 0, 2, Kind::File),
            super::create(1, 1, 3, Kind::File),
        ];
        run(files, commands);
    }
}
