//! READDIR and READDIRPLUS (RFC 1813, sections 3.3.16 and 17).
//!
//! Positions are those of the engine, which stay as long as an entry does and
//! depend on nothing else; so a listing can go on after any change and after
//! a restart, and the verifier never changes. The engine leaves 1 and 2 to `.`
//! and `..`.

use bytes::Bytes;
use kiseki_core::{
    engine::{Attr, Entry},
    ids::Ino,
};
use nfs3_types::{
    nfs3::{
        Nfs3Option, READDIR3resfail, READDIR3resok, READDIRPLUS3resfail, READDIRPLUS3resok,
        cookieverf3, dirlist3, dirlistplus3, entry3, entryplus3, filename3, post_op_attr,
    },
    xdr_codec::{BoundedList, Opaque, Pack},
};

use super::{
    Request, Results,
    arguments::{List, ListPlus},
    objects::only_directory,
    status::status,
};
use crate::nfs::{
    TRANSFER_MAX, Target,
    caller::{EXECUTE, READ},
    fail::Fail,
};

/// Entries that are asked of the engine at a time.
const PAGE: usize = 128;

const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

/// An entry of a listing.
struct Line {
    ino: Ino,
    name: Bytes,
    cookie: u64,
}

/// A listing that is being read.
struct Listing {
    target: Target,
    directory: Attr,
    cookie: u64,
    page: std::vec::IntoIter<Entry>,
    /// There is nothing behind the page.
    last: bool,
}

