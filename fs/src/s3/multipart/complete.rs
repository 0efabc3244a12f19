//! Completing an upload.

use base64_simd::STANDARD as BASE64;
use crc_fast::{CrcAlgorithm, checksum_combine};
use kiseki_core::Error;
use s3s::{
    S3Request, S3Response, S3Result,
    checksum::ChecksumHasher,
    crypto::{Checksum as _, Md5},
    dto::{
        Checksum, ChecksumAlgorithm, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
        CompletedPart, ETag,
    },
    s3_error,
};

use super::{parts::Part, upload::Found};
use crate::s3::{
    Gateway,
    conditions::WriteConditions,
    failure::failed,
    headers::Headers,
    key::Key,
    put::Target,
    sums::{self, Sums, checksums_of},
};

/// Least size of a part that is not the last.
const PART_MIN: u64 = 5 << 20;

impl Gateway {
    pub(in crate::s3) async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let given = checksums_of!(request.input);
        let input = request.input;
        let bucket = self.bucket(&input.bucket).await?;
        let found = self
            .upload(&input.bucket, &input.key, &input.upload_id)
            .await?;
        let listed = input.multipart_upload.and_then(|upload| upload.parts);
        let parts = self.chosen(&found, &listed.unwrap_or_default()).await?;
        let size: u64 = parts.iter().map(|part| part.attr.size).sum();
        if input
            .mpu_object_size
            .is_some_and(|given| given != size.cast_signed())
        {
            return Err(s3_error!(
                InvalidRequest,
                "the parts are not as long as the size given"
            ));
        }
        let sums = joined(&parts, &found)?;
        // Clients may give a composite sum without the number of parts.
        if !sums.composite {
            sums::compare(&given, &sums.checksums())?;
        }

        let file = self.temporary(&bucket).await.map_err(failed)?;
        let (who, ino) = (*file.who(), file.ino());
        let mut at = 0;
        for part in &parts {
            let len = part.attr.size;
            self.share(&who, part.attr.ino, 0, len, ino, at)
                .await
                .map_err(failed)?;
            at += len;
        }
        let headers = Headers::load(&self.volume, found.directory.ino).await;
        headers
            .map_err(failed)?
            .store(&self.volume, &who, ino)
            .await
            .map_err(failed)?;
        sums.store(&self.volume, ino).await.map_err(failed)?;
        let target = Target {
            bucket,
            key: Key::parse(&input.key)?,
            conditions: WriteConditions {
                if_match: input.if_match,
                if_none_match: input.if_none_match,
            },
        };
        self.publish(file, &target).await?;
        let discarded = self.discard(&input.upload_id, found.directory.ino).await;
        if let Err(error) = discarded
            && !matches!(error, Error::NotFound)
        {
            tracing::warn!(%error, "the parts of a completed upload stay for now");
        }
        let checksums = sums.checksums();
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(sums.etag()),
            checksum_crc32: checksums.checksum_crc32,
            checksum_crc32c: checksums.checksum_crc32c,
            checksum_crc64nvme: checksums.checksum_crc64nvme,
            checksum_sha1: checksums.checksum_sha1,
            checksum_sha256: checksums.checksum_sha256,
            checksum_type: checksums.checksum_type,
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    /// The parts that the client lists, which are what the object is made of.
    async fn chosen(&self, found: &Found, listed: &[CompletedPart]) -> S3Result<Vec<Part>> {
        if listed.is_empty() {
            return Err(s3_error!(MalformedXML, "the request lists no parts"));
        }
        let mut parts = Vec::with_capacity(listed.len());
        let mut before = 0;
        for (index, part) in listed.iter().enumerate() {
            let number = part.part_number.unwrap_or(0);
            if number <= before {
                return Err(s3_error!(InvalidPartOrder));
            }
            before = number;
            let there = self.part(found.directory.ino, number).await?;
            let there = there.ok_or_else(|| no_part(number))?;
            let etag = part.e_tag.as_ref().map(ETag::value);
            if etag.is_some_and(|etag| etag != there.sums.etag) {
                return Err(no_part(number));
            }
            sums::compare(&checksums_of!(part), &there.sums.checksums())?;
            if index + 1 < listed.len() && there.attr.size < PART_MIN {
                return Err(s3_error!(
                    EntityTooSmall,
                    "part {number} has less than 5 MiB and is not the last"
                ));
            }
            parts.push(there);
        }
        Ok(parts)
    }
}

fn no_part(number: i32) -> s3s::S3Error {
    s3_error!(
        InvalidPart,
        "there is no part {number}, or it has another ETag"
    )
}

