//! What may be found after the power went off: the names of one moment of
//! history, and each file as it was after one of the writes to it.
//!
//! A position is a number of operations of the disk. What was begun at a
//! position can only be found behind it, what was promised there must be found
//! from there on.

use std::{collections::BTreeMap, sync::Arc};

use kiseki_core::{ids::Ino, meta::Kind};

/// A file through its names, which change, and its number, which a crash may
/// have given to another.
pub type FileId = u64;

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub ino: Ino,
    pub kind: Kind,
    /// Which file; 0 for all else.
    pub id: FileId,
    /// The target of a symbolic link.
    pub target: Vec<u8>,
}

/// Paths and what they lead to.
pub type Names = BTreeMap<Vec<u8>, Named>;

/// What an image shows of a name.
#[derive(Clone, Debug)]
pub struct Shown {
    pub ino: Ino,
    pub kind: Kind,
    pub target: Vec<u8>,
    pub contents: Vec<u8>,
}

/// Everything that an image shows.
pub type Found = BTreeMap<Vec<u8>, Shown>;

/// The names after one change of them.
#[derive(Clone)]
struct Moment {
    begun: usize,
    names: Names,
    /// Versions of files that came before a name of theirs was added or moved.
    floors: BTreeMap<FileId, usize>,
}

#[derive(Clone)]
struct Version {
    begun: usize,
    contents: Arc<[u8]>,
}

#[derive(Clone)]
struct File {
    now: Vec<u8>,
    versions: Vec<Version>,
    promises: Vec<(usize, usize)>,
}

/// See the module.
#[derive(Clone)]
pub struct Model {
    pub names: Names,
    moments: Vec<Moment>,
    promises: Vec<(usize, usize)>,
    files: BTreeMap<FileId, File>,
    pieces: Vec<Version>,
    next_id: FileId,
}

/// What is promised at a position: the last index of those promised up to it.
fn promised(promises: &[(usize, usize)], at: usize) -> usize {
    let reached = promises.iter().filter(|(position, _)| *position <= at);
    reached.map(|(_, index)| *index).max().unwrap_or(0)
}

impl Default for Model {
    fn default() -> Model {
        Model {
            names: Names::new(),
            moments: vec![Moment {
                begun: 0,
                names: Names::new(),
                floors: BTreeMap::new(),
            }],
            promises: Vec::new(),
            files: BTreeMap::new(),
            pieces: Vec::new(),
            next_id: 1,
        }
    }
}

impl Model {
    /// Names change in an operation that began at `begun`. Of the files in
    /// `settled`, all that was written comes first.
    pub fn renamed(&mut self, begun: usize, settled: &[FileId], change: impl FnOnce(&mut Names)) {
        change(&mut self.names);
        let mut floors = self.moments[self.moments.len() - 1].floors.clone();
        for id in settled {
            floors.insert(*id, self.files[id].versions.len() - 1);
        }
        self.moments.push(Moment {
            begun,
            names: self.names.clone(),
            floors,
        });
    }

    /// A new file without contents, in an operation that began at `begun`.
    pub fn new_file(&mut self, begun: usize) -> FileId {
        let id = self.next_id;
        self.next_id += 1;
        let version = Version {
            begun,
            contents: [].into(),
        };
        self.files.insert(
            id,
            File {
                now: Vec::new(),
                versions: vec![version],
                promises: Vec::new(),
            },
        );
        id
    }

    /// What a file holds now.
    pub fn contents(&self, id: FileId) -> &[u8] {
        &self.files[&id].now
    }

    /// Bytes are written that may be stored by themselves, in an operation that
    /// began at `begun`.
    pub fn stored(&mut self, begun: usize, piece: &[u8]) {
        let contents = piece.into();
        self.pieces.push(Version { begun, contents });
    }

    /// What is likely to have been stored last before the position `at`: some
    /// files as they were then, and some of what was written.
    pub fn stored_last(&self, at: usize, count: usize) -> Vec<Arc<[u8]>> {
        let last = |file: &File| file.versions.iter().rfind(|v| v.begun <= at).cloned();
        let mut files: Vec<_> = self.files.values().filter_map(last).collect();
        files.sort_by_key(|version| std::cmp::Reverse(version.begun));
        let pieces = self.pieces.iter().rev().filter(|piece| piece.begun <= at);
        let versions = files.iter().take(count).chain(pieces.take(count));
        versions.map(|version| version.contents.clone()).collect()
    }

    /// A file changes in an operation that began at `begun`.
    pub fn written(&mut self, begun: usize, id: FileId, change: impl FnOnce(&mut Vec<u8>)) {
        let Some(file) = self.files.get_mut(&id) else {
            return;
        };
        change(&mut file.now);
        let contents = file.now[..].into();
        file.versions.push(Version { begun, contents });
    }

