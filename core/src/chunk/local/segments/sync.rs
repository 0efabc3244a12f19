//! Making writes durable.

use std::sync::atomic::Ordering;

use super::{Segments, Tail};
use crate::{Error, Result};

impl Segments {
    /// Makes all writes durable that were done before the call. Callers that
    /// come while another syncs share the one after it.
    ///
    /// # Errors
    /// `Io` and `NoSpace`; the store is read-only from then on.
    pub(in crate::chunk::local) fn sync(&self) -> Result<()> {
        self.check()?;
        let wanted = self.written.load(Ordering::Acquire);
        let _syncing = self.syncing.lock();
        self.check()?;
        if self.synced.load(Ordering::Acquire) >= wanted {
            return Ok(());
        }
        self.mark_voids();
        let covers = self.written.load(Ordering::Acquire);
        if let Err(error) = self.sync_files() {
            self.fail(&error);
            return Err(error);
        }
        self.synced.store(covers, Ordering::Release);
        let mut tail = self.tail.lock();
        let Tail {
            active,
            writing,
            in_flight,
            ..
        } = &mut *tail;
        let active = active.as_ref().map(|active| active.number);
        writing.retain(|segment| {
            let mut of_segment = in_flight.range((segment.number, 0)..=(segment.number, u64::MAX));
            Some(segment.number) == active
                || segment.dirty.load(Ordering::Acquire)
                || of_segment.next().is_some()
        });
        Ok(())
    }

    /// Has the machine begin with what was written to the active segment,
    /// unless a sync keeps the disk busy already.
    pub(in crate::chunk::local) fn begin_sync(&self) {
        if self.syncing.is_locked() {
            return;
        }
        let (segment, end) = {
            let tail = self.tail.lock();
            let Some(segment) = tail.active.clone() else {
                return;
            };
            // What is only reserved is asked for when it is written.
            let mut written = tail.in_flight.range((segment.number, 0)..);
            let end = written.next().map_or(tail.end, |(_, offset)| *offset);
            (segment, end)
        };
        segment.start_writeback(end, 1);
    }

    fn sync_files(&self) -> Result<()> {
        let writing = self.tail.lock().writing.clone();
        for segment in writing {
            if segment.dirty.swap(false, Ordering::AcqRel) {
                segment
                    .file
                    .sync_data()
                    .map_err(|error| self.io("sync", segment.number, error))?;
            }
        }
        if self.new_files.swap(false, Ordering::AcqRel) {
            self.disk
                .sync_dir(&self.dir)
                .map_err(|error| Error::io(format!("sync {}", self.dir), error))?;
        }
        Ok(())
    }
}
