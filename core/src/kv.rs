//! An ordered key-value projection that trails a log.
//!
//! Promises its one user, the state machine above: what was applied is what
//! reads return, at once and without waiting for a disk; and whatever happens
//! to the machine, the content on disk is the state after exactly one revision
//! of the log, never newer than the durable log, and says which. So the log
//! stays the truth and a projection that fell behind, or was lost, is brought
//! to the end by replay from [`Projection::applied`].
//!
//! [`Projection`] keeps the newest changes in memory and moves them, in the
//! background, to a [`Backend`]: [`RedbBackend`] on a [`crate::host::Disk`],
//! or [`MemoryBackend`]. The file is described in `docs/format.md`, "Projection".

mod applier;
mod batch;
mod memory;
mod overlay;
mod projection;
mod redb;
mod scan;
#[cfg(test)]
mod tests;

use std::{ops::ControlFlow, sync::Arc, time::Duration};

pub use self::{
    batch::Batch,
    memory::MemoryBackend,
    projection::{BeforeCheckpoint, Projection, ProjectionOptions},
    redb::{Owner, RedbBackend},
};
use crate::{Result, ids::Revision};

/// Longer than anything stays open.
pub(crate) const NEVER: Duration = Duration::from_secs(1 << 32);

/// A stored value; cheap to clone.
pub type Value = Arc<[u8]>;

/// Called with every key and value of a scan.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// One change as a backend takes it: the key and its new value, `None` to
/// delete it.
pub type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// What holds the bulk of a projection.
///
/// Every call reads one state: the content after some `write`, whole. A `get`
/// or `scan` that begins after a `write` returned sees what it wrote.
pub trait Backend: Send + Sync + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// `Io` and `Damaged`, naming the file.
    fn get(&self, key: &[u8]) -> Result<Option<Value>>;

    /// Visits the keys in `from..to` in order until the visitor breaks. All
    /// visits see the state at the beginning of the call, whose revision is
    /// returned.
    ///
    /// # Errors
    /// `Io` and `Damaged`, naming the file.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<Revision>;

    /// Applies changes, sorted by key and with no key twice, and the revision
    /// they reach, in one transaction. `durable`: this and everything before
    /// survives power loss once the call returns; otherwise nothing of it may
    /// survive one unless all of it does.
    ///
    /// # Errors
    /// `Io`, `NoSpace` and `Damaged`, naming the file; the content is then the
    /// one before or the one after, and further writes fail.
    fn write<'a>(
        &self,
        changes: &mut (dyn Iterator<Item = Change<'a>> + 'a),
        revision: Revision,
        durable: bool,
    ) -> Result<()>;

    /// Brings to the disk what it had no room for when it was written, if
    /// there is such a thing. To be called before a durable `write`.
    ///
    /// # Errors
    /// `NoSpace` when there is still no room, and calling again can succeed;
    /// `Io`, naming the file.
    fn make_room(&self) -> Result<()> {
        Ok(())
    }

    /// The revision of the content; 0 when nothing was written yet.
    ///
    /// # Errors
    /// `Io` and `Damaged`, naming the file.
    fn applied(&self) -> Result<Revision>;
}
