//! Sealed chunks, stored by id.
//!
//! [`ChunkService`] is the other seam of the system. It sees sealed bytes and
//! ids, never a key or a plaintext. What it is given stays readable until
//! collection finds that nothing refers to it; it survives power loss after
//! [`ChunkService::sync`].
//!
//! [`LocalChunks`] keeps them on a [`crate::host::Disk`], in append-only
//! [`segment`] files; [`cut`] decides where a stream becomes chunks; [`verify`]
//! checks segments.

pub mod cut;
pub mod local;
pub mod policy;
pub mod segment;
pub mod verify;

pub use cut::{Cutter, MAX_CHUNK, cut_points};
pub use local::{LocalChunks, LocalOptions};
pub use policy::CutPolicy;
pub use verify::{Intact, Problem, Verified, verify};

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Result,
    ids::{ChunkId, Epoch},
};

/// What is known of a stored chunk without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkInfo {
    /// Length of the plaintext in bytes, which also gives the sealed length.
    pub plain_len: u32,
    /// Sealing key that opens it.
    pub epoch: Epoch,
}

/// A chunk to store.
#[derive(Clone, Debug)]
pub struct SealedChunk {
    /// Its id.
    pub id: ChunkId,
    /// What the index keeps.
    pub info: ChunkInfo,
    /// The frames, one behind the other.
    pub frames: Bytes,
}

/// Totals of a chunk store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkUsage {
    /// Chunks stored, referred to or not.
    pub chunks: u64,
    /// Bytes of all segments.
    pub stored_bytes: u64,
    /// Segment files.
    pub segments: u64,
}

/// While it lives, collection removes no chunk: taken from before a probe for
/// an id until the extents that refer to the chunk are applied.
pub type Hold = parking_lot::ArcRwLockReadGuard<parking_lot::RawRwLock, ()>;

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Chunks that nothing referred to.
    pub chunks: u64,
    /// Bytes given back to the disk.
    pub freed_bytes: u64,
    /// Live bytes that had to be copied.
    pub copied_bytes: u64,
}

/// What holds the chunks of one dedup domain.
pub trait ChunkService: Send + Sync + 'static {
    /// Keeps collection away while the caller stores chunks and commits the
    /// extents that refer to them.
    fn hold(&self) -> Hold;

    /// Whether a chunk is stored, and how. Never waits long: the index is in
    /// memory or the page cache.
    fn info(&self, id: &ChunkId) -> Result<Option<ChunkInfo>>;

    /// Stores chunks that are not there yet (one that is stays as it is).
    /// Readable at once, durable after [`ChunkService::sync`]. Blocks for the
    /// copy into the page cache only. After `NoSpace` some of the chunks may
    /// be stored, and later puts may succeed. The caller has a [`Hold`].
    fn put(&self, chunks: &[SealedChunk]) -> Result<()>;

    /// Reads `len` sealed bytes of a chunk's frames from `offset` into
    /// `buffer`, if that takes no disk wait; `false` when it would.
    fn read_cached(&self, id: &ChunkId, offset: u32, buffer: &mut [u8]) -> Result<bool>;

    /// Reads sealed bytes of a chunk's frames from `offset` into `buffer`;
    /// may wait for the disk, so it belongs on an I/O thread.
    fn read(&self, id: &ChunkId, offset: u32, buffer: &mut [u8]) -> Result<()>;

    /// Makes all chunks put so far durable. Blocks.
    fn sync(&self) -> Result<()>;

    /// Has the disk begin with the chunks put so far, so that a sync soon after
    /// waits less. Promises nothing; may wait for room in the queue of a busy
    /// disk.
    fn begin_sync(&self);

    /// Makes all chunks put so far durable and the next open quick. Blocks.
    fn checkpoint(&self) -> Result<()> {
        self.sync()
    }

    /// Gives space back: removes chunks for which `live` says no, and moves
    /// live chunks out of sparse segments. Needs no key. `progress` is told
    /// bytes looked at and bytes in all.
    ///
    /// `live` says whether the metadata, with all that is applied to it, refers
    /// to a chunk. It is asked twice for a chunk it says no for, the second
    /// time while nobody has a [`Hold`]; it must not take one. After that,
    /// `settle` makes durable what `live` answered from (it syncs the log to
    /// its newest revision): only then is a chunk given up, so that a crash
    /// cannot bring back a reference to it.
    fn collect(
        &self,
        live: &dyn Fn(&ChunkId) -> Result<bool>,
        settle: &dyn Fn() -> Result<()>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Collected>;

    /// Totals.
    fn usage(&self) -> ChunkUsage;
}

/// Shared handle to a chunk service.
pub type Chunks = Arc<dyn ChunkService>;