    /// All names are promised at a position.
    pub fn names_promised(&mut self, at: usize) {
        self.promises.push((at, self.moments.len() - 1));
    }

    /// The contents of a file are promised at a position.
    pub fn file_promised(&mut self, at: usize, id: FileId) {
        if let Some(file) = self.files.get_mut(&id) {
            file.promises.push((at, file.versions.len() - 1));
        }
    }

    /// Everything is promised at a position.
    pub fn all_promised(&mut self, at: usize) {
        self.names_promised(at);
        let ids: Vec<_> = self.files.keys().copied().collect();
        ids.into_iter().for_each(|id| self.file_promised(at, id));
    }

    /// Fails unless an image of the position `at` may show this. Returns the
    /// names of the moment it shows.
    pub fn judge(&self, at: usize, found: &Found) -> Result<Names, String> {
        let lowest = promised(&self.promises, at);
        let begun = |moment: &Moment| moment.begun <= at;
        let highest = self.moments.iter().rposition(begun).unwrap_or(0);
        let mut why = format!(
            "the names are of no moment from {lowest} to {highest}: {}",
            self.describe(found)
        );
        for (number, moment) in self
            .moments
            .iter()
            .enumerate()
            .take(highest + 1)
            .skip(lowest)
        {
            if !agrees(&moment.names, found) {
                continue;
            }
            match self.contents_agree(at, moment, found) {
                Ok(()) => return Ok(moment.names.clone()),
                Err(what) => why = format!("the names are of moment {number}, but {what}"),
            }
        }
        Err(why)
    }

    fn contents_agree(&self, at: usize, moment: &Moment, found: &Found) -> Result<(), String> {
        for (path, named) in &moment.names {
            let Some(file) = self.files.get(&named.id) else {
                continue;
            };
            let floor = moment.floors.get(&named.id).copied().unwrap_or(0);
            let lowest = promised(&file.promises, at).max(floor);
            let highest = file.versions.iter().rposition(|v| v.begun <= at);
            let highest = highest.unwrap_or(0);
            let of = |version: &Version| version.contents[..] == found[path].contents[..];
            if !file.versions[lowest.min(highest)..=highest].iter().any(of) {
                let where_else = match file.versions.iter().rposition(of) {
                    Some(version) => format!("it is version {version}"),
                    None => format!("{} bytes of no version", found[path].contents.len()),
                };
                let path = String::from_utf8_lossy(path);
                return Err(format!(
                    "{path} is none of the versions {lowest} to {highest}: {where_else}"
                ));
            }
        }
        Ok(())
    }

    fn describe(&self, found: &Found) -> String {
        let names = found.iter().map(|(path, shown)| {
            let path = String::from_utf8_lossy(path);
            format!("{path} ({})", shown.ino.0)
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// A volume is opened on an image of the position `at`. Until that is
    /// done, at [`Model::opened`], what it may show is what it might before.
    pub fn crashed(&mut self, at: usize, begin: usize) {
        let lowest = promised(&self.promises, at);
        self.moments.retain(|moment| moment.begun <= at);
        self.moments.drain(..lowest);
        self.promises = vec![(begin, 0)];
        for moment in &mut self.moments {
            moment.begun = 0;
            for (id, floor) in &mut moment.floors {
                *floor = floor.saturating_sub(promised(&self.files[id].promises, at));
            }
        }
        self.pieces.clear();
        for file in self.files.values_mut() {
            let lowest = promised(&file.promises, at);
            // One made by an operation that never happened keeps its first.
            let count = file.versions.iter().filter(|v| v.begun <= at).count();
            file.versions.truncate(count.max(1));
            file.versions.drain(..lowest);
            file.versions
                .iter_mut()
                .for_each(|version| version.begun = 0);
            file.promises = vec![(begin, 0)];
        }
    }

    /// It shows this, which is the present from now on, and may not go away
    /// again.
    pub fn opened(&mut self, at: usize, names: Names, found: &Found) {
        let ids: BTreeMap<FileId, &[u8]> = names
            .iter()
            .filter(|(_, named)| named.id != 0)
            .map(|(path, named)| (named.id, &found[path].contents[..]))
            .collect();
        for (id, contents) in ids {
            self.written(at, id, |now| *now = contents.to_vec());
        }
        self.renamed(at, &[], |now| *now = names);
        self.all_promised(at);
    }
}

/// Whether an image shows exactly these names.
fn agrees(names: &Names, found: &Found) -> bool {
    names.len() == found.len()
        && names.iter().zip(found).all(|((path, named), (at, shown))| {
            path == at
                && named.ino == shown.ino
                && named.kind == shown.kind
                && named.target == shown.target
        })
}
