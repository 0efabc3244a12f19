//! The mounts of this machine, read from `/proc`, and who uses them. Nothing
//! here touches the mount itself, so a mount whose daemon died or hangs is
//! found like any other.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use crate::{
    failure::{Attempt, Failure, Result},
    places,
};

/// File system type of a kiseki mount in the mount table.
pub const FS_TYPE: &str = "fuse.kiseki";

/// A mount of kiseki.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Directory of its store.
    pub store: PathBuf,
}

/// All mounts of kiseki that this process sees, in the order of mounting.
///
/// # Errors
/// `/proc` is not there.
pub fn all() -> Result<Vec<Mount>> {
    let table = fs::read("/proc/self/mountinfo")
        .attempt(|| "cannot read the mount table /proc/self/mountinfo".into())?;
    Ok(parse(&table))
}

/// The mount of kiseki at exactly this path.
///
/// # Errors
/// There is none; the text says what to do.
pub fn at(path: &Path) -> Result<Mount> {
    let mounts = all()?;
    let find = |path: &Path| {
        mounts
            .iter()
            .rev()
            .find(|mount| mount.point == path)
            .cloned()
    };
    // The last part is not resolved first: a look at a dead mount fails.
    let unresolved = std::path::absolute(path).ok().and_then(|path| {
        let parent = path.parent()?.canonicalize().ok()?;
        find(&parent.join(path.file_name()?))
    });
    unresolved
        .or_else(|| find(&places::absolute(path).ok()?))
        .ok_or_else(|| {
            Failure::new(format!("{} is not a mount of kiseki", path.display()))
                .remedy("`findmnt -t fuse.kiseki` lists the mounts there are")
        })
}

/// The mount of kiseki that `dir` lies below, if there is one; another
/// filesystem may be mounted in between.
///
/// # Errors
/// `/proc` is not there.
pub fn around(dir: &Path) -> Result<Option<Mount>> {
    Ok(all()?
        .into_iter()
        .rfind(|mount| dir.starts_with(&mount.point)))
}

/// The mount of this store, if there is one.
///
/// # Errors
/// `/proc` is not there.
pub fn of_store(store: &Path) -> Result<Option<Mount>> {
    Ok(all()?.into_iter().rfind(|mount| mount.store == store))
}

/// How a store directory is written into the mount table: as it is, but for
/// bytes that would end a mount option.
#[must_use]
pub fn source_of(store: &Path) -> String {
    let mut source = String::new();
    for part in store.to_string_lossy().chars() {
        match part {
            ',' => source.push_str("%2C"),
            '\\' => source.push_str("%5C"),
            '%' => source.push_str("%25"),
            other => source.push(other),
        }
    }
    source
}

fn store_of(source: &[u8]) -> PathBuf {
    let text = String::from_utf8_lossy(source);
    PathBuf::from(
        text.replace("%2C", ",")
            .replace("%5C", "\\")
            .replace("%25", "%"),
    )
}

pub(crate) fn parse(table: &[u8]) -> Vec<Mount> {
    table
        .split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// See `proc_pid_mountinfo(5)`: optional fields stand before a lone `-`.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    let kind = fields.get(separator + 1)?;
    (*kind == FS_TYPE.as_bytes()).then_some(())?;
    Some(Mount {
        point: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
        store: store_of(&unescape(fields.get(separator + 2)?)),
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.unwrap_or(byte));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    plain
}

/// A process that keeps a mount busy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its short name.
    pub name: String,
    /// A path below the mount that it uses.
    pub path: PathBuf,
}

/// Processes with a working directory, root, program or open file below
/// `point`, as far as this user may look; at most `limit`.
#[must_use]
pub fn holders(point: &Path, limit: usize) -> Vec<Holder> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        // Started in the mount, we use it ourselves, but not for long.
        .filter(|pid| *pid != std::process::id())
        .filter_map(|pid| holder(pid, point))
        .take(limit)
        .collect()
}

fn holder(pid: u32, point: &Path) -> Option<Holder> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let open = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    let path = ["cwd", "root", "exe"]
        .into_iter()
        .map(|link| process.join(link))
        .chain(open.map(|file| file.path()))
        .filter_map(|link| fs::read_link(link).ok())
        .find(|path| path.starts_with(point))?;
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    Some(Holder {
        pid,
        name: name.trim().to_owned(),
        path,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TABLE: &[u8] = b"\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
40 22 0:50 / /mnt/with\\040space rw,nosuid shared:9 master:2 - fuse.kiseki /var/lib/kiseki/a%2Cb%255C rw,user_id=0\n\
41 22 0:51 / /mnt/s rw - fuse.sshfs host:/ rw\n\
garbage\n\
42 22 0:52 / /mnt/k rw - fuse.kiseki /s rw\n";

    #[test]
    fn kiseki_mounts_are_picked_from_the_table() {
        let mounts = parse(TABLE);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point, Path::new("/mnt/with space"));
        assert_eq!(mounts[0].store, Path::new("/var/lib/kiseki/a,b%5C"));
        assert_eq!(mounts[1].point, Path::new("/mnt/k"));
    }

    #[test]
    fn a_store_path_survives_the_mount_table() {
        for path in ["/a", "/a,b", "/100%", "/%2C", "/back\\slash", "/ü"] {
            assert_eq!(
                store_of(source_of(Path::new(path)).as_bytes()),
                Path::new(path)
            );
        }
    }

    #[test]
    fn a_directory_is_not_taken_for_a_mount() {
        let dir = tempfile::tempdir().unwrap();
        let text = at(dir.path()).unwrap_err().to_string();
        assert!(text.contains("is not a mount of kiseki"), "{text}");
    }

    #[test]
    fn another_process_holds_a_mount_and_this_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path().canonicalize().unwrap();
        let file = fs::File::create(point.join("f")).unwrap();
        assert_eq!(holders(&point, 8), []);
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(file)
            .spawn()
            .unwrap();
        let found = holders(&point, 8);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].pid, child.id());
        assert_eq!(found[0].path, point.join("f"));
    }
}
