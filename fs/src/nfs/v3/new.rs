//! CREATE, MKDIR, SYMLINK, MKNOD (RFC 1813, sections 3.3.8 to 11).

use kiseki_core::{
    Error,
    engine::{Attr, SetAttr},
    meta::Kind,
};
use nfs3_types::nfs3::{
    CREATE3resfail, CREATE3resok, MKDIR3resfail, MKDIR3resok, MKNOD3resfail, MKNOD3resok,
    Nfs3Option, SYMLINK3resfail, SYMLINK3resok, createhow3, createverf3, mknoddata3, nfs_fh3,
    sattr3, wcc_data,
};

use super::{
    Request, Results,
    arguments::{Create, MakeDirectory, MakeLink, MakeNode, Place},
    attributes,
    status::status,
};
use crate::nfs::{Target, caller::EXECUTE, device, fail::Fail};

/// First byte of the note that keeps the verifier of an exclusive create with
/// the file: whoever asks again with the same one finds his own.
const NOTE: u8 = 2;

/// Permission bits of what a client makes without saying which.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// What is to be made.
enum What<'a> {
    /// A file, or the one that is there; new contents for it.
    Unchecked,
    /// A file where there is nothing.
    File,
    /// The same, once for each verifier.
    Exclusive(createverf3),
    Directory,
    Link(&'a [u8]),
    Node(Kind, u32),
}

type Made = Result<(nfs_fh3, Attr), Fail>;

