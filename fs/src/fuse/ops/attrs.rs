//! Operations on attributes.

use std::borrow::Borrow;

use kiseki_core::{
    engine::{Attr, Caller, SetAttr, Statfs, Volume},
    ids::Ino,
    meta::Kind,
};

use crate::fuse::fail::{Fail, Outcome};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

pub(in crate::fuse) async fn getattr(volume: impl Borrow<Volume>, ino: Ino) -> Outcome<Attr> {
    volume.borrow().getattr(ino).await.map_err(Fail::of_inode)
}

/// Changes attributes. A change of nothing asks for the set-id bits to go: the
/// kernel sends it ahead of a write, fallocate or copy that must clear them.
pub(in crate::fuse) async fn setattr(
    volume: Volume,
    who: Caller,
    ino: Ino,
    mut change: SetAttr,
) -> Outcome<Attr> {
    let owner_changes = change.uid.is_some() || change.gid.is_some();
    let clears = if owner_changes {
        // chown clears them whoever asks.
        change.mode.is_none()
    } else {
        is_empty(&change) && !who.privileged
    };
    if clears {
        let now = volume.getattr(ino).await.map_err(Fail::of_inode)?;
        change.mode = without_set_id(&now, owner_changes);
        if is_empty(&change) {
            return Ok(now);
        }
    } else if is_empty(&change) {
        return getattr(volume, ino).await;
    }
    volume
        .setattr(&who, ino, change)
        .await
        .map_err(Fail::of_inode)
}

fn is_empty(change: &SetAttr) -> bool {
    change.mode.is_none()
        && change.uid.is_none()
        && change.gid.is_none()
        && change.size.is_none()
        && change.atime.is_none()
        && change.mtime.is_none()
        && change.ctime.is_none()
}

/// The mode without its set-id bits; `None` when nothing goes. Directories
/// keep theirs. Without group execution set-group-id is a mark for mandatory
/// locks, which a change of owner leaves alone; a write takes it from those
/// who are not of the group, and of the groups of a caller we know but one.
fn without_set_id(attr: &Attr, owner_changes: bool) -> Option<u32> {
    if attr.kind == Kind::Directory {
        return None;
    }
    let mut mode = attr.mode & !SET_USER_ID;
    if mode & GROUP_EXECUTE != 0 || !owner_changes {
        mode &= !SET_GROUP_ID;
    }
    (mode != attr.mode).then_some(mode)
}

pub(in crate::fuse) async fn statfs(volume: Volume) -> Outcome<Statfs> {
    Ok(volume.statfs().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiseki_core::ids::Timestamp;

    fn with_mode(kind: Kind, mode: u32) -> Attr {
        Attr {
            ino: Ino(2),
            kind,
            mode,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            btime: Timestamp::default(),
        }
    }

    #[test]
    fn set_id_bits_go_as_linux_has_it() {
        let cases = [
            (Kind::File, 0o6755, true, Some(0o755)),
            (Kind::File, 0o6745, true, Some(0o2745)),
            (Kind::File, 0o6745, false, Some(0o745)),
            (Kind::File, 0o1755, true, None),
            (Kind::Directory, 0o6755, true, None),
        ];
        for (kind, mode, owner_changes, after) in cases {
            let attr = with_mode(kind, mode);
            assert_eq!(without_set_id(&attr, owner_changes), after, "{mode:o}");
        }
    }
}
