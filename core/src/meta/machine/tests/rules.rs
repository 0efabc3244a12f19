//! Rules one by one, where a generated sequence would not get to.

use super::{Tables, at, bytes, create, new_inode, tag};
use crate::{
    Error,
    ids::{ChunkId, Ino},
    meta::{
        check::{Fault, Subject},
        command::{AttrChange, Body, CloneRange, Command, RenameMode, Reply},
        inode::{Extent, Kind},
        key::Key,
        machine::{MAX_LINKS, MAX_SIZE},
        transaction::Read,
        value,
    },
};

fn rename(from: (u64, u8), to: (u64, u8)) -> Command {
    Command::Rename {
        parent: Ino(from.0),
        tag: tag(from.1),
        new_parent: Ino(to.0),
        new_tag: tag(to.1),
        new_name: bytes(&[to.1]),
        mode: RenameMode::Replace,
        old_name: None,
        time: at(9),
    }
}

fn write(ino: u64, offset: u64, len: u32, chunk: u8, chunk_offset: u32) -> Command {
    Command::Write {
        ino: Ino(ino),
        body: Body::Extents(vec![Extent {
            offset,
            len,
            chunk: ChunkId([chunk; 32]),
            chunk_offset,
        }]),
        change: AttrChange::default(),
    }
}

fn set_links(tables: &mut Tables, ino: u64, nlink: u32) {
    let mut inode = (*tables.node(ino)).clone();
    inode.nlink = nlink;
    let record = value::encode_inode(&inode);
    tables.0.insert(Key::inode(Ino(ino)).to_vec(), record);
}

fn references(tables: &Tables, chunk: u8) -> u64 {
    let chunk = ChunkId([chunk; 32]);
    match tables.get(&Key::reference(&chunk)).unwrap() {
        Some(record) => value::decode_count(&chunk, &record).unwrap(),
        None => 0,
    }
}

#[test]
fn links_have_a_limit() {
    let mut tables = Tables::formatted();
    tables.run(&create(1, 0, 2, Kind::File)).unwrap();
    set_links(&mut tables, 2, MAX_LINKS);
    let link = Command::Link {
        ino: Ino(2),
        parent: Ino::ROOT,
        tag: tag(1),
        name: bytes(b"n"),
        time: at(1),
    };
    assert!(matches!(tables.run(&link), Err(Error::TooManyLinks)));
    set_links(&mut tables, 1, MAX_LINKS);
    let made = tables.run(&create(1, 3, 4, Kind::Directory));
    assert!(matches!(made, Err(Error::TooManyLinks)));
}

#[test]
fn an_inode_number_is_used_once() {
    let mut tables = Tables::formatted();
    tables.run(&create(1, 0, 7, Kind::File)).unwrap();
    let again = tables.run(&create(1, 1, 7, Kind::File));
    assert!(matches!(again, Err(Error::Damaged { .. })));
    tables.run(&create(1, 1, 5, Kind::File)).unwrap();
    assert_eq!(tables.totals().unwrap().last_ino, 7);
}

#[test]
fn a_removed_directory_takes_no_names() {
    let mut tables = Tables::formatted();
    tables.run(&create(1, 0, 2, Kind::Directory)).unwrap();
    let rmdir = Command::Rmdir {
        parent: Ino::ROOT,
        tag: tag(0),
        time: at(2),
    };
    let reply = tables.run(&rmdir).unwrap();
    assert!(matches!(reply, Reply::Removed(inode) if inode.nlink == 0));
    assert!(matches!(
        tables.run(&create(2, 0, 3, Kind::File)),
        Err(Error::NotFound)
    ));
}

#[test]
fn rename_between_two_names_of_a_file_does_nothing() {
    let mut tables = Tables::formatted();
    tables.run(&create(1, 0, 2, Kind::File)).unwrap();
    let link = Command::Link {
        ino: Ino(2),
        parent: Ino::ROOT,
        tag: tag(1),
        name: bytes(&[1]),
        time: at(1),
    };
    tables.run(&link).unwrap();
    let before = tables.0.clone();
    let reply = tables.run(&rename((1, 0), (1, 1))).unwrap();
    let wanted = Reply::Renamed {
        moved: Ino(2),
        replaced: None,
    };
    assert_eq!(reply, wanted);
    assert!(tables.0 == before);
}

#[test]
fn rename_over_a_file_answers_what_it_replaced() {
    let mut tables = Tables::formatted();
    tables.run(&create(1, 0, 2, Kind::File)).unwrap();
    tables.run(&create(1, 1, 3, Kind::File)).unwrap();
    let Reply::Renamed { moved, replaced } = tables.run(&rename((1, 0), (1, 1))).unwrap() else {
        panic!("another reply");
    };
    assert_eq!(moved, Ino(2));
    assert_eq!(replaced.unwrap().nlink, 0);
    assert!(tables.0.contains_key(&*Key::orphan(Ino(3)).to_vec()));
}

#[test]
fn a_directory_replaces_an_empty_one_of_another_directory() {
    let mut tables = Tables::formatted();
    tables.run(&create(1, 0, 2, Kind::Directory)).unwrap();
    tables.run(&create(1, 1, 3, Kind::Directory)).unwrap();
    tables.run(&create(3, 0, 4, Kind::Directory)).unwrap();
    tables.run(&rename((1, 0), (3, 0))).unwrap();
    assert_eq!((tables.node(1).nlink, tables.node(3).nlink), (3, 3));
    assert_eq!((tables.node(4).nlink, tables.node(2).parent), (0, Ino(3)));
    assert_eq!(tables.problems(), []);
}

