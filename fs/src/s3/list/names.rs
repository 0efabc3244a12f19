//! The names of directories, in order.
//!
//! The engine lists by a keyed hash, so order has to be made: one pass over a
//! directory keeps a *window*, as many names behind the asked one as memory
//! allows. Pages are cut from it, and what changes in the directory meanwhile
//! is looked up again. A directory of any size is so read once for each window,
//! not once for each page, and memory stays within its bound.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use kiseki_core::{
    Error,
    engine::{Change, Entry, Pace, Volume, Watch},
    ids::Ino,
    meta::Kind,
};
use parking_lot::Mutex;
use tokio::sync::Mutex as Waiting;

use crate::next_front;

/// Entries read in one go, between which others have their turn.
const BATCH: usize = 1024;

/// Changes of a directory beyond which it is read anew.
const TOUCHED_MAX: usize = 4096;

/// Memory of a name beside its bytes.
const NAME_COST: u64 = 64;

/// A file or a directory, and what orders it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The name; a directory has a slash behind it.
    pub sorted: Arc<[u8]>,
    pub ino: Ino,
}

impl Name {
    pub(super) fn is_directory(&self) -> bool {
        self.sorted.ends_with(b"/")
    }

    /// `None` for what is neither file nor directory: such has no key.
    fn new(name: &[u8], kind: Kind, ino: Ino) -> Option<Name> {
        let sorted = match kind {
            Kind::File => name.into(),
            Kind::Directory => [name, b"/"].concat().into(),
            _ => return None,
        };
        Some(Name { sorted, ino })
    }

    fn cost(&self) -> u64 {
        self.sorted.len() as u64 + NAME_COST
    }
}

/// Windows on directories.
pub(in crate::s3) struct Names {
    volume: Volume,
    /// Bytes for all windows together.
    memory: u64,
    state: Mutex<State>,
}

struct State {
    watch: Watch,
    directories: HashMap<Ino, Directory>,
    clock: u64,
}

struct Directory {
    window: Arc<Waiting<Window>>,
    /// Names that came, went or changed since the window was looked at.
    touched: Vec<Bytes>,
    used: u64,
    cost: u64,
}

/// A run of the names of a directory, without gaps.
#[derive(Default)]
struct Window {
    filled: bool,
    /// It begins behind this.
    start: Vec<u8>,
    names: Vec<Name>,
    cost: u64,
    /// It reaches to the end of the directory.
    complete: bool,
}

impl Names {
    pub(in crate::s3) fn new(volume: Volume, memory: u64) -> Names {
        let state = State {
            // As a front end of its own, it hears of those of this one too.
            watch: volume.watch(next_front(), Pace::WhenUsed),
            directories: HashMap::new(),
            clock: 0,
        };
        Names {
            volume,
            memory: memory.max(1 << 20),
            state: Mutex::new(state),
        }
    }

