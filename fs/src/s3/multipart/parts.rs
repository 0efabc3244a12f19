//! Parts of an upload: files named by their number.

use kiseki_core::{
    Error,
    engine::{Attr, RenameFlags},
    ids::Ino,
};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        CopyPartResult, ETag, Range, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput,
        UploadPartOutput,
    },
    s3_error,
};

use crate::s3::{
    Gateway, Op,
    conditions::{Conditions, timestamp},
    copy::source_of,
    failure::{failed, not_implemented},
    put::{Expected, Temporary},
    sums::{Sums, checksums_of, etag_of_state},
};

/// Highest number of a part.
const NUMBER_MAX: i32 = 10_000;

/// A part that is there.
pub(super) struct Part {
    pub attr: Attr,
    pub sums: Sums,
}

/// The name of a part, by which they also sort.
fn name(number: i32) -> S3Result<String> {
    match number {
        1..=NUMBER_MAX => Ok(format!("{number:05}")),
        _ => Err(s3_error!(
            InvalidArgument,
            "parts have numbers from 1 to 10,000"
        )),
    }
}

impl Gateway {
    pub(in crate::s3) async fn upload_part(
        &self,
        mut request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let name = name(request.input.part_number)?;
        if request.input.sse_customer_key.is_some() {
            return Err(not_implemented("encryption with a key of the client"));
        }
        let found = self
            .upload(
                &request.input.bucket,
                &request.input.key,
                &request.input.upload_id,
            )
            .await?;
        let mut expected = Expected::new(
            checksums_of!(request.input),
            request.input.checksum_algorithm.as_ref(),
            request.input.content_md5.take(),
            &request.headers,
            request.trailing_headers.take(),
        )?;
        if let Some(algorithm) = &found.upload.algorithm {
            expected.also(algorithm)?;
        }
        let body = request.input.body;
        let body = body.ok_or_else(|| s3_error!(IncompleteBody, "the request has no body"))?;
        let file = self.temporary(&found.directory).await.map_err(failed)?;
        let sums = self.receive(Op::UploadPart, &file, body, expected).await?;
        self.keep_part(file, found.directory.ino, &name, &sums)
            .await?;
        let checksums = sums.checksums();
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(sums.etag()),
            checksum_crc32: checksums.checksum_crc32,
            checksum_crc32c: checksums.checksum_crc32c,
            checksum_crc64nvme: checksums.checksum_crc64nvme,
            checksum_sha1: checksums.checksum_sha1,
            checksum_sha256: checksums.checksum_sha256,
            ..UploadPartOutput::default()
        }))
    }

    pub(in crate::s3) async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = request.input;
        let name = name(input.part_number)?;
        let found = self
            .upload(&input.bucket, &input.key, &input.upload_id)
            .await?;
        if found.upload.algorithm.is_some() {
            return Err(not_implemented("the checksum of a part that is a copy"));
        }
        let (bucket, key) = source_of(&input.copy_source)?;
        let conditions = Conditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let source = self.source(bucket, key, &conditions).await?;
        let range = match &input.copy_source_range {
            Some(text) => {
                let range = Range::parse(text)
                    .map_err(|_| s3_error!(InvalidArgument, "the source range is none"))?;
                range.check(source.size)?
            }
            None => 0..source.size,
        };
        let file = self.temporary(&found.directory).await.map_err(failed)?;
        let (who, ino) = (*file.who(), file.ino());
        let (from, len) = (source.attr.ino, range.end - range.start);
        self.share(&who, from, range.start, len, ino, 0)
            .await
            .map_err(failed)?;
        // Its bytes were not read, so the sum is one of its state.
        let attr = self.volume.getattr(ino).await.map_err(failed)?;
        let sums = Sums::new(match len == source.size && source.sums.is_of_contents() {
            true => source.sums.etag.clone(),
            false => etag_of_state(&attr),
        });
        self.keep_part(file, found.directory.ino, &name, &sums)
            .await?;
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(CopyPartResult {
                e_tag: Some(ETag::Strong(sums.etag)),
                last_modified: Some(timestamp(attr.mtime)),
                ..CopyPartResult::default()
            }),
            ..UploadPartCopyOutput::default()
        }))
    }

    async fn keep_part(
        &self,
        mut file: Temporary,
        directory: Ino,
        name: &str,
        sums: &Sums,
    ) -> S3Result<()> {
        let ino = file.ino();
        sums.store(&self.volume, ino).await.map_err(failed)?;
        match file.name(directory, name, RenameFlags::Replace).await {
            Ok(()) => {}
            // The upload was completed or aborted meanwhile.
            Err(Error::NotFound) => return Err(s3_error!(NoSuchUpload)),
            Err(error) => return Err(failed(error)),
        }
        self.volume.fsync(ino, false).await.map_err(failed)
    }

    /// A part by its number.
    pub(super) async fn part(&self, directory: Ino, number: i32) -> S3Result<Option<Part>> {
        let found = self.child(directory, &name(number)?).await;
        let Some(attr) = found.map_err(failed)? else {
            return Ok(None);
        };
        let sums = Sums::of(&self.volume, &attr).await.map_err(failed)?;
        Ok(Some(Part { attr, sums }))
    }
}
