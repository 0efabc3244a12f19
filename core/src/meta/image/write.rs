//! Writing an image beside the one before, and putting it in its place.

use std::{io, ops::ControlFlow, sync::Arc};

use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

use super::{END, End, RECORD_HEADER, header, path, verify};
use crate::{
    Error, Result,
    host::{Disk, DiskFile, OpenMode},
    ids::{Revision, VolumeId},
    kv::Visit,
};

/// Bytes gathered for one write.
const PIECE: usize = 1 << 20;

/// Writes the image of the volume in `dir`. `scan` shows the records of one
/// state, in order, and says which; `settle` is called with that revision, and
/// makes the log durable up to it. The image is in its place, durable and read
/// back, when this returns; before, the one that was there is. Returns its
/// revision and length.
///
/// # Errors
/// What `scan`, `settle` and the disk say; `Damaged` when what was read back
/// is not what was written.
pub fn write(
    disk: &Arc<dyn Disk>,
    dir: &str,
    volume: VolumeId,
    signer: &SigningKey,
    scan: &mut dyn FnMut(&mut Visit<'_>) -> Result<Revision>,
    settle: &mut dyn FnMut(Revision) -> Result<()>,
) -> Result<(Revision, u64)> {
    let (path, draft) = (path(dir), format!("{}.new", path(dir)));
    let written = write_draft(&**disk, &draft, volume, signer, scan).and_then(|found| {
        settle(found.0)?;
        verify(&**disk, &draft, volume, Some(&signer.verifying_key()))?;
        disk.rename(&draft, &path)
            .and_then(|()| disk.sync_dir(dir))
            .map_err(|error| Error::io(format!("put {path} in its place"), error))?;
        Ok(found)
    });
    if written.is_err() {
        // It only takes room; the next image is written over it.
        let _ = disk.remove(&draft);
    }
    written
}

fn write_draft(
    disk: &dyn Disk,
    draft: &str,
    volume: VolumeId,
    signer: &SigningKey,
    scan: &mut dyn FnMut(&mut Visit<'_>) -> Result<Revision>,
) -> Result<(Revision, u64)> {
    let failed = |error| Error::io(format!("write {draft}"), error);
    let file = disk.open(draft, OpenMode::Create).map_err(failed)?;
    file.set_len(0).map_err(failed)?;
    let mut out = Out {
        file: &*file,
        hash: Sha256::new(),
        piece: Vec::with_capacity(PIECE + PIECE / 4),
        end: 0,
    };
    out.push(&header(volume)).map_err(failed)?;
    let mut records = 0;
    let mut outcome = Ok(());
    let revision = scan(&mut |key, value| {
        records += 1;
        outcome = out.record(key, value);
        match outcome {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    outcome.map_err(failed)?;
    out.flush().map_err(failed)?;
    let end = End {
        revision,
        records,
        hash: out.hash.finalize().into(),
    };
    let signed = end.encode();
    let mut bytes = [0; END];
    bytes[..signed.len()].copy_from_slice(&signed);
    bytes[signed.len()..].copy_from_slice(&signer.sign(&signed).to_bytes());
    file.write_at(&bytes, out.end).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    Ok((revision, out.end + END as u64))
}

/// Gathers bytes, hashes and writes them.
struct Out<'f> {
    file: &'f dyn DiskFile,
    hash: Sha256,
    piece: Vec<u8>,
    end: u64,
}

impl Out<'_> {
    fn record(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut lens = [0; RECORD_HEADER];
        // Keys have at most 33 bytes, values are bounded by a log record.
        lens[..2].copy_from_slice(&(key.len() as u16).to_le_bytes());
        lens[2..].copy_from_slice(&(value.len() as u32).to_le_bytes());
        self.push(&lens)?;
        self.push(key)?;
        self.push(value)
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hash.update(&self.piece);
        self.file.write_at(&self.piece, self.end)?;
        self.end += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }
}
