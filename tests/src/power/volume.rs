//! The volume that is simulated: small files on the disk, and nothing happens
//! that no call asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kiseki_core::{
    Result,
    chunk::{self, ChunkService, CutPolicy, LocalChunks, LocalOptions},
    crypto::Secret,
    engine::{Caller, FrontId, Tuning, Volume, VolumeOptions, open_volume},
    host::{Clock, Disk, Entropy, MemoryDisk},
    ids::{Ino, RequestId, Timestamp},
    log,
    meta::{Kind, LocalMeta, MetaOptions},
    store::{Store, Unlock, UnlockedStore},
};

use super::model::{Found, Shown};

/// Who works on the volume.
pub const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    umask: 0o022,
    privileged: true,
    front: FrontId(0),
    request: RequestId::NONE,
};

const NAME: &str = "default";

/// Keys differ from each other. Nonces do not: which of them a record gets
/// depends on the thread that asks.
#[derive(Default)]
struct CountedEntropy(AtomicU64);

/// Longest that a key or an id is; nonces are fetched many at a time.
const KEY_MAX: usize = 64;

impl Entropy for CountedEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        let number = match buffer.len() {
            ..=KEY_MAX => self.0.fetch_add(1, Ordering::Relaxed),
            _ => u64::MAX,
        };
        let mut stream = blake3::Hasher::new()
            .update(&number.to_le_bytes())
            .finalize_xof();
        stream.fill(buffer);
    }
}

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp {
            secs: 1_000_000,
            nanos: 0,
        }
    }
}

fn unlock() -> Unlock {
    Unlock::KeyFile(Secret::from_bytes(&[7; 32]))
}

fn options() -> VolumeOptions {
    VolumeOptions {
        memory: 16 << 20,
        sync_delay: Duration::from_secs(3600),
        tuning: Tuning {
            segment_bytes: Some(64 << 10),
            log_file_bytes: 16 << 10,
            sealers: Some(1),
            unasked: false,
        },
        ..VolumeOptions::default()
    }
}

/// A disk with a new store, all of it durable.
pub fn new_store() -> Result<MemoryDisk> {
    let disk = MemoryDisk::new();
    let entropy = Arc::new(CountedEntropy::default());
    let store = Store::create(Arc::new(disk.clone()), entropy, Arc::new(Noon), &unlock())?;
    store.create_volume(NAME, CutPolicy::Auto, 0, 0)?;
    Ok(disk.crash_losing_all())
}

/// The store on a disk. `number` makes its new keys differ from those of
/// other openings.
pub fn open_store(disk: Arc<dyn Disk>, number: u64) -> Result<UnlockedStore> {
    let entropy = CountedEntropy(AtomicU64::new((number + 1) << 32));
    Store::open_with(disk, Arc::new(entropy), Arc::new(Noon))?.unlock(&unlock())
}

/// The volume on a disk.
pub fn open(disk: Arc<dyn Disk>) -> Result<Volume> {
    let store = open_store(disk.clone(), 0)?;
    open_volume(
        disk,
        Arc::new(Noon),
        &store,
        &store.volume(NAME)?,
        options(),
    )
}

/// Gives the volume on a disk a new sealing key.
pub fn rotate(disk: Arc<dyn Disk>, number: u64) -> Result<()> {
    open_store(disk, number)?.rotate(NAME).map(drop)
}

/// What `fsck` finds in a store that is not open: in the log with its
/// signatures, in each byte of the segments, between the tables, between them
/// and the chunks. Only power loss itself leaves a torn tail of the log.
pub fn check(disk: &Arc<dyn Disk>, may_be_torn: bool) -> Result<Vec<String>> {
    let store = open_store(disk.clone(), 0)?;
    let record = store.volume(NAME)?;
    let (dir, id) = (record.dir(), record.id);
    let mut problems = Vec::new();
    let names = disk.list(&dir).unwrap_or_default();
    if !names.iter().any(|name| name == "log") {
        // It was never opened.
        return Ok(problems);
    }
    let key = store.volume_keys(&record)?.log_verifying_key();
    let log = log::verify(
        &**disk,
        &format!("{dir}/log"),
        id,
        Some(&key),
        &mut |_, _| {},
    )?;
    problems.extend(log.problems.iter().map(|found| format!("{found:?}")));
    if let Some(tail) = log.torn_tail.filter(|_| !may_be_torn) {
        problems.push(format!("a torn tail is left: {tail:?}"));
    }
    let chunk_dir = format!("{dir}/chunks");
    let options = LocalOptions {
        unasked: false,
        ..LocalOptions::default()
    };
    // Marks what the crash tore, so that it is told from damage.
    let chunks = LocalChunks::open(disk.clone(), &chunk_dir, id, options, &mut |_, _| {})?;
    chunk::verify(
        &**disk,
        &chunk_dir,
        id,
        None,
        &mut |_, _| {},
        &mut |found| {
            problems.push(format!("{found:?}"));
        },
    )?;
    let options = MetaOptions {
        unasked: false,
        ..MetaOptions::default()
    };
    let meta = LocalMeta::open(disk.clone(), &dir, id, options)?;
    meta.check(&mut |found| problems.push(format!("{found:?}")))?;
    let mut referred = Vec::new();
    meta.for_each_reference(&mut |id, _| referred.push(id))?;
    for id in referred {
        if chunks.info(&id)?.is_none() {
            problems.push(format!("{id} is referred to and missing"));
        }
    }
    Ok(problems)
}

/// Everything in a volume, read to the last byte.
pub async fn look(volume: &Volume) -> Result<Found> {
    let mut found = Found::new();
    look_into(volume, Ino::ROOT, b"", &mut found).await?;
    Ok(found)
}

async fn look_into(volume: &Volume, dir: Ino, path: &[u8], found: &mut Found) -> Result<()> {
    for entry in volume.readdir(dir, 0, 1_000).await? {
        if matches!(&entry.name[..], b"." | b"..") {
            continue;
        }
        let below = match path {
            b"" => entry.name.to_vec(),
            path => [path, b"/", &entry.name[..]].concat(),
        };
        let mut shown = Shown {
            ino: entry.ino,
            kind: entry.kind,
            target: Vec::new(),
            contents: Vec::new(),
        };
        match entry.kind {
            Kind::Directory => Box::pin(look_into(volume, entry.ino, &below, found)).await?,
            Kind::Symlink => shown.target = volume.readlink(entry.ino).await?.to_vec(),
            _ => shown.contents = read(volume, entry.ino).await?,
        }
        found.insert(below, shown);
    }
    Ok(())
}

/// The contents of a file.
pub async fn read(volume: &Volume, ino: Ino) -> Result<Vec<u8>> {
    let size = volume.getattr(ino).await?.size;
    let mut contents = Vec::new();
    while (contents.len() as u64) < size {
        let part = volume.read(ino, contents.len() as u64, 1 << 20).await?;
        if part.is_empty() {
            break;
        }
        contents.extend_from_slice(&part);
    }
    Ok(contents)
}