    /// Up to `limit` names behind `after`; none when there are none.
    pub(super) async fn after(
        &self,
        directory: Ino,
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<Name>, Error> {
        loop {
            let shared = self.window(directory);
            let mut window = shared.lock().await;
            let Some(touched) = self.begin(directory, &shared) else {
                // Dropped while this waited for its turn.
                continue;
            };
            if touched.len() > TOUCHED_MAX {
                window.filled = false;
            }
            if window.filled && !touched.is_empty() {
                self.renew(directory, &mut window, &touched).await?;
                window.filled &= window.cost <= self.memory;
            }
            if !window.reaches(after) {
                let scanned = self.scan(directory, after).await;
                if scanned.is_err() {
                    self.state.lock().directories.remove(&directory);
                }
                *window = scanned?;
                self.account(directory, &window);
                // What changed during the pass is seen by the next round.
                continue;
            }
            return Ok(window.cut(after, limit));
        }
    }

    fn window(&self, directory: Ino) -> Arc<Waiting<Window>> {
        let mut state = self.state.lock();
        state.take_changes();
        state.clock += 1;
        let used = state.clock;
        let known = state
            .directories
            .entry(directory)
            .or_insert_with(|| Directory {
                window: Arc::default(),
                touched: Vec::new(),
                used,
                cost: 0,
            });
        known.used = used;
        known.window.clone()
    }

    /// The names to look up again; `None` when this window is not the one.
    fn begin(&self, directory: Ino, window: &Arc<Waiting<Window>>) -> Option<Vec<Bytes>> {
        let mut state = self.state.lock();
        state.take_changes();
        let known = state.directories.get_mut(&directory)?;
        Arc::ptr_eq(&known.window, window).then(|| std::mem::take(&mut known.touched))
    }

    /// Notes what a window costs, and drops those that were not used for
    /// longest until all are within bounds.
    fn account(&self, directory: Ino, window: &Window) {
        let mut state = self.state.lock();
        if let Some(known) = state.directories.get_mut(&directory) {
            known.cost = window.cost;
        }
        loop {
            let total: u64 = state.directories.values().map(|known| known.cost).sum();
            let others = state
                .directories
                .iter()
                .filter(|(ino, _)| **ino != directory);
            let oldest = others.min_by_key(|(_, known)| known.used);
            match oldest.map(|(ino, _)| *ino) {
                Some(oldest) if total > self.memory => {
                    state.directories.remove(&oldest);
                }
                _ => return,
            }
        }
    }

    async fn renew(
        &self,
        directory: Ino,
        window: &mut Window,
        touched: &[Bytes],
    ) -> Result<(), Error> {
        for name in touched {
            window.remove(name);
            let found = match self.volume.lookup(directory, name).await {
                Ok(attr) => Name::new(name, attr.kind, attr.ino),
                Err(Error::NotFound) => None,
                Err(error) => return Err(error),
            };
            if let Some(found) = found {
                window.insert(found);
            }
        }
        Ok(())
    }

    /// Reads a directory once and keeps the names behind `after` that come
    /// first.
    async fn scan(&self, directory: Ino, after: &[u8]) -> Result<Window, Error> {
        let mut first = First::new(after, self.memory / 2);
        let mut cookie = 0;
        loop {
            let page = self.volume.readdir(directory, cookie, BATCH).await?;
            let last = page.last().map(|entry| entry.cookie);
            first.extend(page);
            match last {
                Some(last) => cookie = last,
                None => return Ok(first.into_window()),
            }
            tokio::task::yield_now().await;
        }
    }
}

impl State {
    fn take_changes(&mut self) {
        while let Some(change) = self.watch.try_next() {
            match change {
                Ok(Change::Entry(directory, name)) => {
                    if let Some(known) = self.directories.get_mut(&directory)
                        && known.touched.len() <= TOUCHED_MAX
                    {
                        known.touched.push(name);
                    }
                }
                Ok(Change::Inode(_)) => {}
                Err(_missed) => self.directories.clear(),
            }
        }
    }
}

impl Window {
    /// Whether what comes behind a name is in it.
    fn reaches(&self, after: &[u8]) -> bool {
        let before_end = || self.names.last().is_some_and(|last| *after < *last.sorted);
        self.filled && *after >= *self.start && (self.complete || before_end())
    }

    fn cut(&self, after: &[u8], limit: usize) -> Vec<Name> {
        let from = self.names.partition_point(|name| *name.sorted <= *after);
        self.names[from..].iter().take(limit).cloned().collect()
    }

    fn place(&self, sorted: &[u8]) -> Result<usize, usize> {
        self.names
            .binary_search_by(|name| (*name.sorted).cmp(sorted))
    }

    /// Removes a name, whichever kind it had.
    fn remove(&mut self, name: &[u8]) {
        for sorted in [name.to_vec(), [name, b"/"].concat()] {
            if let Ok(at) = self.place(&sorted) {
                self.cost -= self.names.remove(at).cost();
                // Behind it there may be others that are not known.
                if self.names.is_empty() && !self.complete {
                    self.filled = false;
                }
            }
        }
    }

    fn insert(&mut self, name: Name) {
        if *name.sorted <= *self.start {
            return;
        }
        if let Err(at) = self.place(&name.sorted)
            && (at < self.names.len() || self.complete)
        {
            self.cost += name.cost();
            self.names.insert(at, name);
        }
    }
}

/// The names that come first among many, within a bound of memory.
struct First {
    start: Vec<u8>,
    names: Vec<Name>,
    cost: u64,
    most: u64,
    /// Names from here on were dropped.
    end: Option<Arc<[u8]>>,
}

impl First {
    fn new(after: &[u8], most: u64) -> First {
        First {
            start: after.to_vec(),
            names: Vec::new(),
            cost: 0,
            most,
            end: None,
        }
    }