impl Request<'_> {
    fn verifier(&self) -> cookieverf3 {
        cookieverf3(self.nfs.handles.volume().to_be_bytes())
    }

    pub(super) async fn readdir(self, a: List) -> Results<READDIR3resok<'static>, READDIR3resfail> {
        let mut dir_attributes = Nfs3Option::None;
        let listed = self.list(&a, &mut dir_attributes).await;
        match listed {
            Ok(reply) => Results::Ok(READDIR3resok {
                dir_attributes,
                cookieverf: self.verifier(),
                reply,
            }),
            Err(fail) => Results::Err((status(&fail), READDIR3resfail { dir_attributes })),
        }
    }

    async fn list(
        &self,
        a: &List,
        dir_attributes: &mut post_op_attr,
    ) -> Result<dirlist3<'static>, Fail> {
        let from = (a.cookie, a.verifier);
        let mut listing = self.begin(&a.directory.0, from, dir_attributes).await?;
        let mut entries = BoundedList::new(room(a.count, dir_attributes)?);
        let mut none = true;
        let eof = loop {
            let Some(line) = self.next(&mut listing).await? else {
                break true;
            };
            let entry = entry3 {
                fileid: line.ino.0,
                name: filename3(Opaque::owned(line.name.to_vec())),
                cookie: line.cookie,
            };
            if entries.try_push(entry).is_err() {
                break false;
            }
            none = false;
        };
        match none && !eof {
            true => Err(Fail::TooSmall),
            false => Ok(dirlist3 {
                entries: entries.into_inner(),
                eof,
            }),
        }
    }

    pub(super) async fn readdirplus(
        self,
        a: ListPlus,
    ) -> Results<READDIRPLUS3resok<'static>, READDIRPLUS3resfail> {
        let mut dir_attributes = Nfs3Option::None;
        let listed = self.list_plus(&a, &mut dir_attributes).await;
        match listed {
            Ok(reply) => Results::Ok(READDIRPLUS3resok {
                dir_attributes,
                cookieverf: self.verifier(),
                reply,
            }),
            Err(fail) => Results::Err((status(&fail), READDIRPLUS3resfail { dir_attributes })),
        }
    }

    async fn list_plus(
        &self,
        a: &ListPlus,
        dir_attributes: &mut post_op_attr,
    ) -> Result<dirlistplus3<'static>, Fail> {
        let from = (a.cookie, a.verifier);
        let mut listing = self.begin(&a.directory.0, from, dir_attributes).await?;
        let (user, volume) = (listing.target.who.clone(), &self.nfs.volume);
        let searches = user.may(volume, &listing.directory, EXECUTE).await?;
        let mut entries = BoundedList::new(room(a.count, dir_attributes)?);
        let (mut names, mut none) = (a.directory_count.min(TRANSFER_MAX) as usize, true);
        let eof = loop {
            let Some(line) = self.next(&mut listing).await? else {
                break true;
            };
            let Some(entry) = self.line_plus(&listing.target, line, searches).await? else {
                continue;
            };
            let name = entry.fileid.packed_size() + entry.name.packed_size() + 12;
            // The first one is wanted even if it is longer than asked for.
            if (name > names && !none) || entries.try_push(entry).is_err() {
                break false;
            }
            names = names.saturating_sub(name);
            none = false;
        };
        match none && !eof {
            true => Err(Fail::TooSmall),
            false => Ok(dirlistplus3 {
                entries: entries.into_inner(),
                eof,
            }),
        }
    }

    /// A line with attributes and handle, for a user who could look it up;
    /// `None` when it is gone since it was listed.
    async fn line_plus(
        &self,
        target: &Target,
        line: Line,
        searches: bool,
    ) -> Result<Option<entryplus3<'static>>, Fail> {
        let (mut name_attributes, mut name_handle) = (Nfs3Option::None, Nfs3Option::None);
        if searches {
            match self.nfs.attributes(line.ino).await {
                Ok(attr) => name_attributes = self.known(Some(&attr)),
                Err(Fail::Stale) => return Ok(None),
                Err(fail) => return Err(fail),
            }
            name_handle = Nfs3Option::Some(self.handle(target, line.ino));
        }
        Ok(Some(entryplus3 {
            fileid: line.ino.0,
            name: filename3(Opaque::owned(line.name.to_vec())),
            cookie: line.cookie,
            name_attributes,
            name_handle,
        }))
    }

    async fn begin(
        &self,
        handle: &[u8],
        (cookie, verifier): (u64, cookieverf3),
        dir_attributes: &mut post_op_attr,
    ) -> Result<Listing, Fail> {
        let (target, directory) = self.find(handle).await?;
        *dir_attributes = self.known(Some(&directory));
        only_directory(&directory)?;
        target.who.check(&self.nfs.volume, &directory, READ).await?;
        // Some clients send zeros with any position.
        let known = verifier == self.verifier() || verifier == cookieverf3::default();
        if cookie != 0 && !known {
            return Err(Fail::BadCookie);
        }
        Ok(Listing {
            target,
            directory,
            cookie,
            page: Vec::new().into_iter(),
            last: false,
        })
    }

    async fn next(&self, listing: &mut Listing) -> Result<Option<Line>, Fail> {
        let here = listing.directory.ino;
        let line = match listing.cookie {
            0 => Line {
                ino: here,
                name: Bytes::from_static(b"."),
                cookie: DOT,
            },
            DOT => Line {
                ino: self.above(&listing.target, here).await.unwrap_or(here),
                name: Bytes::from_static(b".."),
                cookie: DOT_DOT,
            },
            _ => return self.next_entry(listing).await,
        };
        listing.cookie = line.cookie;
        Ok(Some(line))
    }

    async fn next_entry(&self, listing: &mut Listing) -> Result<Option<Line>, Fail> {
        if listing.page.len() == 0 && !listing.last {
            let after = match listing.cookie {
                DOT_DOT => 0,
                cookie => cookie,
            };
            let here = listing.directory.ino;
            let page = self.nfs.volume.readdir(here, after, PAGE).await;
            let page = page.map_err(Fail::of_inode)?;
            listing.last = page.len() < PAGE;
            listing.page = page.into_iter();
        }
        let entry = listing.page.next();
        Ok(entry.map(|entry| {
            listing.cookie = entry.cookie;
            Line {
                ino: entry.ino,
                name: entry.name,
                cookie: entry.cookie,
            }
        }))
    }
}

/// What is left for the entries of an answer of `count` bytes: without status,
/// attributes of the directory, verifier, and the mark of the end.
fn room(count: u32, dir_attributes: &post_op_attr) -> Result<usize, Fail> {
    let rest = 4 + dir_attributes.packed_size() + 8 + 4;
    let count = count.min(TRANSFER_MAX) as usize;
    count.checked_sub(rest).ok_or(Fail::TooSmall)
}
