//! Small sealed records: names, symlink targets, inline contents, extended
//! attributes.
//!
//! AES-256-GCM-SIV with a random nonce. The associated data names the volume
//! and the place the record belongs to, so that a record put anywhere else
//! does not open.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce};
use zeroize::Zeroizing;

use crate::{
    Error, Result,
    crypto::{
        nonce::NONCE,
        secret::{Secret, cipher},
    },
    ids::{Epoch, Ino, NameTag, VolumeId},
};

const VERSION: u8 = 1;
const HEADER: usize = 5;
const TAG: usize = 16;
const LABEL: &[u8; 13] = b"kiseki record";
const AAD: usize = LABEL.len() + HEADER + 16 + 1 + 8 + 16;

/// Bytes that sealing adds to a record.
pub const RECORD_OVERHEAD: usize = HEADER + NONCE + TAG;

/// The place a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordContext {
    /// The name of a directory entry.
    Name {
        /// The directory.
        dir: Ino,
        /// Tag of the name.
        tag: NameTag,
    },
    /// The target of a symbolic link.
    Target(Ino),
    /// The inline contents of a file.
    Inline(Ino),
    /// Name and value of an extended attribute.
    Xattr {
        /// The inode.
        ino: Ino,
        /// Tag of the attribute's name.
        tag: NameTag,
    },
}

impl RecordContext {
    fn parts(&self) -> (u8, Ino, [u8; 16]) {
        match *self {
            RecordContext::Name { dir, tag } => (1, dir, tag.0),
            RecordContext::Target(ino) => (2, ino, [0; 16]),
            RecordContext::Inline(ino) => (3, ino, [0; 16]),
            RecordContext::Xattr { ino, tag } => (4, ino, tag.0),
        }
    }

    /// How an error message calls the place.
    fn place(&self) -> String {
        match self {
            RecordContext::Name { dir, tag } => format!("name {tag} in directory {dir:?}"),
            RecordContext::Target(ino) => format!("symlink target of {ino:?}"),
            RecordContext::Inline(ino) => format!("inline contents of {ino:?}"),
            RecordContext::Xattr { ino, tag } => format!("attribute {tag} of {ino:?}"),
        }
    }

    /// What the record's tag covers beside its text.
    fn aad(&self, header: &[u8; HEADER], volume: VolumeId) -> [u8; AAD] {
        let (kind, ino, tag) = self.parts();
        let mut aad = [0; AAD];
        let mut rest = &mut aad[..];
        for part in [
            LABEL.as_slice(),
            header,
            &volume.0,
            &[kind],
            &ino.0.to_le_bytes(),
            &tag,
        ] {
            let (here, behind) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        }
        aad
    }

    pub(crate) fn damaged(&self, what: impl Into<std::sync::Arc<str>>) -> Error {
        Error::damaged(self.place(), what)
    }
}

/// The record key of one epoch.
pub(crate) struct RecordKey {
    cipher: LessSafeKey,
    header: [u8; HEADER],
}

impl RecordKey {
    /// `sealing` is the sealing key of the epoch.
    pub(crate) fn new(sealing: &Secret, epoch: Epoch) -> RecordKey {
        let mut header = [VERSION; HEADER];
        header[1..].copy_from_slice(&epoch.0.to_le_bytes());
        RecordKey {
            cipher: cipher(
                &AES_256_GCM_SIV,
                sealing.derive(b"kiseki record v1").expose(),
            ),
            header,
        }
    }

    pub(crate) fn seal(
        &self,
        volume: VolumeId,
        context: RecordContext,
        nonce: [u8; NONCE],
        plain: &[u8],
    ) -> Result<Vec<u8>> {
        let mut sealed = Vec::with_capacity(plain.len() + RECORD_OVERHEAD);
        sealed.extend_from_slice(&self.header);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = self
            .cipher
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.aad(&self.header, volume)),
                &mut sealed[HEADER + NONCE..],
            )
            .map_err(|_| Error::Invalid("the record is too long to be sealed"))?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens a record whose header [`epoch_of`] has read.
    pub(crate) fn open(
        &self,
        volume: VolumeId,
        context: RecordContext,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        let body = sealed.get(HEADER..).unwrap_or_default();
        let split = body.split_first_chunk::<NONCE>();
        let split = split.and_then(|(nonce, rest)| Some((nonce, rest.split_last_chunk::<TAG>()?)));
        let Some((nonce, (text, tag))) = split else {
            return Err(context.damaged("the sealed record is too short"));
        };
        let mut plain = Zeroizing::new(vec![0; text.len()]);
        self.cipher
            .open_separate_gather(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(context.aad(&self.header, volume)),
                text,
                tag,
                &mut plain,
            )
            .map_err(|_| context.damaged("the sealed record does not authenticate"))?;
        Ok(plain)
    }
}

/// The epoch under which a record was sealed.
pub(crate) fn epoch_of(context: RecordContext, sealed: &[u8]) -> Result<Epoch> {
    match sealed.split_first_chunk::<HEADER>() {
        None => Err(context.damaged("the sealed record is too short")),
        Some(([VERSION, epoch @ ..], _)) => Ok(Epoch(u32::from_le_bytes(*epoch))),
        Some(([version, ..], _)) => {
            Err(context.damaged(format!("unknown sealed record version {version}")))
        }
    }
}

#[cfg(test)]
mod tests;
