//! Sums over the contents of an object: the ETag, and the checksums that a
//! client asked for. They are a note of the engine on the contents, so that
//! whoever changes those removes them.

use kiseki_core::{
    Error,
    engine::{Attr, Volume},
    ids::Ino,
};
use s3s::{
    S3Result,
    checksum::ChecksumHasher,
    crypto::{Checksum as _, Md5},
    dto::{Checksum, ChecksumAlgorithm, ChecksumType, ETag},
    s3_error,
};
use serde::{Deserialize, Serialize};

use super::failure::not_implemented;

/// The first byte of a note.
const VERSION: u8 = 1;

/// Sums of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    pub etag: String,
    crc32: Option<String>,
    crc32c: Option<String>,
    crc64nvme: Option<String>,
    sha1: Option<String>,
    sha256: Option<String>,
    /// The checksums are those of the parts' checksums.
    pub composite: bool,
    /// Lengths of the parts of a multipart upload.
    pub parts: Vec<u64>,
}

/// The sums of a file that was not put, or was changed since: they say which
/// state of which file it is, not what is in it. No client takes such an ETag
/// for an MD5, because of the hyphen.
pub(super) fn etag_of_state(attr: &Attr) -> String {
    let mut hash = Md5::new();
    for time in [attr.mtime, attr.ctime] {
        hash.update(&time.secs.to_le_bytes());
        hash.update(&time.nanos.to_le_bytes());
    }
    hash.update(&attr.ino.0.to_le_bytes());
    hash.update(&attr.size.to_le_bytes());
    format!("{}-0", hex::encode(hash.finalize()))
}

impl Sums {
    pub(super) fn new(etag: String) -> Sums {
        Sums {
            etag,
            ..Sums::default()
        }
    }

    /// Those of an object as it is now.
    pub(super) async fn of(volume: &Volume, attr: &Attr) -> Result<Sums, Error> {
        let kept = match volume.note(attr.ino).await? {
            Some(note) => match note.split_first() {
                Some((&VERSION, rest)) => postcard::from_bytes(rest).ok(),
                _ => None,
            },
            None => None,
        };
        Ok(kept.unwrap_or_else(|| Sums::new(etag_of_state(attr))))
    }

    /// Keeps them with the contents of an inode.
    pub(super) async fn store(&self, volume: &Volume, ino: Ino) -> Result<(), Error> {
        let note = postcard::to_extend(self, vec![VERSION])
            .map_err(|_| Error::Invalid("the sums of an object do not encode"))?;
        volume.set_note(ino, &note).await
    }

    /// Whether they are sums of the contents.
    pub(super) fn is_of_contents(&self) -> bool {
        !self.etag.ends_with("-0")
    }

    pub(super) fn etag(&self) -> ETag {
        ETag::Strong(self.etag.clone())
    }

    pub(super) fn set_checksums(&mut self, sums: Checksum, composite: bool) {
        self.crc32 = sums.checksum_crc32;
        self.crc32c = sums.checksum_crc32c;
        self.crc64nvme = sums.checksum_crc64nvme;
        self.sha1 = sums.checksum_sha1;
        self.sha256 = sums.checksum_sha256;
        self.composite = composite;
    }

    /// The checksums in the form of answers.
    pub(super) fn checksums(&self) -> Checksum {
        let mut sums = Checksum::default();
        sums.checksum_crc32.clone_from(&self.crc32);
        sums.checksum_crc32c.clone_from(&self.crc32c);
        sums.checksum_crc64nvme.clone_from(&self.crc64nvme);
        sums.checksum_sha1.clone_from(&self.sha1);
        sums.checksum_sha256.clone_from(&self.sha256);
        let kind = match self.composite {
            true => ChecksumType::COMPOSITE,
            false => ChecksumType::FULL_OBJECT,
        };
        sums.checksum_type = has_any(&sums).then(|| ChecksumType::from_static(kind));
        sums
    }
}

pub(super) fn has_any(sums: &Checksum) -> bool {
    every(sums).iter().any(|sum| sum.is_some())
}

