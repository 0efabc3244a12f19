//! Names: RFC 8881, 18.4, 18.9, 18.13, 18.14, 18.24 to 18.26.

use std::sync::Arc;

use kiseki_core::{
    Error,
    engine::{Attr, NAME_MAX, RenameFlags},
    meta::Kind,
};

use super::handles::check_directory;
use crate::nfs::{
    Target,
    caller::{EXECUTE, WRITE},
    device,
    v4::{
        attributes::{self, Settings, change},
        compound::Compound,
        failure::{Failure, Outcome},
        pseudo,
        xdr::{
            Blob, ChangeInfo, Create, CreateKind, Created, Device, Rename, Status, TEXT_MAX, Text,
            is_text,
        },
    },
};

impl Compound<'_> {
    pub(in crate::nfs::v4) async fn lookup(&mut self, name: &Text) -> Outcome {
        let directory = self.current()?;
        let found = self.find(&directory, name).await?;
        match pseudo::is_above(directory.handle) {
            true => {
                let target = self.step_from_above(&found).await?;
                self.arrive(target);
            }
            false => self.go_to(&directory, found.ino),
        }
        Ok(())
    }

    pub(in crate::nfs::v4) async fn lookup_parent(&mut self) -> Outcome {
        let (target, directory) = self.current_attr().await?;
        let parent = self.parent_of(&target, &directory).await?;
        if !pseudo::is_above(target.handle) {
            self.check(&target, &directory, EXECUTE).await?;
        }
        self.go_to(&target, parent);
        Ok(())
    }

    /// What a name of a directory stands for.
    ///
    /// # Errors
    /// `NoEnt`, `NotDir`, `Symlink`, `Access`, and those of [`check_form`]. A
    /// name that is no UTF-8 is found if another front end made it, and is
    /// `Inval` if there is none.
    pub(in crate::nfs::v4) async fn find(&self, directory: &Target, name: &Text) -> Outcome<Attr> {
        let attr = self.attr(directory.ino()).await?;
        check_directory(attr.kind)?;
        check_form(&name.0)?;
        let above = pseudo::is_above(directory.handle);
        if !above {
            self.check(directory, &attr, EXECUTE).await?;
        }
        match self.volume.lookup(attr.ino, &name.0).await {
            Ok(found) if above && !self.ways().await?.lead_over(found.ino) => {
                Err(Status::NoEnt.into())
            }
            Err(Error::NotFound) if !is_text(&name.0) => Err(Status::Inval.into()),
            found => Ok(found?),
        }
    }

    /// Whether whoever asks has these rights.
    ///
    /// # Errors
    /// `Access`.
    pub(in crate::nfs::v4) async fn check(
        &self,
        target: &Target,
        attr: &Attr,
        wanted: u32,
    ) -> Outcome {
        Ok(target.who.check(self.volume, attr, wanted).await?)
    }

    /// Whether whoever asks may add names to a directory.
    ///
    /// # Errors
    /// `Access`, `RoFs`, `NotDir`.
    pub(in crate::nfs::v4) async fn check_add(&self, target: &Target, attr: &Attr) -> Outcome {
        target.check_writable()?;
        self.check(target, attr, WRITE | EXECUTE).await
    }

    pub(in crate::nfs::v4) async fn readlink(&mut self) -> Outcome<Blob<TEXT_MAX>> {
        let (_, link) = self.current_attr().await?;
        match link.kind {
            Kind::Symlink => {}
            // RFC 8881, 18.24.3.
            Kind::Directory => return Err(Status::IsDir.into()),
            _ => return Err(Status::WrongType.into()),
        }
        let target = self.volume.readlink(link.ino).await;
        Ok(Blob(target.map_err(Failure::of_file)?.to_vec()))
    }

    pub(in crate::nfs::v4) async fn create(&mut self, asked: Create) -> Outcome<Created> {
        let (target, directory) = self.current_attr().await?;
        check_directory(directory.kind)?;
        check_name(&asked.name.0)?;
        let settings = attributes::decode(&asked.attributes)?;
        if settings.change.size.is_some() {
            return Err(Status::Inval.into());
        }
        let made = self
            .make_node(&target, &directory, &asked, &settings)
            .await?;
        let set = self.set_on_new(&target, &made, &settings).await?;
        self.settle(directory.ino).await?;
        let change = self.change_info(&directory).await?;
        self.go_to(&target, made.ino);
        Ok(Created {
            change,
            attributes: set,
        })
    }

    async fn make_node(
        &self,
        target: &Target,
        directory: &Attr,
        asked: &Create,
        settings: &Settings,
    ) -> Outcome<Attr> {
        let (volume, name) = (self.volume, asked.name.0.as_slice());
        let (who, parent) = (self.acting(target), directory.ino);
        let mode = |default| settings.mode_over(0).unwrap_or(default);
        let made = match &asked.kind {
            CreateKind::Directory => {
                self.check_add(target, directory).await?;
                volume.mkdir(&who, parent, name, mode(0o777)).await
            }
            CreateKind::Link(to) => {
                if to.0.is_empty() || to.0.contains(&0) {
                    return Err(Status::Inval.into());
                }
                self.check_add(target, directory).await?;
                volume.symlink(&who, parent, name, &to.0).await
            }
            node => {
                let (kind, rdev) = node_kind(node)?;
                self.check_add(target, directory).await?;
                let device = matches!(kind, Kind::BlockDevice | Kind::CharDevice);
                if device && !target.who.is_root() {
                    return Err(Status::Perm.into());
                }
                volume
                    .mknod(&who, parent, name, kind, mode(0o666), rdev)
                    .await
            }
        };
        Ok(made?)
    }

    /// The saved and the current file, which must be of one export.
    fn both(&self) -> Outcome<(Arc<Target>, Arc<Target>)> {
        let (saved, current) = (self.saved()?, self.current()?);
        match saved.handle.root == current.handle.root {
            true => Ok((saved, current)),
            false => Err(Status::XDev.into()),
        }
    }

    pub(in crate::nfs::v4) async fn link(&mut self, name: &Text) -> Outcome<ChangeInfo> {
        let (source, target) = self.both()?;
        let file = self.attr(source.ino()).await?;
        let directory = self.attr(target.ino()).await?;
        check_directory(directory.kind)?;
        if file.kind == Kind::Directory {
            return Err(Status::IsDir.into());
        }
        check_name(&name.0)?;
        self.check_add(&target, &directory).await?;
        let who = self.acting(&target);
        let linked = self.volume.link(&who, file.ino, directory.ino, &name.0);
        linked.await?;
        self.settle(directory.ino).await?;
        self.change_info(&directory).await
    }

    pub(in crate::nfs::v4) async fn remove(&mut self, name: &Text) -> Outcome<ChangeInfo> {
        let (target, directory) = self.current_attr().await?;
        let victim = self.find(&target, name).await?;
        self.check_remove(&target, &directory, &victim).await?;
        let (volume, who) = (self.volume, self.acting(&target));
        match victim.kind {
            Kind::Directory => volume.rmdir(&who, directory.ino, &name.0).await,
            _ => volume.unlink(&who, directory.ino, &name.0).await,
        }?;
        self.settle(directory.ino).await?;
        self.change_info(&directory).await
    }

    pub(in crate::nfs::v4) async fn rename(
        &mut self,
        asked: &Rename,
    ) -> Outcome<(ChangeInfo, ChangeInfo)> {
        let (from, to) = self.both()?;
        let (source, target) = (self.attr(from.ino()).await?, self.attr(to.ino()).await?);
        check_directory(source.kind)?;
        check_directory(target.kind)?;
        check_form(&asked.from.0)?;
        check_name(&asked.to.0)?;
        let moved = self.find(&from, &asked.from).await?;
        self.check_rename(&to, (&source, &target), &moved, asked)
            .await?;
        let who = self.acting(&to);
        let replace = RenameFlags::Replace;
        let (old, new) = (&asked.from.0, &asked.to.0);
        let renamed = self
            .volume
            .rename(&who, source.ino, old, target.ino, new, replace);
        renamed.await?;
        self.settle(target.ino).await?;
        Ok((
            self.change_info(&source).await?,
            self.change_info(&target).await?,
        ))
    }

    async fn check_rename(
        &self,
        to: &Target,
        (source, target): (&Attr, &Attr),
        moved: &Attr,
        asked: &Rename,
    ) -> Outcome {
        self.check_remove(to, source, moved).await?;
        self.check_add(to, target).await?;
        match self.volume.lookup(target.ino, &asked.to.0).await {
            Ok(replaced) => self.check_remove(to, target, &replaced).await?,
            Err(Error::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        if moved.kind == Kind::Directory && source.ino != target.ino {
            // It gets another parent, which is a change of the directory itself.
            self.check(to, moved, WRITE).await?;
        }
        Ok(())
    }

    async fn check_remove(&self, target: &Target, directory: &Attr, victim: &Attr) -> Outcome {
        target.check_writable()?;
        let who = &target.who;
        Ok(who.check_remove(self.volume, directory, victim).await?)
    }

    /// How a directory changed since these attributes of it were read. Others
    /// may have changed it as well.
    pub(in crate::nfs::v4) async fn change_info(&self, before: &Attr) -> Outcome<ChangeInfo> {
        let after = self.attr(before.ino).await?;
        Ok(ChangeInfo {
            atomic: false,
            before: change(before),
            after: change(&after),
        })
    }
}

fn node_kind(kind: &CreateKind) -> Outcome<(Kind, u32)> {
    let number = |device: &Device| {
        device::join(device.major, device.minor).ok_or(Failure::Status(Status::Inval))
    };
    match kind {
        CreateKind::Block(device) => Ok((Kind::BlockDevice, number(device)?)),
        CreateKind::Character(device) => Ok((Kind::CharDevice, number(device)?)),
        CreateKind::Socket => Ok((Kind::Socket, 0)),
        CreateKind::Fifo => Ok((Kind::Fifo, 0)),
        // Files are made by OPEN.
        _ => Err(Status::BadType.into()),
    }
}

/// Whether something can be looked for under this name.
///
/// # Errors
/// `Inval` for an empty one, `NameTooLong`, `BadName`.
fn check_form(name: &[u8]) -> Outcome {
    if name.is_empty() {
        return Err(Status::Inval.into());
    }
    if name.len() > NAME_MAX {
        return Err(Status::NameTooLong.into());
    }
    if name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(Status::BadName.into());
    }
    Ok(())
}

/// Whether something can get this name.
///
/// # Errors
/// As [`check_form`]; `Inval` for what is no UTF-8 (RFC 8881, 14.4).
pub(super) fn check_name(name: &[u8]) -> Outcome {
    check_form(name)?;
    match is_text(name) {
        true => Ok(()),
        false => Err(Status::Inval.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(outcome: Outcome) -> Option<Status> {
        outcome.err().map(|failure| failure.status())
    }

    #[test]
    fn names_are_text() {
        for good in ["a", "...", "ä", "name with spaces"] {
            assert_eq!(status(check_name(good.as_bytes())), None);
        }
        for bad in [
            &b"\xc0\xaf"[..],
            b"\xed\xa0\x80",
            b"\xef\xbf\xbe",
            b"\xff",
            b"",
        ] {
            assert_eq!(status(check_name(bad)), Some(Status::Inval));
        }
        for bad in [&b"."[..], b"..", b"a/b", b"a\0"] {
            assert_eq!(status(check_form(bad)), Some(Status::BadName));
        }
        assert_eq!(status(check_form(&[b'a'; 256])), Some(Status::NameTooLong));
        assert_eq!(
            status(check_form(b"\xff")),
            None,
            "another front end may have made it"
        );
    }
}
