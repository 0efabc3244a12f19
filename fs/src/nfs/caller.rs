//! Who asks, and what he may do.
//!
//! No kernel stands between these clients and the engine, so what a kernel
//! would check is checked here, once, for all versions of the protocol.

use kiseki_core::{
    engine::{Attr, Caller, FrontId, SetAttr, SetTime, Volume},
    meta::Kind,
};

use super::{
    export::{Squash, rule::SquashKind},
    fail::Fail,
    rpc::Credentials,
};

/// Read, as in permission bits.
pub const READ: u32 = 4;
/// Write.
pub const WRITE: u32 = 2;
/// Execute, or search a directory.
pub const EXECUTE: u32 = 1;

const SGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;

/// A user, after squashing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group that new files get.
    pub gid: u32,
    /// All groups, that one included.
    pub groups: Vec<u32>,
}

impl Identity {
    /// Whom the user of these credentials is taken for.
    #[must_use]
    pub fn of(credentials: &Credentials, squash: Squash) -> Identity {
        let nobody = || Identity {
            uid: squash.uid,
            gid: squash.gid,
            groups: vec![squash.gid],
        };
        let Credentials::Sys {
            uid, gid, groups, ..
        } = credentials
        else {
            return nobody();
        };
        match squash.kind {
            SquashKind::All => nobody(),
            SquashKind::Root if *uid == 0 => nobody(),
            kind => {
                let squashed = |group: u32| match kind {
                    SquashKind::Root if group == 0 => squash.gid,
                    _ => group,
                };
                let gid = squashed(*gid);
                let mut all = vec![gid];
                all.extend(groups.iter().map(|group| squashed(*group)));
                Identity {
                    uid: *uid,
                    gid,
                    groups: all,
                }
            }
        }
    }

    /// Whether permission bits do not bind this user.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// The same for the engine.
    #[must_use]
    pub fn caller(&self, front: FrontId) -> Caller {
        Caller {
            uid: self.uid,
            gid: self.gid,
            privileged: self.is_root(),
            front,
            ..Caller::default()
        }
    }

    fn owns(&self, attr: &Attr) -> bool {
        self.is_root() || self.uid == attr.uid
    }

    /// Whether he may do all of `wanted`: [`READ`], [`WRITE`], [`EXECUTE`].
    ///
    /// # Errors
    /// The engine's.
    pub async fn may(&self, volume: &Volume, attr: &Attr, wanted: u32) -> Result<bool, Fail> {
        if self.is_root() {
            // Even root executes only what somebody may.
            let runs = attr.kind == Kind::Directory || attr.mode & 0o111 != 0;
            return Ok(wanted & EXECUTE == 0 || runs);
        }
        let permits = volume.permits(attr, self.uid, &self.groups, wanted).await;
        permits.map_err(Fail::of_inode)
    }

    /// [`Identity::may`], as an error.
    ///
    /// # Errors
    /// `Access`.
    pub async fn check(&self, volume: &Volume, attr: &Attr, wanted: u32) -> Result<(), Fail> {
        match self.may(volume, attr, wanted).await? {
            true => Ok(()),
            false => Err(Fail::Access),
        }
    }

    /// Whether he may read a file. Opening it was a matter of the client, who
    /// may have had the right then: the owner always may, and who may execute
    /// has to be able to read (RFC 1813, section 4.4).
    ///
    /// # Errors
    /// `Access`.
    pub async fn check_read(&self, volume: &Volume, attr: &Attr) -> Result<(), Fail> {
        if self.owns(attr) || self.may(volume, attr, READ).await? {
            return Ok(());
        }
        self.check(volume, attr, EXECUTE).await
    }

    /// Whether he may write to a file, the owner always, as for reading.
    ///
    /// # Errors
    /// `Access`.
    pub async fn check_write(&self, volume: &Volume, attr: &Attr) -> Result<(), Fail> {
        match self.owns(attr) {
            true => Ok(()),
            false => self.check(volume, attr, WRITE).await,
        }
    }

    /// Whether he may remove a name of a directory, or move it away.
    ///
    /// # Errors
    /// `Access`; `NotOwner` where the directory's sticky bit keeps others off.
    pub async fn check_remove(
        &self,
        volume: &Volume,
        directory: &Attr,
        what: &Attr,
    ) -> Result<(), Fail> {
        self.check(volume, directory, WRITE | EXECUTE).await?;
        let sticky = directory.mode & STICKY != 0;
        if sticky && !self.owns(directory) && !self.owns(what) {
            return Err(Fail::NotOwner);
        }
        Ok(())
    }

    /// Whether he may change these attributes; what the change comes down to,
    /// as `chmod(2)`, `chown(2)`, `utimensat(2)` and `truncate(2)` have it.
    ///
    /// # Errors
    /// `NotOwner`, `Access`.
    pub async fn check_change(
        &self,
        volume: &Volume,
        attr: &Attr,
        mut change: SetAttr,
    ) -> Result<SetAttr, Fail> {
        let owns = self.owns(attr);
        let in_group = |group| self.is_root() || self.groups.contains(&group);
        if let Some(mode) = change.mode {
            if !owns {
                return Err(Fail::NotOwner);
            }
            if !in_group(change.gid.unwrap_or(attr.gid)) {
                change.mode = Some(mode & !SGID);
            }
        }
        if change
            .uid
            .is_some_and(|uid| !self.is_root() && (!owns || uid != attr.uid))
        {
            return Err(Fail::NotOwner);
        }
        if change
            .gid
            .is_some_and(|gid| !owns || !(in_group(gid) || gid == attr.gid))
        {
            return Err(Fail::NotOwner);
        }
        if change.size.is_some() {
            self.check_write(volume, attr).await?;
        }
        let times = [change.atime, change.mtime];
        if !owns && times.iter().flatten().count() > 0 {
            if times
                .iter()
                .flatten()
                .any(|time| matches!(time, SetTime::At(_)))
            {
                return Err(Fail::NotOwner);
            }
            self.check(volume, attr, WRITE).await?;
        }
        Ok(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sys(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
        Credentials::Sys {
            machine: Vec::new(),
            uid,
            gid,
            groups: groups.to_vec(),
        }
    }

    fn squash(kind: SquashKind) -> Squash {
        Squash {
            kind,
            uid: 65_534,
            gid: 65_533,
        }
    }

    fn of(credentials: &Credentials, kind: SquashKind) -> (u32, u32, Vec<u32>) {
        let who = Identity::of(credentials, squash(kind));
        (who.uid, who.gid, who.groups)
    }

    #[test]
    fn root_is_nobody_unless_the_export_says_otherwise() {
        let nobody = (65_534, 65_533, vec![65_533]);
        assert_eq!(of(&sys(0, 0, &[0, 4]), SquashKind::Root), nobody);
        assert_eq!(of(&sys(0, 5, &[]), SquashKind::None), (0, 5, vec![5]));
        assert_eq!(of(&sys(7, 7, &[8]), SquashKind::All), nobody);
        assert_eq!(of(&Credentials::None, SquashKind::None), nobody);
    }

    #[test]
    fn roots_group_is_squashed_with_it() {
        let squashed = (7, 65_533, vec![65_533, 8, 65_533]);
        assert_eq!(of(&sys(7, 0, &[8, 0]), SquashKind::Root), squashed);
        assert_eq!(of(&sys(7, 0, &[8]), SquashKind::None), (7, 0, vec![0, 8]));
    }
}
