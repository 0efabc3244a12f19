//! Reading an image: as a whole, or not at all.

use std::{io, sync::Arc};

use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use super::{END, End, HEADER, MAX_VALUE, RECORD_HEADER, SIGNED, damaged, header, path};
use crate::{
    Error, Result,
    host::{Disk, DiskFile, OpenMode},
    ids::{Revision, VolumeId},
    kv::{Backend, Change, RedbBackend},
    meta::local::owner,
};

/// Bytes read at once.
const WINDOW: usize = 1 << 20;

/// Bytes of records that are put into the tables at once.
const BATCH: usize = 4 << 20;

/// What an image says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The revision it is the state after.
    pub revision: Revision,
    /// Length of the file.
    pub len: u64,
}

/// What the image of the volume in `dir` says of itself; `None` when there is
/// none. Looks at its two ends only, and at the signature when there is a key.
///
/// # Errors
/// `Damaged`; what the disk says.
pub fn look(
    disk: &dyn Disk,
    dir: &str,
    volume: VolumeId,
    key: Option<&VerifyingKey>,
) -> Result<Option<Found>> {
    let path = path(dir);
    match disk.open(&path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("open {path}"), error)),
        Ok(file) => Ok(Some(Image::open(&path, &*file, volume, key)?.found())),
    }
}

/// Reads the image at `path` to its end.
///
/// # Errors
/// `Damaged` when it is not what was written; what the disk says.
pub fn verify(
    disk: &dyn Disk,
    path: &str,
    volume: VolumeId,
    key: Option<&VerifyingKey>,
) -> Result<Found> {
    let file = open(disk, path)?;
    let image = Image::open(path, &*file, volume, key)?;
    image.records(&mut |_, _| Ok(()))?;
    Ok(image.found())
}

