//! NFSv4.1: a COMPOUND that opens, one that reads or writes (FILE_SYNC), and
//! one that closes, as kernels do it.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use bytes::Bytes;
use kiseki_fs::nfs::v4::xdr::{
    Attributes, Blob, Claim, Close, CreateHow, DataRead, Handle, Open, OpenHow, Opened, Operation,
    Read, Stability, StateId, Write, Written,
};
use kiseki_tests::nfs4_client::Session;

use crate::{
    client::Client,
    objects::{DIRECTORIES, ROOT, directory, directory_name, file_name},
};

/// Bits of `Open::access`.
const READ: u32 = 1;
const WRITE: u32 = 2;

/// Somebody with a session of one slot.
pub struct Nfs41 {
    session: Session,
    directories: Vec<Handle>,
}

impl Nfs41 {
    /// Makes a session under a name that no other client has.
    ///
    /// # Errors
    /// The server does not answer, or refuses.
    pub fn open(server: SocketAddr, name: &str) -> Result<Nfs41> {
        let mut session = Session::fresh(server, name)?;
        let mut directories = Vec::new();
        for directory in 0..DIRECTORIES {
            let mut found = session.run(vec![
                Operation::PutRootHandle,
                Operation::Lookup(text(ROOT)),
                Operation::Lookup(text(&directory_name(directory))),
                Operation::GetHandle,
            ])?;
            (0..3).try_for_each(|_| found.skip())?;
            directories.push(found.result()?);
        }
        Ok(Nfs41 {
            session,
            directories,
        })
    }

    fn open_object(&mut self, number: u64, access: u32, how: OpenHow) -> Result<(Handle, StateId)> {
        let open = Operation::Open(Open {
            sequence: 0,
            access,
            deny: 0,
            owner: self.session.owner(),
            how,
            claim: Claim::Null(text(&file_name(number))),
        });
        let directory = self.directories[directory(number)].clone();
        let put = Operation::PutHandle(directory);
        let mut results = self.session.run(vec![put, open, Operation::GetHandle])?;
        results.skip()?;
        let opened: Opened = results.result()?;
        Ok((results.result()?, opened.stateid))
    }

    fn close(&mut self, file: Handle, stateid: StateId) -> Result<()> {
        let close = Operation::Close(Close {
            sequence: 0,
            stateid,
        });
        let mut results = self.session.run(vec![Operation::PutHandle(file), close])?;
        results.skip()?;
        results.result::<StateId>().map(drop)
    }
}

impl Client for Nfs41 {
    fn put(&mut self, number: u64, contents: Bytes) -> Result<()> {
        let how = OpenHow::Create(CreateHow::Guarded(Attributes::default()));
        let (file, stateid) = self.open_object(number, WRITE, how)?;
        let write = Operation::Write(Write {
            stateid,
            offset: 0,
            stability: Stability::File,
            data: Blob(contents.to_vec()),
        });
        let put = Operation::PutHandle(file.clone());
        let mut results = self.session.run(vec![put, write])?;
        results.skip()?;
        let written: Written = results.result()?;
        ensure!(
            written.count as usize == contents.len() && written.stability == Stability::File,
            "answered {written:?} for a stable write of {} bytes",
            contents.len()
        );
        self.close(file, stateid)
    }

    fn get(&mut self, number: u64, size: usize) -> Result<Bytes> {
        let (file, stateid) = self.open_object(number, READ, OpenHow::NoCreate)?;
        let read = Operation::Read(Read {
            stateid,
            offset: 0,
            count: size as u32,
        });
        let put = Operation::PutHandle(file.clone());
        let mut results = self.session.run_unkept(vec![put, read])?;
        results.skip()?;
        let read: DataRead = results.result()?;
        self.close(file, stateid)?;
        Ok(read.data.0.into())
    }
}

fn text<const MAX: usize>(name: &str) -> Blob<MAX> {
    name.as_bytes().into()
}
