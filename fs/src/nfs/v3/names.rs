//! LOOKUP, REMOVE, RMDIR, RENAME, LINK (RFC 1813, sections 3.3.3, 12 to 15).

use kiseki_core::{
    Error,
    engine::{Attr, RenameFlags},
    ids::Ino,
    meta::Kind,
};
use nfs3_types::nfs3::{
    LINK3resfail, LINK3resok, LOOKUP3resfail, LOOKUP3resok, Nfs3Option, REMOVE3resfail,
    REMOVE3resok, RENAME3resfail, RENAME3resok, RMDIR3resfail, RMDIR3resok, post_op_attr, wcc_data,
};

use super::{
    Request, Results,
    arguments::{Link, Place, Rename},
    objects::only_directory,
    status::status,
};
use crate::nfs::{
    Target,
    caller::{EXECUTE, WRITE},
    fail::Fail,
};

/// What a name is to be removed of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Removes {
    /// Anything but a directory.
    Other,
    Directory,
}

impl Request<'_> {
    pub(super) fn target(&self, handle: &[u8]) -> Result<Target, Fail> {
        self.nfs.target(self.peer, self.credentials, handle)
    }

    pub(super) async fn lookup(self, a: Place) -> Results<LOOKUP3resok, LOOKUP3resfail> {
        let mut dir_attributes = Nfs3Option::None;
        match self.look_up(&a, &mut dir_attributes).await {
            Ok((target, attr)) => Results::Ok(LOOKUP3resok {
                object: self.handle(&target, attr.ino),
                obj_attributes: self.known(Some(&attr)),
                dir_attributes,
            }),
            Err(fail) => Results::Err((status(&fail), LOOKUP3resfail { dir_attributes })),
        }
    }

    async fn look_up(
        &self,
        a: &Place,
        dir_attributes: &mut post_op_attr,
    ) -> Result<(Target, Attr), Fail> {
        let (target, directory) = self.find(&a.directory.0).await?;
        *dir_attributes = self.known(Some(&directory));
        only_directory(&directory)?;
        let volume = &self.nfs.volume;
        target.who.check(volume, &directory, EXECUTE).await?;
        let attr = match a.name.0.as_slice() {
            b"" => return Err(Fail::Invalid),
            b"." => directory,
            b".." => {
                let above = self.above(&target, directory.ino).await?;
                self.nfs.linked(above).await?
            }
            name => volume.lookup(directory.ino, name).await?,
        };
        Ok((target, attr))
    }

    /// The directory that holds another one, as far as the export goes: above
    /// its root there is nothing.
    pub(super) async fn above(&self, target: &Target, directory: Ino) -> Result<Ino, Fail> {
        let root = target.handle.root;
        if directory == root {
            return Ok(root);
        }
        let volume = &self.nfs.volume;
        let above = volume.parent(directory).await.map_err(Fail::of_inode)?;
        // A directory that was moved out of the export leads nowhere.
        let mut at = above;
        while at != root {
            if at == Ino::ROOT {
                return Err(Fail::Access);
            }
            at = volume.parent(at).await.map_err(Fail::of_inode)?;
        }
        Ok(above)
    }

    pub(super) async fn remove(self, a: Place) -> Results<REMOVE3resok, REMOVE3resfail> {
        let mut dir_wcc = wcc_data::default();
        match self.remove_name(&a, Removes::Other, &mut dir_wcc).await {
            Ok(()) => Results::Ok(REMOVE3resok { dir_wcc }),
            Err(fail) => Results::Err((status(&fail), REMOVE3resfail { dir_wcc })),
        }
    }

    pub(super) async fn rmdir(self, a: Place) -> Results<RMDIR3resok, RMDIR3resfail> {
        let mut dir_wcc = wcc_data::default();
        match self.remove_name(&a, Removes::Directory, &mut dir_wcc).await {
            Ok(()) => Results::Ok(RMDIR3resok { dir_wcc }),
            Err(fail) => Results::Err((status(&fail), RMDIR3resfail { dir_wcc })),
        }
    }

    async fn remove_name(&self, a: &Place, what: Removes, wcc: &mut wcc_data) -> Result<(), Fail> {
        let target = self.target(&a.directory.0)?;
        let ino = target.ino();
        let turn = self.nfs.order.one(ino).await;
        let before = self.before(ino).await?;
        let removed = self.remove_in(&target, &before.attr, &a.name.0, what).await;
        *wcc = self.wcc(&before).await;
        drop(turn);
        removed?;
        Ok(self.nfs.settle(ino).await?)
    }

    async fn remove_in(
        &self,
        target: &Target,
        directory: &Attr,
        name: &[u8],
        what: Removes,
    ) -> Result<(), Fail> {
        let (volume, who) = (&self.nfs.volume, self.caller(target));
        only_directory(directory)?;
        check_name(name)?;
        target.who.check(volume, directory, EXECUTE).await?;
        let victim = volume.lookup(directory.ino, name).await?;
        target.check_writable()?;
        target.who.check_remove(volume, directory, &victim).await?;
        match what {
            Removes::Directory => volume.rmdir(&who, directory.ino, name).await?,
            Removes::Other => volume.unlink(&who, directory.ino, name).await?,
        }
        if victim.nlink == 1 {
            self.nfs.files.close(victim.ino).await?;
        }
        Ok(())
    }

    pub(super) async fn rename(self, a: Rename) -> Results<RENAME3resok, RENAME3resfail> {
        let (mut fromdir_wcc, mut todir_wcc) = (wcc_data::default(), wcc_data::default());
        match self.move_name(&a, &mut fromdir_wcc, &mut todir_wcc).await {
            Ok(()) => Results::Ok(RENAME3resok {
                fromdir_wcc,
                todir_wcc,
            }),
            Err(fail) => {
                let fail3 = RENAME3resfail {
                    fromdir_wcc,
                    todir_wcc,
                };
                Results::Err((status(&fail), fail3))
            }
        }
    }

    async fn move_name(
        &self,
        a: &Rename,
        from_wcc: &mut wcc_data,
        to_wcc: &mut wcc_data,
    ) -> Result<(), Fail> {
        let from = self.target(&a.from.directory.0)?;
        let to = self.target(&a.to.directory.0)?;
        if from.handle.root != to.handle.root {
            return Err(Fail::OtherExport);
        }
        let turn = self.nfs.order.two(from.ino(), to.ino()).await;
        let before_from = self.before(from.ino()).await?;
        let before_to = self.before(to.ino()).await?;
        let directories = (&before_from.attr, &before_to.attr);
        let moved = self
            .move_between(&from, directories, &a.from.name.0, &a.to.name.0)
            .await;
        *from_wcc = self.wcc(&before_from).await;
        *to_wcc = self.wcc(&before_to).await;
        drop(turn);
        moved?;
        Ok(self.nfs.settle(to.ino()).await?)
    }

    async fn move_between(
        &self,
        target: &Target,
        (from, to): (&Attr, &Attr),
        name: &[u8],
        new_name: &[u8],
    ) -> Result<(), Fail> {
        let (volume, user) = (&self.nfs.volume, &target.who);
        for directory in [from, to] {
            only_directory(directory)?;
            user.check(volume, directory, EXECUTE).await?;
        }
        check_name(name)?;
        check_name(new_name)?;
        let moved = volume.lookup(from.ino, name).await?;
        target.check_writable()?;
        user.check_remove(volume, from, &moved).await?;
        let replaced = match volume.lookup(to.ino, new_name).await {
            Ok(replaced) => {
                user.check_remove(volume, to, &replaced).await?;
                Some(replaced)
            }
            Err(Error::NotFound) => {
                user.check(volume, to, WRITE).await?;
                None
            }
            Err(error) => return Err(error.into()),
        };
        if moved.kind == Kind::Directory && from.ino != to.ino {
            // Its `..` changes.
            user.check(volume, &moved, WRITE).await?;
        }
        let (who, flags) = (self.caller(target), RenameFlags::Replace);
        volume
            .rename(&who, from.ino, name, to.ino, new_name, flags)
            .await?;
        match replaced {
            Some(gone) if gone.nlink == 1 && gone.ino != moved.ino => {
                Ok(self.nfs.files.close(gone.ino).await?)
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn link(self, a: Link) -> Results<LINK3resok, LINK3resfail> {
        let (mut file_attributes, mut linkdir_wcc) = (Nfs3Option::None, wcc_data::default());
        match self
            .add_name(&a, &mut file_attributes, &mut linkdir_wcc)
            .await
        {
            Ok(()) => Results::Ok(LINK3resok {
                file_attributes,
                linkdir_wcc,
            }),
            Err(fail) => {
                let fail3 = LINK3resfail {
                    file_attributes,
                    linkdir_wcc,
                };
                Results::Err((status(&fail), fail3))
            }
        }
    }

    async fn add_name(
        &self,
        a: &Link,
        file_attributes: &mut post_op_attr,
        wcc: &mut wcc_data,
    ) -> Result<(), Fail> {
        let file = self.target(&a.file.0)?;
        let target = self.target(&a.link.directory.0)?;
        if file.handle.root != target.handle.root {
            return Err(Fail::OtherExport);
        }
        let turn = self.nfs.order.two(file.ino(), target.ino()).await;
        let before = self.before(target.ino()).await?;
        let linked = self
            .link_in(&target, &before.attr, file.ino(), &a.link.name.0)
            .await;
        *wcc = self.wcc(&before).await;
        *file_attributes = self.known_now(file.ino()).await;
        drop(turn);
        linked?;
        Ok(self.nfs.settle(file.ino()).await?)
    }

    async fn link_in(
        &self,
        target: &Target,
        directory: &Attr,
        file: Ino,
        name: &[u8],
    ) -> Result<(), Fail> {
        let attr = self.nfs.linked(file).await?;
        self.check_new_name(target, directory, name).await?;
        if attr.kind == Kind::Directory {
            return Err(Fail::NotOwner);
        }
        let (volume, who) = (&self.nfs.volume, self.caller(target));
        volume.link(&who, file, directory.ino, name).await?;
        Ok(())
    }

    /// Whether a directory can be given this name by this user.
    pub(super) async fn check_new_name(
        &self,
        target: &Target,
        directory: &Attr,
        name: &[u8],
    ) -> Result<(), Fail> {
        let volume = &self.nfs.volume;
        only_directory(directory)?;
        if matches!(name, b"." | b"..") {
            return Err(Error::Exists.into());
        }
        target.who.check(volume, directory, EXECUTE).await?;
        match volume.lookup(directory.ino, name).await {
            Ok(_) => return Err(Error::Exists.into()),
            Err(Error::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        target.check_writable()?;
        target.who.check(volume, directory, WRITE).await
    }
}

/// A name that can be removed or moved.
fn check_name(name: &[u8]) -> Result<(), Fail> {
    match name {
        b"" | b"." | b".." => Err(Fail::Invalid),
        _ => Ok(()),
    }
}
