//! Showing a finished file under its key.

use std::{collections::hash_map::RandomState, hash::BuildHasher};

use kiseki_core::{
    Error,
    engine::{Attr, RenameFlags, SetAttr},
    meta::Kind,
};
use s3s::{S3Result, s3_error};
use tokio::sync::{Mutex, MutexGuard};

use super::Temporary;
use crate::s3::{
    Gateway,
    conditions::WriteConditions,
    failure::{conflict, failed},
    key::Key,
    sums::Sums,
};

/// Where an object goes.
pub(in crate::s3) struct Target {
    pub bucket: Attr,
    pub key: Key,
    pub conditions: WriteConditions,
}

/// Locks on keys, for changes that look before they write. A few for all keys:
/// two that share one wait for each other, no more.
pub(in crate::s3) struct Writers {
    locks: [Mutex<()>; 64],
    hasher: RandomState,
}

impl Default for Writers {
    fn default() -> Writers {
        Writers {
            locks: std::array::from_fn(|_| Mutex::new(())),
            hasher: RandomState::new(),
        }
    }
}

impl Writers {
    pub(in crate::s3) async fn lock(&self, bucket: &Attr, key: &Key) -> MutexGuard<'_, ()> {
        let hash = self
            .hasher
            .hash_one((bucket.ino, &key.directories, &key.file));
        self.locks[hash as usize % self.locks.len()].lock().await
    }
}

/// How often directories may vanish under a writer before it gives up.
const ATTEMPTS: usize = 16;

impl Gateway {
    /// Gives the file its name, and makes that durable.
    pub(in crate::s3) async fn publish(
        &self,
        mut file: Temporary,
        target: &Target,
    ) -> S3Result<()> {
        let Some(name) = &target.key.file else {
            return Err(conflict("the key is a directory"));
        };
        let lock = self.writers.lock(&target.bucket, &target.key).await;
        for _ in 0..ATTEMPTS {
            let parent = self
                .make_path(&target.bucket, &target.key.directories)
                .await?;
            let there = self.child(parent.ino, name).await.map_err(failed)?;
            if let Some(there) = &there {
                self.make_way(&parent, name, there, &file).await?;
            }
            let there = there.filter(|there| there.kind == Kind::File);
            if !target.conditions.is_empty() {
                let etag = match &there {
                    Some(there) => {
                        Some(Sums::of(&self.volume, there).await.map_err(failed)?.etag())
                    }
                    None => None,
                };
                target.conditions.check(etag.as_ref())?;
            }
            let flags = match target.conditions.only_new() {
                true => RenameFlags::NoReplace,
                false => RenameFlags::Replace,
            };
            match file.name(parent.ino, name, flags).await {
                Ok(()) => {
                    drop(lock);
                    return self.settle(file.ino()).await.map_err(failed);
                }
                Err(Error::Exists) => return Err(s3_error!(PreconditionFailed)),
                // The directory went with its last key meanwhile.
                Err(Error::NotFound) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(s3_error!(
            OperationAborted,
            "the directories of the key are removed as fast as they are made; try again"
        ))
    }

    /// Prepares to replace what has the name: a file gives its owner and mode
    /// on, a directory that only keys had needed goes, and anything else stays.
    async fn make_way(
        &self,
        parent: &Attr,
        name: &str,
        there: &Attr,
        file: &Temporary,
    ) -> S3Result<()> {
        match there.kind {
            Kind::File => {
                let like = SetAttr {
                    mode: Some(there.mode & 0o777),
                    uid: Some(there.uid),
                    gid: Some(there.gid),
                    ..SetAttr::default()
                };
                file.like(like).await.map_err(failed)
            }
            Kind::Directory => {
                let gone = self.remove_if_implied(parent, name, there.ino).await;
                match gone.map_err(failed)? {
                    true => Ok(()),
                    false => Err(conflict(
                        "the key is a directory: other keys begin with it, or it was made on purpose",
                    )),
                }
            }
            _ => Err(conflict(
                "the key is neither a file nor a directory; remove it through the mount first",
            )),
        }
    }
}
