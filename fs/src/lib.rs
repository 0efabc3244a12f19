//! The front ends of kiseki: what makes a [`kiseki_core::engine::Volume`]
//! reachable for programs.
//!
//! - [`fuse`]: a mount of the Linux kernel
//! - [`nfs`]: NFS over TCP
//! - [`s3`]: the S3 protocol over HTTP
//! - [`stats`]: what operations of all of them cost
//! - [`metrics`]: the same, and the state of the engine, for Prometheus
//!
//! Every front end instance has a [`FrontId`] of its own, taken from
//! [`next_front`], so that the engine can tell it what others changed.

use std::sync::atomic::{AtomicU32, Ordering};

use kiseki_core::engine::FrontId;

pub mod fuse;
pub mod metrics;
pub mod nfs;
pub mod s3;
pub mod stats;

/// An identity no other front end instance of this process has; never 0.
#[must_use]
pub fn next_front() -> FrontId {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    FrontId(NEXT.fetch_add(1, Ordering::Relaxed))
}