#[test]
fn files_grow_to_the_largest_offset_and_no_further() {
    let mut tables = Tables::formatted();
    tables.run(&create(1, 0, 2, Kind::File)).unwrap();
    tables.run(&write(2, MAX_SIZE - 4, 4, 1, 0)).unwrap();
    assert_eq!(tables.node(2).size, MAX_SIZE);
    assert!(matches!(
        tables.run(&write(2, MAX_SIZE - 4, 5, 1, 0)),
        Err(Error::FileTooLarge)
    ));
    let insert = Command::Shift {
        ino: Ino(2),
        offset: 0,
        len: 1,
        insert: true,
        time: at(1),
    };
    assert!(matches!(tables.run(&insert), Err(Error::FileTooLarge)));
    assert_eq!(tables.problems(), []);
}

#[test]
fn each_piece_of_a_chunk_is_a_reference() {
    let mut tables = Tables::formatted();
    tables.run(&create(1, 0, 2, Kind::File)).unwrap();
    tables.run(&write(2, 0, 100, 1, 0)).unwrap();
    tables.run(&write(2, 40, 10, 2, 0)).unwrap();
    assert_eq!((references(&tables, 1), references(&tables, 2)), (2, 1));
    tables.run(&write(2, 0, 100, 3, 0)).unwrap();
    assert_eq!((references(&tables, 1), references(&tables, 2)), (0, 0));
    assert_eq!(tables.totals().unwrap().usage.chunks, 1);
}

#[test]
fn a_file_cloned_in_small_steps_is_one_extent() {
    let mut tables = Tables::formatted();
    tables.run(&create(1, 0, 2, Kind::File)).unwrap();
    tables.run(&create(1, 1, 3, Kind::File)).unwrap();
    tables.run(&write(2, 0, 100, 1, 0)).unwrap();
    for step in 0..10 {
        let clone = Command::Clone(CloneRange {
            from: Ino(2),
            from_offset: step * 10,
            to: Ino(3),
            to_offset: step * 10,
            len: 10,
            time: at(1),
        });
        tables.run(&clone).unwrap();
    }
    assert_eq!(tables.extents(Ino(3)), tables.extents(Ino(2)));
    assert_eq!(references(&tables, 1), 2);
}

#[test]
fn reap_leaves_nothing_of_an_inode() {
    let mut tables = Tables::formatted();
    let empty = tables.0.len();
    let mut inode = new_inode(2, Kind::File);
    inode.xattrs = vec![(tag(1), bytes(b"a")), (tag(2), bytes(b"b"))];
    let command = Command::Create {
        parent: Ino::ROOT,
        tag: tag(0),
        name: bytes(&[0]),
        inode,
        time: at(1),
    };
    tables.run(&command).unwrap();
    tables.run(&write(2, 5, 100, 1, 0)).unwrap();
    let unlink = Command::Unlink {
        parent: Ino::ROOT,
        tag: tag(0),
        time: at(2),
    };
    tables.run(&unlink).unwrap();
    tables
        .run(&Command::Reap {
            inos: vec![Ino(2), Ino(2), Ino(1)],
        })
        .unwrap();
    assert_eq!(tables.0.len(), empty);
    assert_eq!(tables.problems(), []);
}

#[test]
fn the_check_sees_what_does_not_fit() {
    let mut tables = Tables::formatted();
    tables.run(&create(1, 0, 2, Kind::Directory)).unwrap();
    tables.run(&create(2, 0, 3, Kind::File)).unwrap();
    tables.run(&write(3, 0, 10, 1, 0)).unwrap();
    let sound = tables.0.clone();
    let chunk = ChunkId([1; 32]);

    set_links(&mut tables, 3, 2);
    let links = Fault::Links {
        recorded: 2,
        counted: 1,
    };
    assert_eq!(tables.problems()[0].fault, links);

    tables.0 = sound.clone();
    tables.0.remove(&*Key::reference(&chunk).to_vec());
    assert_eq!(tables.problems()[0].subject, Subject::Chunk(chunk));

    tables.0 = sound.clone();
    tables.0.remove(&*Key::inode(Ino(3)).to_vec());
    assert!(tables.problems().iter().any(|problem| {
        problem.subject == Subject::Inode(Ino(3)) && matches!(problem.fault, Fault::NoInode(_))
    }));

    tables.0 = sound.clone();
    tables.0.insert(Key::inode(Ino(3)).to_vec(), bytes(b"?"));
    assert!(matches!(tables.problems()[0].fault, Fault::Unreadable(_)));

    tables.0 = sound;
    let dentry = tables
        .0
        .remove(&*Key::dentry(Ino(1), tag(0)).to_vec())
        .unwrap();
    tables
        .0
        .insert(Key::dentry(Ino(2), tag(9)).to_vec(), dentry);
    assert!(tables.problems().iter().any(|problem| {
        problem.subject == Subject::Inode(Ino(2)) && problem.fault == Fault::Unreachable
    }));
}
