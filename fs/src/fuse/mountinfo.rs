//! Which filesystem the kernel has mounted at a path, read from
//! `/proc/self/mountinfo`: unlike `stat`, that sends no request to a mount that
//! may no longer answer.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

/// Device number of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Major number; 0 for FUSE.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// The device of the topmost mount at `path`, which must be absolute and free
/// of symlinks; `None` when nothing is mounted exactly there.
///
/// # Errors
/// When the kernel's list cannot be read.
pub(super) fn mounted_at(path: &Path) -> io::Result<Option<Device>> {
    Ok(topmost(&fs::read("/proc/self/mountinfo")?, path))
}

/// Later lines are mounted over earlier ones.
pub(super) fn topmost(table: &[u8], path: &Path) -> Option<Device> {
    table
        .split(|&byte| byte == b'\n')
        .rev()
        .filter_map(entry)
        .find(|(_, point)| point.as_bytes() == path.as_os_str().as_bytes())
        .map(|(device, _)| device)
}

/// `36 35 98:0 /root /mount/point options ...`
fn entry(line: &[u8]) -> Option<(Device, OsString)> {
    let mut fields = line.split(|&byte| byte == b' ').skip(2);
    let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let device = Device {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    };
    let point = unescape(fields.nth(1)?);
    Some((device, OsString::from_vec(point)))
}

/// The kernel writes blank, tab, newline and backslash as `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) => {
                let value = digits.iter().fold(0u8, |sum, digit| {
                    sum.wrapping_mul(8).wrapping_add(digit - b'0')
                });
                plain.push(value);
                rest = &tail[3..];
            }
            None => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        40 22 0:41 / /mnt/a\\040b rw - fuse.kiseki one rw\n\
        41 22 0:42 / /mnt/a\\040b rw - fuse.kiseki two rw\n\
        broken\n";

    #[test]
    fn the_topmost_mount_counts_and_blanks_are_unescaped() {
        assert_eq!(
            topmost(TABLE, Path::new("/mnt/a b")),
            Some(Device {
                major: 0,
                minor: 42
            })
        );
        assert_eq!(topmost(TABLE, Path::new("/mnt")), None);
    }
}
