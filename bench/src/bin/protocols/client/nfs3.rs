//! NFSv3: CREATE and a WRITE that is FILE_SYNC; LOOKUP and READ.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use kiseki_tests::nfs_client;
use nfs3_types::nfs3::{nfs_fh3, stable_how};

use crate::{
    client::Client,
    objects::{DIRECTORIES, ROOT, directory, directory_name, file_name},
};

/// Somebody who has mounted [`ROOT`].
pub struct Nfs3 {
    client: nfs_client::Client,
    directories: Vec<nfs_fh3>,
}

impl Nfs3 {
    /// Mounts; MOUNT and NFS may answer in different places.
    ///
    /// # Errors
    /// A server does not answer, or refuses.
    pub fn mount(mountd: SocketAddr, nfs: SocketAddr) -> Result<Nfs3> {
        let root = nfs_client::Client::handle(mountd, &format!("/{ROOT}"), 0, 0)?;
        let mut client = nfs_client::Client::with_handle(nfs, root, 0, 0)?;
        let names = (0..DIRECTORIES).map(directory_name);
        let directories = names
            .map(|name| client.find(&name))
            .collect::<Result<_>>()?;
        Ok(Nfs3 {
            client,
            directories,
        })
    }
}

impl Client for Nfs3 {
    fn put(&mut self, number: u64, contents: Bytes) -> Result<()> {
        let directory = &self.directories[directory(number)];
        let file = self.client.create_new(directory, &file_name(number))?;
        self.client
            .write(&file, 0, &contents, stable_how::FILE_SYNC)?;
        Ok(())
    }

    fn get(&mut self, number: u64, size: usize) -> Result<Bytes> {
        let directory = &self.directories[directory(number)];
        let file = self.client.lookup(directory, &file_name(number))?;
        let (contents, _) = self.client.read(&file, 0, size as u32)?;
        Ok(contents.into())
    }
}
