//! A session over a device that another process used before.
//!
//! The kernel introduces itself once in the life of a mount, and `fuser` begins
//! every session with that. So a session begins over a socket, on which we
//! introduce ourselves in the name of the kernel; then the device takes the
//! place of the socket. What was agreed with the kernel stays as it is; the
//! answer of this session goes nowhere.

#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use nix::{
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socketpair},
    unistd::write,
};

use super::{options::MountOptions, session::Session};

/// FUSE_NOTIFY_RESEND.
const RESEND: u32 = 7;

/// FUSE_INIT, with what every kernel offers that can send requests again
/// (Linux 6.9): version 7.40, and all capabilities.
fn introduction() -> Vec<u8> {
    const INIT: u32 = 26;
    const HEADER: usize = 40;
    const LEN: usize = HEADER + 64;
    let mut message = vec![0; LEN];
    let mut put = |at: usize, word: u32| message[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    put(0, LEN as u32);
    put(4, INIT);
    // The number of the request; 0 is that of notifications.
    put(8, 1);
    put(HEADER, 7);
    put(HEADER + 4, 40);
    put(HEADER + 8, 128 << 10);
    put(HEADER + 12, u32::MAX);
    put(HEADER + 16, u32::MAX);
    message
}

/// A session that answers `device`.
///
/// # Errors
/// There can be no socket, or no session.
pub(super) fn session(
    session: Session,
    device: OwnedFd,
    options: &MountOptions,
) -> io::Result<fuser::Session<Session>> {
    let config = options.for_fuser();
    let acl = config.acl;
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    write(&ours, &introduction())?;
    // The answer waits in the socket and goes with it.
    let session = fuser::Session::from_fd(session, theirs, acl, config)?;
    let place = session.as_fd().as_raw_fd();
    // SAFETY: both descriptors are open and owned, `place` by the session,
    // which goes on owning what stands there. Nobody reads from it yet.
    let done = unsafe { libc::dup3(device.as_raw_fd(), place, libc::O_CLOEXEC) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    drop(ours);
    Ok(session)
}

/// Has the kernel send again what was read from the device and not answered.
///
/// # Errors
/// The mount is gone.
pub(super) fn send_again(device: &impl AsFd) -> io::Result<()> {
    let mut message = [0; 16];
    message[..4].copy_from_slice(&16u32.to_ne_bytes());
    message[4..8].copy_from_slice(&RESEND.to_ne_bytes());
    match write(device, &message) {
        Ok(_) => Ok(()),
        // Unmounted meanwhile; the session ends by itself.
        Err(nix::Error::ENODEV | nix::Error::ENOTCONN | nix::Error::EPERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
