//! A client of NFSv3, that of the crate `nfs3_client`: one connection, one call
//! at a time. What kernels hide can be asked with it.

use std::{io, net::SocketAddr};

use anyhow::{Context, bail};
use nfs3_client::{
    MountClient, Nfs3Client,
    io::{AsyncRead, AsyncWrite},
};
use nfs3_types::{
    mount::dirpath,
    nfs3::{
        COMMIT3args, CREATE3args, GETATTR3args, LOOKUP3args, Nfs3Result, READ3args,
        READDIRPLUS3args, REMOVE3args, WRITE3args, cookieverf3, createhow3, diropargs3, fattr3,
        nfs_fh3, nfsstat3, sattr3, stable_how, writeverf3,
    },
    rpc::{auth_unix, opaque_auth},
    xdr_codec::Opaque,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
};

use crate::Result;

/// A stream whose end is an error: the crate would go on reading.
pub struct Io(TcpStream);

impl AsyncRead for Io {
    async fn async_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer).await? {
            0 if !buffer.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

impl AsyncWrite for Io {
    async fn async_write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer).await
    }
}

/// A client that has mounted something.
pub struct Client {
    /// Runs what the connection is asked; the caller waits.
    pub runtime: Runtime,
    /// The connection.
    pub nfs: Nfs3Client<Io>,
    /// The handle that the mount gave.
    pub root: nfs_fh3,
}

/// A status that is not `NFS3_OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub nfsstat3);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refused {}

/// The results of a success, or the status.
pub fn done<T, E>(results: Nfs3Result<T, E>) -> Result<T, Refused> {
    match results {
        Nfs3Result::Ok(results) => Ok(results),
        Nfs3Result::Err((status, _)) => Err(Refused(status)),
    }
}

/// The status of results.
pub fn status<T, E>(results: &Nfs3Result<T, E>) -> nfsstat3 {
    match results {
        Nfs3Result::Ok(_) => nfsstat3::NFS3_OK,
        Nfs3Result::Err((status, _)) => *status,
    }
}

/// Whether an error is this status.
#[must_use]
pub fn refused_with(error: &anyhow::Error, status: nfsstat3) -> bool {
    error.downcast_ref() == Some(&Refused(status))
}

fn user(uid: u32, gid: u32, groups: &[u32]) -> opaque_auth<'static> {
    opaque_auth::auth_unix(&auth_unix {
        stamp: 1,
        machinename: Opaque::borrowed(b"tests"),
        uid,
        gid,
        gids: groups.to_vec(),
    })
}

impl Client {
    /// Mounts as root.
    pub fn mount(server: SocketAddr, path: &str) -> Result<Client> {
        Client::mount_as(server, path, 0, 0)
    }

    /// Mounts as a user.
    pub fn mount_as(server: SocketAddr, path: &str, uid: u32, gid: u32) -> Result<Client> {
        let root = Client::handle(server, path, uid, gid)?;
        Client::with_handle(server, root, uid, gid)
    }

    /// The handle that a MOUNT server gives a user.
    pub fn handle(mountd: SocketAddr, path: &str, uid: u32, gid: u32) -> Result<nfs_fh3> {
        runtime()?.block_on(async {
            let io = Io(TcpStream::connect(mountd).await?);
            let verifier = opaque_auth::default();
            let mut mount = MountClient::new_with_auth(io, user(uid, gid, &[]), verifier);
            let path = dirpath(Opaque::borrowed(path.as_bytes()));
            let mounted = mount.mnt(path).await.context("mount")?;
            anyhow::Ok(nfs_fh3 {
                data: Opaque::owned(mounted.fhandle.0.to_vec()),
            })
        })
    }

    /// A client that has a handle already.
    pub fn with_handle(server: SocketAddr, root: nfs_fh3, uid: u32, gid: u32) -> Result<Client> {
        let runtime = runtime()?;
        let nfs = runtime.block_on(async {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            let verifier = opaque_auth::default();
            let io = Io(stream);
            anyhow::Ok(Nfs3Client::new_with_auth(io, user(uid, gid, &[]), verifier))
        })?;
        Ok(Client { runtime, nfs, root })
    }

