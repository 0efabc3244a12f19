//! One process at a time.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{Error, Result};

pub(super) const NAME: &str = "lock";

/// How long another process may have the lock before this one gives up: one
/// that only looks at the store, or that is dying, lets go of it by itself.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// The exclusive right to a store, held until dropped. It belongs to the open
/// file: a child that inherits it keeps it held.
#[derive(Debug)]
pub struct StoreLock {
    file: File,
    writable: bool,
}

impl StoreLock {
    /// Takes the lock of the store in the directory `path`, which must exist.
    /// Changes nothing but for making the file that is locked, where it can be
    /// made and is not there; [`StoreLock::write_pid`] says who has it.
    ///
    /// # Errors
    /// `StoreInUse` with the holder's pid when another has it for longer than a
    /// moment, `NoSuchStore` when there is no such directory.
    pub fn take(path: &Path) -> Result<StoreLock> {
        let name = path.join(NAME);
        let failed = |error| Error::io(format!("lock {}", name.display()), error);
        let (file, writable) = open(path, &name)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(StoreLock { file, writable }),
                Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                    thread::sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::StoreInUse {
                        path: path.display().to_string().into(),
                        pid: holder(&file),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// Writes the pid of this process into the lock, for whoever is refused.
    /// To be called once the key has opened the store, since a refused attempt
    /// changes nothing. On a store that cannot be written nobody is told.
    ///
    /// # Errors
    /// When the file cannot be written; the lock holds nevertheless.
    pub fn write_pid(&self) -> io::Result<()> {
        if !self.writable {
            return Ok(());
        }
        self.file.set_len(0)?;
        let text = format!("{}\n", std::process::id());
        self.file.write_all_at(text.as_bytes(), 0)
    }
}

fn open(path: &Path, name: &Path) -> Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let error = match options.mode(0o600).open(name) {
        Ok(file) => return Ok((file, true)),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::NotFound => Err(Error::NoSuchStore(
            format!(
                "there is no store directory {}; `kiseki mount --store DIR MOUNTPOINT` creates one",
                path.display()
            )
            .into(),
        )),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            let file = File::open(name).or_else(|_| File::open(path));
            let file = file.map_err(|_| Error::io(format!("open {}", name.display()), error))?;
            Ok((file, false))
        }
        _ => Err(Error::io(format!("open {}", name.display()), error)),
    }
}

/// The pid in a lock file; 0 when it says none.
fn holder(file: &File) -> u32 {
    let mut text = String::new();
    match file.take(32).read_to_string(&mut text) {
        Ok(_) => text.trim().parse().unwrap_or(0),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_second_taker_learns_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = StoreLock::take(dir.path()).unwrap();
        lock.write_pid().unwrap();
        let error = StoreLock::take(dir.path()).unwrap_err();
        let Error::StoreInUse { path, pid } = &error else {
            panic!("{error}")
        };
        assert_eq!(**path, *dir.path().to_str().unwrap());
        assert_eq!(*pid, std::process::id());
        drop(lock);
        StoreLock::take(dir.path()).unwrap();
    }

    #[test]
    fn a_lock_file_that_says_nothing_still_locks() {
        let dir = tempfile::tempdir().unwrap();
        let _lock = StoreLock::take(dir.path()).unwrap();
        fs::write(dir.path().join(NAME), "what?").unwrap();
        let error = StoreLock::take(dir.path()).unwrap_err();
        assert!(matches!(error, Error::StoreInUse { pid: 0, .. }));
    }

    #[test]
    fn a_lock_left_by_the_dead_is_free() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "4194304000\n").unwrap();
        let lock = StoreLock::take(dir.path()).unwrap();
        let text = fs::read_to_string(dir.path().join(NAME)).unwrap();
        assert_eq!(text, "4194304000\n", "taking the lock changes nothing");
        lock.write_pid().unwrap();
        let text = fs::read_to_string(dir.path().join(NAME)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn the_lock_file_is_private_and_the_directory_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let _lock = StoreLock::take(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join(NAME)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let missing = StoreLock::take(&dir.path().join("none"));
        assert!(matches!(missing, Err(Error::NoSuchStore(_))));
    }
}
