//! GETATTR, SETATTR, ACCESS, READLINK (RFC 1813, sections 3.3.1, 2, 4, 5).

use kiseki_core::{
    Error,
    engine::{Attr, SetAttr},
    meta::Kind,
};
use nfs3_types::{
    nfs3::{
        ACCESS3_DELETE, ACCESS3_EXECUTE, ACCESS3_EXTEND, ACCESS3_LOOKUP, ACCESS3_MODIFY,
        ACCESS3_READ, ACCESS3resfail, ACCESS3resok, GETATTR3resok, Nfs3Option, READLINK3resfail,
        READLINK3resok, SETATTR3resfail, SETATTR3resok, nfspath3, sattrguard3, wcc_data,
    },
    xdr_codec::{Opaque, Void},
};

use super::{
    Request, Results,
    arguments::{Access, Object, SetAttributes},
    attributes,
    status::status,
};
use crate::nfs::{
    Target,
    caller::{EXECUTE, READ, WRITE},
    fail::Fail,
};

impl Request<'_> {
    pub(super) async fn getattr(self, a: Object) -> Results<GETATTR3resok, Void> {
        match self.find(&a.object.0).await {
            Ok((_, attr)) => Results::Ok(GETATTR3resok {
                obj_attributes: attributes::attributes(self.nfs.handles.volume(), &attr),
            }),
            Err(fail) => Results::Err((status(&fail), Void)),
        }
    }

    pub(super) async fn setattr(self, a: SetAttributes) -> Results<SETATTR3resok, SETATTR3resfail> {
        let mut obj_wcc = wcc_data::default();
        match self.change(&a, &mut obj_wcc).await {
            Ok(()) => Results::Ok(SETATTR3resok { obj_wcc }),
            Err(fail) => Results::Err((status(&fail), SETATTR3resfail { obj_wcc })),
        }
    }

    async fn change(&self, a: &SetAttributes, wcc: &mut wcc_data) -> Result<(), Fail> {
        let target = self.target(&a.object.0)?;
        let ino = target.ino();
        let turn = self.nfs.order.one(ino).await;
        let before = self.before(ino).await?;
        let changed = self.change_object(&target, &before.attr, a).await;
        *wcc = self.wcc(&before).await;
        drop(turn);
        changed?;
        Ok(self.nfs.settle(ino).await?)
    }

    async fn change_object(
        &self,
        target: &Target,
        attr: &Attr,
        a: &SetAttributes,
    ) -> Result<(), Fail> {
        target.check_writable()?;
        check_guard(attr, &a.guard)?;
        let change = attributes::change(&a.attributes).ok_or(Fail::Invalid)?;
        self.apply(target, attr, change).await
    }

    /// Changes attributes, as far as the user may.
    pub(super) async fn apply(
        &self,
        target: &Target,
        attr: &Attr,
        change: SetAttr,
    ) -> Result<(), Fail> {
        let volume = &self.nfs.volume;
        let change = target.who.check_change(volume, attr, change).await?;
        let who = self.caller(target);
        let changed = volume.setattr(&who, attr.ino, change).await;
        changed.map_err(Fail::of_inode)?;
        Ok(())
    }

    pub(super) async fn access(self, a: Access) -> Results<ACCESS3resok, ACCESS3resfail> {
        let granted = async {
            let (target, attr) = self.find(&a.object.0).await?;
            let access = self.granted(&target, &attr, a.access).await?;
            Ok((attr, access))
        };
        match granted.await {
            Ok((attr, access)) => Results::Ok(ACCESS3resok {
                obj_attributes: self.known(Some(&attr)),
                access,
            }),
            Err(fail) => Results::Err((status(&fail), ACCESS3resfail::default())),
        }
    }

    async fn granted(&self, target: &Target, attr: &Attr, asked: u32) -> Result<u32, Fail> {
        let directory = attr.kind == Kind::Directory;
        // What each kind of access needs, and whether it changes something.
        let needs = [
            (ACCESS3_READ, READ, false, true),
            (ACCESS3_LOOKUP, EXECUTE, false, directory),
            (ACCESS3_MODIFY, WRITE, true, true),
            (ACCESS3_EXTEND, WRITE, true, true),
            (ACCESS3_DELETE, WRITE, true, directory),
            (ACCESS3_EXECUTE, EXECUTE, false, !directory),
        ];
        let mut granted = 0;
        for (access, bits, changes, applies) in needs {
            if asked & access == 0 || !applies || (changes && target.terms.read_only) {
                continue;
            }
            if target.who.may(&self.nfs.volume, attr, bits).await? {
                granted |= access;
            }
        }
        Ok(granted)
    }

    pub(super) async fn readlink(
        self,
        a: Object,
    ) -> Results<READLINK3resok<'static>, READLINK3resfail> {
        let read = async {
            let (_, attr) = self.find(&a.object.0).await?;
            let target = self.nfs.volume.readlink(attr.ino).await;
            target.map(|target| (attr, target)).map_err(Fail::of_inode)
        };
        match read.await {
            Ok((attr, target)) => Results::Ok(READLINK3resok {
                symlink_attributes: self.known(Some(&attr)),
                data: nfspath3(Opaque::owned(target.to_vec())),
            }),
            Err(fail) => Results::Err((status(&fail), READLINK3resfail::default())),
        }
    }
}

/// A change that is only for an inode that nobody changed since.
fn check_guard(attr: &Attr, guard: &sattrguard3) -> Result<(), Fail> {
    match guard {
        Nfs3Option::Some(ctime) if *ctime != attributes::time(attr.ctime) => Err(Fail::NotSync),
        _ => Ok(()),
    }
}

/// A directory, or an error.
pub(super) fn only_directory(attr: &Attr) -> Result<(), Fail> {
    match attr.kind {
        Kind::Directory => Ok(()),
        _ => Err(Fail::Engine(Error::NotADirectory)),
    }
}
