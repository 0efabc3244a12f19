//! The layers below the engine, opened without a key: for what `fsck` and
//! `gc` do with sealed bytes alone.
//!
//! The metadata is dropped, never closed: closing would replace the signed
//! checkpoint of the log by one without a signature. No command is applied
//! here, so that loses nothing.

use std::{path::Path, sync::Arc};

use kiseki_core::{
    chunk::{self, ChunkService, LocalChunks, LocalOptions},
    crypto::VolumeKeys,
    host::{Disk, ScratchDisk},
    meta::{Answer, LocalMeta, MetaOptions, MetaService},
    repair::{self, Losses},
    store::{Store, StoreLock, VolumeRecord},
};

use super::{
    check::{CheckReport, Problem, has_log},
    disk, mend, name_holder,
};
use crate::{
    failure::{Attempt, Result},
    progress::Phases,
    report::Collection,
};

/// Reads every byte of every segment and compares all tables; with keys, opens
/// every frame. What a crash left unfinished is brought to its end first, as a
/// mount does, but in memory: the store is not changed. Returns what cannot be
/// read of which files.
///
/// # Errors
/// The disk fails. Damage goes to the report.
pub(super) fn check(
    disk: &Arc<dyn Disk>,
    volume: &VolumeRecord,
    keys: Option<&VolumeKeys>,
    phases: &mut Phases,
    report: &mut CheckReport,
) -> Result<Losses> {
    // A volume that was never mounted has nothing yet.
    if !has_log(&**disk, volume)? {
        return Ok(Losses::new());
    }
    let disk: Arc<dyn Disk> = Arc::new(ScratchDisk::over(disk.clone()));
    let problems = &mut report.problems;
    mend::look(&disk, volume, problems)?;
    // Marks what the crash tore, so that it is told from damage.
    let chunks = LocalChunks::open(
        disk.clone(),
        &chunk_dir(volume),
        volume.id,
        LocalOptions::default(),
        &mut |done, total| phases.update("looking for what a crash left", done, total),
    );
    if let Err(error) = &chunks {
        problems.push(Problem {
            place: format!("chunks of volume {}", volume.name),
            what: error.to_string(),
        });
    }
    let verified = chunk::verify(
        &*disk,
        &chunk_dir(volume),
        volume.id,
        keys,
        &mut |done, total| phases.update("checking chunks", done, total),
        &mut |found| {
            problems.push(Problem {
                place: format!("{}:{}", found.path, found.offset),
                what: found.what,
            });
        },
    )?;
    if keys.is_some() {
        report.bytes += verified.plain_bytes;
    }
    phases.update("checking metadata", 0, 0);
    let options = MetaOptions {
        read_only: true,
        ..MetaOptions::default()
    };
    let tables = LocalMeta::open(disk, &volume.dir(), volume.id, options);
    let found = tables.and_then(|meta| {
        meta.check(&mut |found| {
            problems.push(Problem {
                place: format!("metadata of volume {}, {:?}", volume.name, found.subject),
                what: found.fault.to_string(),
            });
        })?;
        let Ok(chunks) = &chunks else {
            return Ok(Losses::new());
        };
        for (place, (count, is_there)) in chunks.absent(&verified.intact)? {
            if problems
                .iter()
                .any(|problem| problem.place.starts_with(&place))
            {
                continue;
            }
            let what = match is_there {
                true => format!("{count} chunks that the index tells of are not in it"),
                false => format!("the file is missing, with {count} chunks"),
            };
            problems.push(Problem { place, what });
        }
        repair::losses(&meta, chunks, &verified.intact, keys)
    });
    Ok(found.unwrap_or_else(|error| {
        problems.push(Problem {
            place: format!("metadata of volume {}", volume.name),
            what: error.to_string(),
        });
        Losses::new()
    }))
}

/// Makes a chunk index that is damaged anew. Says what was done.
///
/// # Errors
/// The disk fails.
pub(super) fn mend_index(disk: &Arc<dyn Disk>, volume: &VolumeRecord) -> Result<Option<String>> {
    if !has_log(&**disk, volume)? || repair::index_flaw(disk, volume)?.is_none() {
        return Ok(None);
    }
    repair::forget_index(&**disk, volume)?;
    let (dir, options) = (chunk_dir(volume), LocalOptions::default());
    LocalChunks::open(disk.clone(), &dir, volume.id, options, &mut |_, _| {})?;
    Ok(Some(format!(
        "{}: the chunk index is built anew",
        volume.name
    )))
}

fn chunk_dir(volume: &VolumeRecord) -> String {
    format!("{}/chunks", volume.dir())
}

/// Collects the garbage of all volumes.
///
/// # Errors
/// Another process has the store, a volume is damaged, or the disk fails.
pub fn collect_without_key(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Collection> {
    let lock = StoreLock::take(dir)?;
    name_holder(&lock);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .attempt(|| "cannot wait for the disk".into())?;
    let disk = disk(dir)?;
    let mut sum = Collection::default();
    for volume in Store::open(disk.clone())?.volumes()?.records {
        if !has_log(&*disk, &volume)? {
            continue;
        }
        let options = MetaOptions::default();
        let meta = LocalMeta::open(disk.clone(), &volume.dir(), volume.id, options)?;
        let chunks = LocalChunks::open(
            disk.clone(),
            &chunk_dir(&volume),
            volume.id,
            LocalOptions::default(),
            progress,
        )?;
        let done = chunks.collect(
            &|id| match meta.references(*id) {
                Answer::Ready(count) => Ok(count? > 0),
                // Kept rather than waited for: the next collection sees it.
                Answer::Pending(_) => Ok(true),
            },
            &|| runtime.block_on(meta.sync(meta.revision()).get()),
            progress,
        )?;
        chunks.checkpoint()?;
        sum.chunks += done.chunks;
        sum.freed_bytes += done.freed_bytes;
        sum.copied_bytes += done.copied_bytes;
    }
    Ok(sum)
}
