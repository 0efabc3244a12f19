//! The signed checkpoint: "at this revision the chain was this", vouched for
//! by a key. It pins the history that may be cut away, and everything up to
//! it, against whoever can write the disk but has no key.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::{
    Error, Result,
    host::{Disk, OpenMode},
    ids::{Revision, VolumeId},
};

use super::format::{self, Chain, array};

const MAGIC: [u8; 8] = *b"KISEKCKP";
const SIGNED: usize = 72;
const LEN: usize = 144;

/// What a checkpoint file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Revision of the last record of a batch.
    pub revision: u64,
    /// The chain with that batch.
    pub chain: Chain,
}

impl Checkpoint {
    fn encode(&self, volume: VolumeId, signer: &SigningKey) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&format::VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&volume.0);
        bytes[32..40].copy_from_slice(&self.revision.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.chain);
        let signature = signer.sign(&bytes[..SIGNED]);
        bytes[SIGNED..136].copy_from_slice(&signature.to_bytes());
        let sum = format::checksum(&bytes[..136]);
        bytes[136..].copy_from_slice(&sum);
        bytes
    }

    fn decode(
        bytes: &[u8; LEN],
        volume: VolumeId,
        key: Option<&VerifyingKey>,
    ) -> Result<Checkpoint, &'static str> {
        if bytes[..8] != MAGIC || bytes[136..] != format::checksum(&bytes[..136]) {
            return Err("this is no checkpoint, or its bytes changed");
        }
        if u32::from_le_bytes(array(bytes, 8)) != format::VERSION {
            return Err("the checkpoint has a format version this kiseki does not read");
        }
        if array(bytes, 16) != volume.0 {
            return Err("the checkpoint is of another volume");
        }
        if let Some(key) = key {
            let signature = Signature::from_bytes(&array(bytes, SIGNED));
            key.verify_strict(&bytes[..SIGNED], &signature)
                .map_err(|_| "the signature of the checkpoint is not by the key of this volume")?;
        }
        Ok(Checkpoint {
            revision: u64::from_le_bytes(array(bytes, 32)),
            chain: array(bytes, 40),
        })
    }

    /// Whether a chain that stood at `before` and goes on behind `last` (with
    /// the hash `chain`) agrees with this checkpoint.
    pub fn agrees(&self, before: u64, last: u64, chain: &Chain) -> bool {
        match self.revision {
            at if at == last => self.chain == *chain,
            at => at <= before || at > last,
        }
    }

    /// Writes the checkpoint of a log; durable when this returns.
    pub fn write(
        &self,
        disk: &dyn Disk,
        dir: &str,
        volume: VolumeId,
        signer: &SigningKey,
    ) -> Result<()> {
        let path = path(dir);
        let temporary = format!("{path}.tmp");
        let written = (|| {
            let file = disk.open(&temporary, OpenMode::Create)?;
            file.set_len(0)?;
            file.write_at(&self.encode(volume, signer), 0)?;
            file.sync_data()?;
            disk.rename(&temporary, &path)?;
            disk.sync_dir(dir)
        })();
        written.map_err(|error| Error::io(format!("write {path}"), error))
    }

    /// The checkpoint of a log, if it has one; its signature is checked when
    /// there is a key.
    pub fn read(
        disk: &dyn Disk,
        dir: &str,
        volume: VolumeId,
        key: Option<&VerifyingKey>,
    ) -> Result<Option<Checkpoint>> {
        let path = path(dir);
        let opened = disk.open(&path, OpenMode::Read);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(format!("open {path}"), error)),
        };
        let read = |error| Error::io(format!("read {path}"), error);
        let mut bytes = [0; LEN];
        if file.len().map_err(read)? != LEN as u64 {
            return Err(Error::damaged(path, "the checkpoint has the wrong length"));
        }
        file.read_exact_at(&mut bytes, 0)
            .map_err(|error| Error::io(format!("read {path}"), error))?;
        match Checkpoint::decode(&bytes, volume, key) {
            Ok(checkpoint) => Ok(Some(checkpoint)),
            Err(what) => Err(Error::damaged(format!("{path} at offset 0"), what)),
        }
    }

    /// The last revision the checkpoint vouches for.
    pub fn revision(&self) -> Revision {
        Revision(self.revision)
    }
}

/// Whether a checkpoint of a volume begins with these bytes.
pub fn begins(begin: &[u8], volume: VolumeId) -> bool {
    begin.starts_with(&MAGIC) && begin.get(16..32) == Some(&volume.0[..])
}

/// Where the checkpoint of the log in `dir` is.
pub fn path(dir: &str) -> String {
    format!("{dir}/checkpoint")
}
