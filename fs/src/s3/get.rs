//! Reading an object and what is known of it.

mod body;

use hyper::StatusCode;
use kiseki_core::{Error, engine::Attr, meta::Kind};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        ChecksumMode, GetObjectAttributesInput, GetObjectAttributesOutput, GetObjectInput,
        GetObjectOutput, HeadObjectInput, HeadObjectOutput, ObjectAttributes, Range, StorageClass,
        Timestamp,
    },
    s3_error,
};

use super::{
    Gateway,
    conditions::{Conditions, timestamp},
    failure::{failed, not_implemented, with_status},
    headers::Headers,
    key::Key,
    sums::Sums,
    tagging,
};

/// The content type of an object that was put without one.
const OCTETS: &str = "binary/octet-stream";
const DIRECTORY: &str = "application/x-directory";

/// An object, and what is kept with it.
pub(super) struct Object {
    pub attr: Attr,
    pub size: u64,
    pub changed: Timestamp,
    pub sums: Sums,
    pub headers: Headers,
}

/// A part of an object.
struct Piece {
    start: u64,
    end: u64,
    /// As a header, when it was asked for.
    range: Option<String>,
}

impl Gateway {
    /// The object that a key stands for.
    pub(super) async fn object(&self, bucket: &str, key: &str) -> S3Result<Object> {
        let bucket = self.bucket(bucket).await?;
        // What is no path names nothing.
        let key = Key::parse(key).map_err(|_| s3_error!(NoSuchKey))?;
        let found = self.find(&bucket, &key).await.map_err(failed)?;
        let attr = found.ok_or_else(|| s3_error!(NoSuchKey))?;
        self.describe(attr).await.map_err(failed)
    }

    async fn describe(&self, attr: Attr) -> Result<Object, Error> {
        let mut headers = Headers::load(&self.volume, attr.ino).await?;
        let directory = attr.kind == Kind::Directory;
        let default = if directory { DIRECTORY } else { OCTETS };
        headers
            .content_type
            .get_or_insert_with(|| default.to_owned());
        Ok(Object {
            size: if directory { 0 } else { attr.size },
            changed: timestamp(attr.mtime),
            sums: Sums::of(&self.volume, &attr).await?,
            headers,
            attr,
        })
    }

