//! READ, WRITE, COMMIT (RFC 1813, sections 3.3.6, 7, 21).

use bytes::Bytes;
use kiseki_core::{Error, engine::Attr, ids::Ino, meta::Kind};
use nfs3_types::{
    nfs3::{
        COMMIT3resfail, COMMIT3resok, Nfs3Result, READ3resfail, WRITE3resfail, WRITE3resok,
        nfsstat3, post_op_attr, stable_how, wcc_data, writeverf3,
    },
    xdr_codec::{Void, XdrCodec},
};

use super::{
    Procedure, Request, Results,
    arguments::{Commit, Read, Write},
    status::status,
};
use crate::nfs::{
    TRANSFER_MAX, Target,
    fail::Fail,
    rpc::{Failure, Outcome},
    xdr,
};

/// Results of READ up to the data, which follow without being copied.
#[derive(XdrCodec)]
struct ReadHead {
    status: nfsstat3,
    file_attributes: post_op_attr,
    count: u32,
    eof: bool,
    length: u32,
}

struct Bits {
    attr: Attr,
    data: Bytes,
}

impl Request<'_> {
    pub(super) async fn read(self, arguments: Bytes) -> Outcome {
        let Ok(a) = xdr::all(arguments) else {
            return Outcome::Failed(Failure::Garbage);
        };
        match self.read_some(&a).await {
            Ok(Bits { attr, data }) => {
                // No more than was asked for in 32 bits.
                let count = data.len() as u32;
                let head = ReadHead {
                    status: nfsstat3::NFS3_OK,
                    file_attributes: self.known(Some(&attr)),
                    count,
                    eof: a.offset.saturating_add(u64::from(count)) >= attr.size,
                    length: count,
                };
                let fill = xdr::fill(data.len());
                Outcome::Done(vec![xdr::encode(&head), data, fill])
            }
            Err(fail) => {
                let results: Results<Void, _> =
                    Nfs3Result::Err((status(&fail), READ3resfail::default()));
                Outcome::done(&results)
            }
        }
    }

    async fn read_some(&self, a: &Read) -> Result<Bits, Fail> {
        let (target, attr) = self.find(&a.file.0).await?;
        only_file(&attr)?;
        let volume = &self.nfs.volume;
        target.who.check_read(volume, &attr).await?;
        self.open(attr.ino).await?;
        let count = a.count.min(TRANSFER_MAX);
        let data = volume.read(attr.ino, a.offset, count).await;
        let data = data.map_err(Fail::of_inode)?;
        let stats = &self.nfs.stats;
        stats.moved(Procedure::READ, data.len() as u64);
        let attr = self.nfs.attributes(attr.ino).await?;
        Ok(Bits { attr, data })
    }

    async fn open(&self, ino: Ino) -> Result<(), Fail> {
        self.nfs.files.open(ino).await.map_err(Fail::of_inode)
    }

    pub(super) async fn write(self, arguments: Bytes) -> Outcome {
        let Ok(a) = Write::decode(arguments) else {
            return Outcome::Failed(Failure::Garbage);
        };
        let mut file_wcc = wcc_data::default();
        let results: Results<_, _> = match self.write_some(&a, &mut file_wcc).await {
            Ok((count, committed)) => Nfs3Result::Ok(WRITE3resok {
                file_wcc,
                count,
                committed,
                verf: writeverf3(self.nfs.boot),
            }),
            Err(fail) => Nfs3Result::Err((status(&fail), WRITE3resfail { file_wcc })),
        };
        Outcome::done(&results)
    }

    async fn write_some(&self, a: &Write, wcc: &mut wcc_data) -> Result<(u32, stable_how), Fail> {
        let target = self.target(&a.file.0)?;
        let ino = target.ino();
        let turn = self.nfs.order.one(ino).await;
        let before = self.before(ino).await?;
        let written = self.write_file(&target, &before.attr, a).await;
        *wcc = self.wcc(&before).await;
        drop(turn);
        let written = written?;
        let committed = match a.stable {
            stable_how::UNSTABLE => {
                self.nfs.volume.told(self.nfs.front).await;
                stable_how::UNSTABLE
            }
            stable_how::DATA_SYNC | stable_how::FILE_SYNC => {
                self.nfs.settle(ino).await?;
                stable_how::FILE_SYNC
            }
        };
        Ok((written, committed))
    }

    async fn write_file(&self, target: &Target, attr: &Attr, a: &Write) -> Result<u32, Fail> {
        only_file(attr)?;
        target.check_writable()?;
        if a.data.len() != a.count as usize {
            return Err(Fail::Invalid);
        }
        let volume = &self.nfs.volume;
        target.who.check_write(volume, attr).await?;
        self.open(attr.ino).await?;
        let (who, data) = (self.caller(target), a.data.clone());
        let written = volume.write(&who, attr.ino, a.offset, data).await;
        let count = written.map_err(Fail::of_inode)?;
        self.nfs.stats.moved(Procedure::WRITE, count.into());
        Ok(count)
    }

    pub(super) async fn commit(self, a: Commit) -> Results<COMMIT3resok, COMMIT3resfail> {
        let mut file_wcc = wcc_data::default();
        match self.commit_file(&a, &mut file_wcc).await {
            Ok(()) => Results::Ok(COMMIT3resok {
                file_wcc,
                verf: writeverf3(self.nfs.boot),
            }),
            Err(fail) => Results::Err((status(&fail), COMMIT3resfail { file_wcc })),
        }
    }

    async fn commit_file(&self, a: &Commit, wcc: &mut wcc_data) -> Result<(), Fail> {
        let target = self.target(&a.file.0)?;
        let before = self.before(target.ino()).await?;
        only_file(&before.attr)?;
        let volume = &self.nfs.volume;
        target.who.check_write(volume, &before.attr).await?;
        // All of the file: what lies outside the range becomes durable early.
        let settled = self.nfs.settle(target.ino()).await;
        *wcc = self.wcc(&before).await;
        Ok(settled?)
    }
}

fn only_file(attr: &Attr) -> Result<(), Fail> {
    match attr.kind {
        Kind::File => Ok(()),
        Kind::Directory => Err(Error::IsADirectory.into()),
        _ => Err(Fail::Invalid),
    }
}
