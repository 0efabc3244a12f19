//! Bringing a damaged log back to use: `kiseki fsck --repair`.
//!
//! Promises: of the records that the tables lack, every one that can be
//! verified and that has no gap before it is kept; files that are taken out
//! stay beside the log under another name; and a repair that is interrupted
//! anywhere can be run again.

use ed25519_dalek::SigningKey;

use crate::{
    Error, Result,
    host::{Disk, OpenMode},
    ids::{Revision, VolumeId},
};

use super::{
    checkpoint::{self, Checkpoint},
    format::{self, Chain, FILE_HEADER, FileHeader},
    scan::{self, Position, Reader, Step},
};

/// Ends the name of a new log file that is whole but not in its place yet.
const READY: &str = ".repaired";

/// Ends the names of files that were taken out of a log.
const ASIDE: &str = ".damaged";

/// Bytes copied at once.
const PIECE: u64 = 1 << 20;

/// Length in bytes of a log file without records.
pub const EMPTY: u64 = FILE_HEADER as u64;

/// The revision that the log in `dir` begins with, by the names of its files;
/// `None` when there is none.
///
/// # Errors
/// When the directory cannot be read.
pub fn begin(disk: &dyn Disk, dir: &str) -> Result<Option<Revision>> {
    match scan::list(disk, dir) {
        Ok(firsts) => Ok(firsts.first().copied().map(Revision)),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of the file of a volume's log that begins with these bytes.
pub(crate) fn own_name(begin: &[u8], volume: VolumeId) -> Option<String> {
    if checkpoint::begins(begin, volume) {
        return Some("checkpoint".to_owned());
    }
    let header = FileHeader::decode(begin.first_chunk()?).ok()?;
    (header.volume == volume).then(|| format::file_name(header.first))
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// Where the log ends now.
    pub end: Revision,
    /// Revisions that were in the log and are lost.
    pub lost: Option<(Revision, Revision)>,
    /// Files that were taken out, under their new names.
    pub aside: Vec<String>,
}

/// Makes the log in `dir` one that opens with tables that hold everything up
/// to `applied`, and signs where it ends. The caller holds the store's lock
/// and nobody has the log open.
///
/// # Errors
/// I/O errors; `FormatVersion` for a log of a newer kiseki, which stays as it is.
pub fn repair(
    disk: &dyn Disk,
    dir: &str,
    volume: VolumeId,
    applied: Revision,
    signer: &SigningKey,
) -> Result<Repaired> {
    let mut aside = Vec::new();
    if let Some(ready) = ready(disk, dir)? {
        // An earlier repair was interrupted.
        swap(disk, dir, &ready, &mut aside)?;
    }
    let mut search = Search::new(volume);
    for first in scan::list(disk, dir)? {
        let path = format!("{dir}/{}", format::file_name(first));
        search.file(Reader::open(disk, path)?, first)?;
    }
    let pinned = Checkpoint::read(disk, dir, volume, None).ok().flatten();
    let is_whole = search.is_whole(applied);
    let highest = search
        .highest
        .max(pinned.map_or(0, |pinned| pinned.revision));
    let run = search.best(applied).unwrap_or_else(|| {
        let known = pinned.filter(|pinned| pinned.revision == applied.0);
        let chain = known.map_or_else(|| format::restart(volume, applied.0), |at| at.chain);
        Run::begin(applied.0 + 1, chain)
    });
    if !is_whole {
        let ready = write(disk, dir, volume, &run)?;
        swap(disk, dir, &ready, &mut aside)?;
    }
    let end = Checkpoint {
        revision: run.last,
        chain: run.chain,
    };
    end.write(disk, dir, volume, signer)?;
    Ok(Repaired {
        end: Revision(run.last),
        lost: (highest > run.last).then_some((Revision(run.last + 1), Revision(highest))),
        aside,
    })
}

/// Batches that follow each other, each of them verified.
struct Run {
    first: u64,
    /// The chain before the first batch.
    before: Chain,
    last: u64,
    chain: Chain,
    /// Path, begin and end of the bytes.
    pieces: Vec<(String, u64, u64)>,
}

impl Run {
    fn begin(first: u64, chain: Chain) -> Run {
        Run {
            first,
            before: chain,
            last: first - 1,
            chain,
            pieces: Vec::new(),
        }
    }
}

struct Search {
    volume: VolumeId,
    runs: Vec<Run>,
    /// The highest revision that anything tells of.
    highest: u64,
    is_damaged: bool,
}

impl Search {
    fn new(volume: VolumeId) -> Search {
        Search {
            volume,
            runs: Vec::new(),
            highest: 0,
            is_damaged: false,
        }
    }

    /// Finds the runs of a file, which is named for its first revision.
    fn file(&mut self, mut reader: Reader, name: u64) -> Result<()> {
        let header = reader.file_header()?;
        let header = header.filter(|header| header.volume == self.volume && header.first == name);
        let continues = |run: &Run, header: FileHeader| {
            run.last + 1 == header.first && run.chain == header.chain
        };
        match (header, self.runs.last()) {
            (Some(header), Some(run)) if continues(run, header) => {}
            (Some(header), _) => self.runs.push(Run::begin(header.first, header.chain)),
            (None, last) => {
                let whole = last.is_some_and(|run| run.last + 1 == name);
                if !whole && name == 1 {
                    self.runs.push(Run::begin(1, format::genesis(self.volume)));
                } else if !whole {
                    // Fits no batch, so that the first one is passed over.
                    self.runs
                        .push(Run::begin(name, format::restart(self.volume, name)));
                }
                self.is_damaged = true;
            }
        }
        let mut offset = FILE_HEADER as u64;
        while let Some(next) = self.step(&mut reader, offset)? {
            offset = next;
        }
        Ok(())
    }

    /// Looks at what stands at an offset; where to go on, if anywhere.
    fn step(&mut self, reader: &mut Reader, offset: u64) -> Result<Option<u64>> {
        // `file` has begun one.
        let Some(run) = self.runs.last_mut() else {
            return Ok(None);
        };
        let at = Position {
            offset,
            next: run.last + 1,
            chain: run.chain,
        };
        let bad = match reader.step(&at)? {
            Step::End => return Ok(None),
            Step::Batch(header, _) => {
                let end = offset + header.len();
                run.last = header.last();
                run.chain = header.chain;
                self.highest = self.highest.max(header.last());
                match run.pieces.last_mut() {
                    Some(piece) if piece.0 == reader.path() && piece.2 == offset => piece.2 = end,
                    _ => run.pieces.push((reader.path().to_owned(), offset, end)),
                }
                return Ok(Some(end));
            }
            Step::Bad(bad) => bad,
        };
        self.is_damaged = true;
        let found = match bad.header {
            Some(header) => Some((offset, header)),
            None => reader.find(offset + 1, |_| true)?,
        };
        let Some((at, header)) = found else {
            return Ok(None);
        };
        self.highest = self.highest.max(header.last());
        let end = at + header.len();
        if end > reader.len() {
            return Ok(None);
        }
        // What comes behind it can be verified, for it tells the chain.
        self.runs.push(Run::begin(header.last() + 1, header.chain));
        Ok(Some(end))
    }

    /// Whether there is one run only, and it is what the tables need.
    fn is_whole(&self, applied: Revision) -> bool {
        !self.is_damaged && matches!(&self.runs[..], [run] if run.serves(applied))
    }

    fn best(self, applied: Revision) -> Option<Run> {
        let serving = self.runs.into_iter().filter(|run| run.serves(applied));
        serving.max_by_key(|run| run.last)
    }
}

impl Run {
    /// Whether tables that hold everything up to `applied` can go on with it.
    fn serves(&self, applied: Revision) -> bool {
        self.first <= applied.0 + 1 && self.last >= applied.0
    }
}

/// Writes a run as one file, durably; returns its path.
fn write(disk: &dyn Disk, dir: &str, volume: VolumeId, run: &Run) -> Result<String> {
    let path = format!("{dir}/{}{READY}", format::file_name(run.first));
    let draft = format!("{path}.tmp");
    let failed = |error| Error::io(format!("write {draft}"), error);
    let file = disk.open(&draft, OpenMode::Create).map_err(failed)?;
    file.set_len(0).map_err(failed)?;
    let header = FileHeader {
        volume,
        first: run.first,
        chain: run.before,
    };
    file.write_at(&header.encode(), 0).map_err(failed)?;
    let mut end = FILE_HEADER as u64;
    for (from, begin, stop) in &run.pieces {
        let failed_read = |error| Error::io(format!("read {from}"), error);
        let source = disk.open(from, OpenMode::Read).map_err(failed_read)?;
        let mut at = *begin;
        while at < *stop {
            let mut piece = vec![0; PIECE.min(stop - at) as usize];
            source.read_exact_at(&mut piece, at).map_err(failed_read)?;
            file.write_at(&piece, end).map_err(failed)?;
            at += piece.len() as u64;
            end += piece.len() as u64;
        }
    }
    file.sync_data().map_err(failed)?;
    disk.rename(&draft, &path).map_err(failed)?;
    disk.sync_dir(dir).map_err(failed)?;
    Ok(path)
}

/// The whole new file that an interrupted repair left, if there is one.
fn ready(disk: &dyn Disk, dir: &str) -> Result<Option<String>> {
    let names = names(disk, dir)?;
    let found = names.iter().find(|name| name.ends_with(READY));
    Ok(found.map(|name| format!("{dir}/{name}")))
}

fn names(disk: &dyn Disk, dir: &str) -> Result<Vec<String>> {
    disk.list(dir)
        .map_err(|error| Error::io(format!("list {dir}"), error))
}

/// Sets all log files aside and puts the new one in their place.
fn swap(disk: &dyn Disk, dir: &str, ready: &str, aside: &mut Vec<String>) -> Result<()> {
    let taken = names(disk, dir)?;
    let failed = |error| Error::io(format!("replace the log in {dir}"), error);
    for first in scan::list(disk, dir)? {
        let name = format::file_name(first);
        let free = (1..).find_map(|n: u64| {
            let free = format!("{name}{ASIDE}{n}");
            (!taken.contains(&free)).then_some(free)
        });
        // Found: there are fewer names than numbers.
        let to = format!("{dir}/{}", free.unwrap_or_default());
        disk.rename(&format!("{dir}/{name}"), &to).map_err(failed)?;
        aside.push(to);
    }
    disk.sync_dir(dir).map_err(failed)?;
    let place = ready.strip_suffix(READY).unwrap_or(ready);
    disk.rename(ready, place).map_err(failed)?;
    disk.sync_dir(dir).map_err(failed)
}
