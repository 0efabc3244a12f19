//! POSIX access control lists: how they and the permission bits follow each
//! other. The kernel checks access; the engine keeps both in step.
//!
//! The value is what Linux passes in `system.posix_acl_access` and
//! `system.posix_acl_default` (`include/uapi/linux/posix_acl_xattr.h`): a
//! version word, then entries of tag, permissions and id, little-endian. The
//! rules are those of `acl(5)`.

use std::sync::Arc;

use crate::{
    Error, Result,
    engine::{Attr, Inner, Volume},
    ids::{Ino, NameTag},
    meta::{AttrChange, Command, Inode, Kind, MetaService, XattrMode},
};

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct AclEntry {
    tag: u16,
    perm: u16,
    id: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Acl(Vec<AclEntry>);

/// What setting an ACL comes down to.
pub(super) enum Set {
    /// Keep the list; an access list changes the permission bits to these.
    Store(Option<u32>),
    /// The permission bits say all of it: these.
    Remove(u32),
}

/// What a new inode gets from its directory.
pub(super) struct Inherited {
    pub mode: u32,
    pub xattrs: Vec<(NameTag, Arc<[u8]>)>,
}

pub(super) fn is_acl(name: &[u8]) -> bool {
    name == ACCESS || name == DEFAULT
}

/// Checks an ACL that is being set.
pub(super) async fn set(inner: &Inner, ino: Ino, name: &[u8], value: &[u8]) -> Result<Set> {
    let acl = Acl::decode(value)?;
    let inode = inner.meta.inode(ino).get().await?;
    if name == DEFAULT {
        if inode.kind != Kind::Directory {
            return Err(Error::NotPermitted);
        }
        return Ok(Set::Store(None));
    }
    if inode.kind == Kind::Symlink {
        return Err(Error::Unsupported("symbolic links have no ACL"));
    }
    let mode = inode.mode & !0o777 | acl.mode();
    Ok(if acl.is_minimal() {
        Set::Remove(mode)
    } else {
        Set::Store(Some(mode))
    })
}

/// Sets the permission bits that an ACL came down to.
pub(super) async fn apply_mode(inner: &Inner, ino: Ino, mode: u32) -> Result<()> {
    let change = AttrChange {
        mode: Some(mode),
        ctime: Some(inner.now()),
        ..AttrChange::default()
    };
    inner
        .meta
        .apply(Command::SetAttr { ino, change })
        .get()
        .await?;
    Ok(())
}

/// Brings the access ACL of an inode in step with new permission bits.
pub(super) async fn mode_changed(inner: &Inner, ino: Ino, mode: u32) -> Result<()> {
    let Some(value) = inner.xattr(ino, ACCESS).await? else {
        return Ok(());
    };
    let mut acl = Acl::decode(&value)?;
    acl.set_mode(mode);
    let tag = inner.keys.xattr_tag(ino, ACCESS);
    let command = Command::SetXattr {
        ino,
        tag,
        value: inner.seal_xattr(ino, tag, ACCESS, &acl.encode())?.into(),
        mode: XattrMode::Any,
        file_mode: None,
        time: inner.now(),
    };
    inner.meta.apply(command).get().await?;
    Ok(())
}

/// Permission bits and ACLs of a new inode: with a default ACL on the
/// directory they come from it, else the umask applies.
pub(super) async fn inherit(
    inner: &Inner,
    directory: &Inode,
    ino: Ino,
    kind: Kind,
    mode: u32,
    umask: u32,
) -> Result<Inherited> {
    let mode = mode & 0o7777;
    let without = Inherited {
        mode: if kind == Kind::Symlink {
            mode
        } else {
            mode & !umask
        },
        xattrs: Vec::new(),
    };
    if kind == Kind::Symlink || directory.xattrs == 0 {
        return Ok(without);
    }
    let Some(value) = inner.xattr(directory.ino, DEFAULT).await? else {
        return Ok(without);
    };
    let mut acl = Acl::decode(&value)?;
    acl.mask_with(mode);
    let mut xattrs = Vec::new();
    let mut keep = |name: &[u8], value: &[u8]| -> Result<()> {
        let tag = inner.keys.xattr_tag(ino, name);
        xattrs.push((tag, inner.seal_xattr(ino, tag, name, value)?.into()));
        Ok(())
    };
    if !acl.is_minimal() {
        keep(ACCESS, &acl.encode())?;
    }
    if kind == Kind::Directory {
        keep(DEFAULT, &value)?;
    }
    Ok(Inherited {
        mode: mode & !0o777 | acl.mode(),
        xattrs,
    })
}

impl Volume {
    /// Whether permission bits or ACL of an inode grant `wanted` (read 4,
    /// write 2, execute or search 1) to a user in these groups. What privilege
    /// adds is the front end's to say; for front ends that no kernel checks for.
    ///
    /// # Errors
    /// `NotFound`, `Damaged`.
    pub async fn permits(
        &self,
        attr: &Attr,
        uid: u32,
        groups: &[u32],
        wanted: u32,
    ) -> Result<bool> {
        if let Some(value) = self.inner.xattr(attr.ino, ACCESS).await? {
            return Ok(Acl::decode(&value)?.permits((attr.uid, attr.gid), uid, groups, wanted));
        }
        let class = match () {
            () if uid == attr.uid => attr.mode >> 6,
            () if groups.contains(&attr.gid) => attr.mode >> 3,
            () => attr.mode,
        };
        Ok(class & wanted == wanted)
    }
}

impl Acl {
    fn decode(value: &[u8]) -> Result<Acl> {
        const WRONG: Error = Error::Invalid("this is no POSIX ACL");
        let (version, rest) = value.split_first_chunk::<4>().ok_or(WRONG)?;
        if u32::from_le_bytes(*version) != VERSION || rest.len() % 8 != 0 {
            return Err(WRONG);
        }
        let entries = rest
            .as_chunks::<8>()
            .0
            .iter()
            .map(|e| AclEntry {
                tag: u16::from_le_bytes([e[0], e[1]]),
                perm: u16::from_le_bytes([e[2], e[3]]),
                id: u32::from_le_bytes([e[4], e[5], e[6], e[7]]),
            })
            .collect();
        let acl = Acl(entries);
        if acl.is_valid() { Ok(acl) } else { Err(WRONG) }
    }

    fn encode(&self) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            value.extend_from_slice(&entry.tag.to_le_bytes());
            value.extend_from_slice(&entry.perm.to_le_bytes());
            value.extend_from_slice(&entry.id.to_le_bytes());
        }
        value
    }

    /// One entry each for owner, group and others; named entries need a mask.
    fn is_valid(&self) -> bool {
        let count = |tag| self.0.iter().filter(|entry| entry.tag == tag).count();
        let named = count(USER) + count(GROUP);
        let known = USER_OBJ | USER | GROUP_OBJ | GROUP | MASK | OTHER;
        let entries_fit = self
            .0
            .iter()
            .all(|entry| entry.tag.is_power_of_two() && entry.tag & !known == 0 && entry.perm <= 7);
        let masks = count(MASK);
        entries_fit
            && [USER_OBJ, GROUP_OBJ, OTHER]
                .iter()
                .all(|tag| count(*tag) == 1)
            && masks <= 1
            && (named == 0 || masks == 1)
    }

    /// Whether permission bits can say the same.
    fn is_minimal(&self) -> bool {
        self.0.len() == 3
    }

    fn perm(&self, tag: u16) -> Option<u32> {
        let found = self.0.iter().find(|entry| entry.tag == tag);
        found.map(|entry| u32::from(entry.perm))
    }

    /// The permission bits that go with the list: the group bits are the mask.
    fn mode(&self) -> u32 {
        let of = |tag| self.perm(tag).unwrap_or(0);
        let group = self.perm(MASK).unwrap_or(of(GROUP_OBJ));
        of(USER_OBJ) << 6 | group << 3 | of(OTHER)
    }

    fn each_class(&mut self, change: impl Fn(u16, u16) -> u16, mode: u32) {
        let class = if self.perm(MASK).is_some() {
            MASK
        } else {
            GROUP_OBJ
        };
        for entry in &mut self.0 {
            let bits = match entry.tag {
                USER_OBJ => mode >> 6,
                OTHER => mode,
                tag if tag == class => mode >> 3,
                _ => continue,
            };
            entry.perm = change(entry.perm, bits as u16 & 7);
        }
    }

    /// Whether the list grants `wanted` (read 4, write 2, execute 1) to somebody
    /// on an inode of this owner and group: `acl(5)`, access check algorithm.
    fn permits(&self, (owner, group): (u32, u32), uid: u32, groups: &[u32], wanted: u32) -> bool {
        let mask = self.perm(MASK).unwrap_or(7);
        let has = |perm: u32| perm & wanted == wanted;
        if uid == owner {
            return has(self.perm(USER_OBJ).unwrap_or(0));
        }
        let named = |entry: &&AclEntry| entry.tag == USER && entry.id == uid;
        if let Some(entry) = self.0.iter().find(named) {
            return has(u32::from(entry.perm) & mask);
        }
        let of_group = |entry: &&AclEntry| match entry.tag {
            GROUP_OBJ => groups.contains(&group),
            GROUP => groups.contains(&entry.id),
            _ => false,
        };
        let mut of_groups = self.0.iter().filter(of_group).peekable();
        if of_groups.peek().is_some() {
            return of_groups.any(|entry| has(u32::from(entry.perm) & mask));
        }
        has(self.perm(OTHER).unwrap_or(0))
    }

    /// Follows `chmod`.
    fn set_mode(&mut self, mode: u32) {
        self.each_class(|_, bits| bits, mode);
    }

    /// Takes away what the creator did not ask for.
    fn mask_with(&mut self, mode: u32) {
        self.each_class(|perm, bits| perm & bits, mode);
    }
}

