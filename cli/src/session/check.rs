//! `fsck` and `log verify`.

use std::path::Path;

use kiseki_core::{
    host::Disk,
    log::{self, VerifyReport},
    repair::{Loss, Losses},
    store::{Store, StoreLock, VolumeRecord},
};
use serde::Serialize;

use super::{Session, disk, offline, tree};
use crate::{
    failure::{Attempt, Code, Result},
    progress::Phases,
    quantity::Size,
    report::table,
    secrets::Secret,
};

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A path in the volume, or a file of the store and an offset.
    pub place: String,
    /// What does not hold.
    pub what: String,
}

/// What a look at the logs found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// Bytes looked at.
    pub bytes: u64,
    /// Records that are whole and in the chain.
    pub records: u64,
    /// Whether signatures were checked as well.
    pub signatures_checked: bool,
    /// Incomplete last batches, as power loss leaves them; the next mount cuts
    /// them off, and nothing that was promised is in them.
    pub torn_tails: Vec<Problem>,
    /// Damage.
    pub problems: Vec<Problem>,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The logs.
    pub log: LogReport,
    /// Whether names and contents were opened, too.
    pub with_key: bool,
    /// Inodes that names lead to; 0 without the key.
    pub inodes: u64,
    /// Bytes of files read and authenticated; 0 without the key.
    pub bytes: u64,
    /// What was mended.
    pub repaired: Vec<String>,
    /// What an earlier repair could not bring back: reads of it fail, and the
    /// rest of the file can be read.
    pub lost: Vec<Problem>,
    /// Damage, beside that of the logs.
    pub problems: Vec<Problem>,
}

impl LogReport {
    /// Whether there is no damage.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    /// As people read it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut rows = vec![
            (
                "log records",
                format!("{} in {}", self.records, Size(self.bytes)),
            ),
            ("signatures", checked(self.signatures_checked)),
        ];
        rows.extend(
            self.torn_tails
                .iter()
                .map(|tail| ("torn tail", tail.text())),
        );
        rows.extend(
            self.problems
                .iter()
                .map(|problem| ("damage", problem.text())),
        );
        table(&rows)
    }

    fn add(&mut self, found: VerifyReport) {
        let problem = |problem: log::Problem| Problem {
            place: format!("{}:{}", problem.file, problem.offset),
            what: problem.what,
        };
        self.bytes += found.bytes;
        self.records += found.records;
        self.signatures_checked |= found.signature_checked;
        self.torn_tails.extend(found.torn_tail.map(problem));
        self.problems
            .extend(found.problems.into_iter().map(problem));
    }
}

impl CheckReport {
    /// Whether there is no damage.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.log.is_good() && self.problems.is_empty()
    }

    /// As people read it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut rows = vec![("names and contents", checked(self.with_key))];
        if self.with_key {
            rows.push((
                "read",
                format!("{} inodes, {}", self.inodes, Size(self.bytes)),
            ));
        }
        rows.extend(self.repaired.iter().map(|what| ("repaired", what.clone())));
        rows.extend(self.lost.iter().map(|lost| ("lost before", lost.text())));
        rows.extend(
            self.problems
                .iter()
                .map(|problem| ("damage", problem.text())),
        );
        let verdict = match (self.is_good(), self.lost.is_empty()) {
            (true, true) => "no damage",
            (true, false) => "no new damage; restore or delete the files that lost bytes before",
            (false, _) => "DAMAGED",
        };
        rows.push(("result", verdict.to_owned()));
        self.log.text() + &table(&rows)
    }
}

impl CheckReport {
    /// Notes what of a file cannot be read.
    pub(super) fn lost(&mut self, place: &str, losses: &[Loss]) {
        for loss in losses {
            let problem = Problem {
                place: place.to_owned(),
                what: format!(
                    "{} bytes from {} to {} cannot be read",
                    loss.to - loss.from,
                    loss.from,
                    loss.to - 1
                ),
            };
            match loss.is_known {
                true => self.lost.push(problem),
                false => self.problems.push(problem),
            }
        }
    }

