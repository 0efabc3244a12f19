//! Bringing back a log from its files: verify the chain, replay the records,
//! and tell a torn tail, which is cut, from damage, which is reported.

use std::sync::Arc;

use ed25519_dalek::VerifyingKey;

use crate::{
    Error, Result,
    host::{Disk, DiskFile, OpenMode},
    ids::{Revision, VolumeId},
};

use super::{
    checkpoint::Checkpoint,
    format::{self, Chain, FILE_HEADER, FileHeader, Records},
    scan::{self, Bad, Position, Reader, Step},
};

/// What a log must hold, and who is told of its records.
pub struct Recovery<'a> {
    pub disk: &'a dyn Disk,
    pub dir: &'a str,
    pub volume: VolumeId,
    pub key: Option<&'a VerifyingKey>,
    /// The caller has the records up to this one.
    pub from: Revision,
    /// Everything up to here was durable once.
    pub known_durable: Revision,
    pub replay: &'a mut dyn FnMut(Revision, &[u8]) -> Result<()>,
}

/// What the files of a log hold.
pub struct Recovered {
    /// First revisions of the files, ascending.
    pub files: Vec<u64>,
    /// The last sound revision, and the chain with it.
    pub head: u64,
    pub chain: Chain,
    /// Offset of the end of the last sound batch in the last of `files`.
    pub end: u64,
    pub checkpoint: Option<Checkpoint>,
    /// What power loss left behind `end`.
    tear: Option<Tear>,
}

/// The trace of a write that power loss interrupted.
enum Tear {
    /// Bytes behind the last sound batch of the last file.
    Tail,
    /// A last file without a whole header, and so without any batch.
    NewFile(u64),
}

impl Recovery<'_> {
    /// Verifies and replays; changes nothing on the disk.
    pub fn read(&mut self) -> Result<Recovered> {
        let checkpoint = Checkpoint::read(self.disk, self.dir, self.volume, self.key)?;
        let pinned = checkpoint.map_or(0, |checkpoint| checkpoint.revision);
        let durable = self.known_durable.max(self.from).0.max(pinned);
        let firsts = scan::list(self.disk, self.dir)?;
        let mut found = Recovered {
            files: Vec::with_capacity(firsts.len()),
            head: 0,
            chain: format::genesis(self.volume),
            end: 0,
            checkpoint,
            tear: None,
        };
        for (index, &first) in firsts.iter().enumerate() {
            let last = index + 1 == firsts.len();
            let path = format!("{}/{}", self.dir, format::file_name(first));
            let mut reader = Reader::open(self.disk, path)?;
            self.enter(&mut reader, &mut found, first, last && first > durable)?;
            if found.tear.is_none() {
                self.read_batches(&mut reader, &mut found, last, durable)?;
            }
        }
        if found.head < durable {
            let what = format!(
                "the log ends at revision {}, but revision {durable} was durable",
                found.head
            );
            return Err(Error::damaged(self.last_place(&found), what));
        }
        Ok(found)
    }

    fn last_place(&self, found: &Recovered) -> String {
        match found.files.last() {
            Some(&first) => {
                let name = format::file_name(first);
                format!("{}/{name} at offset {}", self.dir, found.end)
            }
            None => self.dir.to_owned(),
        }
    }

    /// Checks the header of a file and moves to its first batch.
    fn enter(
        &self,
        reader: &mut Reader,
        found: &mut Recovered,
        first: u64,
        may_be_new: bool,
    ) -> Result<()> {
        let Some(header) = reader.file_header()? else {
            // A header is durable before the first batch behind it is written.
            let torn = reader.is_unbegun()?;
            if may_be_new && torn && first == found.head + 1 {
                found.tear = Some(Tear::NewFile(first));
                return Ok(());
            }
            return Err(reader.damaged(0, "the header of the file does not hold"));
        };
        if let Some(what) = self.header_fault(&header, found, first) {
            return Err(reader.damaged(0, &what));
        }
        found.files.push(first);
        found.head = first - 1;
        found.chain = header.chain;
        found.end = FILE_HEADER as u64;
        Ok(())
    }

    /// What is wrong with a file that starts like this behind what was found.
    fn header_fault(&self, header: &FileHeader, found: &Recovered, name: u64) -> Option<String> {
        if header.volume != self.volume {
            return Some(format!("the file is of volume {}", header.volume));
        }
        if header.first != name {
            let first = header.first;
            return Some(format!("the file starts at revision {first}, not as named"));
        }
        let checkpoint = found.checkpoint;
        if found.files.is_empty() {
            if header.first > self.from.next().0 {
                let (from, to) = (self.from.next().0, header.first - 1);
                return Some(format!("the records {from} to {to} before it are missing"));
            }
            if let Some(what) = unpinned(header, checkpoint, self.key.is_some()) {
                return Some(what);
            }
        } else if header.first != found.head + 1 {
            let (from, to) = (found.head + 1, header.first - 1);
            return Some(format!("the records {from} to {to} before it are missing"));
        }
        let chains = header.first != found.head + 1 || header.chain == found.chain;
        let before = header.first - 1;
        let agrees = checkpoint.is_none_or(|at| at.revision != before || at.chain == header.chain);
        (!chains || !agrees).then(|| "the file does not continue the hash chain".to_owned())
    }

    /// Replays the batches of a file, up to its end or a torn tail.
    fn read_batches(
        &mut self,
        reader: &mut Reader,
        found: &mut Recovered,
        last: bool,
        durable: u64,
    ) -> Result<()> {
        loop {
            let at = Position {
                offset: found.end,
                next: found.head + 1,
                chain: found.chain,
            };
            let (header, payload) = match reader.step(&at)? {
                Step::Batch(header, payload) => (header, payload),
                Step::End => return Ok(()),
                Step::Bad(bad) => {
                    let cut = last && at.next > durable && is_torn(reader, &at, &bad)?;
                    if !cut {
                        return Err(reader.damaged(at.offset, bad.what));
                    }
                    found.tear = Some(Tear::Tail);
                    return Ok(());
                }
            };
            if let Some(checkpoint) = &found.checkpoint
                && !checkpoint.agrees(found.head, header.last(), &header.chain)
            {
                let what = "the hash chain is not that of the signed checkpoint";
                return Err(reader.damaged(at.offset, what));
            }
            for (revision, record) in (header.first..).zip(Records::new(payload)) {
                if revision > self.from.0 {
                    (self.replay)(Revision(revision), record)?;
                }
            }
            found.head = header.last();
            found.chain = header.chain;
            found.end += header.len();
        }
    }
}