fn every(sums: &Checksum) -> [Option<&String>; 5] {
    [
        sums.checksum_crc32.as_ref(),
        sums.checksum_crc32c.as_ref(),
        sums.checksum_crc64nvme.as_ref(),
        sums.checksum_sha1.as_ref(),
        sums.checksum_sha256.as_ref(),
    ]
}

/// The checksums an input of `s3s` brings.
macro_rules! checksums_of {
    ($input:expr) => {{
        let mut sums = s3s::dto::Checksum::default();
        sums.checksum_crc32 = $input.checksum_crc32.clone();
        sums.checksum_crc32c = $input.checksum_crc32c.clone();
        sums.checksum_crc64nvme = $input.checksum_crc64nvme.clone();
        sums.checksum_sha1 = $input.checksum_sha1.clone();
        sums.checksum_sha256 = $input.checksum_sha256.clone();
        sums
    }};
}
pub(super) use checksums_of;

/// Adds an algorithm, by its name in S3, to those that are computed.
pub(super) fn add(hasher: &mut ChecksumHasher, algorithm: &str) -> S3Result<()> {
    match algorithm.to_ascii_uppercase().as_str() {
        ChecksumAlgorithm::CRC32 => hasher.crc32 = Some(Default::default()),
        ChecksumAlgorithm::CRC32C => hasher.crc32c = Some(Default::default()),
        ChecksumAlgorithm::CRC64NVME => hasher.crc64nvme = Some(Default::default()),
        ChecksumAlgorithm::SHA1 => hasher.sha1 = Some(Default::default()),
        ChecksumAlgorithm::SHA256 => hasher.sha256 = Some(Default::default()),
        other => return Err(not_implemented(&format!("the checksum {other}"))),
    }
    Ok(())
}

/// Adds the algorithms of checksums that were given.
pub(super) fn add_given(hasher: &mut ChecksumHasher, given: &Checksum) {
    let [crc32, crc32c, crc64nvme, sha1, sha256] = every(given).map(|sum| sum.is_some());
    hasher.crc32 = crc32.then(Default::default).or(hasher.crc32.take());
    hasher.crc32c = crc32c.then(Default::default).or(hasher.crc32c.take());
    hasher.crc64nvme = crc64nvme.then(Default::default).or(hasher.crc64nvme.take());
    hasher.sha1 = sha1.then(Default::default).or(hasher.sha1.take());
    hasher.sha256 = sha256.then(Default::default).or(hasher.sha256.take());
}

/// Refuses contents whose sums are not those that were given.
pub(super) fn compare(given: &Checksum, found: &Checksum) -> S3Result<()> {
    for (given, found) in every(given).into_iter().zip(every(found)) {
        if given.is_some() && given != found {
            return Err(s3_error!(
                BadDigest,
                "the checksum given is not that of the contents"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_given_sums_are_compared() {
        let found = Checksum {
            checksum_crc32: Some("a".into()),
            ..Checksum::default()
        };
        let mut given = Checksum::default();
        assert!(compare(&given, &found).is_ok());
        given.checksum_crc32 = Some("a".into());
        assert!(compare(&given, &found).is_ok());
        given.checksum_sha256 = Some("b".into());
        assert!(compare(&given, &found).is_err());
    }

    #[test]
    fn the_state_of_a_file_shows_in_its_etag() {
        let attr = |size| {
            let json = (kiseki_core::ids::Timestamp::default(), size);
            Attr {
                ino: Ino(7),
                kind: kiseki_core::meta::Kind::File,
                mode: 0,
                nlink: 1,
                uid: 0,
                gid: 0,
                rdev: 0,
                size: json.1,
                blocks: 0,
                atime: json.0,
                mtime: json.0,
                ctime: json.0,
                btime: json.0,
            }
        };
        assert_ne!(etag_of_state(&attr(1)), etag_of_state(&attr(2)));
        assert!(etag_of_state(&attr(1)).ends_with("-0"));
    }
}
