//! Measures a file system through system calls on a directory: the same
//! workloads for kiseki, for its peers, and for whatever a user mounts.
//!
//! What callers are promised: payloads are unique and incompressible unless the
//! row says otherwise, contents are compared with what was written, elapsed
//! time is measured and never assumed, a row that is called cold dropped the
//! page cache (and mounted anew where that is possible), and each row names
//! what it made durable. A row that cannot be measured honestly in a place is
//! left out, with the reason.

#[cfg(feature = "charts")]
pub mod charts;
pub mod compare;
pub mod contender;
pub mod document;
pub mod goals;
pub mod growth;
pub mod machine;
pub mod payload;
pub mod peers;
pub mod round_trips;
pub mod sample;
pub mod scale;
pub mod site;
pub mod table;
pub mod workload;

pub use compare::{Comparison, Options, compare, measure_directory};
