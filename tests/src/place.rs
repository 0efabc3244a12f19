//! A directory on the filesystem under test.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

use crate::{Mount, Result, Setup};

/// An empty directory on a kiseki mount of its own, or in `KISEKI_TEST_DIR`.
pub struct Place {
    under: Under,
    outside: TempDir,
}

enum Under {
    Mount(Box<Mount>),
    Plain(TempDir),
}

impl Place {
    /// A place to test in, or none when the test was skipped.
    pub fn open() -> Result<Option<Place>> {
        Place::with(Setup::default())
    }

    /// The same with settings for the mount.
    pub fn with(setup: Setup) -> Result<Option<Place>> {
        let outside = crate::mount::scratch_dir("outside")?;
        let under = match std::env::var_os("KISEKI_TEST_DIR") {
            Some(dir) => Under::Plain(
                tempfile::Builder::new()
                    .prefix("kiseki-test-")
                    .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
                    .tempdir_in(dir)
                    .context("make a directory in KISEKI_TEST_DIR")?,
            ),
            None => match Mount::with(setup)? {
                Some(mount) => Under::Mount(Box::new(mount)),
                None => return Ok(None),
            },
        };
        Ok(Some(Place { under, outside }))
    }

    /// The directory under test.
    #[must_use]
    pub fn dir(&self) -> &Path {
        match &self.under {
            Under::Mount(mount) => mount.dir(),
            Under::Plain(dir) => dir.path(),
        }
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir().join(name)
    }

    /// A directory of this test on an ordinary filesystem.
    #[must_use]
    pub fn outside(&self) -> &Path {
        self.outside.path()
    }

    /// The mount, unless a plain directory is under test.
    pub fn mount(&mut self) -> Option<&mut Mount> {
        match &mut self.under {
            Under::Mount(mount) => Some(mount),
            Under::Plain(_) => None,
        }
    }

    /// Unmounts and mounts again: nothing is left but what is stored.
    pub fn remount(&mut self) -> Result {
        match &mut self.under {
            Under::Mount(mount) => mount.remount(),
            Under::Plain(_) => Ok(()),
        }
    }

    /// Checks the store at the end of a test; a plain directory has none.
    pub fn finish(self) -> Result {
        match self.under {
            Under::Mount(mut mount) => {
                mount.umount()?;
                mount.fsck_clean()
            }
            Under::Plain(_) => Ok(()),
        }
    }
}
