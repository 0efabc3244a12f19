//! The FUSE front end: a volume as a mount of the Linux kernel.
//!
//! [`FuseMount::start`] promises its caller a mount that answers; what a
//! program does in it becomes calls of [`kiseki_core::engine::Volume`].
//!
//! - [`options`]: what a mount can be told, and the `-o` strings of `mount(8)`
//! - [`mount`]: begin, wait for the end, end
//! - `negotiate`: what is agreed with the kernel at the start, and why
//! - `session`, `reply`: the requests of the `fuser` crate and the answers to
//!   them, translated
//! - `dispatch`: run an operation on the spot, or elsewhere when it must wait
//! - `ops`: the operations, in plain types, without any trace of the transport
//! - `inherit`: a session over a device that was in use before
//! - `invalidate`: tell the kernel what others changed
//! - `op`: the kinds of requests, to count them

mod convert;
mod dispatch;
mod fail;
mod inherit;
mod invalidate;
pub mod mount;
mod mountinfo;
mod negotiate;
mod op;
mod ops;
pub mod options;
mod reply;
mod session;

/// The reader of the kernel's table of mounts, for fuzzing.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn look_for_mount(table: &[u8], path: &std::path::Path) -> bool {
    mountinfo::topmost(table, path).is_some()
}

pub use mount::{FuseMount, MountError};
pub use op::Op;
pub use options::{MountOptions, OptionError};