    /// The handle at a path below the mount.
    pub fn find(&mut self, path: &str) -> Result<nfs_fh3> {
        let mut at = self.root.clone();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = self.lookup(&at, name)?;
        }
        Ok(at)
    }

    /// The handle of a name.
    pub fn lookup(&mut self, dir: &nfs_fh3, name: &str) -> Result<nfs_fh3> {
        let what = place(dir, name);
        let found = self
            .runtime
            .block_on(self.nfs.lookup(&LOOKUP3args { what }))?;
        Ok(done(found)?.object)
    }

    /// Attributes.
    pub fn attributes(&mut self, object: &nfs_fh3) -> Result<fattr3> {
        let args = GETATTR3args {
            object: object.clone(),
        };
        let found = self.runtime.block_on(self.nfs.getattr(&args))?;
        Ok(done(found)?.obj_attributes)
    }

    /// Makes a file.
    pub fn create(&mut self, dir: &nfs_fh3, name: &str, how: createhow3) -> Result<nfs_fh3> {
        let args = CREATE3args {
            where_: place(dir, name),
            how,
        };
        let made = done(self.runtime.block_on(self.nfs.create(&args))?)?;
        match made.obj {
            nfs3_types::nfs3::Nfs3Option::Some(handle) => Ok(handle),
            nfs3_types::nfs3::Nfs3Option::None => bail!("CREATE gave no handle"),
        }
    }

    /// Makes a file that must not be there.
    pub fn create_new(&mut self, dir: &nfs_fh3, name: &str) -> Result<nfs_fh3> {
        self.create(dir, name, createhow3::GUARDED(sattr3::default()))
    }

    /// Writes; the verifier of the answer.
    pub fn write(
        &mut self,
        file: &nfs_fh3,
        offset: u64,
        data: &[u8],
        stable: stable_how,
    ) -> Result<writeverf3> {
        let args = WRITE3args {
            file: file.clone(),
            offset,
            // Far below 4 GiB.
            count: data.len() as u32,
            stable,
            data: Opaque::borrowed(data),
        };
        let written = done(self.runtime.block_on(self.nfs.write(&args))?)?;
        if written.count as usize != data.len() {
            bail!("{} of {} bytes are written", written.count, data.len());
        }
        if stable == stable_how::FILE_SYNC && written.committed != stable_how::FILE_SYNC {
            bail!("a stable write was answered as {}", written.committed);
        }
        Ok(written.verf)
    }

    /// Makes durable what was written; the verifier of the answer.
    pub fn commit(&mut self, file: &nfs_fh3) -> Result<writeverf3> {
        let args = COMMIT3args {
            file: file.clone(),
            offset: 0,
            count: 0,
        };
        Ok(done(self.runtime.block_on(self.nfs.commit(&args))?)?.verf)
    }

    /// Reads, at most 1 MiB; the data, and whether that was the end.
    pub fn read(&mut self, file: &nfs_fh3, offset: u64, count: u32) -> Result<(Vec<u8>, bool)> {
        let args = READ3args {
            file: file.clone(),
            offset,
            count,
        };
        let read = done(self.runtime.block_on(self.nfs.read(&args))?)?;
        Ok((read.data.to_vec(), read.eof))
    }

    /// Reads a whole file.
    pub fn read_all(&mut self, file: &nfs_fh3) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let (data, end) = self.read(file, all.len() as u64, 1 << 20)?;
            all.extend(&data);
            if end {
                return Ok(all);
            }
            if data.is_empty() {
                bail!("a read that is empty before the end");
            }
        }
    }

    /// Removes a file.
    pub fn remove(&mut self, dir: &nfs_fh3, name: &str) -> Result {
        let object = place(dir, name);
        done(
            self.runtime
                .block_on(self.nfs.remove(&REMOVE3args { object }))?,
        )?;
        Ok(())
    }

    /// Names and positions of a directory, in pages of about `bytes`.
    pub fn list(&mut self, dir: &nfs_fh3, bytes: u32) -> Result<Vec<(String, u64)>> {
        let (mut all, mut cookie, mut cookieverf) = (Vec::new(), 0, cookieverf3::default());
        loop {
            let args = READDIRPLUS3args {
                dir: dir.clone(),
                cookie,
                cookieverf,
                dircount: bytes,
                maxcount: bytes,
            };
            let page = done(self.runtime.block_on(self.nfs.readdirplus(&args))?)?;
            cookieverf = page.cookieverf;
            for entry in page.reply.entries.0 {
                cookie = entry.cookie;
                let name = String::from_utf8(entry.name.as_ref().to_vec());
                all.push((name.context("names are UTF-8 here")?, cookie));
            }
            if page.reply.eof {
                return Ok(all);
            }
        }
    }
}

/// A name in a directory.
#[must_use]
pub fn place<'a>(dir: &nfs_fh3, name: &'a str) -> diropargs3<'a> {
    diropargs3 {
        dir: dir.clone(),
        name: name.as_bytes().into(),
    }
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}