/// Why a log may not begin with this file, as far as its checkpoint goes.
fn unpinned(header: &FileHeader, checkpoint: Option<Checkpoint>, keyed: bool) -> Option<String> {
    match checkpoint {
        Some(checkpoint) if checkpoint.revision < header.first - 1 => Some(format!(
            "the log starts behind its signed checkpoint at revision {}",
            checkpoint.revision
        )),
        None if keyed && header.first > 1 => {
            Some("the log was cut, but has no signed checkpoint".to_owned())
        }
        _ => None,
    }
}

/// Whether bad bytes at the end of the last file are what power loss leaves
/// of the one batch that was being written.
fn is_torn(reader: &mut Reader, at: &Position, bad: &Bad) -> Result<bool> {
    if !bad.can_be_torn {
        return Ok(false);
    }
    // With a whole header, what lies behind that batch was looked at already;
    // its records may hold anything.
    let Some(_) = bad.header else {
        let later = reader.find(at.offset + 1, |header| header.first > at.next)?;
        return Ok(later.is_none());
    };
    Ok(true)
}

impl Recovered {
    /// Cuts what power loss left, durably, and opens the last file for
    /// writing; `None` when there is no file.
    pub fn repair(&mut self, disk: &dyn Disk, dir: &str) -> Result<Option<Arc<dyn DiskFile>>> {
        if let Some(Tear::NewFile(first)) = self.tear {
            let path = format!("{dir}/{}", format::file_name(first));
            disk.remove(&path)
                .and_then(|()| disk.sync_dir(dir))
                .map_err(|error| Error::io(format!("remove {path}"), error))?;
            tracing::info!(file = path, "removed a log file that was never begun");
        }
        let Some(&last) = self.files.last() else {
            return Ok(None);
        };
        let path = format!("{dir}/{}", format::file_name(last));
        let file = disk
            .open(&path, OpenMode::Write)
            .map_err(|error| Error::io(format!("open {path} for writing"), error))?;
        if let Some(Tear::Tail) = self.tear {
            file.set_len(self.end)
                .and_then(|()| file.sync_data())
                .map_err(|error| Error::io(format!("cut the torn tail of {path}"), error))?;
            tracing::info!(file = path, at = self.end, "cut a torn batch off the log");
        }
        self.tear = None;
        Ok(Some(file))
    }
}
