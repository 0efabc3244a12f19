//! Taking in a body.

use std::time::Duration;

use futures_util::StreamExt;
use hyper::{HeaderMap, StatusCode};
use s3s::{
    S3Error, S3Result, TrailingHeaders,
    checksum::ChecksumHasher,
    crypto::{Checksum as _, Md5},
    dto::{Checksum, ChecksumAlgorithm, StreamingBlob},
    s3_error,
};

use super::Temporary;
use crate::s3::{
    Gateway, Op,
    failure::{failed, with_status},
    sums,
    sums::Sums,
};

/// How long a client may send nothing.
const PATIENCE: Duration = Duration::from_secs(60);

const TRAILER: &str = "x-amz-trailer";
const CHECKSUM: &str = "x-amz-checksum-";

/// What a client says that the sums of a body are, or asks to be computed.
pub(in crate::s3) struct Expected {
    hasher: ChecksumHasher,
    given: Checksum,
    md5: Option<String>,
    trailers: Option<TrailingHeaders>,
}

impl Expected {
    pub(in crate::s3) fn new(
        given: Checksum,
        algorithm: Option<&ChecksumAlgorithm>,
        md5: Option<String>,
        headers: &HeaderMap,
        trailers: Option<TrailingHeaders>,
    ) -> S3Result<Expected> {
        let mut hasher = ChecksumHasher::default();
        sums::add_given(&mut hasher, &given);
        if let Some(algorithm) = algorithm {
            sums::add(&mut hasher, algorithm.as_str())?;
        }
        // A trailer is announced, so that its sum can be computed on the way.
        let announced = headers.get_all(TRAILER).iter();
        for trailer in announced.filter_map(|value| value.to_str().ok()) {
            for name in trailer.split(',') {
                if let Some(algorithm) = name.trim().to_ascii_lowercase().strip_prefix(CHECKSUM) {
                    sums::add(&mut hasher, algorithm)?;
                }
            }
        }
        Ok(Expected {
            hasher,
            given,
            md5,
            trailers,
        })
    }

    /// Computes this one as well.
    pub(in crate::s3) fn also(&mut self, algorithm: &str) -> S3Result<()> {
        sums::add(&mut self.hasher, algorithm)
    }

    /// Adds the sums that came behind the body.
    fn take_trailers(&mut self) {
        let Some(headers) = self.trailers.take().and_then(|trailers| trailers.take()) else {
            return;
        };
        let get = |algorithm: &str| {
            let value = headers.get(format!("{CHECKSUM}{algorithm}"))?;
            value.to_str().ok().map(str::to_owned)
        };
        let given = &mut self.given;
        given.checksum_crc32 = get("crc32").or(given.checksum_crc32.take());
        given.checksum_crc32c = get("crc32c").or(given.checksum_crc32c.take());
        given.checksum_crc64nvme = get("crc64nvme").or(given.checksum_crc64nvme.take());
        given.checksum_sha1 = get("sha1").or(given.checksum_sha1.take());
        given.checksum_sha256 = get("sha256").or(given.checksum_sha256.take());
    }
}

impl Gateway {
    /// Writes the body of an `op` to a file and compares its sums with those
    /// given.
    pub(in crate::s3) async fn receive(
        &self,
        op: Op,
        file: &Temporary,
        mut body: StreamingBlob,
        mut expected: Expected,
    ) -> S3Result<Sums> {
        let _permit = self.transfer().await?;
        let mut md5 = Md5::new();
        let mut size = 0;
        loop {
            let next = tokio::time::timeout(PATIENCE, body.next()).await;
            let piece = match next {
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(error))) => return Err(broken(&*error)),
                Ok(None) => break,
                Err(_) => return Err(s3_error!(RequestTimeout)),
            };
            md5.update(&piece);
            expected.hasher.update(&piece);
            let len = piece.len() as u64;
            self.volume
                .write(file.who(), file.ino(), size, piece)
                .await
                .map_err(failed)?;
            self.stats.moved(op, len);
            size += len;
        }
        expected.take_trailers();
        let md5 = md5.finalize();
        let given = expected.md5.as_ref();
        if given.is_some_and(|given| *given != base64_simd::STANDARD.encode_to_string(md5)) {
            return Err(s3_error!(
                BadDigest,
                "the Content-MD5 given is not that of the contents"
            ));
        }
        let found = expected.hasher.finalize();
        sums::compare(&expected.given, &found)?;
        let mut sums = Sums::new(hex::encode(md5));
        sums.set_checksums(found, false);
        Ok(sums)
    }

    /// Waits for room for a body, for a while.
    pub(in crate::s3) async fn transfer(&self) -> S3Result<tokio::sync::OwnedSemaphorePermit> {
        let wait = self.transfers.clone().acquire_owned();
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(s3_error!(
                SlowDown,
                "too many bodies are on their way; try again"
            )),
        }
    }
}

/// Why a body ended early. The types of these errors are private to `s3s`.
fn broken(error: &(dyn std::error::Error + Send + Sync)) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        with_status(
            StatusCode::BAD_REQUEST,
            "XAmzContentSHA256Mismatch",
            "the x-amz-content-sha256 given is not that of the contents",
        )
    } else if text.contains("SignatureMismatch") {
        s3_error!(SignatureDoesNotMatch)
    } else {
        s3_error!(
            IncompleteBody,
            "the body could not be read to its end: {text}"
        )
    }
}
