//! Ten shapes of work from desktops and developers' machines. Each is a group
//! with a store of its own and one row; every write is made durable before the
//! next.

pub mod archive;
pub mod backup;
pub mod cold_start;
pub mod concurrent;
pub mod database;
mod documents;
pub mod ide;
pub mod media;
pub mod photos;
pub mod tree_walk;
pub mod working_set;

use std::time::{Duration, Instant};

use anyhow::Result;

/// Adds up the parts of a run that count.
#[derive(Default)]
struct Clock(Duration);

impl Clock {
    fn time<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = work();
        self.0 += start.elapsed();
        done
    }
}
