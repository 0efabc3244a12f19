//! The names of files and directories: as they are, as they are durable, and
//! the changes between the two.

use std::{collections::BTreeMap, io, ops::Bound};

use super::random::Random;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    Dir,
    File(u64),
}

/// Something done to names.
#[derive(Debug, Clone)]
pub enum NameChange {
    Make {
        path: String,
        node: Node,
    },
    Remove {
        path: String,
    },
    Move {
        from: String,
        to: String,
        node: Node,
    },
}

type Tree = BTreeMap<String, Node>;

/// All names, by path. The root, "", is a directory without being in it.
#[derive(Default)]
pub struct Names {
    live: Tree,
    durable: Tree,
    /// In the order they were made.
    unsynced: Vec<NameChange>,
}

/// The directory that holds `path`.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Names {
    pub fn get(&self, path: &str) -> Option<Node> {
        match path {
            "" => Some(Node::Dir),
            path => self.live.get(path).copied(),
        }
    }

    pub fn check_dir(&self, dir: &str) -> io::Result<()> {
        match self.get(dir) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Names directly in `dir`.
    pub fn list(&self, dir: &str) -> Vec<String> {
        let inside = self.live.keys().filter(|path| parent(path) == dir);
        inside
            .map(|path| path.rsplit('/').next().unwrap_or(path).to_owned())
            .collect()
    }

    /// `dir` and everything below it, parents first.
    pub fn below(&self, dir: &str) -> Vec<String> {
        let paths = self.live.keys();
        paths.filter(|path| is_below(path, dir)).cloned().collect()
    }

    /// Paths of all files.
    pub fn files(&self) -> Vec<String> {
        let files = self.live.iter();
        files
            .filter(|(_, node)| matches!(node, Node::File(_)))
            .map(|(path, _)| path.clone())
            .collect()
    }

    pub fn change(&mut self, change: NameChange) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    /// Makes the changes in `dir` durable.
    pub fn sync(&mut self, dir: &str) {
        for change in self.unsynced.extract_if(.., |change| change.is_in(dir)) {
            change.apply(&mut self.durable);
        }
    }

    /// What power loss leaves.
    pub fn crash(&self, random: &mut Random) -> Names {
        let mut tree = self.durable.clone();
        // A journal keeps the order; POSIX asks for none.
        let in_order = random.one_in(2);
        let kept = random.up_to(self.unsynced.len() as u64) as usize;
        for (index, change) in self.unsynced.iter().enumerate() {
            let keep = if in_order {
                index < kept
            } else {
                random.one_in(2)
            };
            if keep {
                change.apply(&mut tree);
            }
        }
        Names::surviving(tree)
    }

    /// What every power loss leaves.
    pub fn durable(&self) -> Names {
        Names::surviving(self.durable.clone())
    }

    /// What is in a directory that was lost is lost with it.
    fn surviving(mut tree: Tree) -> Names {
        let whole = tree.clone();
        tree.retain(|path, _| {
            let mut dir = parent(path);
            while !dir.is_empty() && whole.get(dir) == Some(&Node::Dir) {
                dir = parent(dir);
            }
            dir.is_empty()
        });
        Names {
            live: tree.clone(),
            durable: tree,
            unsynced: Vec::new(),
        }
    }
}

/// Whether `path` is `dir` or below it.
fn is_below(path: &str, dir: &str) -> bool {
    match path.strip_prefix(dir) {
        Some(rest) => dir.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

impl NameChange {
    /// Whether a sync of `dir` makes this durable.
    fn is_in(&self, dir: &str) -> bool {
        match self {
            NameChange::Make { path, .. } | NameChange::Remove { path } => parent(path) == dir,
            NameChange::Move { from, to, .. } => parent(from) == dir || parent(to) == dir,
        }
    }

    fn apply(&self, tree: &mut Tree) {
        match self {
            NameChange::Make { path, node } => {
                tree.insert(path.clone(), *node);
            }
            NameChange::Remove { path } => {
                take_below(tree, path);
            }
            NameChange::Move { from, to, node } => {
                let moved = match tree.get(from) {
                    Some(there) if there == node => take_below(tree, from),
                    // The name it came from never reached the disk.
                    _ => Vec::new(),
                };
                take_below(tree, to);
                tree.insert(to.clone(), *node);
                for (path, node) in moved {
                    let path = format!("{to}{}", &path[from.len()..]);
                    tree.insert(path, node);
                }
            }
        }
    }
}

/// Removes a path and everything below it, and returns what that was.
fn take_below(tree: &mut Tree, path: &str) -> Vec<(String, Node)> {
    let range = (Bound::Included(path.to_owned()), Bound::Unbounded);
    let taken: Vec<(String, Node)> = tree
        .range(range)
        .take_while(|(other, _)| other.starts_with(path))
        .filter(|(other, _)| is_below(other, path))
        .map(|(other, node)| (other.clone(), *node))
        .collect();
    for (path, _) in &taken {
        tree.remove(path);
    }
    taken
}
