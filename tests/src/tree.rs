//! What a directory tree looks like from outside, for comparison.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

use anyhow::{Context, bail};
use rustix::fs as sys;

use crate::{Result, is_root};

/// Differences that a failed comparison shows.
const SHOWN: usize = 20;

/// Everything a POSIX caller can see of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Type and permissions.
    pub mode: u32,
    /// User and group, when the process may set them.
    pub owner: Option<(u32, u32)>,
    /// Device number of a device, otherwise 0.
    pub rdev: u64,
    /// Modification time in seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Names of the inode, for anything but a directory.
    pub links: u64,
    /// Symlink target, or hash of the contents and their length.
    pub contents: Contents,
    /// Extended attributes but those that the filesystem itself answers.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Not a file or symlink.
    None,
    /// Target of a symlink.
    Target(Vec<u8>),
    /// BLAKE3 of a file's bytes, and how many there are.
    Hash(blake3::Hash, u64),
}

/// A tree by path below its root; the root itself is not in it.
pub type Tree = BTreeMap<Vec<u8>, Node>;

/// Reads a whole tree, all contents included.
pub fn read(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let path = entry?.path();
            let node = node(&path).with_context(|| format!("read {}", path.display()))?;
            if sys::FileType::from_raw_mode(node.mode) == sys::FileType::Directory {
                open.push(path.clone());
            }
            let name = path.strip_prefix(root)?.as_os_str().as_bytes().to_vec();
            if tree.insert(name, node).is_some() {
                bail!("{} is listed twice", path.display());
            }
        }
    }
    Ok(tree)
}

fn node(path: &Path) -> Result<Node> {
    let meta = fs::symlink_metadata(path)?;
    let kind = meta.file_type();
    let contents = if kind.is_symlink() {
        Contents::Target(fs::read_link(path)?.into_os_string().into_vec())
    } else if kind.is_file() {
        let mut hasher = blake3::Hasher::new();
        let size = io::copy(&mut fs::File::open(path)?, &mut hasher)?;
        Contents::Hash(hasher.finalize(), size)
    } else {
        Contents::None
    };
    let device = kind.is_block_device() || kind.is_char_device();
    Ok(Node {
        mode: meta.mode(),
        owner: is_root().then_some((meta.uid(), meta.gid())),
        rdev: if device { meta.rdev() } else { 0 },
        mtime: (meta.mtime(), meta.mtime_nsec()),
        links: if kind.is_dir() { 0 } else { meta.nlink() },
        contents,
        xattrs: xattrs(path)?,
    })
}

/// The extended attributes of a path, symlinks not followed.
pub fn xattrs(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; 1 << 16];
    let len = match sys::llistxattr(path, &mut names[..]) {
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        other => other.context("llistxattr")?,
    };
    names.truncate(len);
    names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .filter(|name| !name.starts_with(b"user.kiseki."))
        .map(|name| Ok((name.to_vec(), xattr(path, OsStr::from_bytes(name))?)))
        .collect()
}

/// One extended attribute of a path, symlinks not followed.
pub fn xattr(path: &Path, name: &OsStr) -> Result<Vec<u8>> {
    let mut value = vec![0; 1 << 16];
    let len = sys::lgetxattr(path, name, &mut value[..])
        .with_context(|| format!("getxattr {} of {}", name.display(), path.display()))?;
    value.truncate(len);
    Ok(value)
}

/// Fails with the first differences unless both trees are the same.
pub fn assert_same(wanted: &Tree, found: &Tree) -> Result {
    let mut differences = Vec::new();
    for (name, node) in wanted {
        match found.get(name) {
            None => differences.push(format!("{} is missing", show(name))),
            Some(other) if other != node => {
                differences.push(format!("{}: {node:?}\n    became {other:?}", show(name)));
            }
            Some(_) => {}
        }
    }
    for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
        differences.push(format!("{} should not be there", show(name)));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let count = differences.len();
    differences.truncate(SHOWN);
    bail!("{count} differences:\n  {}", differences.join("\n  "))
}

fn show(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// The names in a directory, without order.
pub fn names(dir: &Path) -> Result<Vec<Vec<u8>>> {
    let entries = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    entries
        .map(|entry| Ok(entry?.file_name().into_vec()))
        .collect()
}