impl Request<'_> {
    pub(super) async fn create(self, a: Create) -> Results<CREATE3resok, CREATE3resfail> {
        let (what, wanted) = match a.how {
            createhow3::UNCHECKED(wanted) => (What::Unchecked, wanted),
            createhow3::GUARDED(wanted) => (What::File, wanted),
            createhow3::EXCLUSIVE(verifier) => (What::Exclusive(verifier), sattr3::default()),
        };
        let mut dir_wcc = wcc_data::default();
        match self.make(&a.place, &what, &wanted, &mut dir_wcc).await {
            Ok((handle, attr)) => Results::Ok(CREATE3resok {
                obj: Nfs3Option::Some(handle),
                obj_attributes: self.known(Some(&attr)),
                dir_wcc,
            }),
            Err(fail) => Results::Err((status(&fail), CREATE3resfail { dir_wcc })),
        }
    }

    pub(super) async fn mkdir(self, a: MakeDirectory) -> Results<MKDIR3resok, MKDIR3resfail> {
        let mut dir_wcc = wcc_data::default();
        let what = What::Directory;
        match self
            .make(&a.place, &what, &a.attributes, &mut dir_wcc)
            .await
        {
            Ok((handle, attr)) => Results::Ok(MKDIR3resok {
                obj: Nfs3Option::Some(handle),
                obj_attributes: self.known(Some(&attr)),
                dir_wcc,
            }),
            Err(fail) => Results::Err((status(&fail), MKDIR3resfail { dir_wcc })),
        }
    }

    pub(super) async fn symlink(self, a: MakeLink) -> Results<SYMLINK3resok, SYMLINK3resfail> {
        let mut dir_wcc = wcc_data::default();
        let what = What::Link(&a.target.0);
        // All may do everything with a link but remove it; its mode says so.
        let wanted = sattr3 {
            mode: Nfs3Option::None,
            size: Nfs3Option::None,
            ..a.attributes
        };
        match self.make(&a.place, &what, &wanted, &mut dir_wcc).await {
            Ok((handle, attr)) => Results::Ok(SYMLINK3resok {
                obj: Nfs3Option::Some(handle),
                obj_attributes: self.known(Some(&attr)),
                dir_wcc,
            }),
            Err(fail) => Results::Err((status(&fail), SYMLINK3resfail { dir_wcc })),
        }
    }

    pub(super) async fn mknod(self, a: MakeNode) -> Results<MKNOD3resok, MKNOD3resfail> {
        let mut dir_wcc = wcc_data::default();
        let made = match node(a.what) {
            Ok((what, wanted)) => self.make(&a.place, &what, &wanted, &mut dir_wcc).await,
            Err(fail) => Err(fail),
        };
        match made {
            Ok((handle, attr)) => Results::Ok(MKNOD3resok {
                obj: Nfs3Option::Some(handle),
                obj_attributes: self.known(Some(&attr)),
                dir_wcc,
            }),
            Err(fail) => Results::Err((status(&fail), MKNOD3resfail { dir_wcc })),
        }
    }

    async fn make(
        &self,
        place: &Place,
        what: &What<'_>,
        wanted: &sattr3,
        wcc: &mut wcc_data,
    ) -> Made {
        let target = self.target(&place.directory.0)?;
        let turn = self.nfs.order.one(target.ino()).await;
        let before = self.before(target.ino()).await?;
        let name = place.name.0.as_slice();
        let made = self
            .make_in(&target, &before.attr, name, what, wanted)
            .await;
        *wcc = self.wcc(&before).await;
        drop(turn);
        let made = made?;
        self.nfs.settle(made.ino).await?;
        let attr = self.nfs.attributes(made.ino).await?;
        Ok((self.handle(&target, made.ino), attr))
    }

    async fn make_in(
        &self,
        target: &Target,
        directory: &Attr,
        name: &[u8],
        what: &What<'_>,
        wanted: &sattr3,
    ) -> Result<Attr, Fail> {
        let change = attributes::change(wanted).ok_or(Fail::Invalid)?;
        if let Some(there) = self.there(target, directory, name, what, change).await? {
            return Ok(there);
        }
        self.check_new_name(target, directory, name).await?;
        check_owner(target, &change)?;
        let made = self
            .make_new(target, directory, name, what, &change)
            .await?;
        let more = SetAttr {
            // With a new owner it has to be said again.
            mode: change.mode.filter(|_| change.uid.or(change.gid).is_some()),
            ..change
        };
        let rest = [more.mode, more.uid, more.gid].iter().flatten().count() > 0
            || more.size.is_some_and(|size| size > 0)
            || more.atime.or(more.mtime).is_some();
        if rest {
            self.apply(target, &made, more).await?;
        }
        Ok(made)
    }

    /// What is there already, where that will do.
    async fn there(
        &self,
        target: &Target,
        directory: &Attr,
        name: &[u8],
        what: &What<'_>,
        change: SetAttr,
    ) -> Result<Option<Attr>, Fail> {
        if !matches!(what, What::Unchecked | What::Exclusive(_)) {
            return Ok(None);
        }
        let volume = &self.nfs.volume;
        super::objects::only_directory(directory)?;
        target.who.check(volume, directory, EXECUTE).await?;
        let there = match volume.lookup(directory.ino, name).await {
            Ok(there) if there.kind == Kind::File => there,
            Ok(_) => return Err(Error::Exists.into()),
            Err(Error::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match what {
            What::Exclusive(verifier) => {
                let note = volume.note(there.ino).await?;
                match note.is_some_and(|note| *note == noted(verifier)) {
                    true => Ok(Some(there)),
                    false => Err(Error::Exists.into()),
                }
            }
            _ => {
                if let Some(size) = change.size {
                    target.check_writable()?;
                    let only_size = SetAttr {
                        size: Some(size),
                        ..SetAttr::default()
                    };
                    self.apply(target, &there, only_size).await?;
                }
                Ok(Some(there))
            }
        }
    }

    async fn make_new(
        &self,
        target: &Target,
        directory: &Attr,
        name: &[u8],
        what: &What<'_>,
        change: &SetAttr,
    ) -> Result<Attr, Fail> {
        let (volume, who, parent) = (&self.nfs.volume, self.caller(target), directory.ino);
        let mode = change.mode.unwrap_or(FILE_MODE);
        let made = match what {
            What::Unchecked | What::File => {
                volume.mknod(&who, parent, name, Kind::File, mode, 0).await
            }
            What::Exclusive(verifier) => {
                let note = noted(verifier);
                volume.make_noted(&who, parent, name, mode, &note).await
            }
            What::Directory => {
                let mode = change.mode.unwrap_or(DIRECTORY_MODE);
                volume.mkdir(&who, parent, name, mode).await
            }
            What::Link(path) => volume.symlink(&who, parent, name, path).await,
            What::Node(kind, rdev) => volume.mknod(&who, parent, name, *kind, mode, *rdev).await,
        };
        Ok(made?)
    }
}

fn noted(verifier: &createverf3) -> Vec<u8> {
    [&[NOTE], verifier.0.as_slice()].concat()
}

fn node(what: mknoddata3) -> Result<(What<'static>, sattr3), Fail> {
    let node = |kind, data: nfs3_types::nfs3::devicedata3| {
        let numbers = &data.spec;
        let rdev = device::join(numbers.specdata1, numbers.specdata2).ok_or(Fail::Invalid)?;
        Ok((What::Node(kind, rdev), data.dev_attributes))
    };
    match what {
        mknoddata3::NF3CHR(data) => node(Kind::CharDevice, data),
        mknoddata3::NF3BLK(data) => node(Kind::BlockDevice, data),
        mknoddata3::NF3SOCK(wanted) => Ok((What::Node(Kind::Socket, 0), wanted)),
        mknoddata3::NF3FIFO(wanted) => Ok((What::Node(Kind::Fifo, 0), wanted)),
        mknoddata3::default => Err(Fail::WrongKind),
    }
}

/// Whether the user may make something that belongs to these.
fn check_owner(target: &Target, change: &SetAttr) -> Result<(), Fail> {
    let who = &target.who;
    let own_user = change.uid.is_none_or(|uid| uid == who.uid);
    let own_group = change.gid.is_none_or(|gid| who.groups.contains(&gid));
    match who.is_root() || (own_user && own_group) {
        true => Ok(()),
        false => Err(Fail::NotOwner),
    }
}
