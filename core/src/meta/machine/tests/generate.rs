//! Commands over a handful of names, inodes and bytes, so that they meet.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{at, bytes, create, tag};
use crate::{
    ids::{ChunkId, Ino, NameTag, Timestamp},
    meta::{
        command::{AttrChange, Body, CloneRange, Command, RenameMode, XattrMode},
        inode::{Extent, Kind},
    },
};

/// The number of a new inode is put in when the command is run.
pub(crate) const FRESH: u64 = 0;

fn ino() -> impl Strategy<Value = Ino> {
    (1_u64..9).prop_map(Ino)
}

/// Mostly those that [`small_tree`] makes directories.
fn directory() -> impl Strategy<Value = Ino> {
    prop_oneof![
        5 => (1_u64..5).prop_map(Ino),
        1 => ino(),
    ]
}

/// A few directories within each other, and a file.
pub(crate) fn small_tree() -> Vec<Command> {
    vec![
        create(1, 0, 2, Kind::Directory),
        create(1, 1, 3, Kind::Directory),
        create(2, 0, 4, Kind::Directory),
        create(3, 2, 5, Kind::File),
    ]
}

fn name() -> impl Strategy<Value = NameTag> {
    (0_u8..4).prop_map(tag)
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0_i64..1000).prop_map(at)
}

fn change() -> impl Strategy<Value = AttrChange> {
    (
        option::of(0_u32..0o10000),
        option::of(0_u32..3),
        option::of(0_u64..300),
        option::of(time()),
        option::of(time()),
    )
        .prop_map(|(mode, uid, size, mtime, ctime)| AttrChange {
            mode,
            uid,
            size,
            mtime,
            ctime,
            ..AttrChange::default()
        })
}

fn extent() -> impl Strategy<Value = Extent> {
    (0_u64..200, 1_u32..60, 0_u8..4, 0_u32..4).prop_map(|(offset, len, chunk, at)| Extent {
        offset,
        len,
        chunk: ChunkId([chunk; 32]),
        chunk_offset: at * 20,
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        4 => vec(extent(), 0..4).prop_map(Body::Extents),
        1 => (vec(any::<u8>(), 0..8), 0_u32..40)
            .prop_map(|(sealed, len)| Body::Inline(bytes(&sealed), len)),
    ]
}

fn about_names() -> impl Strategy<Value = Command> {
    let kinds = select(vec![
        Kind::File,
        Kind::File,
        Kind::Directory,
        Kind::Directory,
        Kind::Symlink,
        Kind::Fifo,
    ]);
    let modes = select(vec![
        RenameMode::Replace,
        RenameMode::Replace,
        RenameMode::NoReplace,
        RenameMode::Exchange,
    ]);
    let place = || (directory(), name());
    prop_oneof![
        4 => (directory(), 0_u8..4, kinds, prop_oneof![9 => Just(FRESH), 1 => 1_u64..9])
            .prop_map(|(parent, name, kind, new)| create(parent.0, name, new, kind)),
        2 => (ino(), place(), time()).prop_map(|(ino, (parent, tag), time)| Command::Link {
            ino, parent, tag, name: bytes(&tag.0[..1]), time,
        }),
        2 => (place(), time())
            .prop_map(|((parent, tag), time)| Command::Unlink { parent, tag, time }),
        1 => (place(), time())
            .prop_map(|((parent, tag), time)| Command::Rmdir { parent, tag, time }),
        6 => (place(), place(), modes, time()).prop_map(
            |((parent, tag), (new_parent, new_tag), mode, time)| Command::Rename {
                parent, tag, new_parent, new_tag,
                new_name: bytes(&new_tag.0[..1]),
                mode,
                old_name: (mode == RenameMode::Exchange).then(|| bytes(&tag.0[..1])),
                time,
            }
        ),
        1 => vec(ino(), 0..4).prop_map(|inos| Command::Reap { inos }),
    ]
}

fn about_xattrs() -> impl Strategy<Value = Command> {
    let modes = select(vec![XattrMode::Any, XattrMode::Create, XattrMode::Replace]);
    prop_oneof![
        (
            ino(),
            name(),
            any::<u8>(),
            modes,
            option::of(0_u32..0o1000),
            time()
        )
            .prop_map(
                |(ino, tag, value, mode, file_mode, time)| Command::SetXattr {
                    ino,
                    tag,
                    value: bytes(&[value]),
                    mode,
                    file_mode,
                    time,
                }
            ),
        (ino(), name(), time()).prop_map(|(ino, tag, time)| Command::RemoveXattr {
            ino,
            tag,
            time
        }),
    ]
}

/// Commands about the contents of the files that `inos` gives.
pub(crate) fn about_contents(
    inos: impl Strategy<Value = Ino> + Clone,
) -> impl Strategy<Value = Command> {
    let range = || (0_u64..250, 0_u64..120);
    prop_oneof![
        6 => (inos.clone(), body(), change())
            .prop_map(|(ino, body, change)| Command::Write { ino, body, change }),
        2 => (inos.clone(), change()).prop_map(|(ino, change)| Command::SetAttr { ino, change }),
        2 => (inos.clone(), range(), time()).prop_map(|(ino, (offset, len), time)| Command::Punch {
            ino, offset, len, time,
        }),
        3 => (inos.clone(), range(), any::<bool>(), time()).prop_map(
            |(ino, (offset, len), insert, time)| Command::Shift { ino, offset, len, insert, time }
        ),
        3 => (inos.clone(), 0_u64..200, inos, range(), time()).prop_map(
            |(from, from_offset, to, (to_offset, len), time)| Command::Clone(CloneRange {
                from, from_offset, to, to_offset, len, time,
            })
        ),
    ]
}

/// Any command.
pub(crate) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        5 => about_names(),
        3 => about_contents((1_u64..9).prop_map(Ino)),
        1 => about_xattrs(),
    ]
}

/// The command with a number for the inode it makes.
pub(crate) fn number(mut command: Command, next: &mut u64) -> Command {
    if let Command::Create { inode, .. } = &mut command
        && inode.ino.0 == FRESH
    {
        inode.ino = Ino(*next);
        *next += 1;
    }
    command
}
