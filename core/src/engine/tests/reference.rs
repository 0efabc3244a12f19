//! What a filesystem is, in a few maps: the reference that the real one is
//! compared with, in process (`compared.rs`) and through the kernel
//! (`tests/tests/model.rs`), which both run the steps generated here.

use std::collections::BTreeMap;

use nix::libc;
use proptest::prelude::*;

/// Names in the root and, behind a second number, in the directories there.
pub type Path = Vec<u8>;

pub const HANDLES: usize = 3;

#[derive(Clone, Debug)]
pub enum Step {
    Create(usize, Path),
    Open(usize, Path),
    Close(usize),
    Write(usize, usize, usize, u8),
    Read(usize, usize, usize),
    Truncate(usize, usize),
    Punch(usize, usize, usize),
    Zero(usize, usize, usize),
    /// From a place in one file to a place in another.
    Copy((usize, usize), (usize, usize), usize),
    Fsync(usize),
    Mkdir(Path),
    Rmdir(Path),
    Unlink(Path),
    Link(Path, Path),
    Rename(Path, Path),
    SetXattr(Path, u8),
    RemoveXattr(Path),
    Remount,
    Crash,
}

/// What a step gives: bytes read or copied, or an errno.
pub type Outcome = Result<Vec<u8>, i32>;

/// The bytes that a write with this number writes.
pub fn pattern(seed: u8, len: usize) -> Vec<u8> {
    // Not compressible to a few equal chunks, and different at each offset.
    let mut state = u32::from(seed).wrapping_mul(0x9e37_79b9) | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn path() -> impl Strategy<Value = Path> {
    prop_oneof![
        3 => (0..4_u8).prop_map(|name| vec![name]),
        2 => (0..4_u8, 0..3_u8).prop_map(|(dir, name)| vec![dir, name]),
    ]
}

pub fn step() -> impl Strategy<Value = Step> {
    let handle = || 0..HANDLES;
    let at = || prop_oneof![0..9000_usize, 0..150_000_usize];
    let len = || prop_oneof![1..20_usize, 1..9000_usize, 1..120_000_usize];
    let place = move || (handle(), at());
    prop_oneof![
        6 => (handle(), path()).prop_map(|(h, p)| Step::Create(h, p)),
        3 => (handle(), path()).prop_map(|(h, p)| Step::Open(h, p)),
        1 => handle().prop_map(Step::Close),
        10 => (place(), len(), any::<u8>()).prop_map(|((h, a), l, s)| Step::Write(h, a, l, s)),
        4 => (place(), len()).prop_map(|((h, a), l)| Step::Read(h, a, l)),
        2 => place().prop_map(|(h, a)| Step::Truncate(h, a)),
        2 => (place(), len()).prop_map(|((h, a), l)| Step::Punch(h, a, l)),
        1 => (place(), len()).prop_map(|((h, a), l)| Step::Zero(h, a, l)),
        2 => (place(), place(), len()).prop_map(|(from, to, l)| Step::Copy(from, to, l)),
        2 => handle().prop_map(Step::Fsync),
        3 => path().prop_map(Step::Mkdir),
        1 => path().prop_map(Step::Rmdir),
        3 => path().prop_map(Step::Unlink),
        2 => (path(), path()).prop_map(|(a, b)| Step::Link(a, b)),
        5 => (path(), path()).prop_map(|(a, b)| Step::Rename(a, b)),
        1 => (path(), any::<u8>()).prop_map(|(p, v)| Step::SetXattr(p, v)),
        1 => path().prop_map(Step::RemoveXattr),
        1 => Just(Step::Remount),
        1 => Just(Step::Crash),
    ]
}

/// The tree without contents: of each path whether it is a directory, the
/// first path of the same inode, and its attribute.
pub type Names = BTreeMap<Path, (bool, Path, Option<u8>)>;

/// All that can be seen: names, and contents by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub names: Names,
    pub contents: BTreeMap<Path, Vec<u8>>,
}

const ROOT: u64 = 1;

#[derive(Clone, Debug, Default)]
struct Node {
    entries: Option<BTreeMap<u8, u64>>,
    xattr: Option<u8>,
}