/// Makes the tables in `dir` anew from its image, in place of what is there.
/// They are there, durable, when this returns; before, they are as they were.
///
/// # Errors
/// `Damaged` when the image is not what was written; what the disk says.
pub fn restore(
    disk: &Arc<dyn Disk>,
    dir: &str,
    volume: VolumeId,
    key: Option<&VerifyingKey>,
) -> Result<Found> {
    let path = path(dir);
    let file = open(&**disk, &path)?;
    let image = Image::open(&path, &*file, volume, key)?;
    let tables = format!("{dir}/tables.redb");
    let draft = format!("{tables}.restored");
    let failed = |error| Error::io(format!("make {tables} from {path}"), error);
    match disk.remove(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let backend = RedbBackend::open(disk, &draft, owner(volume), BATCH)?;
    let mut batch = Vec::new();
    let mut bytes = 0;
    image.records(&mut |key, value| {
        bytes += key.len() + value.len();
        batch.push((Box::<[u8]>::from(key), Box::<[u8]>::from(value)));
        if bytes >= BATCH {
            put(&backend, &batch, Revision(0), false)?;
            batch.clear();
            bytes = 0;
        }
        Ok(())
    })?;
    put(&backend, &batch, image.end.revision, true)?;
    drop(backend);
    disk.rename(&draft, &tables)
        .and_then(|()| disk.sync_dir(dir))
        .map_err(failed)?;
    Ok(image.found())
}

type Record = (Box<[u8]>, Box<[u8]>);

/// Is shown keys and values.
type VisitRecord<'v> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'v;

fn put(backend: &RedbBackend, batch: &[Record], revision: Revision, durable: bool) -> Result<()> {
    let mut changes = batch
        .iter()
        .map(|(key, value)| -> Change<'_> { (key, Some(value)) });
    backend.write(&mut changes, revision, durable)
}

fn open(disk: &dyn Disk, path: &str) -> Result<Arc<dyn DiskFile>> {
    disk.open(path, OpenMode::Read)
        .map_err(|error| Error::io(format!("open {path}"), error))
}

struct Image<'i> {
    path: &'i str,
    file: &'i dyn DiskFile,
    len: u64,
    end: End,
}

impl<'i> Image<'i> {
    fn open(
        path: &'i str,
        file: &'i dyn DiskFile,
        volume: VolumeId,
        key: Option<&VerifyingKey>,
    ) -> Result<Image<'i>> {
        let failed = |error| Error::io(format!("read {path}"), error);
        let len = file.len().map_err(failed)?;
        if len < (HEADER + END) as u64 {
            return Err(damaged(path, "the file is too short to be an image"));
        }
        let mut begin = [0; HEADER];
        file.read_exact_at(&mut begin, 0).map_err(failed)?;
        check_header(path, &begin, volume)?;
        let mut bytes = [0; END];
        file.read_exact_at(&mut bytes, len - END as u64)
            .map_err(failed)?;
        let end =
            End::decode(&bytes).ok_or_else(|| damaged(path, "the end of the image is missing"))?;
        let mut signature = [0; END - SIGNED];
        signature.copy_from_slice(&bytes[SIGNED..]);
        if let Some(key) = key {
            key.verify_strict(&bytes[..SIGNED], &Signature::from_bytes(&signature))
                .map_err(|_| damaged(path, "its signature is not by the key of this volume"))?;
        }
        Ok(Image {
            path,
            file,
            len,
            end,
        })
    }

    fn found(&self) -> Found {
        Found {
            revision: self.end.revision,
            len: self.len,
        }
    }

    /// Shows all records, in order. Only when this returns without an error is
    /// what was shown what was written.
    fn records(&self, visit: &mut VisitRecord<'_>) -> Result<()> {
        let mut hash = Sha256::new();
        let mut window = Vec::new();
        let mut at = 0;
        let mut skip = HEADER;
        let mut records = 0;
        let stop = self.len - END as u64;
        while at < stop {
            let held = window.len();
            let take = (stop - at).min(WINDOW as u64) as usize;
            window.resize(held + take, 0);
            self.file
                .read_exact_at(&mut window[held..], at)
                .map_err(|error| Error::io(format!("read {}", self.path), error))?;
            at += take as u64;
            hash.update(&window[held..]);
            let mut rest = &window[skip..];
            skip = 0;
            while let Some((key, value, behind)) = self.split(rest)? {
                visit(key, value)?;
                records += 1;
                rest = behind;
            }
            let left = window.len() - rest.len();
            window.drain(..left);
        }
        let whole = window.is_empty() && records == self.end.records;
        if !whole || self.end.hash[..] != hash.finalize()[..] {
            return Err(damaged(self.path, "its bytes do not match their hash"));
        }
        Ok(())
    }

    /// The first record of `bytes` and what is behind it; `None` when the
    /// record is not there as a whole.
    #[allow(clippy::type_complexity)]
    fn split<'b>(&self, bytes: &'b [u8]) -> Result<Option<(&'b [u8], &'b [u8], &'b [u8])>> {
        let Some((lens, rest)) = bytes.split_first_chunk::<RECORD_HEADER>() else {
            return Ok(None);
        };
        let [a, b, c, d, e, f] = *lens;
        let key = usize::from(u16::from_le_bytes([a, b]));
        let value = u32::from_le_bytes([c, d, e, f]) as usize;
        if value > MAX_VALUE {
            return Err(damaged(self.path, "a record is too long"));
        }
        let record = rest.split_at_checked(key).and_then(|(key, rest)| {
            let (value, rest) = rest.split_at_checked(value)?;
            Some((key, value, rest))
        });
        Ok(record)
    }
}

fn check_header(path: &str, found: &[u8; HEADER], volume: VolumeId) -> Result<()> {
    let wanted = header(volume);
    let what = if found[..8] != wanted[..8] {
        "it does not begin like an image"
    } else if found[..16] != wanted[..16] {
        "its format version is unknown"
    } else if *found != wanted {
        "it is of another volume"
    } else {
        return Ok(());
    };
    Err(damaged(path, what))
}
