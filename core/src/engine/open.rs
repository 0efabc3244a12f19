//! Opening a volume: putting the layers together.

use std::{sync::Arc, time::Duration};

use crate::{
    Error, Result,
    chunk::{ChunkService, LocalChunks, LocalOptions},
    engine::{
        Inner, Orphans, Volume, background, budget, buffer, changes, frames, garbage, node, warm,
        workers,
    },
    host::{Clock, Disk, ScratchDisk},
    journal::Journal,
    kv::NEVER,
    log::SyncPolicy,
    meta::{Command, LocalMeta, MetaOptions, MetaService},
    store::{UnlockedStore, VolumeRecord},
};

/// When access times are updated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtimePolicy {
    /// When the contents changed since, or a day has passed.
    #[default]
    Relative,
    /// Never.
    Never,
    /// At every open.
    Strict,
}

/// How to run a volume.
#[derive(Clone, Debug)]
pub struct VolumeOptions {
    /// Bytes for caches and write buffers together.
    pub memory: u64,
    /// Take no writes, and write nothing to the disk.
    pub read_only: bool,
    /// When access times are updated.
    pub atime: AtimePolicy,
    /// Longest time a change stays only in memory.
    pub sync_delay: Duration,
    /// What keeps acknowledged changes beyond the life of this process. Where
    /// one before this process left something there, the volume goes on with it.
    pub journal: Option<Arc<Journal>>,
    /// What has a measured default.
    pub tuning: Tuning,
}

/// Sizes and habits that fit real disks; a simulator has small files and wants
/// every operation of the disk to follow from a call.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Length of a segment in bytes; `None`: from the size of the disk.
    pub segment_bytes: Option<u64>,
    /// Length in bytes at which the log goes on in a new file.
    pub log_file_bytes: u64,
    /// Threads that seal; `None`: one for each core.
    pub sealers: Option<usize>,
    /// Whether time alone makes things happen: sealing and syncing what is
    /// old, reaping, collecting, moving changes to the tables. Without,
    /// `sync_delay` is not kept.
    pub unasked: bool,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            segment_bytes: None,
            log_file_bytes: MetaOptions::default().cut_after,
            sealers: None,
            unasked: true,
        }
    }
}

impl Default for VolumeOptions {
    fn default() -> VolumeOptions {
        VolumeOptions {
            memory: 512 << 20,
            read_only: false,
            atime: AtimePolicy::Relative,
            sync_delay: Duration::from_secs(5),
            journal: None,
            tuning: Tuning::default(),
        }
    }
}

/// Opens a volume of an unlocked store, bringing it to where its log ends; a
/// read-only one in memory, without changing a byte on the disk. The caller
/// holds the store's lock.
///
/// # Errors
/// `Damaged` when log, metadata or chunk index do not hold together, `Io`.
pub fn open_volume(
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    store: &UnlockedStore,
    record: &VolumeRecord,
    options: VolumeOptions,
) -> Result<Volume> {
    let keys = Arc::new(store.volume_keys(record)?);
    let disk: Arc<dyn Disk> = match options.read_only {
        true => Arc::new(ScratchDisk::over(disk)),
        false => disk,
    };
    let dir = record.dir();
    let memory = options.memory;
    buffer::allow(memory / 4);
    let tuning = options.tuning.clone();
    let chunks = LocalChunks::open(
        disk.clone(),
        &format!("{dir}/chunks"),
        record.id,
        LocalOptions {
            read_only: options.read_only,
            segment_bytes: tuning
                .segment_bytes
                .unwrap_or_else(|| segment_bytes(&*disk)),
            unasked: tuning.unasked,
            index_bytes: (memory / 8) as usize,
            locations: (memory / 8 / 128) as usize,
            ..LocalOptions::default()
        },
        &mut |_, _| {},
    )?;
    let barrier = chunks.clone();
    let meta = LocalMeta::open(
        disk.clone(),
        &dir,
        record.id,
        MetaOptions {
            memory: memory / 4,
            signing_key: Some(keys.log_signing_key()),
            sync: SyncPolicy::Group(match tuning.unasked {
                true => options.sync_delay / 2,
                false => NEVER,
            }),
            cut_after: tuning.log_file_bytes,
            unasked: tuning.unasked,
            barrier: Arc::new(move || barrier.sync()),
            journal: options.journal.clone(),
            read_only: options.read_only,
        },
    )?;
    let remains = options
        .journal
        .as_ref()
        .and_then(|journal| journal.remains());
    let remains = remains.unwrap_or_default();
    meta.redo(&remains.commands)?;
    if meta.revision().0 == 0 {
        // The first revision is durable before the first chunk is stored.
        if chunks.usage().segments > 0 {
            let what = "log and tables are gone, but there are chunks; run `kiseki fsck --repair`";
            return Err(Error::damaged(dir, what));
        }
        format(&meta, &*clock, record)?;
    }
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let cores = tuning.sealers.unwrap_or(cores).max(1);
    let inner = Arc::new(Inner {
        name: record.name.clone(),
        policy: record.policy,
        disk,
        clock,
        keys,
        meta,
        chunks,
        nodes: node::Nodes::new(),
        lookups: node::Lookups::new(options.journal.clone()),
        journal: options.journal.clone(),
        orphans: Orphans::default(),
        frames: frames::FrameCache::new(memory / 8),
        budget: budget::Budget::new(memory / 4),
        sealers: workers::Workers::start("kiseki-seal", cores)?,
        readers: workers::Workers::start("kiseki-read", (cores * 4).max(8))?,
        background: background::Background::default(),
        garbage: garbage::Garbage::default(),
        cores,
        changes: changes::Changes::default(),
        closed: false.into(),
        options,
    });
    inner.look_at_disk();
    warm::start(&inner, &dir);
    if !inner.options.read_only {
        inner.adopt_orphans()?;
        inner.adopt_writes(remains.writes);
        if tuning.unasked {
            inner.background.start(&inner)?;
        }
    }
    Ok(Volume { inner })
}

/// Small segments on small disks, so that collection finds some that hold
/// nothing, and room to copy what the others hold.
fn segment_bytes(disk: &dyn Disk) -> u64 {
    let default = LocalOptions::default().segment_bytes;
    disk.space()
        .map_or(default, |space| (space.total / 64).clamp(4 << 20, default))
}

fn format(meta: &LocalMeta, clock: &dyn Clock, record: &VolumeRecord) -> Result<()> {
    let (revision, _) = meta
        .apply(Command::Format {
            uid: record.uid,
            gid: record.gid,
            mode: 0o755,
            time: clock.now(),
        })
        .wait()?;
    meta.sync(revision).wait()
}
