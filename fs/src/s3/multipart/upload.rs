//! Uploads: begin, find, abort.

use kiseki_core::{
    Error,
    engine::{Attr, XattrSet},
    ids::Ino,
};
use s3s::{
    S3Request, S3Response, S3Result,
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, ChecksumType,
        CreateMultipartUploadInput, CreateMultipartUploadOutput,
    },
    s3_error,
};
use serde::{Deserialize, Serialize};

use crate::s3::{
    Gateway,
    failure::{failed, not_implemented},
    headers::headers_of,
    key::Key,
    put::random_name,
};

/// On the directory of an upload: what it is.
const UPLOAD: &[u8] = b"upload";

/// An upload as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::s3) struct Upload {
    pub bucket: String,
    pub key: String,
    /// Checksum that the object is to have, by its name in S3.
    pub algorithm: Option<String>,
    /// The checksum is one of the parts' checksums.
    pub composite: bool,
}

/// An upload that was found.
pub(in crate::s3) struct Found {
    pub directory: Attr,
    pub upload: Upload,
}

impl Gateway {
    pub(in crate::s3) async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let mut input = request.input;
        self.bucket(&input.bucket).await?;
        if Key::parse(&input.key)?.file.is_none() {
            return Err(not_implemented("a directory as a multipart upload"));
        }
        let headers = headers_of!(input);
        let algorithm = input
            .checksum_algorithm
            .as_ref()
            .map(|algorithm| algorithm.as_str().to_ascii_uppercase());
        let upload = Upload {
            composite: is_composite(algorithm.as_deref(), input.checksum_type.as_ref())?,
            algorithm,
            bucket: input.bucket.clone(),
            key: input.key.clone(),
        };
        let (id, who) = (random_name(), self.own());
        let made = self
            .volume
            .mkdir(&who, self.uploads, id.as_bytes(), 0o700)
            .await
            .map_err(failed)?;
        headers
            .store(&self.volume, &who, made.ino)
            .await
            .map_err(failed)?;
        // Last: a directory without it is no upload.
        let kept = postcard::to_allocvec(&upload).map_err(|_| s3_error!(InternalError))?;
        self.volume
            .setxattr(&who, made.ino, UPLOAD, &kept, XattrSet::Create)
            .await
            .map_err(failed)?;
        self.volume.fsync(made.ino, false).await.map_err(failed)?;
        let kind = match upload.composite {
            true => ChecksumType::COMPOSITE,
            false => ChecksumType::FULL_OBJECT,
        };
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(upload.bucket),
            key: Some(upload.key),
            upload_id: Some(id),
            checksum_type: upload
                .algorithm
                .is_some()
                .then(|| ChecksumType::from_static(kind)),
            checksum_algorithm: upload.algorithm.map(ChecksumAlgorithm::from),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    pub(in crate::s3) async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        let found = self
            .upload(&input.bucket, &input.key, &input.upload_id)
            .await?;
        self.discard(&input.upload_id, found.directory.ino)
            .await
            .map_err(failed)?;
        self.volume
            .fsync(self.uploads, false)
            .await
            .map_err(failed)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    /// The upload of this id, if it is one of this key.
    pub(in crate::s3) async fn upload(&self, bucket: &str, key: &str, id: &str) -> S3Result<Found> {
        let missing = || s3_error!(NoSuchUpload);
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let directory = self.child(self.uploads, id).await.map_err(failed)?;
        let directory = directory.ok_or_else(missing)?;
        let upload = self.upload_in(directory.ino).await.map_err(failed)?;
        match upload {
            Some(upload) if upload.bucket == bucket && upload.key == key => {
                Ok(Found { directory, upload })
            }
            _ => Err(missing()),
        }
    }

    /// What the directory of an upload says.
    pub(super) async fn upload_in(&self, directory: Ino) -> Result<Option<Upload>, Error> {
        match self.volume.getxattr(directory, UPLOAD).await {
            Ok(kept) => Ok(postcard::from_bytes(&kept).ok()),
            Err(Error::NoAttribute | Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes an upload with its parts.
    pub(super) async fn discard(&self, id: &str, directory: Ino) -> Result<(), Error> {
        let who = self.own();
        // First, so that no more parts are taken.
        match self.volume.removexattr(&who, directory, UPLOAD).await {
            Ok(()) | Err(Error::NoAttribute) => {}
            Err(error) => return Err(error),
        }
        loop {
            for entry in self.volume.readdir(directory, 0, 1024).await? {
                match self.volume.unlink(&who, directory, &entry.name).await {
                    Ok(()) | Err(Error::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
            match self.volume.rmdir(&who, self.uploads, id.as_bytes()).await {
                // A part came in at the last moment.
                Err(Error::NotEmpty) => {}
                Ok(()) | Err(Error::NotFound) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes the uploads of a bucket that is gone.
    pub(in crate::s3) async fn abort_uploads_of(&self, bucket: &str) -> Result<(), Error> {
        for (id, found) in self.all_uploads().await? {
            if found.upload.bucket == bucket {
                self.discard(&id, found.directory.ino).await?;
            }
        }
        Ok(())
    }

    /// All uploads there are.
    pub(super) async fn all_uploads(&self) -> Result<Vec<(String, Found)>, Error> {
        let mut found = Vec::new();
        let mut cookie = 0;
        loop {
            let page = self.volume.readdir_plus(self.uploads, cookie, 256).await?;
            let Some((last, _)) = page.last() else {
                return Ok(found);
            };
            cookie = last.cookie;
            for (entry, directory) in page {
                let Some(upload) = self.upload_in(entry.ino).await? else {
                    continue;
                };
                let id = String::from_utf8_lossy(&entry.name).into_owned();
                found.push((id, Found { directory, upload }));
            }
        }
    }
}

/// How the checksum of the object comes from those of its parts, by the rules
/// of S3: hashes are hashed again, and a CRC can be joined.
fn is_composite(algorithm: Option<&str>, asked: Option<&ChecksumType>) -> S3Result<bool> {
    let asked = asked.map(ChecksumType::as_str);
    let (whole, composite) = match algorithm {
        None => return Ok(false),
        Some(ChecksumAlgorithm::CRC64NVME) => (true, false),
        Some(ChecksumAlgorithm::CRC32 | ChecksumAlgorithm::CRC32C) => (true, true),
        Some(ChecksumAlgorithm::SHA1 | ChecksumAlgorithm::SHA256) => (false, true),
        Some(other) => return Err(not_implemented(&format!("the checksum {other}"))),
    };
    match asked {
        Some(ChecksumType::COMPOSITE) if composite => Ok(true),
        Some(ChecksumType::FULL_OBJECT) if whole => Ok(false),
        None => Ok(composite),
        Some(other) => Err(s3_error!(
            InvalidRequest,
            "a checksum of this algorithm cannot be of the type {other}"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_checksum_has_the_types_that_s3_gives_it() {
        let full = ChecksumType::from_static(ChecksumType::FULL_OBJECT);
        let composite = ChecksumType::from_static(ChecksumType::COMPOSITE);
        assert!(is_composite(Some("CRC32"), None).unwrap());
        assert!(!is_composite(Some("CRC32"), Some(&full)).unwrap());
        assert!(!is_composite(Some("CRC64NVME"), None).unwrap());
        assert!(is_composite(Some("CRC64NVME"), Some(&composite)).is_err());
        assert!(is_composite(Some("SHA256"), Some(&full)).is_err());
        assert!(is_composite(Some("MD4"), None).is_err());
    }
}
