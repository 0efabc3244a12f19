//! The operations of a mount, in the engine's types: what each request means
//! in terms of [`kiseki_core::engine::Volume`], for any transport.
//!
//! - `names`: look up, make, remove, rename
//! - `attrs`: attributes of inodes, and of the volume
//! - `files`: open files and their contents
//! - `dirs`: listings
//! - `xattrs`: extended attributes, with the ones we make up
//! - `again`: requests that are sent again

pub(super) mod again;
pub(super) mod attrs;
pub(super) mod dirs;
pub(super) mod files;
pub(super) mod names;
pub(super) mod xattrs;

/// A name as the kernel gave it: any bytes but `/` and NUL.
pub(super) type Name = Box<[u8]>;
