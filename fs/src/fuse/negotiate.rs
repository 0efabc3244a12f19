//! What is agreed with the kernel when the mount begins.

use fuser::{InitFlags, KernelConfig};

use super::options::MountOptions;

/// Asynchronous requests (readahead, O_DIRECT, releases) the kernel may have
/// in flight: 4 MiB of readahead for each of 16 streams in pieces of 1 MiB,
/// and as much again for releases that travel behind them.
const BACKGROUND: u16 = 128;

/// From here on the kernel holds back readahead.
const CONGESTED: u16 = 96;

/// What is asked for, each with its reason.
const WANTED: &[InitFlags] = &[
    // Several readahead requests of one file at once.
    InitFlags::FUSE_ASYNC_READ,
    // One large O_DIRECT request becomes parallel pieces.
    InitFlags::FUSE_ASYNC_DIO,
    // Writes above 4 KiB, and requests above 32 pages.
    InitFlags::FUSE_BIG_WRITES,
    InitFlags::FUSE_MAX_PAGES,
    // Lookups and listings of one directory side by side: the engine needs no
    // serialization by the kernel.
    InitFlags::FUSE_PARALLEL_DIROPS,
    // Listings bring attributes along when the caller goes on to stat.
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    // The engine applies the umask, because a default ACL of the directory
    // takes its place.
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_POSIX_ACL,
    // Targets never change, and inode numbers are never used again.
    InitFlags::FUSE_CACHE_SYMLINKS,
    // "." and ".." can be looked up by inode number, which is what file
    // handles and a kernel NFS server need.
    InitFlags::FUSE_EXPORT_SUPPORT,
    // Set-id bits go by our own hand. Version 2 also lets the kernel remember
    // that a file has no `security.capability`; without it (and with version
    // 1) every single write is preceded by a request for that attribute.
    //
    // Three ways lead to the bits under version 2. A write says whether they
    // must go (WRITE_KILL_SUIDGID). Before the write, fallocate or copy that
    // would clear bits the kernel knows of, it sends a setattr that changes
    // nothing; `ops::attrs` clears them there, and the reply renews what the
    // kernel believes, which the write's reply would not. For truncation
    // `fuser` hides the flag, so there everyone but root counts as
    // unprivileged: the side on which bits go rather than stay. Capabilities
    // in attributes are removed by the kernel itself.
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
];

// Not asked for, on purpose:
// - WRITEBACK_CACHE: slower while we answer at once, and the kernel would own
//   size and mtime.
// - AUTO_INVAL_DATA: changes of others are told explicitly, by `invalidate`.
// - ATOMIC_O_TRUNC: open(O_RDONLY | O_TRUNC) of a program that runs would cut
//   it before the kernel finds out that it must answer ETXTBSY.
// - SETXATTR_EXT: `fuser` parses the older, shorter request.
// - POSIX_LOCKS, FLOCK_LOCKS: one mount, so the kernel's own locks are right,
//   and free.
// - NO_OPEN_SUPPORT: access times, lists of extents and the sealing of closed
//   files need opens; see docs/decisions/no-open.md.
// - NO_OPENDIR_SUPPORT: it comes with the kernel's directory cache (see
//   `MountOptions::cache_directories`).

/// Sets limits and capabilities; what the running kernel lacks is left out.
pub(super) fn negotiate(config: &mut KernelConfig, options: &MountOptions) {
    for &flag in WANTED {
        if config.add_capabilities(flag).is_err() {
            tracing::debug!(?flag, "the kernel does not have this capability");
        }
    }
    // Each setter answers the nearest value that it would take.
    if let Err(nearest) = config.set_max_write(options.max_write) {
        let _ = config.set_max_write(nearest);
    }
    if let Err(nearest) = config.set_max_readahead(options.read_ahead) {
        let _ = config.set_max_readahead(nearest);
    }
    // Neither is 0, the only value they refuse.
    let _ = config.set_max_background(BACKGROUND);
    let _ = config.set_congestion_threshold(CONGESTED);
}
