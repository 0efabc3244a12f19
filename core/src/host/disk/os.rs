//! A directory of the machine as a [`Disk`].
//!
//! Directories are made with mode 0700 and files with 0600: what a store holds
//! is the business of the user that mounts it.

mod linux;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise},
};

use super::{Disk, DiskFile, OpenMode, Space};

/// The files below one directory of the machine.
#[derive(Debug, Clone)]
pub struct OsDisk {
    root: PathBuf,
}

impl OsDisk {
    /// The disk rooted at `root`, which is made, with its parents, when it
    /// does not exist.
    ///
    /// # Errors
    /// When the directory cannot be made, or is none.
    pub fn open(root: PathBuf) -> io::Result<OsDisk> {
        make_dir(&root)?;
        Ok(OsDisk { root })
    }

    /// The directory all paths are relative to.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The full path of `path`; one that could leave the store is refused.
    fn place(&self, path: &str) -> io::Result<PathBuf> {
        let relative = Path::new(path);
        let stays = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if stays {
            Ok(self.root.join(relative))
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{path:?} is not a path within the store"),
            ))
        }
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

impl Disk for OsDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
            OpenMode::Create => {
                options.write(true).create(true);
            }
        }
        let file = options.open(self.place(path)?)?;
        Ok(Arc::new(OsFile { file }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.place(dir)?)? {
            // Names that are not UTF-8 are none of ours: the store writes
            // ASCII names only.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        make_dir(&self.place(dir)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.place(from)?, self.place(to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.place(path)?)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        fs::remove_dir_all(self.place(dir)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.place(dir)?)?.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let found = nix::sys::statvfs::statvfs(&self.root).map_err(io::Error::from)?;
        let unit = found.fragment_size();
        Ok(Space {
            total: found.blocks().saturating_mul(unit),
            free: found.blocks_free().saturating_mul(unit),
            available: found.blocks_available().saturating_mul(unit),
        })
    }
}

struct OsFile {
    file: File,
}

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        linux::read_cached_at(&self.file, buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let offset = i64::try_from(offset).map_err(out_of_range)?;
        let len = i64::try_from(len).map_err(out_of_range)?;
        match fallocate(&self.file, FallocateFlags::empty(), offset, len) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
            other => Ok(other?),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        linux::start_writeback(&self.file, offset, len);
    }

    fn will_need(&self, offset: u64, len: u64) {
        let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
            return;
        };
        // Advice: without it reads are slower, and nothing else.
        let _ = posix_fadvise(
            &self.file,
            offset,
            len,
            PosixFadviseAdvice::POSIX_FADV_WILLNEED,
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn disk() -> (tempfile::TempDir, OsDisk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = OsDisk::open(dir.path().join("a/store")).unwrap();
        (dir, disk)
    }

    #[test]
    fn files_and_directories_are_private() {
        let (_dir, disk) = disk();
        disk.create_dir("x/y").unwrap();
        disk.open("x/y/f", OpenMode::CreateNew).unwrap();
        let mode = |path: &str| {
            let path = disk.root().join(path);
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode(""), mode("x"), mode("x/y")), (0o700, 0o700, 0o700));
        assert_eq!(mode("x/y/f"), 0o600);
    }

    #[test]
    fn written_bytes_come_back_cached_or_not() {
        let (_dir, disk) = disk();
        let file = disk.open("f", OpenMode::Create).unwrap();
        file.write_at(b"hello", 3).unwrap();
        file.start_writeback(0, 8);
        file.sync_data().unwrap();
        assert_eq!(file.len().unwrap(), 8);
        let mut buffer = [9; 16];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 8);
        assert_eq!(&buffer[..8], b"\0\0\0hello");
        // Just written, so in the page cache; None is allowed on filesystems
        // that do not know the flag.
        let mut buffer = [9; 4];
        if let Some(n) = file.read_cached_at(&mut buffer, 4).unwrap() {
            assert_eq!(&buffer[..n], &b"ello"[..n]);
        }
        if let Some(n) = file.read_cached_at(&mut buffer, 8).unwrap() {
            assert_eq!(n, 0, "the end of the file");
        }
        file.reserve(0, 1 << 16).unwrap();
        let extended = file.len().unwrap();
        assert!(extended == 1 << 16 || extended == 8, "{extended}");
        let mut buffer = [9; 9];
        file.read_exact_at(&mut buffer[..8], 0).unwrap();
        assert_eq!(&buffer, b"\0\0\0hello\x09");
        let mut buffer = [9; 4];
        file.set_len(4).unwrap();
        assert_eq!(file.len().unwrap(), 4);
        assert!(file.read_exact_at(&mut buffer, 1).is_err());
    }

    #[test]
    fn modes_open_what_they_say() {
        let (_dir, disk) = disk();
        assert!(disk.open("f", OpenMode::Read).is_err());
        assert!(disk.open("f", OpenMode::Write).is_err());
        disk.open("f", OpenMode::CreateNew).unwrap();
        assert!(disk.open("f", OpenMode::CreateNew).is_err());
        disk.open("f", OpenMode::Create).unwrap();
        let file = disk.open("f", OpenMode::Read).unwrap();
        assert!(file.write_at(b"x", 0).is_err());
    }

    #[test]
    fn names_come_go_and_move() {
        let (_dir, disk) = disk();
        disk.create_dir("d").unwrap();
        disk.create_dir("d").unwrap();
        disk.open("d/a", OpenMode::Create).unwrap();
        disk.open("d/b", OpenMode::Create).unwrap();
        disk.rename("d/a", "d/b").unwrap();
        assert_eq!(disk.list("d").unwrap(), ["b"]);
        disk.sync_dir("d").unwrap();
        disk.sync_dir("").unwrap();
        disk.remove("d/b").unwrap();
        assert!(disk.remove("d/b").is_err());
        disk.remove_dir("d").unwrap();
        assert!(disk.list("d").is_err());
        assert!(disk.list("").unwrap().is_empty());
        let space = disk.space().unwrap();
        assert!(space.total >= space.free && space.free >= space.available);
    }

    #[test]
    fn no_path_leaves_the_store() {
        let (_dir, disk) = disk();
        for path in ["../x", "/etc/passwd", "a/../../x"] {
            let refused = disk.open(path, OpenMode::Create).err().unwrap();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }
}
