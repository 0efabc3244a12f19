//! Looking at a log without changing it: `kiseki log verify`.

use ed25519_dalek::VerifyingKey;

use crate::{
    Error, Result,
    host::Disk,
    ids::{Revision, VolumeId},
};

use super::{
    checkpoint::{self, Checkpoint},
    format::{self, Chain, FILE_HEADER, FileHeader},
    scan::{self, Bad, Position, Reader, Step},
};

/// What a log holds, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Number of files.
    pub files: u64,
    /// Number of sound batches.
    pub batches: u64,
    /// Number of records in them.
    pub records: u64,
    /// Bytes looked at.
    pub bytes: u64,
    /// The first and last revision present, when there is any.
    pub span: Option<(Revision, Revision)>,
    /// Revision of the checkpoint, when there is one that can be trusted.
    pub checkpoint: Option<Revision>,
    /// Whether its signature was checked; `false` without a key.
    pub signature_checked: bool,
    /// An incomplete last batch, as power loss or a writer at work leaves it;
    /// opening the log cuts it.
    pub torn_tail: Option<Problem>,
    /// Damage.
    pub problems: Vec<Problem>,
}

/// Something that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the file within the store.
    pub file: String,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// What does not hold.
    pub what: String,
}

/// Looks at every byte of the log in `dir`. Changes nothing, needs no lock,
/// and goes on behind damage to tell how far it reaches. `progress` is told
/// bytes looked at and bytes in all.
///
/// # Errors
/// When the log cannot be read; damage is in the report.
pub fn verify(
    disk: &dyn Disk,
    dir: &str,
    volume: VolumeId,
    key: Option<&VerifyingKey>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifyReport> {
    let mut check = Check {
        report: VerifyReport::default(),
        volume,
        reached: None,
        checkpoint: None,
        total: 0,
    };
    check.read_checkpoint(disk, dir, key)?;
    let mut readers = Vec::new();
    for first in scan::list(disk, dir)? {
        let path = format!("{dir}/{}", format::file_name(first));
        let reader = Reader::open(disk, path)?;
        check.total += reader.len();
        readers.push((first, reader));
    }
    let count = readers.len();
    for (index, (first, mut reader)) in readers.into_iter().enumerate() {
        check.file(&mut reader, first, index + 1 == count, progress)?;
    }
    check.conclude(dir, key.is_some());
    Ok(check.report)
}

struct Check {
    report: VerifyReport,
    volume: VolumeId,
    /// The last revision read and the chain there; no chain behind damage.
    reached: Option<(u64, Option<Chain>)>,
    checkpoint: Option<Checkpoint>,
    total: u64,
}

impl Check {
    fn problem(&mut self, file: &str, offset: u64, what: impl Into<String>) {
        self.report.problems.push(Problem {
            file: file.to_owned(),
            offset,
            what: what.into(),
        });
    }

    fn read_checkpoint(
        &mut self,
        disk: &dyn Disk,
        dir: &str,
        key: Option<&VerifyingKey>,
    ) -> Result<()> {
        match Checkpoint::read(disk, dir, self.volume, key) {
            Ok(found) => {
                self.checkpoint = found;
                self.report.checkpoint = found.map(|checkpoint| checkpoint.revision());
                self.report.signature_checked = found.is_some() && key.is_some();
            }
            Err(Error::Damaged { what, .. }) => self.problem(&checkpoint::path(dir), 0, &*what),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn file(
        &mut self,
        reader: &mut Reader,
        first: u64,
        last: bool,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        self.report.files += 1;
        let begun = self.report.bytes;
        match reader.file_header() {
            Ok(Some(header)) => self.header(reader.path(), &header, first),
            Ok(None) if last && reader.is_unbegun()? => {
                self.report.torn_tail = Some(Problem {
                    file: reader.path().to_owned(),
                    offset: 0,
                    what: "the file was never begun".to_owned(),
                });
                self.report.bytes += reader.len();
                return Ok(());
            }
            Ok(None) => {
                self.problem(reader.path(), 0, "the header of the file does not hold");
                self.reached = Some((first - 1, None));
            }
            Err(Error::FormatVersion { found, .. }) => {
                let what = format!("format version {found} is newer than this kiseki");
                self.problem(reader.path(), 0, what);
                self.report.bytes += reader.len();
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let mut offset = FILE_HEADER as u64;
        while let Some(next) = self.step(reader, offset, last)? {
            offset = next;
            self.report.bytes = begun + offset;
            progress(self.report.bytes, self.total);
        }
        self.report.bytes = begun + reader.len();
        progress(self.report.bytes, self.total);
        Ok(())
    }

    fn header(&mut self, path: &str, header: &FileHeader, name: u64) {
        if header.volume != self.volume {
            self.problem(path, 0, format!("the file is of volume {}", header.volume));
        }
        if header.first != name {
            self.problem(
                path,
                0,
                "the file does not start at the revision it is named for",
            );
        }
        let known = match self.reached {
            None if header.first == 1 => Some(format::genesis(self.volume)),
            None => None,
            Some((reached, chain)) => {
                if header.first != reached + 1 {
                    let what = format!(
                        "the file starts at revision {}, the one before ends at {reached}",
                        header.first
                    );
                    self.problem(path, 0, what);
                    None
                } else {
                    chain
                }
            }
        };
        if known.is_some_and(|chain| chain != header.chain) {
            self.problem(path, 0, "the file does not continue the hash chain");
        }
        self.pinned(path, 0, header.first.saturating_sub(1), &header.chain);
        self.reached = Some((header.first.saturating_sub(1), Some(header.chain)));
    }

    /// Compares the chain with the checkpoint where that lies at `revision`.
    fn pinned(&mut self, path: &str, offset: u64, revision: u64, chain: &Chain) {
        if self
            .checkpoint
            .is_some_and(|at| at.revision == revision && at.chain != *chain)
        {
            let what = "the hash chain is not that of the signed checkpoint";
            self.problem(path, offset, what);
        }
    }

    /// Looks at the batch at an offset; the offset of the next one, if the
    /// file goes on.
    fn step(&mut self, reader: &mut Reader, offset: u64, last: bool) -> Result<Option<u64>> {
        // `file` has set both, unless damage took the chain.
        let (reached, chain) = self.reached.unwrap_or((0, None));
        let at = Position {
            offset,
            next: reached + 1,
            chain: chain.unwrap_or_default(),
        };
        let (header, sound) = match reader.step(&at)? {
            Step::End => return Ok(None),
            Step::Batch(header, _) => (header, true),
            Step::Bad(bad) => match self.bad(reader, &at, &bad, chain.is_some(), last)? {
                Some((found, header)) => {
                    if found != offset {
                        self.reached = Some((header.first - 1, None));
                        return Ok(Some(found));
                    }
                    (header, false)
                }
                None => return Ok(None),
            },
        };
        if sound {
            self.report.batches += 1;
            self.report.records += u64::from(header.count);
            self.pinned(reader.path(), offset, header.last(), &header.chain);
            let first = self.report.span.map_or(header.first, |(first, _)| first.0);
            self.report.span = Some((Revision(first), Revision(header.last())));
        }
        self.reached = Some((header.last(), Some(header.chain)));
        Ok(Some(offset + header.len()))
    }

    /// Reports bad bytes; where a batch stands to go on with, if anywhere.
    fn bad(
        &mut self,
        reader: &mut Reader,
        at: &Position,
        bad: &Bad,
        chained: bool,
        last: bool,
    ) -> Result<Option<(u64, format::BatchHeader)>> {
        let later = match bad.header {
            // A whole header says where the next batch is.
            Some(header) if at.offset + header.len() <= reader.len() => Some((at.offset, header)),
            Some(_) => None,
            None => reader.find(at.offset + 1, |header| header.first >= at.next)?,
        };
        let torn =
            last && chained && bad.can_be_torn && later.is_none_or(|(found, _)| found == at.offset);
        let problem = Problem {
            file: reader.path().to_owned(),
            offset: at.offset,
            what: bad.what.to_owned(),
        };
        if torn {
            self.report.torn_tail = Some(problem);
            return Ok(None);
        }
        let unchained = !chained && bad.header.is_some_and(|header| header.first == at.next);
        self.report.problems.push(if unchained {
            Problem {
                what: "cannot be verified, because the batch before it is damaged".to_owned(),
                ..problem
            }
        } else {
            problem
        });
        Ok(later)
    }

    /// What shows only at the end: missing history.
    fn conclude(&mut self, dir: &str, keyed: bool) {
        if !self.report.problems.is_empty() {
            // Behind damage nothing is cut, so a tear is one more problem.
            self.report.problems.extend(self.report.torn_tail.take());
        }
        let head = self.reached.map_or(0, |(reached, _)| reached);
        let path = checkpoint::path(dir);
        match self.checkpoint {
            Some(checkpoint) if checkpoint.revision > head => {
                let what = format!(
                    "the log ends at revision {head}, before its signed checkpoint at {}",
                    checkpoint.revision
                );
                self.problem(&path, 0, what);
            }
            Some(checkpoint) => {
                if let Some((first, _)) = self.report.span
                    && first.0 > checkpoint.revision + 1
                {
                    self.problem(&path, 0, "the log starts behind its signed checkpoint");
                }
            }
            None => {
                let cut = self.report.span.is_some_and(|(first, _)| first.0 > 1);
                if cut && keyed && self.report.problems.is_empty() {
                    self.problem(&path, 0, "the log was cut, but has no signed checkpoint");
                }
            }
        }
    }
}
