//! Files that are being read or written. Version 3 knows no open files, but
//! the engine keeps what makes reading quick while somebody has a file open:
//! so a file stays open here for a few seconds after it was last used.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use kiseki_core::{Error, engine::Volume, ids::Ino};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

/// How long a file stays open.
const LINGER: Duration = Duration::from_secs(3);

/// Files that are open at a time.
const MOST: usize = 4096;

/// Open files.
pub struct Files {
    volume: Volume,
    used: Arc<Mutex<HashMap<Ino, Instant>>>,
    closing: JoinHandle<()>,
}

impl Files {
    /// None yet.
    #[must_use]
    pub fn new(volume: &Volume) -> Files {
        let used: Arc<Mutex<HashMap<Ino, Instant>>> = Arc::default();
        Files {
            closing: tokio::spawn(close_unused(volume.clone(), used.clone())),
            volume: volume.clone(),
            used,
        }
    }

    /// Opens a file, unless it is open.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn open(&self, ino: Ino) -> Result<(), Error> {
        {
            let mut used = self.used.lock();
            if let Some(last) = used.get_mut(&ino) {
                *last = Instant::now();
                return Ok(());
            }
            if used.len() >= MOST {
                return Ok(());
            }
        }
        self.volume.open(ino).await?;
        let twice = self.used.lock().insert(ino, Instant::now()).is_some();
        match twice {
            true => self.volume.release(ino).await,
            false => Ok(()),
        }
    }

    /// Closes a file that lost a name: if it was the last one, nothing is to
    /// keep it.
    ///
    /// # Errors
    /// None now.
    pub async fn close(&self, ino: Ino) -> Result<(), Error> {
        let open = self.used.lock().remove(&ino).is_some();
        match open {
            true => self.volume.release(ino).await,
            false => Ok(()),
        }
    }

    /// Closes all.
    pub async fn close_all(&self) {
        self.closing.abort();
        let all = std::mem::take(&mut *self.used.lock());
        for ino in all.into_keys() {
            release(&self.volume, ino).await;
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.closing.abort();
    }
}

async fn close_unused(volume: Volume, used: Arc<Mutex<HashMap<Ino, Instant>>>) {
    let mut look = tokio::time::interval(LINGER / 3);
    loop {
        look.tick().await;
        let unused: Vec<Ino> = {
            let mut used = used.lock();
            let unused = used.extract_if(|_, last| last.elapsed() > LINGER);
            unused.map(|(ino, _)| ino).collect()
        };
        for ino in unused {
            release(&volume, ino).await;
        }
    }
}

async fn release(volume: &Volume, ino: Ino) {
    if let Err(error) = volume.release(ino).await {
        tracing::warn!(ino = ino.0, %error, "cannot close a file");
    }
}