#[derive(Clone, Debug, Default)]
struct Tree(BTreeMap<u64, Node>);

impl Tree {
    fn empty() -> Tree {
        let root = Node {
            entries: Some(BTreeMap::new()),
            xattr: None,
        };
        Tree(BTreeMap::from([(ROOT, root)]))
    }

    fn entries(&mut self, dir: u64) -> &mut BTreeMap<u8, u64> {
        let node = self.0.get_mut(&dir).expect("a directory of the model");
        node.entries.as_mut().expect("a directory of the model")
    }

    fn is_dir(&self, node: u64) -> bool {
        self.0[&node].entries.is_some()
    }

    /// The directory that a path leads to, and its last name.
    fn parent(&self, path: &Path) -> Result<(u64, u8), i32> {
        let root = self.0[&ROOT].entries.as_ref();
        let root = root.expect("the root is a directory");
        match path[..] {
            [name] => Ok((ROOT, name)),
            [dir, name] => match root.get(&dir) {
                None => Err(libc::ENOENT),
                Some(node) if !self.is_dir(*node) => Err(libc::ENOTDIR),
                Some(node) => Ok((*node, name)),
            },
            _ => unreachable!("paths have one or two names"),
        }
    }

    fn find(&self, path: &Path) -> Result<u64, i32> {
        let (dir, name) = self.parent(path)?;
        let entries = self.0[&dir].entries.as_ref();
        entries
            .and_then(|entries| entries.get(&name))
            .copied()
            .ok_or(libc::ENOENT)
    }

    fn names(&self) -> (Names, BTreeMap<Path, u64>) {
        let mut nodes = BTreeMap::new();
        let mut open = vec![(Vec::new(), ROOT)];
        while let Some((path, node)) = open.pop() {
            for (name, child) in self.0[&node].entries.iter().flatten() {
                let path = [&path[..], &[*name]].concat();
                nodes.insert(path.clone(), *child);
                open.push((path, *child));
            }
        }
        let mut first: BTreeMap<u64, &Path> = BTreeMap::new();
        for (path, node) in &nodes {
            first.entry(*node).or_insert(path);
        }
        let describe = |(path, node): (&Path, &u64)| {
            let first = first[node].clone();
            let about = (self.is_dir(*node), first, self.0[node].xattr);
            (path.clone(), about)
        };
        let names = nodes.iter().map(describe).collect();
        (names, nodes)
    }
}

pub struct Model {
    tree: Tree,
    /// What each file had in it since that was last promised; the last is now.
    files: BTreeMap<u64, Vec<Vec<u8>>>,
    handles: [Option<u64>; HANDLES],
    /// The tree since it was last promised; the last is now.
    history: Vec<Tree>,
    next: u64,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            tree: Tree::empty(),
            files: BTreeMap::new(),
            handles: [None; HANDLES],
            history: vec![Tree::empty()],
            next: ROOT + 1,
        }
    }
}

impl Model {
    pub fn is_open(&self, handle: usize) -> bool {
        self.handles[handle].is_some()
    }

    /// All handles are gone.
    pub fn close_all(&mut self) {
        self.handles = [None; HANDLES];
    }

    fn content(&self, handle: usize) -> Result<&Vec<u8>, i32> {
        let node = self.handles[handle].ok_or(libc::EBADF)?;
        Ok(self.files[&node].last().expect("a file has contents"))
    }

    fn change(&mut self, handle: usize, change: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        let mut now = self.content(handle)?.clone();
        change(&mut now);
        let node = self.handles[handle].ok_or(libc::EBADF)?;
        self.files.entry(node).or_default().push(now);
        Ok(Vec::new())
    }

    /// Takes a step; gives what the real thing must give. Remounts and crashes
    /// are the caller's.
    pub fn step(&mut self, step: &Step) -> Outcome {
        let outcome = self.take(step);
        if outcome.is_ok() {
            self.history.push(self.tree.clone());
        }
        outcome
    }