    /// Notes what repairing a volume did; damage it could not mend is a problem.
    fn mended(&mut self, record: &VolumeRecord, done: Result<Vec<String>>) -> Result<()> {
        match done {
            Ok(done) => {
                let lines = done.iter().map(|what| format!("{}: {what}", record.name));
                self.repaired.extend(lines);
            }
            Err(failure) if failure.code == Code::Damage => self.problems.push(Problem {
                place: format!("volume {}", record.name),
                what: failure.to_string(),
            }),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }
}

impl Problem {
    fn text(&self) -> String {
        format!("{}: {}", self.place, self.what)
    }
}

fn checked(done: bool) -> String {
    if done {
        "checked"
    } else {
        "not checked, that needs the key"
    }
    .to_owned()
}

/// Where the log of a volume is in its store.
pub(super) fn log_dir(volume: &VolumeRecord) -> String {
    format!("{}/log", volume.dir())
}

/// Whether a volume has a log: one that was never mounted has none.
pub(super) fn has_log(disk: &dyn Disk, volume: &VolumeRecord) -> Result<bool> {
    let names = disk
        .list(&volume.dir())
        .attempt(|| format!("cannot list {}", volume.dir()))?;
    Ok(names.iter().any(|name| name == "log"))
}

/// Verifies the logs of all volumes; signatures need a key.
///
/// # Errors
/// A log cannot be read. Damage is in the report.
pub fn verify_logs(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<LogReport> {
    let disk = disk(dir)?;
    let volumes = Store::open(disk.clone())?.volumes()?;
    let mut report = LogReport::default();
    report
        .problems
        .extend(volumes.damaged.iter().map(|error| Problem {
            place: dir.display().to_string(),
            what: error.to_string(),
        }));
    for volume in &volumes.records {
        if !has_log(&*disk, volume)? {
            continue;
        }
        report.add(log::verify(
            &*disk,
            &log_dir(volume),
            volume.id,
            None,
            progress,
        )?);
    }
    Ok(report)
}

/// Verifies the logs of all volumes with their signatures.
///
/// # Errors
/// The secret does not open the store, or a log cannot be read. Damage is in
/// the report.
pub fn verify_logs_with_key(
    dir: &Path,
    secret: &Secret,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LogReport> {
    let disk = disk(dir)?;
    // No lock: a log can be looked at while its volume is mounted.
    let store = Store::open(disk.clone())?.unlock(&secret.copy().into())?;
    verify_with(&disk, &store, progress)
}

fn verify_with(
    disk: &std::sync::Arc<dyn Disk>,
    store: &kiseki_core::store::UnlockedStore,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LogReport> {
    let volumes = store.volumes()?;
    let mut report = LogReport::default();
    report
        .problems
        .extend(volumes.damaged.iter().map(|error| Problem {
            place: "volumes".to_owned(),
            what: error.to_string(),
        }));
    for volume in &volumes.records {
        if !has_log(&**disk, volume)? {
            continue;
        }
        let key = store.volume_keys(volume)?.log_verifying_key();
        report.add(log::verify(
            &**disk,
            &log_dir(volume),
            volume.id,
            Some(&key),
            progress,
        )?);
    }
    Ok(report)
}

/// Checks what needs no key.
///
/// # Errors
/// Another process has the store, or it cannot be read.
pub fn check_without_key(dir: &Path, repair: bool, phases: &mut Phases) -> Result<CheckReport> {
    let _lock = StoreLock::take(dir)?;
    let mut repaired = Vec::new();
    if repair {
        let disk = disk(dir)?;
        for volume in Store::open(disk.clone())?.volumes()?.records {
            repaired.extend(offline::mend_index(&disk, &volume)?);
        }
        repaired.push("nothing else: what remains needs the key".to_owned());
    }
    let mut report = CheckReport {
        repaired,
        log: verify_logs(dir, &mut |done, total| {
            phases.update("checking the log", done, total)
        })?,
        ..CheckReport::default()
    };
    let disk = disk(dir)?;
    for volume in Store::open(disk.clone())?.volumes()?.records {
        let losses = offline::check(&disk, &volume, None, phases, &mut report)?;
        for (ino, losses) in &losses {
            report.lost(
                &format!("inode {} of volume {}", ino.0, volume.name),
                losses,
            );
        }
    }
    Ok(report)
}

impl Session {
    /// Checks everything: logs and signatures, then every name and every frame
    /// of every file, as a mount would find them. With `repair`, everything
    /// that can be derived from what is sound is derived anew first, and the
    /// report is of what is left.
    ///
    /// # Errors
    /// The store cannot be read. Damage is in the report.
    pub fn check(&self, repair: bool, phases: &mut Phases) -> Result<CheckReport> {
        let mut report = CheckReport {
            with_key: true,
            ..CheckReport::default()
        };
        if repair {
            phases.update("repairing", 0, 0);
            for record in self.records()? {
                let done = self.mend(&record);
                report.mended(&record, done)?;
                let done = self.mend_chunks(&record, phases);
                report.mended(&record, done)?;
            }
        }
        report.log = verify_with(&self.disk, &self.store, &mut |done, total| {
            phases.update("checking the log", done, total);
        })?;
        for record in self.records()? {
            let keys = self.store.volume_keys(&record)?;
            let losses = offline::check(&self.disk, &record, Some(&keys), phases, &mut report)?;
            if let Err(failure) = self.check_tree(&record, &losses, &mut report, phases) {
                report.problems.push(Problem {
                    place: format!("volume {}", record.name),
                    what: failure.to_string(),
                });
            }
        }
        Ok(report)
    }

    fn check_tree(
        &self,
        record: &VolumeRecord,
        losses: &Losses,
        report: &mut CheckReport,
        phases: &mut Phases,
    ) -> Result<()> {
        self.with_volume(record, true, async |volume| {
            let mut progress = |done, total| phases.update("reading names", done, total);
            tree::walk(volume, losses, report, &mut progress).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_anywhere_is_damage() {
        let problem = Problem {
            place: "/a".into(),
            what: "its target: damaged".into(),
        };
        let mut report = CheckReport::default();
        assert!(report.is_good());
        report.log.torn_tails.push(problem.clone());
        assert!(report.is_good(), "a torn tail is what power loss leaves");
        report.log.problems.push(problem.clone());
        assert!(!report.is_good());
        let report = CheckReport {
            problems: vec![problem],
            ..CheckReport::default()
        };
        assert!(!report.is_good());
        assert!(
            report
                .text()
                .contains("damage              /a: its target: damaged"),
            "{}",
            report.text()
        );
    }
}
