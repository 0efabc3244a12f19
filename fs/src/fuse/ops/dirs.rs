//! Listings.
//!
//! A listing is read in pages of the caller's size. Each entry carries the
//! cookie with which the next page begins behind it: 1 for `.`, 2 for `..`, and
//! the engine's own for the rest, so that entries which come and go in between
//! neither repeat nor hide others.

use std::{future::Future, sync::Arc};

use kiseki_core::{
    Error,
    engine::{Attr, Entry, Volume},
    ids::Ino,
    meta::Kind,
};
use parking_lot::Mutex;

use crate::fuse::fail::Outcome;

const SELF_COOKIE: u64 = 1;
const PARENT_COOKIE: u64 = 2;

/// Entries asked for at once; a page of 32 KiB holds some 800. More are
/// fetched while there is room.
const BATCH: usize = 256;

/// The same with attributes, of which such a page holds some 190.
const BATCH_PLUS: usize = 64;

/// A page that is being filled. It is shared with whoever answers when the
/// listing takes too long, and takes nothing more from then on.
pub(in crate::fuse) trait Page: Send {
    /// Takes an entry; true when there is no room for it.
    #[must_use]
    fn add(&mut self, ino: Ino, kind: Kind, cookie: u64, name: &[u8]) -> bool;
}

/// A page of entries with attributes.
pub(in crate::fuse) trait PagePlus: Send {
    /// Takes an entry; true when there is no room for it.
    #[must_use]
    fn add(&mut self, attr: &Attr, cookie: u64, name: &[u8]) -> bool;
}

/// Fills `page` with the entries behind `cookie`.
pub(in crate::fuse) async fn list<P: Page>(
    volume: Volume,
    dir: Ino,
    cookie: u64,
    page: Arc<Mutex<P>>,
) -> Outcome<()> {
    if cookie < SELF_COOKIE && page.lock().add(dir, Kind::Directory, SELF_COOKIE, b".") {
        return Ok(());
    }
    if cookie < PARENT_COOKIE {
        let parent = volume.parent(dir).await?;
        if page
            .lock()
            .add(parent, Kind::Directory, PARENT_COOKIE, b"..")
        {
            return Ok(());
        }
    }
    let fetch = |from| volume.readdir(dir, from, BATCH);
    fill(
        cookie,
        BATCH,
        fetch,
        |entry: &Entry| entry.cookie,
        |entry| {
            page.lock()
                .add(entry.ino, entry.kind, entry.cookie, &entry.name)
        },
    )
    .await
}

/// Fills `page` with the entries behind `cookie`, with their attributes.
pub(in crate::fuse) async fn list_plus<P: PagePlus>(
    volume: Volume,
    dir: Ino,
    cookie: u64,
    page: Arc<Mutex<P>>,
) -> Outcome<()> {
    if cookie < SELF_COOKIE {
        let attr = volume.getattr(dir).await?;
        if page.lock().add(&attr, SELF_COOKIE, b".") {
            return Ok(());
        }
    }
    if cookie < PARENT_COOKIE {
        let parent = volume.parent(dir).await?;
        let attr = volume.getattr(parent).await?;
        if page.lock().add(&attr, PARENT_COOKIE, b"..") {
            return Ok(());
        }
    }
    let fetch = |from| volume.readdir_plus(dir, from, BATCH_PLUS);
    fill(
        cookie,
        BATCH_PLUS,
        fetch,
        |(entry, _): &(Entry, Attr)| entry.cookie,
        |(entry, attr)| page.lock().add(attr, entry.cookie, &entry.name),
    )
    .await
}

/// Adds batch after batch until the page is full or the directory ends. An
/// entry that found no room is the first of the next page, because that one
/// begins behind the last that did.
async fn fill<E, F>(
    cookie: u64,
    batch: usize,
    fetch: impl Fn(u64) -> F,
    cookie_of: impl Fn(&E) -> u64,
    mut add: impl FnMut(&E) -> bool,
) -> Outcome<()>
where
    F: Future<Output = Result<Vec<E>, Error>>,
{
    let mut from = if cookie <= PARENT_COOKIE { 0 } else { cookie };
    loop {
        let entries = fetch(from).await?;
        if entries.iter().any(&mut add) {
            return Ok(());
        }
        match entries.last() {
            Some(last) if entries.len() >= batch => from = cookie_of(last),
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Entries are their own cookies, from 3 on, in an order that only the
    /// source knows.
    fn behind(all: &[u64], cookie: u64, limit: usize) -> Vec<u64> {
        let start = match cookie {
            0 => 0,
            cookie => all.iter().position(|&c| c == cookie).unwrap() + 1,
        };
        all[start..].iter().copied().take(limit).collect()
    }

    fn page(all: &[u64], cookie: u64, batch: usize, room: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        let fetch = |from| std::future::ready(Ok(behind(all, from, batch)));
        let mut running = Box::pin(fill(
            cookie,
            batch,
            fetch,
            |&e| e,
            |&e| {
                let full = taken.len() == room;
                if !full {
                    taken.push(e);
                }
                full
            },
        ));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(running.as_mut().poll(&mut context).is_ready());
        drop(running);
        taken
    }

    #[test]
    fn every_page_size_shows_every_entry_once() {
        for total in [0, 1, 7, 8, 9, 16, 17] {
            let all: Vec<u64> = (0..total).map(|i| 3 + (i * 7919) % 1009).collect();
            for room in 1..20 {
                let mut seen = Vec::new();
                let mut cookie = PARENT_COOKIE;
                loop {
                    let next = page(&all, cookie, 8, room);
                    let Some(&last) = next.last() else { break };
                    assert!(next.len() <= room);
                    cookie = last;
                    seen.extend(next);
                }
                assert_eq!(seen, all, "{total} entries in pages of {room}");
            }
        }
    }
}
