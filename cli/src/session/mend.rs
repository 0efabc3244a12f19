//! What `fsck --repair` mends, and what `fsck` says of files that can be
//! derived from others.

use std::sync::Arc;

use kiseki_core::{
    host::{Clock, Disk, SystemClock},
    repair::{self, Flaw},
    store::VolumeRecord,
};

use super::{
    Session,
    check::{Problem, has_log},
};
use crate::{failure::Result, progress::Phases};

/// Looks whether tables and chunk index hold; what opening mends by itself is
/// damage all the same, and worth a look at the disk below.
///
/// # Errors
/// The disk fails.
pub(super) fn look(
    disk: &Arc<dyn Disk>,
    record: &VolumeRecord,
    problems: &mut Vec<Problem>,
) -> Result<()> {
    if !has_log(&**disk, record)? {
        return Ok(());
    }
    let files = [
        (
            repair::tables_path(record),
            repair::tables_flaw(disk, record)?,
            "their image and the log",
        ),
        (
            repair::index_path(record),
            repair::index_flaw(disk, record)?,
            "the segments",
        ),
    ];
    for (path, flaw, source) in files {
        let what = match flaw {
            None => continue,
            Some(Flaw::Missing) => "the file is missing".to_owned(),
            Some(Flaw::Damaged(error)) => error.to_string(),
        };
        problems.push(Problem {
            place: path,
            what: format!("{what}; --repair makes it anew from {source}"),
        });
    }
    if let Some(flaw) = repair::image_flaw(&**disk, record, None)? {
        problems.push(Problem {
            place: repair::image_path(record),
            what: format!("{flaw}; --repair writes a new image from the tables"),
        });
    }
    Ok(())
}

impl Session {
    /// Mends a volume as far as that can be done, so that it opens. Says what
    /// was done.
    ///
    /// # Errors
    /// The disk fails, or what is damaged cannot be derived from anything.
    pub(super) fn mend(&self, record: &VolumeRecord) -> Result<Vec<String>> {
        if !has_log(&*self.disk, record)? {
            return Ok(Vec::new());
        }
        let keys = self.store.volume_keys(record)?;
        let mut done = repair::repair(&self.disk, record, &keys, SystemClock.now())?;
        if repair::index_flaw(&self.disk, record)?.is_some() {
            repair::forget_index(&*self.disk, record)?;
            done.push("the chunk index is built anew from the segments".to_owned());
        }
        self.with_volume(record, false, async |volume| Ok(volume.sync().await?))?;
        done.push("the log is replayed and brought to its end".to_owned());
        Ok(done)
    }

    /// Keeps what opens of damaged chunks, and brings the segments to where
    /// every byte of them is accounted for. Says what was done.
    ///
    /// # Errors
    /// The disk fails, or the tables cannot be read.
    pub(super) fn mend_chunks(
        &self,
        record: &VolumeRecord,
        phases: &mut Phases,
    ) -> Result<Vec<String>> {
        if !has_log(&*self.disk, record)? {
            return Ok(Vec::new());
        }
        let keys = self.store.volume_keys(record)?;
        let mut progress = |done, total| phases.update("looking for damaged chunks", done, total);
        Ok(repair::mend_chunks(
            &self.disk,
            record,
            &keys,
            &mut progress,
        )?)
    }
}
