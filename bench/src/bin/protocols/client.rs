//! Clients: the same code for kiseki and for its peers.

pub mod engine;
pub mod files;
pub mod nfs3;
pub mod nfs41;
pub mod s3;

use anyhow::Result;
use bytes::Bytes;

/// One client with a connection of its own; a thread uses it.
pub trait Client: Send {
    /// Makes an object that is not there, as durable as its protocol can.
    ///
    /// # Errors
    /// It was not made.
    fn put(&mut self, number: u64, contents: Bytes) -> Result<()>;

    /// Reads an object of `size` bytes.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    fn get(&mut self, number: u64, size: usize) -> Result<Bytes>;
}
