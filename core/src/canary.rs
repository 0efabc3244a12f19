//! Bugs that are planted on purpose, to prove that the simulation of power loss
//! would find them. Without the feature `canary` there are none, and the
//! places where they would be compile to nothing.

/// A bug to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Canary {
    /// Batches of the log are taken without comparing their hash.
    LogHashIgnored = 1,
    /// Chunks are taken without comparing their checksum.
    ChunkChecksumIgnored,
    /// Batches of the log are written before what they refer to is durable.
    BarrierSkipped,
    /// The tables become durable before the log does.
    TablesAheadOfLog,
    /// What a killed process left in the page cache is not made durable before
    /// it is shown.
    LogNotSettled,
    /// Dead chunks are given up before it is durable that they are dead.
    ChunksGivenUpEarly,
    /// `fsync` answers without waiting for the log.
    FsyncAnswersEarly,
}

#[cfg(feature = "canary")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Plants one bug in this process, instead of the one before.
#[cfg(feature = "canary")]
pub fn plant(canary: Option<Canary>) {
    let number = canary.map_or(0, |canary| canary as u8);
    PLANTED.store(number, std::sync::atomic::Ordering::SeqCst);
}

/// Whether a bug is planted.
#[cfg(feature = "canary")]
pub(crate) fn planted(canary: Canary) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == canary as u8
}

/// Whether a bug is planted: none is.
#[cfg(not(feature = "canary"))]
pub(crate) const fn planted(_: Canary) -> bool {
    false
}
