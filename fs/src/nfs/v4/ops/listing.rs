//! READDIR: RFC 8881, 18.23.

use kiseki_core::{Error, engine::Entry};

use super::handles::check_directory;
use crate::nfs::{
    Target, caller,
    v4::{
        attributes,
        compound::{Compound, Reply},
        failure::Outcome,
        pseudo,
        xdr::{Bitmap, Blob, DirEntry, ReadDir, Status, attribute, put},
    },
};

/// Entries asked of the engine at a time.
const PAGE: usize = 128;

/// Cookies below this are no entry's.
const RESERVED: u64 = 3;

/// The verifier: cookies are good for as long as their directory.
const VERIFIER: [u8; 8] = [0; 8];

/// Verifier, the end of the list and the flag behind it.
const AROUND: usize = 16;

impl Compound<'_> {
    pub(in crate::nfs::v4) async fn readdir(
        &mut self,
        asked: &ReadDir,
        reply: &mut Reply,
    ) -> Outcome {
        let (target, directory) = self.current_attr().await?;
        check_directory(directory.kind)?;
        attributes::check_readable(&asked.attributes)?;
        if asked.cookie != 0 && asked.cookie < RESERVED {
            return Err(Status::BadCookie.into());
        }
        if asked.verifier != VERIFIER {
            return Err(Status::NotSame.into());
        }
        let ways = match pseudo::is_above(target.handle) {
            true => Some(self.ways().await?),
            false => None,
        };
        if ways.is_none() {
            self.check(&target, &directory, caller::READ).await?;
        }
        let room = (asked.max as usize).min(reply.room());
        let Some(mut room) = room.checked_sub(AROUND) else {
            return Err(Status::TooSmall.into());
        };
        put(reply.body(), &VERIFIER)?;
        let (mut cookie, mut told) = (asked.cookie, 0);
        let end = loop {
            let page = self.volume.readdir(directory.ino, cookie, PAGE).await?;
            let last_page = page.len() < PAGE;
            let mut full = false;
            for entry in page {
                if ways.as_ref().is_some_and(|ways| !ways.lead_over(entry.ino)) {
                    cookie = entry.cookie;
                    continue;
                }
                let behind = entry.cookie;
                let Some(entry) = self.entry(&target, entry, &asked.attributes).await? else {
                    cookie = behind;
                    continue;
                };
                let mut encoded = Vec::with_capacity(256);
                put(&mut encoded, &true)?;
                put(&mut encoded, &entry)?;
                let Some(left) = room.checked_sub(encoded.len()) else {
                    full = true;
                    break;
                };
                (room, cookie) = (left, behind);
                told += 1;
                reply.body().extend_from_slice(&encoded);
            }
            if full || last_page {
                break !full;
            }
        };
        if told == 0 && !end {
            return Err(Status::TooSmall.into());
        }
        put(reply.body(), &false)?;
        Ok(put(reply.body(), &end)?)
    }

    /// An entry with its attributes; `None` for one that is gone since.
    async fn entry(
        &self,
        target: &Target,
        entry: Entry,
        wanted: &Bitmap,
    ) -> Outcome<Option<DirEntry>> {
        let attributes = match self.volume.getattr(entry.ino).await {
            Ok(attr) => self.attributes_of(target, &attr, wanted).await?,
            Err(Error::NotFound) => return Ok(None),
            Err(_) if wanted.has(attribute::RDATTR_ERROR) => attributes::error_only(Status::Io)?,
            Err(error) => return Err(error.into()),
        };
        Ok(Some(DirEntry {
            cookie: entry.cookie,
            name: Blob(entry.name.to_vec()),
            attributes,
        }))
    }
}
