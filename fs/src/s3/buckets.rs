//! Buckets: the directories of the root whose names S3 allows.

use kiseki_core::{Error, engine::Attr, ids::Ino, meta::Kind};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        Bucket, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput,
        GetBucketAclInput, GetBucketAclOutput, GetBucketLocationInput, GetBucketLocationOutput,
        GetBucketVersioningInput, GetBucketVersioningOutput, GetObjectAclInput, GetObjectAclOutput,
        Grant, Grantee, HeadBucketInput, HeadBucketOutput, ListBucketsInput, ListBucketsOutput,
        Owner, Permission, Type,
    },
    path::check_bucket_name,
    s3_error,
};

use super::{
    Gateway,
    conditions::timestamp,
    failure::{conflict, failed, not_implemented},
};

/// Entries of the root looked at in one go.
const BATCH: usize = 1024;

const MODE: u32 = 0o777;

/// The one owner of everything: whoever has a key may do all there is.
pub(super) fn owner() -> Owner {
    Owner {
        display_name: Some("kiseki".to_owned()),
        id: Some("kiseki".to_owned()),
    }
}

fn full_control() -> Vec<Grant> {
    let kind = Type::from_static(Type::CANONICAL_USER);
    vec![Grant {
        grantee: Some(Grantee {
            display_name: owner().display_name,
            email_address: None,
            id: owner().id,
            type_: kind,
            uri: None,
        }),
        permission: Some(Permission::from_static(Permission::FULL_CONTROL)),
    }]
}

impl Gateway {
    pub(super) async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let input = request.input;
        if input.object_lock_enabled_for_bucket == Some(true) {
            return Err(not_implemented("object lock"));
        }
        let root = self.volume.getattr(Ino::ROOT).await.map_err(failed)?;
        let name = input.bucket.as_bytes();
        let who = self.owner_of(&root);
        match self.volume.mkdir(&who, Ino::ROOT, name, MODE).await {
            Ok(made) => self.settle(made.ino).await.map_err(failed)?,
            Err(Error::Exists) => {
                return match self.bucket(&input.bucket).await {
                    Ok(_) => Err(s3_error!(BucketAlreadyOwnedByYou)),
                    Err(_) => Err(conflict("the root has a file of this name")),
                };
            }
            Err(error) => return Err(failed(error)),
        }
        Ok(S3Response::new(CreateBucketOutput {
            location: Some(format!("/{}", input.bucket)),
        }))
    }

    pub(super) async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let name = request.input.bucket;
        self.bucket(&name).await?;
        let (who, root) = (self.own(), Ino::ROOT);
        match self.volume.rmdir(&who, root, name.as_bytes()).await {
            Ok(()) => {}
            Err(Error::NotEmpty) => {
                return Err(s3_error!(
                    BucketNotEmpty,
                    "the bucket has objects, or files that S3 cannot name; the mount shows them all"
                ));
            }
            Err(Error::NotFound) => return Err(s3_error!(NoSuchBucket)),
            Err(error) => return Err(failed(error)),
        }
        self.abort_uploads_of(&name).await.map_err(failed)?;
        self.settle(root).await.map_err(failed)?;
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    pub(super) async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.bucket(&request.input.bucket).await?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    pub(super) async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let input = request.input;
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let after = input.continuation_token.unwrap_or_default();
        let most = input.max_buckets.unwrap_or(i32::MAX).max(0) as usize;
        let mut found = self.all_buckets().await.map_err(failed)?;
        found.retain(|(name, _)| name.starts_with(prefix) && *name > after);
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let more = found.len() > most;
        found.truncate(most);
        let next = found.last().filter(|_| more).map(|(name, _)| name.clone());
        let buckets = found.into_iter().map(|(name, attr)| Bucket {
            bucket_region: None,
            creation_date: Some(timestamp(attr.btime)),
            name: Some(name),
        });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            continuation_token: next,
            owner: Some(owner()),
            prefix: input.prefix,
        }))
    }

    async fn all_buckets(&self) -> Result<Vec<(String, Attr)>, Error> {
        let mut buckets = Vec::new();
        let mut cookie = 0;
        loop {
            let page = self.volume.readdir(Ino::ROOT, cookie, BATCH).await?;
            for entry in &page {
                let Ok(name) = str::from_utf8(&entry.name) else {
                    continue;
                };
                if entry.kind == Kind::Directory && check_bucket_name(name) {
                    match self.volume.getattr(entry.ino).await {
                        Ok(attr) => buckets.push((name.to_owned(), attr)),
                        Err(Error::NotFound) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            match page.last() {
                Some(last) if page.len() >= BATCH => cookie = last.cookie,
                _ => return Ok(buckets),
            }
        }
    }

    pub(super) async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.bucket(&request.input.bucket).await?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    /// Never enabled: an answer without a status.
    pub(super) async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.bucket(&request.input.bucket).await?;
        Ok(S3Response::new(GetBucketVersioningOutput::default()))
    }

    pub(super) async fn get_bucket_acl(
        &self,
        request: S3Request<GetBucketAclInput>,
    ) -> S3Result<S3Response<GetBucketAclOutput>> {
        self.bucket(&request.input.bucket).await?;
        Ok(S3Response::new(GetBucketAclOutput {
            grants: Some(full_control()),
            owner: Some(owner()),
        }))
    }

    pub(super) async fn get_object_acl(
        &self,
        request: S3Request<GetObjectAclInput>,
    ) -> S3Result<S3Response<GetObjectAclOutput>> {
        self.object(&request.input.bucket, &request.input.key)
            .await?;
        Ok(S3Response::new(GetObjectAclOutput {
            grants: Some(full_control()),
            owner: Some(owner()),
            request_charged: None,
        }))
    }
}
