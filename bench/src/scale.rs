//! How much work a run does.

use serde::Serialize;

/// Sizes and counts of all workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Scale {
    /// Bytes of the file that streams and random access use.
    pub file: u64,
    /// Random operations per row.
    pub random: u64,
    /// Small files in one directory.
    pub small: u64,
    /// Small files, each made durable.
    pub synced: u64,
    /// Files of the source tree.
    pub tree: u64,
    /// Files of the git repository.
    pub repository: u64,
    /// Bytes of the file that is stored already.
    pub stored: u64,
    /// Transactions of each client of the database server.
    pub transactions: u64,
    /// Operations per second that are asked for where the arrival of work does
    /// not wait for answers.
    pub rate: u64,
    /// Seconds of that.
    pub paced: u64,
    /// Of the ten desktop workloads, in hundredths of their full size.
    pub desktop: u64,
    /// Rounds of which the median is taken.
    pub rounds: u64,
}

impl Scale {
    /// What `docs/performance.md` shows.
    pub const FULL: Scale = Scale {
        file: 512 << 20,
        random: 40_000,
        small: 5_000,
        synced: 2_000,
        tree: 2_300,
        repository: 800,
        stored: 256 << 20,
        transactions: 2_000,
        rate: 2_000,
        paced: 5,
        desktop: 100,
        rounds: 3,
    };

    /// A look within a minute or two.
    pub const QUICK: Scale = Scale {
        file: 128 << 20,
        random: 10_000,
        small: 1_500,
        synced: 400,
        tree: 600,
        repository: 300,
        stored: 64 << 20,
        transactions: 300,
        rate: 500,
        paced: 1,
        desktop: 10,
        rounds: 2,
    };
}
