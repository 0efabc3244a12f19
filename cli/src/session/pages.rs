//! Pages of the memory of a daemon.

use nix::sys::prctl;

/// With less memory than this, huge pages cost more than they give. One of them
/// stays as long as anything in it does, so that half as much again is resident
/// (`docs/decisions/huge-pages.md`).
const ROOM_FOR_HUGE: u64 = 256 << 20;

/// Chooses the pages for a daemon that may use so much memory, in bytes.
pub(super) fn choose(memory: u64) {
    if memory < ROOM_FOR_HUGE
        && let Err(error) = prctl::set_thp_disable(true)
    {
        tracing::warn!(%error, "cannot do without huge pages; more memory is resident");
    }
}
