//! Reading and writing: RFC 8881, 18.3, 18.22 and 18.32.

use std::sync::Arc;

use kiseki_core::{
    engine::{Attr, SIZE_MAX},
    meta::Kind,
};

use crate::nfs::{
    TRANSFER_MAX, Target,
    v4::{
        compound::{Compound, Reply},
        counted::Op,
        failure::{Failure, Outcome},
        opens::{READ, WRITE},
        xdr::{Commit, Payload, Read, Stability, StateId, Status, Write, Written, put},
    },
};

impl Compound<'_> {
    pub(in crate::nfs::v4) async fn read(&mut self, asked: &Read, reply: &mut Reply) -> Outcome {
        let (target, file) = self.regular().await?;
        self.may_touch(&target, &file, asked.stateid, READ).await?;
        let room = u32::try_from(reply.room()).unwrap_or(u32::MAX);
        let count = asked.count.min(TRANSFER_MAX).min(room);
        let data = match asked.offset > SIZE_MAX {
            true => bytes::Bytes::new(),
            false => {
                let read = self.volume.read(file.ino, asked.offset, count);
                read.await.map_err(Failure::of_file)?
            }
        };
        self.service.stats.moved(Op::READ, data.len() as u64);
        let end = asked.offset.saturating_add(data.len() as u64);
        // A short read ends at the end; one that is not may end there, too.
        let eof = (data.len() as u64) < u64::from(count) || end >= self.size(&file).await?;
        put(reply.body(), &eof)?;
        Ok(put(reply.body(), &Payload(data))?)
    }

    pub(in crate::nfs::v4) async fn write(&mut self, asked: Write) -> Outcome<Written> {
        let (target, file) = self.regular().await?;
        target.check_writable()?;
        self.may_touch(&target, &file, asked.stateid, WRITE).await?;
        let mut data = bytes::Bytes::from(asked.data.0);
        data.truncate(TRANSFER_MAX as usize);
        let who = self.acting(&target);
        let written = self.volume.write(&who, file.ino, asked.offset, data);
        let count = written.await.map_err(Failure::of_file)?;
        self.service.stats.moved(Op::WRITE, count.into());
        let stability = match asked.stability {
            Stability::Unstable => {
                self.volume.told(self.nfs.front).await;
                Stability::Unstable
            }
            Stability::Data | Stability::File => {
                self.settle(file.ino).await?;
                Stability::File
            }
        };
        Ok(Written {
            count,
            stability,
            verifier: self.nfs.boot,
        })
    }

    pub(in crate::nfs::v4) async fn commit(&mut self, asked: &Commit) -> Outcome<[u8; 8]> {
        let (_, file) = self.regular().await?;
        if asked.offset.checked_add(u64::from(asked.count)).is_none() {
            return Err(Status::Inval.into());
        }
        self.settle(file.ino).await?;
        Ok(self.nfs.boot)
    }

    /// The current file, which has data.
    pub(in crate::nfs::v4) async fn regular(&self) -> Outcome<(Arc<Target>, Attr)> {
        let (target, file) = self.current_attr().await?;
        check_regular(file.kind)?;
        Ok((target, file))
    }

    async fn size(&self, file: &Attr) -> Outcome<u64> {
        Ok(self.attr(file.ino).await?.size)
    }

    /// Whether whoever has this stateid may read or write a file (`access`).
    /// Without an open, its mode and the share reservations of others decide.
    pub(in crate::nfs::v4) async fn may_touch(
        &self,
        target: &Target,
        file: &Attr,
        stateid: StateId,
        access: u32,
    ) -> Outcome {
        let client = self.client()?;
        let stateid = self.meant(stateid)?;
        let anonymous = stateid == StateId::ANONYMOUS || stateid == StateId::BYPASS;
        if !anonymous {
            let state = self.service.state.lock();
            return Ok(state.opens.may_access(&stateid, client, file.ino, access)?);
        }
        {
            let state = self.service.state.lock();
            if state.grace.lasts(self.service.now()) {
                return Err(Status::Grace.into());
            }
            if stateid != StateId::BYPASS || access != READ {
                state.opens.check_denied(file.ino, access)?;
            }
        }
        match access {
            READ => target.who.check_read(self.volume, file).await?,
            _ => target.who.check_write(self.volume, file).await?,
        }
        Ok(())
    }
}

/// Whether an inode has data.
///
/// # Errors
/// `IsDir`, `Symlink`, `WrongType`.
pub(super) fn check_regular(kind: Kind) -> Outcome {
    match kind {
        Kind::File => Ok(()),
        Kind::Directory => Err(Status::IsDir.into()),
        Kind::Symlink => Err(Status::Symlink.into()),
        _ => Err(Status::WrongType.into()),
    }
}
