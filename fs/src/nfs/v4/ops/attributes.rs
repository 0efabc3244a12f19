//! Attributes: RFC 8881, 18.1, 18.7, 18.15, 18.30 and 18.31.

use kiseki_core::{
    engine::{Attr, SetAttr},
    meta::Kind,
};

use crate::nfs::{
    Target, caller,
    v4::{
        attributes::{self, Settings, Subject},
        compound::Compound,
        failure::{Failure, Outcome},
        opens::WRITE,
        pseudo,
        xdr::{Attributes, Bitmap, SetAttributes, Status},
    },
};

/// Rights of ACCESS.
mod right {
    pub const READ: u32 = 0x01;
    pub const LOOKUP: u32 = 0x02;
    pub const MODIFY: u32 = 0x04;
    pub const EXTEND: u32 = 0x08;
    pub const DELETE: u32 = 0x10;
    pub const EXECUTE: u32 = 0x20;
    /// Of extended attributes, in version 4.2.
    pub const XATTR_READ: u32 = 0x40;
    pub const XATTR_WRITE: u32 = 0x80;
    pub const XATTR_LIST: u32 = 0x100;
    pub const XATTR: u32 = XATTR_READ | XATTR_WRITE | XATTR_LIST;
    pub const ALL: u32 = 0x3f | XATTR;
}

impl Compound<'_> {
    /// Which of the rights there are, and which of those whoever asks has.
    pub(in crate::nfs::v4) async fn access(&mut self, wanted: u32) -> Outcome<AccessAnswer> {
        let (target, file) = self.current_attr().await?;
        if wanted & !right::ALL != 0 {
            return Err(Status::Inval.into());
        }
        let directory = file.kind == Kind::Directory;
        let known = match directory {
            true => right::READ | right::LOOKUP | right::MODIFY | right::EXTEND | right::DELETE,
            false => right::READ | right::MODIFY | right::EXTEND | right::EXECUTE,
        };
        let supported = wanted & (known | right::XATTR);
        if pseudo::is_above(target.handle) {
            return Ok(AccessAnswer {
                supported,
                access: (right::READ | right::LOOKUP) & supported,
            });
        }
        let who = &target.who;
        let mut given = 0;
        if who.may(self.volume, &file, caller::READ).await? {
            given |= right::READ | right::XATTR_READ | right::XATTR_LIST;
        }
        if !target.terms.read_only && who.may(self.volume, &file, caller::WRITE).await? {
            given |= right::MODIFY | right::EXTEND | right::DELETE | right::XATTR_WRITE;
        }
        if who.may(self.volume, &file, caller::EXECUTE).await? {
            given |= right::LOOKUP | right::EXECUTE;
        }
        Ok(AccessAnswer {
            supported,
            access: given & supported,
        })
    }

    pub(in crate::nfs::v4) async fn getattr(&mut self, wanted: &Bitmap) -> Outcome<Attributes> {
        let (target, file) = self.current_attr().await?;
        attributes::check_readable(wanted)?;
        self.attributes_of(&target, &file, wanted).await
    }

    pub(in crate::nfs::v4) async fn verify(&mut self, expected: &Attributes) -> Outcome {
        match self.compare(expected).await? {
            true => Ok(()),
            false => Err(Status::NotSame.into()),
        }
    }

    pub(in crate::nfs::v4) async fn differ_from(&mut self, expected: &Attributes) -> Outcome {
        match self.compare(expected).await? {
            true => Err(Status::Same.into()),
            false => Ok(()),
        }
    }

    async fn compare(&self, expected: &Attributes) -> Outcome<bool> {
        let (target, file) = self.current_attr().await?;
        attributes::check_comparable(&expected.mask)?;
        let present = self.attributes_of(&target, &file, &expected.mask).await?;
        Ok(present.values == expected.values)
    }

    /// Those of the wanted attributes of a file that there are.
    pub(in crate::nfs::v4) async fn attributes_of(
        &self,
        target: &Target,
        file: &Attr,
        wanted: &Bitmap,
    ) -> Outcome<Attributes> {
        let statfs = match attributes::needs_statfs(wanted) {
            true => Some(self.volume.statfs().await?),
            false => None,
        };
        let handle = self.handle_of(target, file.ino);
        let subject = Subject {
            attr: file,
            handle: &handle.0,
            statfs,
            server: &self.service.server,
        };
        Ok(attributes::encode(wanted, &subject)?)
    }

    pub(in crate::nfs::v4) async fn setattr(&mut self, asked: &SetAttributes) -> Outcome<Bitmap> {
        let (target, file) = self.current_attr().await?;
        target.check_writable()?;
        let settings = attributes::decode(&asked.attributes)?;
        if settings.is_empty() {
            return Ok(Bitmap::default());
        }
        let mut change = with_mode(&settings, &file);
        // Whoever has the file open may cut it, whatever its mode has become.
        let size = change.size.take();
        if size.is_some() {
            check_length(file.kind)?;
            let stateid = asked.stateid;
            self.may_touch(&target, &file, stateid, WRITE).await?;
        }
        let mut change = target.who.check_change(self.volume, &file, change).await?;
        change.size = size;
        self.apply(&target, &file, change).await?;
        self.settle(file.ino).await?;
        Ok(settings.mask)
    }

    /// Sets what a create asked for and the engine did not set: all but the mode.
    pub(in crate::nfs::v4) async fn set_on_new(
        &self,
        target: &Target,
        made: &Attr,
        settings: &Settings,
    ) -> Outcome<Bitmap> {
        let mut change = settings.change;
        change.uid = change.uid.filter(|uid| *uid != made.uid);
        change.gid = change.gid.filter(|gid| *gid != made.gid);
        let size = change.size.take().filter(|size| *size != made.size);
        let something = change.uid.is_some()
            || change.gid.is_some()
            || size.is_some()
            || change.atime.is_some()
            || change.mtime.is_some();
        if something {
            let mut change = target.who.check_change(self.volume, made, change).await?;
            change.size = size;
            self.apply(target, made, change).await?;
        }
        Ok(settings.mask.clone())
    }

    async fn apply(&self, target: &Target, file: &Attr, change: SetAttr) -> Outcome {
        let changed = self
            .volume
            .setattr(&self.acting(target), file.ino, change)
            .await;
        changed.map(drop).map_err(Failure::of_file)
    }
}

/// Whether something has a length that can be set.
fn check_length(kind: Kind) -> Outcome {
    match kind {
        Kind::File => Ok(()),
        Kind::Directory => Err(Status::IsDir.into()),
        _ => Err(Status::Inval.into()),
    }
}

fn with_mode(settings: &Settings, file: &Attr) -> SetAttr {
    SetAttr {
        mode: settings.mode_over(file.mode),
        ..settings.change
    }
}

/// Results of ACCESS.
#[derive(Debug, nfs3_types::xdr_codec::XdrCodec)]
pub(in crate::nfs::v4) struct AccessAnswer {
    supported: u32,
    access: u32,
}
