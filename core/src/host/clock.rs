//! Wall-clock time.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::ids::Timestamp;

/// Where the engine gets the time from.
pub trait Clock: Send + Sync + 'static {
    /// The current wall-clock time.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp {
                secs: since.as_secs() as i64,
                nanos: since.subsec_nanos(),
            },
            // A clock before 1970 is a machine without a battery; any fixed
            // time is as good as what it shows.
            Err(_) => Timestamp::default(),
        }
    }
}
