//! Device numbers: on the wire a major and a minor one, in an inode both in the
//! encoding of Linux.

use nix::libc;

/// The major and the minor number.
#[must_use]
pub fn split(rdev: u32) -> (u32, u32) {
    let rdev = libc::dev_t::from(rdev);
    (libc::major(rdev), libc::minor(rdev))
}

/// Both in one; `None` for numbers that Linux does not have.
#[must_use]
pub fn join(major: u32, minor: u32) -> Option<u32> {
    libc::makedev(major, minor).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive() {
        for (major, minor) in [(8, 1), (0xfff, 0xfffff), (0, 0), (259, 70_000)] {
            assert_eq!(join(major, minor).map(split), Some((major, minor)));
        }
    }

    #[test]
    fn numbers_beyond_those_of_linux_are_none() {
        assert_eq!(join(1 << 12, 0), None);
        assert_eq!(join(0, 1 << 20), None);
    }
}
