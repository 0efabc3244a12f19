//! Handles: RFC 8881, 18.8, 18.19 to 18.21, 18.27 to 18.29 and 18.45.

use kiseki_core::{engine::Attr, ids::Ino, meta::Kind};

use crate::nfs::{
    Target,
    fail::Fail,
    handle,
    v4::{
        compound::Compound,
        failure::{Failure, Outcome},
        pseudo,
        xdr::{Array, Flavor, Handle, Status, Text},
    },
};

/// The style of SECINFO_NO_NAME that asks about the current file.
const CURRENT: u32 = 0;
/// And about the directory that holds it.
const PARENT: u32 = 1;

impl Compound<'_> {
    pub(in crate::nfs::v4) async fn put_root(&mut self) -> Outcome {
        let root = self.root().await?;
        self.arrive(root);
        Ok(())
    }

    pub(in crate::nfs::v4) async fn put_handle(&mut self, handle: &Handle) -> Outcome {
        let named = self.nfs.handles.open(&handle.0).map_err(Fail::from)?;
        let target = match pseudo::is_above(named) {
            true => self.still_above(named.ino).await?,
            false => self.nfs.target(self.peer, self.credentials, &handle.0)?,
        };
        self.attr(target.ino()).await?;
        self.arrive(target);
        Ok(())
    }

    pub(in crate::nfs::v4) fn get_handle(&self) -> Outcome<Handle> {
        let target = self.current()?;
        Ok(self.handle_of(&target, target.ino()))
    }

    pub(in crate::nfs::v4) fn save(&mut self) -> Outcome {
        self.current()?;
        self.saved = self.current.clone();
        Ok(())
    }

    pub(in crate::nfs::v4) fn restore(&mut self) -> Outcome {
        self.saved()?;
        self.current = self.saved.clone();
        Ok(())
    }

    pub(in crate::nfs::v4) async fn secinfo(&mut self, name: &Text) -> Outcome<Array<Flavor, 4>> {
        let directory = self.current()?;
        self.find(&directory, name).await?;
        self.current = None;
        Ok(flavors())
    }

    pub(in crate::nfs::v4) async fn secinfo_no_name(
        &mut self,
        style: u32,
    ) -> Outcome<Array<Flavor, 4>> {
        let (target, file) = self.current_attr().await?;
        match style {
            CURRENT => {}
            PARENT => drop(self.parent_of(&target, &file).await?),
            _ => return Err(Status::Inval.into()),
        }
        self.current = None;
        Ok(flavors())
    }

    /// The handle of a file in the same export.
    pub(in crate::nfs::v4) fn handle_of(&self, target: &Target, ino: Ino) -> Handle {
        let root = target.handle.root;
        let sealed = self.nfs.handles.seal(handle::Handle { root, ino });
        Handle::from(&*sealed)
    }

    /// The directory that holds a directory.
    ///
    /// # Errors
    /// `NotDir`, `Symlink`; `NoEnt` for the root.
    pub(in crate::nfs::v4) async fn parent_of(
        &self,
        target: &Target,
        directory: &Attr,
    ) -> Outcome<Ino> {
        check_directory(directory.kind)?;
        if directory.ino == target.handle.root || directory.ino == Ino::ROOT {
            return Err(Status::NoEnt.into());
        }
        let parent = self.volume.parent(directory.ino).await;
        parent.map_err(Failure::of_file)
    }
}

/// Whether something is a directory.
///
/// # Errors
/// `NotDir`, `Symlink`.
pub(in crate::nfs::v4) fn check_directory(kind: Kind) -> Outcome {
    match kind {
        Kind::Directory => Ok(()),
        Kind::Symlink => Err(Status::Symlink.into()),
        _ => Err(Status::NotDir.into()),
    }
}

fn flavors() -> Array<Flavor, 4> {
    Array(vec![Flavor::Unix])
}
