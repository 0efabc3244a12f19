//! Buckets, and the directories on the way to an object.
//!
//! A directory that a key needs is made with it, and carries a mark: it goes
//! again with the last key in it, and is no key itself. Directories made by
//! others carry none, and stay.

use kiseki_core::{
    Error,
    engine::{Attr, Caller, Volume, XattrSet},
    ids::Ino,
    meta::Kind,
};
use s3s::{S3Result, s3_error};

use super::{
    Gateway,
    failure::{conflict, failed},
    key::Key,
};

/// On a directory: how it came to be.
const MARK: &[u8] = b"user.s3.directory";

/// Made because a key needed it.
const IMPLIED: &[u8] = b"implied";

/// Put, as a key that ends in a slash.
const OBJECT: &[u8] = b"object";

const DIRECTORY_MODE: u32 = 0o777;

/// Finds or makes a directory of the front end's own.
pub(super) async fn make_private(volume: &Volume, parent: Ino, name: &[u8]) -> Result<Ino, Error> {
    loop {
        match volume.lookup(parent, name).await {
            Ok(attr) => return Ok(attr.ino),
            Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        match volume.mkdir(&Caller::default(), parent, name, 0o700).await {
            Ok(attr) => return Ok(attr.ino),
            Err(Error::Exists) => {}
            Err(error) => return Err(error),
        }
    }
}

impl Gateway {
    /// The directory of a bucket.
    pub(super) async fn bucket(&self, name: &str) -> S3Result<Attr> {
        match self.volume.lookup(Ino::ROOT, name.as_bytes()).await {
            Ok(attr) if attr.kind == Kind::Directory => Ok(attr),
            Ok(_) | Err(Error::NotFound) => Err(s3_error!(NoSuchBucket)),
            Err(error) => Err(failed(error)),
        }
    }

    /// What a name in a directory stands for.
    pub(super) async fn child(&self, parent: Ino, name: &str) -> Result<Option<Attr>, Error> {
        match self.volume.lookup(parent, name.as_bytes()).await {
            Ok(attr) => Ok(Some(attr)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The directory that a path leads to, if there is one. Symbolic links are
    /// not followed: they may lead out of the bucket.
    pub(super) async fn directory(
        &self,
        bucket: &Attr,
        path: &[String],
    ) -> Result<Option<Attr>, Error> {
        let mut at = *bucket;
        for name in path {
            match self.child(at.ino, name).await? {
                Some(found) if found.kind == Kind::Directory => at = found,
                _ => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// The object that a key stands for: a file, or a directory that is a key.
    pub(super) async fn find(&self, bucket: &Attr, key: &Key) -> Result<Option<Attr>, Error> {
        let Some(parent) = self.directory(bucket, &key.directories).await? else {
            return Ok(None);
        };
        match &key.file {
            Some(name) => {
                let found = self.child(parent.ino, name).await?;
                Ok(found.filter(|found| found.kind == Kind::File))
            }
            None => Ok(self.is_object(parent.ino).await?.then_some(parent)),
        }
    }

    /// Whether a directory is a key: one that was put as such, or is empty, so
    /// that no directory is without a key that shows it.
    pub(super) async fn is_object(&self, directory: Ino) -> Result<bool, Error> {
        if self.mark(directory).await?.as_deref() == Some(OBJECT) {
            return Ok(true);
        }
        Ok(self.volume.readdir(directory, 0, 1).await?.is_empty())
    }

    async fn mark(&self, directory: Ino) -> Result<Option<Vec<u8>>, Error> {
        match self.volume.getxattr(directory, MARK).await {
            Ok(mark) => Ok(Some(mark.to_vec())),
            Err(Error::NoAttribute) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finds or makes the directories that a key needs; the last of them.
    pub(super) async fn make_path(&self, bucket: &Attr, path: &[String]) -> S3Result<Attr> {
        let mut at = *bucket;
        for name in path {
            at = self.make_directory(&at, name).await?;
        }
        Ok(at)
    }

    async fn make_directory(&self, parent: &Attr, name: &str) -> S3Result<Attr> {
        let who = self.owner_of(parent);
        loop {
            match self.child(parent.ino, name).await.map_err(failed)? {
                Some(found) if found.kind == Kind::Directory => return Ok(found),
                Some(_) => return Err(conflict("a part of the key before a slash is a file")),
                None => {}
            }
            let mode = DIRECTORY_MODE;
            let made = self
                .volume
                .mkdir(&who, parent.ino, name.as_bytes(), mode)
                .await;
            match made {
                Ok(made) => {
                    self.set_mark(&who, made.ino, IMPLIED)
                        .await
                        .map_err(failed)?;
                    return Ok(made);
                }
                Err(Error::Exists) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    async fn set_mark(&self, who: &Caller, ino: Ino, mark: &[u8]) -> Result<(), Error> {
        self.volume
            .setxattr(who, ino, MARK, mark, XattrSet::Any)
            .await
    }

    /// Makes a directory a key.
    pub(super) async fn make_object(&self, directory: &Attr) -> Result<(), Error> {
        self.set_mark(&self.owner_of(directory), directory.ino, OBJECT)
            .await
    }

    /// Takes a directory that is a key away: only the key, where others begin
    /// with it.
    pub(super) async fn remove_object(
        &self,
        parent: &Attr,
        name: &str,
        directory: Ino,
    ) -> Result<(), Error> {
        let who = self.owner_of(parent);
        match self.volume.rmdir(&who, parent.ino, name.as_bytes()).await {
            Err(Error::NotEmpty) => self.set_mark(&who, directory, IMPLIED).await,
            Err(Error::NotFound) => Ok(()),
            other => other,
        }
    }

    /// Removes directories that only keys had needed, from the last of `path`
    /// up to the first that something else needs.
    pub(super) async fn prune(&self, bucket: &Attr, path: &[String]) -> Result<(), Error> {
        for (depth, name) in path.iter().enumerate().rev() {
            let Some(parent) = self.directory(bucket, &path[..depth]).await? else {
                continue;
            };
            let Some(found) = self.child(parent.ino, name).await? else {
                continue;
            };
            if found.kind != Kind::Directory
                || !self.remove_if_implied(&parent, name, found.ino).await?
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Removes a directory that only keys had needed, and none needs any more.
    /// Whether it is gone.
    pub(super) async fn remove_if_implied(
        &self,
        parent: &Attr,
        name: &str,
        directory: Ino,
    ) -> Result<bool, Error> {
        if self.mark(directory).await?.as_deref() != Some(IMPLIED) {
            return Ok(false);
        }
        let who = self.owner_of(parent);
        match self.volume.rmdir(&who, parent.ino, name.as_bytes()).await {
            Ok(()) | Err(Error::NotFound) => Ok(true),
            Err(Error::NotEmpty | Error::NotADirectory) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
