//! Walking a bucket in the order of keys.
//!
//! A directory stands in its order as its name with a slash behind it: so all
//! keys below it come where they belong among its siblings. `a-b` comes before
//! `a/x`, because `-` comes before the slash.

use std::collections::VecDeque;

use kiseki_core::{Error, engine::Attr, ids::Ino};

use super::names::Name;
use crate::s3::Gateway;

/// Names taken from a directory in one go.
const BATCH: usize = 512;

/// The next in order.
#[derive(Debug)]
pub(super) enum Found {
    /// A key.
    Object {
        /// The key.
        key: String,
        /// What it names.
        ino: Ino,
    },
    /// A directory, to be entered or passed by.
    Directory {
        /// The start of all keys in it, with the slash.
        key: String,
        /// The directory.
        ino: Ino,
    },
}

/// A place in a bucket.
pub(super) struct Walk<'a> {
    gateway: &'a Gateway,
    /// Keys up to this one are passed by.
    after: &'a str,
    levels: Vec<Level>,
    /// Comes before everything else: the directory just entered, as a key.
    marker: Option<Found>,
}

struct Level {
    directory: Ino,
    /// Of all keys in it.
    path: String,
    /// What names have to begin with.
    start: String,
    names: VecDeque<Name>,
    /// The last name that was taken; empty before the first.
    last: Vec<u8>,
    ended: bool,
}

impl<'a> Walk<'a> {
    pub(super) async fn start(
        gateway: &'a Gateway,
        bucket: &Attr,
        prefix: &str,
        after: &'a str,
    ) -> Result<Walk<'a>, Error> {
        let mut walk = Walk {
            gateway,
            after,
            levels: Vec::new(),
            marker: None,
        };
        let (path, start) = match prefix.rfind('/') {
            Some(slash) => prefix.split_at(slash + 1),
            None => ("", prefix),
        };
        let parts: Vec<String> = path.split_terminator('/').map(str::to_owned).collect();
        // No such directory means no such keys.
        if parts.iter().any(|part| part.is_empty() || part.len() > 255) {
            return Ok(walk);
        }
        if let Some(directory) = gateway.directory(bucket, &parts).await? {
            if path.is_empty() {
                walk.descend(directory.ino, String::new(), start.to_owned());
            } else if start.is_empty() {
                walk.enter(path.to_owned(), directory.ino).await?;
            } else {
                walk.descend(directory.ino, path.to_owned(), start.to_owned());
            }
        }
        Ok(walk)
    }

    /// Goes on in a directory that was found.
    pub(super) async fn enter(&mut self, key: String, ino: Ino) -> Result<(), Error> {
        match self.gateway.is_object(ino).await {
            Ok(true) if *key > *self.after => {
                let key = key.clone();
                self.marker = Some(Found::Object { key, ino });
            }
            Ok(_) => {}
            Err(Error::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.descend(ino, key, String::new());
        Ok(())
    }

    fn descend(&mut self, directory: Ino, path: String, start: String) {
        // Where names begin to matter: not before `start`, and not before the
        // part of `after` that lies here. The name found exactly there may be
        // a directory on the way to `after`.
        let mut last = start.clone().into_bytes();
        if let Some(rest) = self.after.strip_prefix(path.as_str()) {
            let here = match rest.find('/') {
                Some(slash) => &rest[..=slash],
                None => rest,
            };
            last = last.max(here.as_bytes().to_vec());
        } else if *self.after > *path {
            // Everything in it comes before.
            return;
        }
        // Just before the name itself, which has no NUL.
        if let Some(end) = last.pop()
            && end > 0
        {
            last.extend([end - 1, 0xff]);
        }
        self.levels.push(Level {
            directory,
            path,
            start,
            names: VecDeque::new(),
            last,
            ended: false,
        });
    }

    /// The next key or directory.
    pub(super) async fn next(&mut self) -> Result<Option<Found>, Error> {
        if let Some(marker) = self.marker.take() {
            return Ok(Some(marker));
        }
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.pop_front() else {
                if level.ended || !self.fill().await? {
                    self.levels.pop();
                }
                continue;
            };
            if !name.sorted.starts_with(level.start.as_bytes()) {
                if *name.sorted > *level.start.as_bytes() {
                    level.ended = true;
                    level.names.clear();
                }
                continue;
            }
            // No key can have such a name; `docs/s3.md` says so.
            let Ok(text) = str::from_utf8(&name.sorted) else {
                continue;
            };
            let key = format!("{}{text}", level.path);
            let ino = name.ino;
            if name.is_directory() {
                // One that lies before `after` as a whole is passed by.
                if *key > *self.after || self.after.starts_with(&key) {
                    return Ok(Some(Found::Directory { key, ino }));
                }
            } else if *key > *self.after {
                return Ok(Some(Found::Object { key, ino }));
            }
        }
        Ok(None)
    }

    /// Takes more names of the deepest directory; whether there were any.
    async fn fill(&mut self) -> Result<bool, Error> {
        let Some(level) = self.levels.last_mut() else {
            return Ok(false);
        };
        let names = &self.gateway.names;
        let more = match names.after(level.directory, &level.last, BATCH).await {
            // Removed while it was being listed.
            Err(Error::NotFound | Error::NotADirectory) => Vec::new(),
            other => other?,
        };
        if let Some(last) = more.last() {
            level.last = last.sorted.to_vec();
        }
        level.ended = more.is_empty();
        level.names = more.into();
        Ok(!level.ended)
    }
}
