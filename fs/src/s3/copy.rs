//! Copying an object: the copy shares what is stored.

use kiseki_core::{Error, engine::Caller, ids::Ino, meta::Kind};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, MetadataDirective,
        TaggingDirective,
    },
    s3_error,
};

use super::{
    Gateway,
    conditions::{Conditions, WriteConditions, timestamp},
    failure::{failed, not_implemented},
    get::{Object, refuse_version},
    headers::headers_of,
    key::Key,
    put::Target,
};

impl Gateway {
    pub(super) async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let mut input = request.input;
        let bucket = self.bucket(&input.bucket).await?;
        let key = Key::parse(&input.key)?;
        if key.file.is_none() {
            return Err(not_implemented("copying to a directory"));
        }
        let given = headers_of!(input);
        let replace = input
            .metadata_directive
            .as_ref()
            .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
        let retag = input
            .tagging_directive
            .as_ref()
            .is_some_and(|directive| directive.as_str() == TaggingDirective::REPLACE);
        let (from_bucket, from_key) = source_of(&input.copy_source)?;
        if from_bucket == input.bucket && from_key == input.key && !replace && !retag {
            return Err(s3_error!(
                InvalidRequest,
                "a copy to the same key has to change the metadata: give the directive REPLACE"
            ));
        }
        let conditions = Conditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let source = self.source(from_bucket, from_key, &conditions).await?;
        let mut headers = source.headers.clone();
        let tags = if retag {
            given.tags.clone()
        } else {
            headers.tags.take()
        };
        if replace {
            headers = given;
        }
        headers.tags = tags;

        let temporary = self.temporary(&bucket).await.map_err(failed)?;
        let (who, ino) = (*temporary.who(), temporary.ino());
        self.share(&who, source.attr.ino, 0, source.size, ino, 0)
            .await
            .map_err(failed)?;
        headers
            .store(&self.volume, &who, ino)
            .await
            .map_err(failed)?;
        if source.sums.is_of_contents() {
            source.sums.store(&self.volume, ino).await.map_err(failed)?;
        }
        let target = Target {
            bucket,
            key,
            conditions: WriteConditions::default(),
        };
        self.publish(temporary, &target).await?;
        let copy = self.object(&input.bucket, &input.key).await?;
        let sums = copy.sums.checksums();
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(CopyObjectResult {
                checksum_crc32: sums.checksum_crc32,
                checksum_crc32c: sums.checksum_crc32c,
                checksum_crc64nvme: sums.checksum_crc64nvme,
                checksum_sha1: sums.checksum_sha1,
                checksum_sha256: sums.checksum_sha256,
                checksum_type: sums.checksum_type,
                e_tag: Some(copy.sums.etag()),
                last_modified: Some(timestamp(copy.attr.mtime)),
            }),
            ..CopyObjectOutput::default()
        }))
    }

    /// The object that a copy is made of.
    pub(super) async fn source(
        &self,
        bucket: &str,
        key: &str,
        conditions: &Conditions,
    ) -> S3Result<Object> {
        let source = self.object(bucket, key).await?;
        if source.attr.kind != Kind::File {
            return Err(not_implemented("copying a directory"));
        }
        conditions.check_source(&source.sums.etag(), &source.changed)?;
        Ok(source)
    }

    /// Lets `to` share a range of `from`.
    pub(super) async fn share(
        &self,
        who: &Caller,
        from: Ino,
        mut offset: u64,
        mut len: u64,
        to: Ino,
        mut at: u64,
    ) -> Result<(), Error> {
        while len > 0 {
            let copied = self
                .volume
                .copy_range(who, from, offset, to, at, len)
                .await?;
            if copied == 0 {
                return Err(Error::Invalid("the source was cut while it was copied"));
            }
            offset += copied;
            at += copied;
            len -= copied;
        }
        Ok(())
    }
}

/// Bucket and key of a source.
pub(super) fn source_of(source: &CopySource) -> S3Result<(&str, &str)> {
    match source {
        CopySource::Bucket {
            bucket,
            key,
            version_id,
        } => {
            refuse_version(version_id.as_deref())?;
            Ok((bucket, key))
        }
        _ => Err(not_implemented("an access point as a source")),
    }
}
