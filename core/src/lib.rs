//! The kiseki engine.
//!
//! Everything below a front end lives here: sealed chunks, the verified log,
//! metadata, and [`engine::Volume`], the one interface that FUSE, NFS, S3 and
//! native clients call. Nothing in this crate knows FUSE, NFS or HTTP.
//!
//! Each module knows only what stands below it in this list:
//!
//! - [`store`]: the directory on disk: format version, lock, keyring, volumes
//! - [`engine`]: names, files, write buffers, caches, sealing
//! - [`meta`]: the metadata state machine and its local service
//! - [`chunk`]: sealed chunks in segments, by id
//! - [`kv`]: ordered key-value projections of a log
//! - [`log`]: the verified, hash-chained log
//! - [`journal`]: what is acknowledged and not logged, beyond the process's life
//! - [`crypto`]: keys, ids, sealing
//! - [`answer`]: what a service answers, at once or later
//! - [`host`]: clock, randomness and disk, the seams to the machine
//! - [`canary`]: bugs planted on purpose, in builds for tests only

pub mod answer;
pub mod canary;
pub mod chunk;
pub mod crypto;
pub mod engine;
pub mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
pub mod ids;
pub mod journal;
pub mod kv;
pub mod log;
pub mod meta;
pub mod repair;
mod spare;
pub mod store;

pub use error::{Error, Result};