/// Hands bytes to what reads a list.
#[cfg(any(test, fuzzing))]
pub(crate) fn decoder(value: &[u8]) {
    if let Ok(acl) = Acl::decode(value) {
        assert_eq!(acl.encode(), value);
        let _ = (acl.is_minimal(), acl.mode());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        let entries = entries.iter();
        Acl(entries
            .map(|&(tag, perm, id)| AclEntry { tag, perm, id })
            .collect())
    }

    fn named() -> Acl {
        acl(&[
            (USER_OBJ, 7, u32::MAX),
            (USER, 7, 1000),
            (GROUP_OBJ, 5, u32::MAX),
            (MASK, 7, u32::MAX),
            (OTHER, 0, u32::MAX),
        ])
    }

    #[test]
    fn survives_encoding() {
        assert_eq!(Acl::decode(&named().encode()).unwrap(), named());
    }

    #[test]
    fn group_bits_are_the_mask() {
        assert_eq!(named().mode(), 0o770);
        let mut list = named();
        list.set_mode(0o640);
        assert_eq!(list.mode(), 0o640);
        assert_eq!(
            list.perm(GROUP_OBJ),
            Some(5),
            "chmod leaves the group entry"
        );
        assert_eq!(list.perm(USER), Some(7), "chmod leaves named entries");
    }

    #[test]
    fn creation_mode_masks_inherited_entries() {
        let mut list = named();
        list.mask_with(0o600);
        assert_eq!(list.mode(), 0o600);
    }

    #[test]
    fn one_entry_decides_and_the_mask_limits_it() {
        let of = (1, 10);
        let list = acl(&[
            (USER_OBJ, 6, u32::MAX),
            (USER, 7, 1000),
            (GROUP_OBJ, 4, u32::MAX),
            (GROUP, 2, 20),
            (MASK, 6, u32::MAX),
            (OTHER, 1, u32::MAX),
        ]);
        assert!(list.permits(of, 1, &[20], 6), "the owner");
        assert!(!list.permits(of, 1, &[20], 1), "only the owner's entry");
        assert!(list.permits(of, 1000, &[], 6), "a named user");
        assert!(!list.permits(of, 1000, &[], 1), "the mask limits");
        assert!(list.permits(of, 5, &[10], 4) && list.permits(of, 5, &[20], 2));
        assert!(
            !list.permits(of, 5, &[10, 20], 6),
            "one entry has to grant all of it"
        );
        assert!(!list.permits(of, 5, &[20], 1), "others do not count then");
        assert!(list.permits(of, 5, &[30], 1), "others");
    }

    #[test]
    fn refuses_lists_without_a_mask_or_with_junk() {
        let no_mask = acl(&[
            (USER_OBJ, 7, 0),
            (USER, 7, 1),
            (GROUP_OBJ, 5, 0),
            (OTHER, 0, 0),
        ]);
        assert!(Acl::decode(&no_mask.encode()).is_err());
        assert!(Acl::decode(b"").is_err());
        assert!(Acl::decode(&[2, 0, 0, 0, 1]).is_err());
        assert!(Acl::decode(&acl(&[(64, 7, 0)]).encode()).is_err());
    }
}