    fn take(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Create(handle, path) => self.create(*handle, path),
            Step::Open(handle, path) => {
                let node = self.tree.find(path)?;
                if self.tree.is_dir(node) {
                    return Err(libc::EISDIR);
                }
                self.handles[*handle] = Some(node);
                Ok(Vec::new())
            }
            Step::Close(handle) => {
                self.handles[*handle] = None;
                Ok(Vec::new())
            }
            Step::Write(handle, at, len, seed) => {
                let data = pattern(*seed, *len);
                self.change(*handle, |now| splice(now, *at, &data))
            }
            Step::Read(handle, at, len) => {
                let now = self.content(*handle)?;
                let end = (at + len).min(now.len());
                Ok(now.get(*at..end).unwrap_or_default().to_vec())
            }
            Step::Truncate(handle, len) => self.change(*handle, |now| now.resize(*len, 0)),
            Step::Punch(handle, at, len) => self.change(*handle, |now| {
                let end = (at + len).min(now.len());
                now[(*at).min(end)..end].fill(0);
            }),
            Step::Zero(handle, at, len) => {
                self.change(*handle, |now| splice(now, *at, &vec![0; *len]))
            }
            Step::Copy(from, to, len) => self.copy(*from, *to, *len),
            Step::Fsync(handle) => {
                let node = self.handles[*handle].ok_or(libc::EBADF)?;
                keep_last(self.files.entry(node).or_default());
                self.history.clear();
                Ok(Vec::new())
            }
            Step::SetXattr(path, value) => {
                let node = self.tree.find(path)?;
                self.tree.0.entry(node).or_default().xattr = Some(*value);
                Ok(Vec::new())
            }
            Step::RemoveXattr(path) => {
                let node = self.tree.find(path)?;
                let xattr = self.tree.0.entry(node).or_default().xattr.take();
                xattr.map(|_| Vec::new()).ok_or(libc::ENODATA)
            }
            Step::Mkdir(_)
            | Step::Rmdir(_)
            | Step::Unlink(_)
            | Step::Link(..)
            | Step::Rename(..) => self.names(step),
            Step::Remount | Step::Crash => unreachable!("the caller's"),
        }
    }

    fn create(&mut self, handle: usize, path: &Path) -> Outcome {
        let (dir, name) = self.tree.parent(path)?;
        if self.tree.entries(dir).contains_key(&name) {
            return Err(libc::EEXIST);
        }
        let node = self.add(dir, name, Node::default());
        self.files.insert(node, vec![Vec::new()]);
        self.handles[handle] = Some(node);
        Ok(Vec::new())
    }

    fn add(&mut self, dir: u64, name: u8, node: Node) -> u64 {
        let number = self.next;
        self.next += 1;
        self.tree.0.insert(number, node);
        self.tree.entries(dir).insert(name, number);
        number
    }

    fn copy(&mut self, from: (usize, usize), to: (usize, usize), len: usize) -> Outcome {
        let source = self.content(from.0)?;
        self.content(to.0)?;
        let len = len.min(source.len().saturating_sub(from.1));
        let same = self.handles[from.0] == self.handles[to.0];
        if same && to.1 + len > from.1 && to.1 < from.1 + len {
            return Err(libc::EINVAL);
        }
        if len == 0 {
            return Ok(Vec::new());
        }
        let data = source[from.1..from.1 + len].to_vec();
        self.change(to.0, |now| splice(now, to.1, &data))?;
        Ok(data)
    }

    fn names(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Mkdir(path) => {
                let (dir, name) = self.tree.parent(path)?;
                if self.tree.entries(dir).contains_key(&name) {
                    return Err(libc::EEXIST);
                }
                let node = Node {
                    entries: Some(BTreeMap::new()),
                    xattr: None,
                };
                self.add(dir, name, node);
            }
            Step::Rmdir(path) => {
                let (dir, name) = self.tree.parent(path)?;
                let node = self.tree.find(path)?;
                match &self.tree.0[&node].entries {
                    None => return Err(libc::ENOTDIR),
                    Some(entries) if !entries.is_empty() => return Err(libc::ENOTEMPTY),
                    Some(_) => self.tree.entries(dir).remove(&name),
                };
            }
            Step::Unlink(path) => {
                let (dir, name) = self.tree.parent(path)?;
                if self.tree.find(path).map(|node| self.tree.is_dir(node))? {
                    return Err(libc::EISDIR);
                }
                self.tree.entries(dir).remove(&name);
            }
            Step::Link(path, new) => {
                let node = self.tree.find(path)?;
                let (dir, name) = self.tree.parent(new)?;
                if self.tree.entries(dir).contains_key(&name) {
                    return Err(libc::EEXIST);
                }
                if self.tree.is_dir(node) {
                    return Err(libc::EPERM);
                }
                self.tree.entries(dir).insert(name, node);
            }
            Step::Rename(from, to) => self.rename(from, to)?,
            _ => unreachable!("no step of names"),
        }
        Ok(Vec::new())
    }

    /// In the order in which Linux looks at things.
    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), i32> {
        let (dir, name) = self.tree.parent(from)?;
        let (new_dir, new_name) = self.tree.parent(to)?;
        let node = self.tree.find(from)?;
        let there = self.tree.find(to).ok();
        if node == new_dir {
            return Err(libc::EINVAL);
        }
        if there == Some(dir) {
            return Err(libc::ENOTEMPTY);
        }
        if there == Some(node) {
            return Ok(());
        }
        if let Some(there) = there {
            match (self.tree.is_dir(node), &self.tree.0[&there].entries) {
                (false, Some(_)) => return Err(libc::EISDIR),
                (true, None) => return Err(libc::ENOTDIR),
                (true, Some(entries)) if !entries.is_empty() => return Err(libc::ENOTEMPTY),
                _ => {}
            }
        }
        // Paths of three names are none that steps have.
        self.tree.entries(dir).remove(&name);
        self.tree.entries(new_dir).insert(new_name, node);
        Ok(())
    }

    /// What there is to see now.
    pub fn seen(&self) -> Seen {
        self.seen_in(&self.tree, |versions| versions.last())
    }

    fn seen_in<'m>(
        &'m self,
        tree: &Tree,
        version: impl Fn(&'m Vec<Vec<u8>>) -> Option<&'m Vec<u8>>,
    ) -> Seen {
        let (names, nodes) = tree.names();
        let contents = nodes
            .iter()
            .filter_map(|(path, node)| {
                let content = version(self.files.get(node)?)?.clone();
                Some((path.clone(), content))
            })
            .collect();
        Seen { names, contents }
    }

    /// Whether a crash may leave this: the names of one moment since they were
    /// promised, and of each file contents since those were.
    ///
    /// # Errors
    /// What does not fit.
    pub fn crashed(&mut self, found: &Seen) -> Result<(), String> {
        self.close_all();
        let mut why = format!("the names are of no moment: {:?}", found.names);
        let moments = std::mem::take(&mut self.history);
        for tree in moments.into_iter().rev() {
            let (names, nodes) = tree.names();
            if names != found.names {
                continue;
            }
            let torn = found.contents.iter().find(|(path, content)| {
                let versions = nodes.get(*path).and_then(|node| self.files.get(node));
                !versions.is_some_and(|versions| versions.contains(content))
            });
            match torn {
                Some((path, _)) => why = format!("{path:?} has contents of no moment"),
                None => {
                    let content = |path: &Path| vec![found.contents[path].clone()];
                    self.files = nodes
                        .iter()
                        .filter(|(path, _)| found.contents.contains_key(*path))
                        .map(|(path, node)| (*node, content(path)))
                        .collect();
                    self.history = vec![tree.clone()];
                    self.tree = tree;
                    return Ok(());
                }
            }
        }
        Err(why)
    }

    /// An orderly end makes everything durable.
    pub fn remounted(&mut self) {
        self.close_all();
        self.files.values_mut().for_each(keep_last);
        self.history = vec![self.tree.clone()];
    }
}

fn keep_last(versions: &mut Vec<Vec<u8>>) {
    versions.drain(..versions.len().saturating_sub(1));
}

fn splice(now: &mut Vec<u8>, at: usize, data: &[u8]) {
    now.resize(now.len().max(at + data.len()), 0);
    now[at..at + data.len()].copy_from_slice(data);
}
