//! Opening a volume's metadata: projection, replay, service.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ed25519_dalek::VerifyingKey;
use parking_lot::Mutex;

use super::{
    ImageState, Inner, LocalMeta, MetaOptions, Writer, rebuild, tables::Tables, upkeep::Upkeep,
};
use crate::{
    Error, Result,
    canary::{Canary, planted},
    host::{Disk, OpenMode},
    ids::{Ino, Revision, VolumeId},
    kv::{Backend, BeforeCheckpoint, Projection, ProjectionOptions},
    log::{Log, LogOptions, SyncPolicy},
    meta::{image, machine, transaction::Transaction, value},
};

/// How long to wait before asking a full disk again.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(500);

/// Least memory for changes that wait for the disk, in bytes.
const LEAST_OVERLAY: u64 = 4 << 20;

impl LocalMeta {
    /// Opens the metadata in `dir`, the directory of a volume: the log in
    /// `dir/log`, the tables in `dir/tables.redb`. Tables that are missing or
    /// damaged are made anew from their image and the log. A volume without
    /// any of these is new: [`crate::meta::Command::Format`] is its first command.
    ///
    /// # Errors
    /// `Damaged` when the log or the tables are not what was written; what the
    /// disk says.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &str,
        volume: VolumeId,
        options: MetaOptions,
    ) -> Result<Arc<LocalMeta>> {
        disk.create_dir(dir)
            .map_err(|error| Error::io(format!("make {dir}"), error))?;
        let pages = (options.memory / 4).max(LEAST_OVERLAY) as usize;
        let key = options.signing_key.as_ref().map(|key| key.verifying_key());
        let backend = rebuild::open(&disk, dir, volume, key.as_ref(), pages)?;
        Self::open_over(Arc::new(backend), disk, dir, volume, options)
    }

    /// The same with tables kept elsewhere.
    ///
    /// # Errors
    /// As [`LocalMeta::open`].
    pub fn open_over(
        backend: Arc<dyn Backend>,
        disk: Arc<dyn Disk>,
        dir: &str,
        volume: VolumeId,
        options: MetaOptions,
    ) -> Result<Arc<LocalMeta>> {
        let log_dir = rebuild::log_dir(dir);
        if options.sync != SyncPolicy::Os && !planted(Canary::LogNotSettled) {
            settle(&*disk, &log_dir)?;
        }
        let log_cell: Arc<OnceLock<Arc<Log>>> = Arc::default();
        let ending: Arc<AtomicBool> = Arc::default();
        let before = log_first(Arc::clone(&log_cell), Arc::clone(&ending));
        let projection = Projection::open(backend, projection_options(&options, before))?;
        let applied = projection.applied();
        let tables = Tables::new(projection, options.memory / 2)?;
        let key = options.signing_key.as_ref().map(|key| key.verifying_key());
        let log_options = LogOptions {
            policy: options.sync,
            known_durable: applied,
            barrier: Arc::clone(&options.barrier),
            key,
            rotate_at: options.cut_after,
            set_aside: LogOptions::default().set_aside.min(options.cut_after),
            ..LogOptions::default()
        };
        let mut writer = Writer::default();
        let mut replay = |revision: Revision, record: &[u8]| {
            if revision <= applied {
                return Ok(());
            }
            redo(&tables, revision, record, &mut writer)
        };
        let log = Log::open(
            disk.clone(),
            &log_dir,
            volume,
            log_options,
            applied,
            &mut replay,
        )?;
        let log = Arc::new(log);
        // Set once, here.
        let _ = log_cell.set(Arc::clone(&log));
        let last_ino = tables.current_totals().last_ino.max(Ino::ROOT.0);
        let inner = Arc::new(Inner {
            revision: AtomicU64::new(log.head().0),
            tables,
            writer: Mutex::new(writer),
            next_ino: AtomicU64::new(last_ino.saturating_add(1)),
            image: Mutex::new(image_state(&*disk, dir, volume, key.as_ref(), log.first())),
            disk,
            dir: dir.to_owned(),
            volume,
            log,
            ending,
            options,
        });
        let upkeep = Upkeep::start(Arc::clone(&inner))?;
        tracing::debug!(
            revision = inner.revision.load(Ordering::Relaxed),
            "metadata open"
        );
        Ok(Arc::new(LocalMeta { upkeep, inner }))
    }
}

/// What can be told of the image without reading all of it. One that is whole
/// at both ends and decayed between them is found by `fsck`.
fn image_state(
    disk: &dyn Disk,
    dir: &str,
    volume: VolumeId,
    key: Option<&VerifyingKey>,
    first: Revision,
) -> ImageState {
    let found = image::look(disk, dir, volume, key).unwrap_or_else(|error| {
        tracing::warn!(%error, "the image of the tables is no good and written anew");
        None
    });
    ImageState {
        written: None,
        len: found.map_or(0, |found| found.len),
        is_missing: first > Revision(1) && found.is_none_or(|found| found.revision.next() < first),
        retry_at: None,
    }
}

/// Makes the log on the disk durable as it is. A process that was killed may
/// have left records that only the page cache holds; replay shows them to
/// users and moves them to the tables, so they must not go away again.
fn settle(disk: &dyn Disk, dir: &str) -> Result<()> {
    let Ok(names) = disk.list(dir) else {
        // There is none yet; opening the log says so if that is wrong.
        return Ok(());
    };
    for name in names {
        let path = format!("{dir}/{name}");
        disk.open(&path, OpenMode::Write)
            .and_then(|file| file.sync_data())
            .map_err(|error| Error::io(format!("sync {path}"), error))?;
    }
    disk.sync_dir(dir)
        .map_err(|error| Error::io(format!("sync {dir}"), error))
}

/// Applies a record of the log again.
fn redo(tables: &Tables, revision: Revision, record: &[u8], writer: &mut Writer) -> Result<()> {
    let command = value::decode_command(record)?;
    let mut tx = Transaction::new(tables)?;
    // It was accepted once, on the same tables.
    machine::apply(&mut tx, &command).map_err(|error| {
        Error::damaged(
            format!("log record {}", revision.0),
            format!("the tables refuse the command: {error}"),
        )
    })?;
    tables.commit(revision, tx.finish()?, &mut writer.batch);
    Ok(())
}

fn projection_options(options: &MetaOptions, before: BeforeCheckpoint) -> ProjectionOptions {
    let overlay = (options.memory / 4).max(LEAST_OVERLAY) as usize;
    let defaults = match (ProjectionOptions::new(before), options.unasked) {
        (defaults, true) => defaults,
        (defaults, false) => defaults.only_when_asked(),
    };
    ProjectionOptions {
        max_bytes: overlay,
        move_bytes: (overlay / 8).min(defaults.move_bytes),
        ..defaults
    }
}

/// Keeps the tables behind the durable log. A full disk is waited for, so that
/// a store that gets room again goes on.
fn log_first(log: Arc<OnceLock<Arc<Log>>>, ending: Arc<AtomicBool>) -> BeforeCheckpoint {
    Arc::new(move |revision| {
        if planted(Canary::TablesAheadOfLog) {
            return Ok(());
        }
        // While the log is replayed there is nothing newer than what `settle`
        // made durable.
        let Some(log) = log.get() else { return Ok(()) };
        loop {
            match log.sync_blocking(revision) {
                Err(Error::NoSpace) if !ending.load(Ordering::Acquire) => {
                    std::thread::sleep(FULL_DISK_PAUSE);
                }
                other => return other,
            }
        }
    })
}
