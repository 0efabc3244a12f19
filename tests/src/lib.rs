//! The harness of the tests that go through real mounts.
//!
//! A test asks for a [`Place`] and works in its directory. Usually that is a
//! fresh kiseki mount with a store and a key of its own, gone when the place
//! is dropped. With `KISEKI_TEST_DIR=DIR` it is an empty directory in `DIR`
//! instead, so that the file-level tests can be tried on any filesystem: they
//! must pass on ext4, or they test something that POSIX callers do not get.
//! Tests of stores, keys and kills ask for a [`Mount`] and say so by being
//! skipped in that mode.
//!
//! A test that cannot run here calls [`skip`] with the reason and returns.

#![allow(
    clippy::unwrap_used,
    clippy::missing_errors_doc,
    reason = "a harness fails by panicking, and its errors are anyhow's"
)]

pub mod content;
pub mod daemon;
pub mod guest;
pub mod load;
pub mod mount;
pub mod nfs4_client;
pub mod nfs_client;
pub mod nlm_client;
pub mod place;
pub mod power;
pub mod run;
pub mod served;
pub mod skip;
pub mod sources;
pub mod store;
pub mod tree;
pub mod user;

pub use content::Content;
pub use mount::{Mount, Setup};
pub use place::Place;
pub use run::{Output, run, run_in};
pub use skip::{have, is_root, need_open_files, need_tools, skip};
pub use user::User;

/// What a test returns: any error fails it.
pub type Result<T = (), E = anyhow::Error> = std::result::Result<T, E>;

/// A number from the environment, or the default.
#[must_use]
pub fn env_number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}