    fn extend(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let Some(name) = Name::new(&entry.name, entry.kind, entry.ino) else {
                continue;
            };
            let beyond = self.end.as_ref().is_some_and(|end| name.sorted >= *end);
            if *name.sorted <= *self.start || beyond {
                continue;
            }
            self.cost += name.cost();
            self.names.push(name);
            if self.cost > 2 * self.most {
                self.shrink();
            }
        }
    }

    /// Drops what comes last, down to the bound.
    fn shrink(&mut self) {
        self.names.sort_unstable_by(|a, b| a.sorted.cmp(&b.sorted));
        while self.cost > self.most && self.names.len() > 1 {
            if let Some(dropped) = self.names.pop() {
                self.cost -= dropped.cost();
                self.end = Some(dropped.sorted);
            }
        }
    }

    fn into_window(mut self) -> Window {
        self.shrink();
        self.names.sort_unstable_by(|a, b| a.sorted.cmp(&b.sorted));
        Window {
            filled: true,
            start: self.start,
            complete: self.end.is_none(),
            cost: self.cost,
            names: self.names,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entries(names: &[&str]) -> Vec<Entry> {
        let entry = |name: &&str| Entry {
            ino: Ino(9),
            kind: match name.ends_with('/') {
                true => Kind::Directory,
                false => Kind::File,
            },
            cookie: 1,
            name: Bytes::copy_from_slice(name.trim_end_matches('/').as_bytes()),
        };
        names.iter().map(entry).collect()
    }

    fn texts(names: &[Name]) -> Vec<String> {
        let text = |name: &Name| String::from_utf8_lossy(&name.sorted).into_owned();
        names.iter().map(text).collect()
    }

    fn window(after: &str, names: &[&str], most: u64) -> Window {
        let mut first = First::new(after.as_bytes(), most);
        first.extend(entries(names));
        first.into_window()
    }

    #[test]
    fn a_directory_comes_where_its_keys_do() {
        let window = window("", &["b", "a/", "a-b", "a0", "a.txt"], 1 << 20);
        let sorted = ["a-b", "a.txt", "a/", "a0", "b"];
        assert_eq!(texts(&window.names), sorted);
        assert!(window.complete);
        assert_eq!(texts(&window.cut(b"a.txt", 2)), ["a/", "a0"]);
    }

    #[test]
    fn memory_is_bounded_and_windows_join() {
        let all: Vec<String> = (0..1000)
            .map(|n| format!("{:04}", n * 7919 % 1000))
            .collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let (mut seen, mut after, mut windows) = (Vec::new(), String::new(), 0);
        loop {
            let window = window(&after, &all, 100 * (4 + NAME_COST));
            assert!(window.names.len() <= 100);
            seen.extend(texts(&window.names));
            windows += 1;
            if window.complete {
                break;
            }
            after.clone_from(&seen[seen.len() - 1]);
        }
        let sorted: Vec<String> = (0..1000).map(|n| format!("{n:04}")).collect();
        assert_eq!(seen, sorted);
        assert_eq!(windows, 10);
    }

    #[test]
    fn a_window_takes_changes_only_where_it_reaches() {
        let mut part = window("b", &["a", "c", "e", "g"], 2 * (1 + NAME_COST));
        assert_eq!(texts(&part.names), ["c", "e"]);
        for name in ["a", "d", "f"] {
            part.insert(Name::new(name.as_bytes(), Kind::File, Ino(1)).unwrap());
        }
        assert_eq!(texts(&part.names), ["c", "d", "e"]);
        assert!(part.reaches(b"b") && part.reaches(b"d"));
        assert!(!part.reaches(b"a") && !part.reaches(b"e"));
        for name in ["c", "d", "e"] {
            part.remove(name.as_bytes());
        }
        assert!(!part.reaches(b"b"), "what follows is not known");
    }
}
