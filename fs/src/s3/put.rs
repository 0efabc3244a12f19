//! Putting an object: its bytes go to a file that has no name yet, and a
//! rename shows it when all of it is there. A reader finds the old object or
//! the new one.

mod publish;
mod receive;
mod temporary;

use kiseki_core::engine::Attr;
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{PutObjectInput, PutObjectOutput, StreamingBlob},
    s3_error,
};

use super::{
    Gateway, Op,
    conditions::WriteConditions,
    failure::{failed, not_implemented},
    headers::{Headers, headers_of},
    key::Key,
    sums::{Sums, checksums_of},
};
pub(super) use publish::{Target, Writers};
pub(super) use receive::Expected;
pub(super) use temporary::{Temporary, random_name};

impl Gateway {
    pub(super) async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let bucket = self.bucket(&request.input.bucket).await?;
        let key = Key::parse(&request.input.key)?;
        if request.input.write_offset_bytes.is_some() {
            return Err(not_implemented("appending to an object"));
        }
        let headers = headers_of!(request.input);
        let expected = Expected::new(
            checksums_of!(request.input),
            request.input.checksum_algorithm.as_ref(),
            request.input.content_md5.take(),
            &request.headers,
            request.trailing_headers.take(),
        )?;
        let input = request.input;
        let target = Target {
            conditions: WriteConditions {
                if_match: input.if_match,
                if_none_match: input.if_none_match,
            },
            bucket,
            key,
        };
        let body = input
            .body
            .ok_or_else(|| s3_error!(IncompleteBody, "the request has no body"))?;
        let sums = match target.key.file {
            Some(_) => self.put_file(&target, &headers, body, expected).await?,
            None => self.put_directory(&target, body, expected).await?,
        };
        let checksums = sums.checksums();
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(sums.etag()),
            checksum_crc32: checksums.checksum_crc32,
            checksum_crc32c: checksums.checksum_crc32c,
            checksum_crc64nvme: checksums.checksum_crc64nvme,
            checksum_sha1: checksums.checksum_sha1,
            checksum_sha256: checksums.checksum_sha256,
            checksum_type: checksums.checksum_type,
            ..PutObjectOutput::default()
        }))
    }

    async fn put_file(
        &self,
        target: &Target,
        headers: &Headers,
        body: StreamingBlob,
        expected: Expected,
    ) -> S3Result<Sums> {
        let temporary = self.temporary(&target.bucket).await.map_err(failed)?;
        let sums = self
            .receive(Op::PutObject, &temporary, body, expected)
            .await?;
        headers
            .store(&self.volume, temporary.who(), temporary.ino())
            .await
            .map_err(failed)?;
        sums.store(&self.volume, temporary.ino())
            .await
            .map_err(failed)?;
        self.publish(temporary, target).await?;
        Ok(sums)
    }

    /// A key that ends in a slash is a directory, which holds no bytes.
    async fn put_directory(
        &self,
        target: &Target,
        body: StreamingBlob,
        expected: Expected,
    ) -> S3Result<Sums> {
        let temporary = self.temporary(&target.bucket).await.map_err(failed)?;
        let sums = self
            .receive(Op::PutObject, &temporary, body, expected)
            .await?;
        let size = self.volume.getattr(temporary.ino()).await.map_err(failed)?;
        if size.size > 0 {
            return Err(s3_error!(
                InvalidArgument,
                "a key that ends in a slash is a directory and holds no bytes"
            ));
        }
        drop(temporary);
        if !target.conditions.is_empty() {
            return Err(not_implemented("a condition on a directory"));
        }
        let directory = self
            .make_path(&target.bucket, &target.key.directories)
            .await?;
        self.make_object(&directory).await.map_err(failed)?;
        self.settle(directory.ino).await.map_err(failed)?;
        Ok(sums)
    }

    /// A new file that has no name, for an object of this bucket.
    pub(super) async fn temporary(&self, bucket: &Attr) -> Result<Temporary, kiseki_core::Error> {
        Temporary::make(self, self.owner_of(bucket)).await
    }
}
