//! Operations of version 4.2: RFC 7862, 15.1, 15.2, 15.4, 15.11 and 15.13, and
//! extended attributes, RFC 8276.

use std::sync::Arc;

use kiseki_core::{
    Error,
    engine::{Allocate, Attr, Seek as Direction, XattrSet},
    meta::Kind,
};

use crate::nfs::{
    Target, caller,
    v4::{
        compound::Compound,
        failure::{Failure, Outcome},
        opens::{READ, WRITE},
        xdr::{
            Array, Blob, ChangeInfo, CloneRange, Content, Copied, CopyRange, ListXattrs,
            ListedXattrs, Seek, SetXattr, Sought, Space, Stability, StateId, Status, TEXT_MAX,
            Text, XattrHow,
        },
    },
};

/// Names on the wire are without it.
const USER: &[u8] = b"user.";

/// Bytes of a name in a list beside its letters, at most.
const AROUND_NAME: usize = 8;

/// Bytes of a list beside its names.
const AROUND_LIST: usize = 16;

impl Compound<'_> {
    pub(in crate::nfs::v4) async fn allocate(&mut self, asked: &Space) -> Outcome {
        self.change_space(asked, Allocate::Extend).await
    }

    pub(in crate::nfs::v4) async fn deallocate(&mut self, asked: &Space) -> Outcome {
        self.change_space(asked, Allocate::Punch).await
    }

    async fn change_space(&self, asked: &Space, how: Allocate) -> Outcome {
        let (target, file) = self.to_write(asked.stateid).await?;
        let who = self.acting(&target);
        let (offset, length) = (asked.offset, asked.length);
        let done = self.volume.allocate(&who, file.ino, how, offset, length);
        done.await.map_err(Failure::of_file)?;
        self.settle(file.ino).await
    }

    async fn to_write(&self, stateid: StateId) -> Outcome<(Arc<Target>, Attr)> {
        let (target, file) = self.regular().await?;
        target.check_writable()?;
        self.may_touch(&target, &file, stateid, WRITE).await?;
        Ok((target, file))
    }

    pub(in crate::nfs::v4) async fn seek(&mut self, asked: &Seek) -> Outcome<Sought> {
        let (target, file) = self.regular().await?;
        self.may_touch(&target, &file, asked.stateid, READ).await?;
        if asked.offset >= file.size {
            return Err(Status::NxIo.into());
        }
        let direction = match asked.what {
            Content::Data => Direction::Data,
            Content::Hole => Direction::Hole,
        };
        match self.volume.seek(file.ino, asked.offset, direction).await {
            Ok(offset) => Ok(Sought {
                eof: offset >= file.size,
                offset,
            }),
            // There is nothing but a hole.
            Err(Error::NoSuchRegion) => Ok(Sought {
                eof: true,
                offset: file.size,
            }),
            Err(error) => Err(Failure::of_file(error)),
        }
    }

    /// Copies by sharing what is stored; how much.
    async fn copy_range(&self, asked: &CloneRange) -> Outcome<u64> {
        let source = self.saved()?;
        let from = self.attr(source.ino()).await?;
        if from.kind != Kind::File {
            return Err(Status::WrongType.into());
        }
        if source.handle.root != self.current()?.handle.root {
            return Err(Status::XDev.into());
        }
        self.may_touch(&source, &from, asked.source, READ).await?;
        let (target, to) = self.to_write(asked.target).await?;
        let left = from.size.saturating_sub(asked.source_offset);
        if asked.source_offset > from.size {
            return Err(Status::Inval.into());
        }
        let wanted = match asked.count {
            0 => left,
            count => count.min(left),
        };
        let who = self.acting(&target);
        let mut done = 0;
        while done < wanted {
            let (at, into) = (asked.source_offset + done, asked.target_offset + done);
            let copied = self
                .volume
                .copy_range(&who, from.ino, at, to.ino, into, wanted - done);
            match copied.await.map_err(Failure::of_file)? {
                0 => break,
                copied => done += copied,
            }
        }
        self.settle(to.ino).await?;
        Ok(done)
    }

    pub(in crate::nfs::v4) async fn copy(&mut self, asked: &CopyRange) -> Outcome<Copied> {
        if !asked.servers.0.is_empty() {
            return Err(Status::PartnerNotSupp.into());
        }
        Ok(Copied {
            callback: Array(vec![]),
            count: self.copy_range(&asked.what).await?,
            stability: Stability::File,
            verifier: self.nfs.boot,
            consecutive: true,
            synchronous: true,
        })
    }

    pub(in crate::nfs::v4) async fn clone_range(&mut self, asked: &CloneRange) -> Outcome {
        let source = self.attr(self.saved()?.ino()).await?;
        let end = asked.source_offset.checked_add(asked.count);
        if end.is_none_or(|end| end > source.size) {
            return Err(Status::Inval.into());
        }
        self.copy_range(asked).await.map(drop)
    }

    async fn xattr_owner(&self, right: u32) -> Outcome<Attr> {
        let (target, file) = self.current_attr().await?;
        if right == caller::WRITE {
            target.check_writable()?;
        }
        match file.kind {
            Kind::File | Kind::Directory => {}
            _ => return Err(Status::Perm.into()),
        }
        self.check(&target, &file, right).await?;
        Ok(file)
    }

    pub(in crate::nfs::v4) async fn getxattr(&mut self, name: &Text) -> Outcome<Blob<TEXT_MAX>> {
        let file = self.xattr_owner(caller::READ).await?;
        let value = self.volume.getxattr(file.ino, &full_name(name)?).await?;
        Ok(Blob(value.to_vec()))
    }

    pub(in crate::nfs::v4) async fn setxattr(&mut self, asked: &SetXattr) -> Outcome<ChangeInfo> {
        let file = self.xattr_owner(caller::WRITE).await?;
        let how = match asked.how {
            XattrHow::Either => XattrSet::Any,
            XattrHow::Create => XattrSet::Create,
            XattrHow::Replace => XattrSet::Replace,
        };
        let (who, name) = (self.acting(&*self.current()?), full_name(&asked.name)?);
        let set = self
            .volume
            .setxattr(&who, file.ino, &name, &asked.value.0, how);
        set.await?;
        self.settle(file.ino).await?;
        self.change_info(&file).await
    }

    pub(in crate::nfs::v4) async fn removexattr(&mut self, name: &Text) -> Outcome<ChangeInfo> {
        let file = self.xattr_owner(caller::WRITE).await?;
        let (who, name) = (self.acting(&*self.current()?), full_name(name)?);
        self.volume.removexattr(&who, file.ino, &name).await?;
        self.settle(file.ino).await?;
        self.change_info(&file).await
    }

    pub(in crate::nfs::v4) async fn listxattrs(
        &mut self,
        asked: &ListXattrs,
    ) -> Outcome<ListedXattrs> {
        let file = self.xattr_owner(caller::READ).await?;
        let mut names = self.volume.listxattr(file.ino).await?;
        names.sort_unstable();
        let own = names.iter().filter_map(|name| name.strip_prefix(USER));
        let skipped = usize::try_from(asked.cookie).unwrap_or(usize::MAX);
        let mut left = own.skip(skipped).peekable();
        let mut room = (asked.max as usize).saturating_sub(AROUND_LIST);
        let (mut told, mut cookie) = (Vec::new(), asked.cookie);
        while let Some(name) = left.peek() {
            let Some(rest) = room.checked_sub(name.len() + AROUND_NAME) else {
                break;
            };
            room = rest;
            cookie += 1;
            told.push(Blob(name.to_vec()));
            left.next();
        }
        if told.is_empty() && left.peek().is_some() {
            return Err(Status::TooSmall.into());
        }
        Ok(ListedXattrs {
            cookie,
            names: Array(told),
            eof: left.peek().is_none(),
        })
    }
}

fn full_name(name: &Text) -> Outcome<Vec<u8>> {
    match name.0.is_empty() || name.0.contains(&0) {
        true => Err(Status::Inval.into()),
        false => Ok([USER, &name.0].concat()),
    }
}