    pub(super) async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        refuse_version(input.version_id.as_deref())?;
        let object = self.object(&input.bucket, &input.key).await?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&object.sums.etag(), &object.changed)?;
        let piece = object.piece(input.range, input.part_number)?;
        let whole = piece.end - piece.start == object.size;
        let sums = checksums(&object, input.checksum_mode.as_ref(), whole);
        let parts = parts_count(&object, input.part_number);
        let tags = tagging::count(object.headers.tags.as_deref());
        let headers = object.headers;
        let mut answer = S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: headers.cache_control,
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            checksum_type: sums.checksum_type,
            content_disposition: headers.content_disposition,
            content_encoding: headers.content_encoding,
            content_language: headers.content_language,
            content_length: Some((piece.end - piece.start).cast_signed()),
            content_range: piece.range.clone(),
            content_type: headers.content_type,
            e_tag: Some(object.sums.etag()),
            expires: headers.expires,
            last_modified: Some(object.changed),
            metadata: headers.metadata,
            parts_count: parts,
            ..HeadObjectOutput::default()
        });
        if piece.range.is_some() {
            answer.status = Some(StatusCode::PARTIAL_CONTENT);
        }
        if let Some(tags) = tags {
            answer.headers.insert("x-amz-tagging-count", tags.into());
        }
        Ok(answer)
    }

    pub(super) async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        refuse_version(input.version_id.as_deref())?;
        let object = self.object(&input.bucket, &input.key).await?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&object.sums.etag(), &object.changed)?;
        let piece = object.piece(input.range, input.part_number)?;
        let whole = piece.end - piece.start == object.size;
        let sums = checksums(&object, input.checksum_mode.as_ref(), whole);
        let parts = parts_count(&object, input.part_number);
        let body = self.body(object.attr.ino, piece.start, piece.end).await?;
        let tags = tagging::count(object.headers.tags.as_deref());
        let headers = object.headers;
        let ranged = piece.range.is_some();
        let mut answer = S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(body),
            cache_control: headers.cache_control,
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            checksum_type: sums.checksum_type,
            content_disposition: headers.content_disposition,
            content_encoding: headers.content_encoding,
            content_language: headers.content_language,
            content_length: Some((piece.end - piece.start).cast_signed()),
            content_range: piece.range,
            content_type: headers.content_type,
            e_tag: Some(object.sums.etag()),
            expires: headers.expires,
            last_modified: Some(object.changed),
            metadata: headers.metadata,
            parts_count: parts,
            tag_count: tags,
            ..GetObjectOutput::default()
        });
        if ranged {
            answer.status = Some(StatusCode::PARTIAL_CONTENT);
        }
        Ok(answer)
    }

    pub(super) async fn get_object_attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<S3Response<GetObjectAttributesOutput>> {
        let input = request.input;
        refuse_version(input.version_id.as_deref())?;
        let object = self.object(&input.bucket, &input.key).await?;
        let wants = |name: &str| {
            let asked = input.object_attributes.iter();
            asked.into_iter().any(|asked| asked.as_str() == name)
        };
        let class = StorageClass::from_static(StorageClass::STANDARD);
        let sums = object.sums.checksums();
        Ok(S3Response::new(GetObjectAttributesOutput {
            checksum: (wants(ObjectAttributes::CHECKSUM) && sums.checksum_type.is_some())
                .then_some(sums),
            e_tag: wants(ObjectAttributes::ETAG).then(|| object.sums.etag()),
            last_modified: Some(object.changed),
            object_size: wants(ObjectAttributes::OBJECT_SIZE).then_some(object.size.cast_signed()),
            storage_class: wants(ObjectAttributes::STORAGE_CLASS).then_some(class),
            ..GetObjectAttributesOutput::default()
        }))
    }
}

/// There is one version of each object, which clients call `null`.
pub(super) fn refuse_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null" | "") => Ok(()),
        Some(_) => Err(not_implemented("versioning")),
    }
}

fn checksums(object: &Object, mode: Option<&ChecksumMode>, whole: bool) -> s3s::dto::Checksum {
    let asked = mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
    match asked && whole {
        true => object.sums.checksums(),
        false => s3s::dto::Checksum::default(),
    }
}

fn parts_count(object: &Object, part: Option<i32>) -> Option<i32> {
    // At most 10,000.
    let count = object.sums.parts.len() as i32;
    (part.is_some() && count > 0).then_some(count)
}

impl Object {
    /// What of the object is asked for.
    fn piece(&self, range: Option<Range>, part: Option<i32>) -> S3Result<Piece> {
        let asked = match (range, part) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err(s3_error!(
                    InvalidArgument,
                    "give a range or a number of a part, not both"
                ));
            }
            (Some(range), None) => {
                // `bytes=-n` of an empty object is the object.
                let empty = self.size == 0 && matches!(range, Range::Suffix { .. });
                if empty {
                    None
                } else {
                    Some(range.check(self.size)?)
                }
            }
            (None, Some(number)) => Some(self.part(number)?),
        };
        let Some(asked) = asked else {
            return Ok(Piece {
                start: 0,
                end: self.size,
                range: None,
            });
        };
        let header = (!asked.is_empty())
            .then(|| format!("bytes {}-{}/{}", asked.start, asked.end - 1, self.size));
        Ok(Piece {
            start: asked.start,
            end: asked.end,
            range: header,
        })
    }

    fn part(&self, number: i32) -> S3Result<std::ops::Range<u64>> {
        let missing = || {
            let what = "the object has no part of this number";
            with_status(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidPartNumber", what)
        };
        let index = usize::try_from(number - 1).map_err(|_| missing())?;
        let parts = &self.sums.parts;
        if parts.is_empty() && index == 0 {
            return Ok(0..self.size);
        }
        let size = parts.get(index).ok_or_else(missing)?;
        let start: u64 = parts[..index].iter().sum();
        Ok(start..start + size)
    }
}
