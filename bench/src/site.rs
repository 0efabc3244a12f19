//! The place that is measured: a directory, and where it is mounted by this
//! tool, the ways to unmount it and mount it again.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result};
use rustix::fs::syncfs;

use crate::round_trips::{Counter, Counts, Moment};

/// A mount that can be taken down and brought up again with its contents.
pub trait Mounted {
    /// Mounts; returns when the directory answers.
    ///
    /// # Errors
    /// It could not be mounted.
    fn up(&mut self) -> Result<()>;

    /// Unmounts; returns when the process behind it has ended.
    ///
    /// # Errors
    /// It could not be unmounted.
    fn down(&mut self) -> Result<()>;

    /// Where its data lies.
    fn store(&self) -> &Path;

    /// What its process answered since it was mounted, where that can be asked.
    ///
    /// # Errors
    /// It does not answer.
    fn counts(&self) -> Result<Option<Counts>>;
}

/// Where workloads run.
pub struct Site {
    dir: PathBuf,
    mounted: Option<Box<dyn Mounted>>,
    counter: Option<Counter>,
    /// How often it was mounted anew.
    life: u64,
}

impl Site {
    /// Any directory; it is neither unmounted nor mounted.
    #[must_use]
    pub fn directory(dir: &Path) -> Site {
        Site {
            dir: dir.to_owned(),
            mounted: None,
            counter: None,
            life: 0,
        }
    }

    /// The same on a mount of somebody else, who counts requests.
    #[must_use]
    pub fn counted(dir: &Path, counter: Option<Counter>) -> Site {
        Site {
            counter,
            ..Site::directory(dir)
        }
    }

    /// A mount of this tool at `dir`.
    #[must_use]
    pub fn mount(dir: &Path, mounted: Box<dyn Mounted>) -> Site {
        Site {
            dir: dir.to_owned(),
            mounted: Some(mounted),
            counter: None,
            life: 0,
        }
    }

    /// What the process behind it answered so far, where that can be asked.
    ///
    /// # Errors
    /// It does not answer.
    pub fn moment(&self) -> Result<Option<Moment>> {
        let counts = match (&self.mounted, &self.counter) {
            (Some(mounted), _) => mounted.counts()?,
            (None, Some(counter)) => Some(counter().map_err(Error::msg)?),
            (None, None) => None,
        };
        let life = self.life;
        Ok(counts.map(|counts| Moment { life, counts }))
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes all changes durable.
    ///
    /// # Errors
    /// The file system reported one.
    pub fn sync(&self) -> Result<()> {
        let dir = File::open(&self.dir)?;
        syncfs(&dir).with_context(|| format!("cannot sync {}", self.dir.display()))
    }

    /// Leaves nothing of it in memory: syncs, unmounts where it can, drops the
    /// page cache. `false` when this user may not drop caches.
    ///
    /// # Errors
    /// Unmounting or mounting failed.
    pub fn cold(&mut self) -> Result<bool> {
        Ok(self.cold_start()?.is_some())
    }

    /// The same; how long mounting took, nothing for a plain directory. `None`
    /// when this user may not drop caches.
    ///
    /// # Errors
    /// Unmounting or mounting failed.
    pub fn cold_start(&mut self) -> Result<Option<Duration>> {
        self.sync()?;
        if !may_drop_caches() {
            return Ok(None);
        }
        if let Some(mounted) = &mut self.mounted {
            mounted.down()?;
            self.life += 1;
        }
        drop_caches()?;
        let start = Instant::now();
        if let Some(mounted) = &mut self.mounted {
            mounted.up()?;
        }
        Ok(Some(start.elapsed()))
    }

    /// Mounts anew while what lies below stays in the page cache. `false` for a
    /// directory, where nothing can be mounted.
    ///
    /// # Errors
    /// Unmounting or mounting failed.
    pub fn remount(&mut self) -> Result<bool> {
        let Some(mounted) = &mut self.mounted else {
            return Ok(false);
        };
        mounted.down()?;
        self.life += 1;
        read_all(mounted.store())?;
        mounted.up()?;
        Ok(true)
    }
}

/// Whether rows called cold can be measured.
#[must_use]
pub fn may_drop_caches() -> bool {
    File::options().write(true).open(DROP_CACHES).is_ok()
}

const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    fs::write(DROP_CACHES, "3").context("cannot drop caches")
}

fn read_all(dir: &Path) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            read_all(&entry.path())?;
        } else if kind.is_file() {
            let mut file = File::open(entry.path())?;
            while file.read(&mut buffer)? > 0 {}
        }
    }
    Ok(())
}
