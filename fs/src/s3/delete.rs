//! Deleting objects.

use kiseki_core::{engine::Attr, meta::Kind};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        self, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput,
        DeletedObject,
    },
    s3_error,
};

use super::{
    Gateway,
    conditions::WriteConditions,
    failure::{failed, not_implemented},
    get::refuse_version,
    key::Key,
    sums::Sums,
};

/// Most keys of one request.
const KEYS_MAX: usize = 1000;

impl Gateway {
    pub(super) async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        refuse_version(input.version_id.as_deref())?;
        if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
            return Err(not_implemented("this condition"));
        }
        let bucket = self.bucket(&input.bucket).await?;
        let conditions = WriteConditions {
            if_match: input.if_match,
            if_none_match: None,
        };
        self.delete(&bucket, &input.key, &conditions).await?;
        self.settle(bucket.ino).await.map_err(failed)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    pub(super) async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        if input.delete.objects.len() > KEYS_MAX {
            return Err(s3_error!(MalformedXML, "more than 1,000 keys"));
        }
        let bucket = self.bucket(&input.bucket).await?;
        let quiet = input.delete.quiet.unwrap_or(false);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in input.delete.objects {
            let conditions = WriteConditions {
                if_match: object.e_tag.map(dto::ETagCondition::ETag),
                if_none_match: None,
            };
            let done = match refuse_version(object.version_id.as_deref()) {
                Ok(()) => self.delete(&bucket, &object.key, &conditions).await,
                refused => refused,
            };
            match done {
                Ok(()) if quiet => {}
                Ok(()) => deleted.push(DeletedObject {
                    key: Some(object.key),
                    ..DeletedObject::default()
                }),
                Err(error) => errors.push(dto::Error {
                    code: Some(error.code().as_str().to_owned()),
                    key: Some(object.key),
                    message: error.message().map(str::to_owned),
                    version_id: None,
                }),
            }
        }
        self.settle(bucket.ino).await.map_err(failed)?;
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            ..DeleteObjectsOutput::default()
        }))
    }

    /// Deletes an object if there is one.
    async fn delete(&self, bucket: &Attr, key: &str, conditions: &WriteConditions) -> S3Result<()> {
        // What is no path names nothing, and nothing is deleted.
        let Ok(key) = Key::parse(key) else {
            return Ok(());
        };
        let _lock = self.writers.lock(bucket, &key).await;
        let Some(found) = self.find(bucket, &key).await.map_err(failed)? else {
            return conditions.check(None);
        };
        if !conditions.is_empty() {
            let sums = Sums::of(&self.volume, &found).await.map_err(failed)?;
            conditions.check(Some(&sums.etag()))?;
        }
        self.remove(bucket, &key, &found).await.map_err(failed)
    }

    async fn remove(
        &self,
        bucket: &Attr,
        key: &Key,
        found: &Attr,
    ) -> Result<(), kiseki_core::Error> {
        use kiseki_core::Error;

        let (above, name) = match (&key.file, key.directories.split_last()) {
            (Some(name), _) => (&key.directories[..], name),
            (None, Some((name, above))) => (above, name),
            (None, None) => return Ok(()),
        };
        let Some(parent) = self.directory(bucket, above).await? else {
            return Ok(());
        };
        if found.kind == Kind::Directory {
            self.remove_object(&parent, name, found.ino).await?;
        } else {
            let who = self.owner_of(&parent);
            match self.volume.unlink(&who, parent.ino, name.as_bytes()).await {
                Err(Error::NotFound) => {}
                other => other?,
            }
        }
        self.prune(bucket, above).await
    }
}
