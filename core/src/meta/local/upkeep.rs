//! Keeping the log short: the thread that writes images of the tables and cuts.

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use super::{ImageState, Inner};
use crate::{Error, Result, ids::Revision, meta::image};

/// How often the thread looks at the length of the log.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long to wait after an image could not be written.
const RETRY: Duration = Duration::from_secs(60);

/// The thread, until it is stopped or dropped.
pub(super) struct Upkeep {
    running: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl Upkeep {
    pub(super) fn start(inner: Arc<Inner>) -> Result<Upkeep> {
        let (stop, stopped) = bounded::<()>(0);
        let thread = std::thread::Builder::new()
            .name("meta-upkeep".into())
            .spawn(move || {
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK_EVERY) {
                    inner.look();
                }
            })
            .map_err(|error| Error::io("start a thread for the metadata", error))?;
        Ok(Upkeep {
            running: Mutex::new(Some((stop, thread))),
        })
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(&self) {
        if let Some((stop, thread)) = self.running.lock().take() {
            drop(stop);
            // A panic there was reported by the panic hook, and the log is
            // only longer for it.
            let _ = thread.join();
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    fn look(&self) {
        let mut image = self.image.lock();
        if image.retry_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        let done = self.is_image_due(&image).and_then(|due| match due {
            true => self.write_image(&mut image).and_then(|_| self.cut(&image)),
            false => Ok(()),
        });
        if let Err(error) = done {
            tracing::warn!(%error, "no image of the tables was written; the log grows meanwhile");
            image.retry_at = Some(Instant::now() + RETRY);
        }
    }

    /// An image costs what the log did that it replaces, at most.
    fn is_image_due(&self, image: &ImageState) -> Result<bool> {
        if self.options.signing_key.is_none() || self.options.read_only {
            return Ok(false);
        }
        let worth = self.options.cut_after.max(image.len);
        Ok(image.is_missing || self.log.closed_bytes()? >= worth)
    }

    pub(super) fn write_image(&self, image: &mut ImageState) -> Result<Revision> {
        let Some(key) = &self.options.signing_key else {
            return Err(Error::ReadOnly("an image is signed with the key".into()));
        };
        self.tables.projection().checkpoint()?;
        let (revision, len) = image::write(
            &self.disk,
            &self.dir,
            self.volume,
            key,
            &mut |visit| self.tables.projection().scan_moved(visit),
            &mut |revision| self.log.sync_blocking(revision),
        )?;
        tracing::debug!(revision = revision.0, len, "wrote an image of the tables");
        *image = ImageState {
            written: Some(revision),
            len,
            is_missing: false,
            retry_at: None,
        };
        Ok(revision)
    }

    pub(super) fn checkpoint(&self) -> Result<()> {
        let mut image = self.image.lock();
        self.tables.projection().checkpoint()?;
        if self.is_image_due(&image)? {
            self.write_image(&mut image)?;
        }
        self.cut(&image)
    }

    /// Signs the end of the log, then removes the files of it that neither the
    /// tables nor their image need any more.
    fn cut(&self, image: &ImageState) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        if let Some(key) = &self.options.signing_key {
            self.log.checkpoint(key)?;
        }
        match image.written {
            Some(image) => {
                let tables = self.tables.projection().checkpointed();
                self.log.cut(image.min(tables).next())
            }
            None => Ok(()),
        }
    }

    pub(super) fn sync_all(&self) -> Result<()> {
        self.log.sync_blocking(self.log.head())
    }

    pub(super) fn close(&self) -> Result<()> {
        // Commands that are under way come before, later ones find it closed.
        let _writer = self.writer.lock();
        self.sync_all()?;
        let tables = self.tables.projection().close();
        if let Err(error) = tables.and_then(|()| self.cut(&self.image.lock())) {
            // The log has it all; the next open takes longer for it.
            tracing::warn!(%error, "the log could not be cut");
        }
        self.log.close()
    }
}
