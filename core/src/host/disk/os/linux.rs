//! The two Linux calls that neither std nor nix offers: reading only what is
//! in the page cache, and starting write-back.

#![allow(unsafe_code)]

use std::{fs::File, io, os::fd::AsRawFd};

use nix::libc;

/// Reads what the page cache holds: `None` when the kernel would have to wait
/// for the disk, or cannot tell on this filesystem.
pub(super) fn read_cached_at(
    file: &File,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<Option<usize>> {
    let offset = i64::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: `file` keeps the descriptor open for the length of the call.
    // `part` is one valid iovec, and the count says one. It describes
    // `buffer`, exclusively borrowed and valid for writes of `iov_len` bytes;
    // the kernel writes at most that many and keeps no pointer.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &part, 1, offset, libc::RWF_NOWAIT) };
    if let Ok(read) = usize::try_from(read) {
        return Ok(Some(read));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EOPNOTSUPP | libc::ENOSYS | libc::EINTR) => Ok(None),
        _ => Err(error),
    }
}

/// Starts writing dirty pages of a range to the disk, without waiting. A hint:
/// when it fails, a later sync does all of the work and reports the error.
pub(super) fn start_writeback(file: &File, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return;
    };
    if len == 0 {
        // To the kernel 0 means "to the end of the file".
        return;
    }
    // SAFETY: takes a descriptor that `file` keeps open, and integers; touches
    // no memory of this process.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE);
    }
}