/// The sums of an object, from those of its parts.
fn joined(parts: &[Part], found: &Found) -> S3Result<Sums> {
    let mut md5 = Md5::new();
    for part in parts {
        // A copied part has a sum of its state, which is as good here.
        let hex = part.sums.etag.split('-').next().unwrap_or_default();
        md5.update(&hex::decode(hex).unwrap_or_default());
    }
    let mut sums = Sums::new(format!("{}-{}", hex::encode(md5.finalize()), parts.len()));
    sums.parts = parts.iter().map(|part| part.attr.size).collect();
    if let Some(algorithm) = &found.upload.algorithm {
        let of_parts: Vec<(String, u64)> = parts
            .iter()
            .map(|part| (named(&part.sums.checksums(), algorithm), part.attr.size))
            .collect();
        let composite = found.upload.composite;
        let joined = match composite {
            true => sum_of_sums(algorithm, &of_parts)?,
            false => joined_crc(algorithm, &of_parts)?,
        };
        sums.set_checksums(joined, composite);
    }
    Ok(sums)
}

/// The checksum of an algorithm; empty when there is none.
fn named(sums: &Checksum, algorithm: &str) -> String {
    let sum = match algorithm {
        ChecksumAlgorithm::CRC32 => &sums.checksum_crc32,
        ChecksumAlgorithm::CRC32C => &sums.checksum_crc32c,
        ChecksumAlgorithm::CRC64NVME => &sums.checksum_crc64nvme,
        ChecksumAlgorithm::SHA1 => &sums.checksum_sha1,
        _ => &sums.checksum_sha256,
    };
    sum.clone().unwrap_or_default()
}

fn raw(sum: &str) -> S3Result<Vec<u8>> {
    let raw = BASE64.decode_to_vec(sum).unwrap_or_default();
    match raw.is_empty() {
        true => Err(s3_error!(
            InvalidPart,
            "a part has no checksum of the algorithm of the upload"
        )),
        false => Ok(raw),
    }
}

fn sum_of_sums(algorithm: &str, parts: &[(String, u64)]) -> S3Result<Checksum> {
    let mut hasher = ChecksumHasher::default();
    sums::add(&mut hasher, algorithm)?;
    for (sum, _) in parts {
        hasher.update(&raw(sum)?);
    }
    let mut joined = hasher.finalize();
    let count = parts.len();
    for sum in [
        &mut joined.checksum_crc32,
        &mut joined.checksum_crc32c,
        &mut joined.checksum_sha1,
        &mut joined.checksum_sha256,
    ] {
        *sum = sum.take().map(|sum| format!("{sum}-{count}"));
    }
    Ok(joined)
}

fn joined_crc(algorithm: &str, parts: &[(String, u64)]) -> S3Result<Checksum> {
    let (kind, width) = match algorithm {
        ChecksumAlgorithm::CRC32 => (CrcAlgorithm::Crc32IsoHdlc, 4),
        ChecksumAlgorithm::CRC32C => (CrcAlgorithm::Crc32Iscsi, 4),
        _ => (CrcAlgorithm::Crc64Nvme, 8),
    };
    let mut whole = None;
    for (sum, len) in parts {
        let number = raw(sum)?
            .iter()
            .fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        whole = Some(match whole {
            None => number,
            Some(before) => checksum_combine(kind, before, number, *len),
        });
    }
    let bytes = whole.unwrap_or(0).to_be_bytes();
    let text = Some(BASE64.encode_to_string(&bytes[8 - width..]));
    let mut joined = Checksum::default();
    match algorithm {
        ChecksumAlgorithm::CRC32 => joined.checksum_crc32 = text,
        ChecksumAlgorithm::CRC32C => joined.checksum_crc32c = text,
        _ => joined.checksum_crc64nvme = text,
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sum(algorithm: &str, bytes: &[u8]) -> String {
        let mut hasher = ChecksumHasher::default();
        sums::add(&mut hasher, algorithm).unwrap();
        hasher.update(bytes);
        named(&hasher.finalize(), algorithm)
    }

    #[test]
    fn joined_crcs_are_those_of_the_whole() {
        let (one, two, three) = (b"one".as_slice(), b"".as_slice(), b"three".as_slice());
        for algorithm in ["CRC32", "CRC32C", "CRC64NVME"] {
            let parts = [one, two, three].map(|part| (sum(algorithm, part), part.len() as u64));
            let joined = joined_crc(algorithm, &parts).unwrap();
            let whole = sum(algorithm, &[one, two, three].concat());
            assert_eq!(named(&joined, algorithm), whole, "{algorithm}");
        }
    }

    #[test]
    fn a_composite_sum_counts_its_parts() {
        let parts = [("AAAAAA==".to_owned(), 1), ("AAAAAA==".to_owned(), 2)];
        let joined = sum_of_sums("CRC32", &parts).unwrap();
        let whole = sum("CRC32", &[0; 8]);
        assert_eq!(joined.checksum_crc32, Some(format!("{whole}-2")));
        assert!(sum_of_sums("CRC32", &[(String::new(), 1)]).is_err());
    }
}
