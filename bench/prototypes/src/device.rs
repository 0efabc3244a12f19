//! A mount, and answers over /dev/fuse: threads that read one device, as kiseki's do.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use crate::{
    files::{Files, check},
    wire::*,
};

/// The largest request and answer, as kiseki has it.
pub const MAX_WRITE: usize = 1 << 20;
/// A write request has its headers before its bytes.
const BUFFER: usize = MAX_WRITE + 4096;

/// Mounts at `dir`; the device.
pub fn mount(dir: &Path) -> io::Result<OwnedFd> {
    let device: OwnedFd = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")?
        .into();
    let fd = device.as_raw_fd();
    // The daemon inherits it.
    // SAFETY: takes no memory.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })?;
    let options =
        format!("fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other");
    let (dir, options) = (
        CString::new(dir.as_os_str().as_encoded_bytes())?,
        CString::new(options)?,
    );
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    // SAFETY: all are C strings.
    check(unsafe {
        let kind = c"fuse.kiseki-prototype".as_ptr();
        libc::mount(
            c"prototype".as_ptr(),
            dir.as_ptr(),
            kind,
            flags,
            options.as_ptr().cast(),
        )
    })?;
    Ok(device)
}

/// `umount2`. With `MNT_FORCE`, requests that nobody answers get an error.
pub fn unmount(dir: &Path, how: i32) -> io::Result<()> {
    let dir = CString::new(dir.as_os_str().as_encoded_bytes())?;
    // SAFETY: a C string.
    check(unsafe { libc::umount2(dir.as_ptr(), how) })?;
    Ok(())
}

/// Lets the kernel read 4 MiB ahead in the mount at `dir`, as kiseki does.
pub fn read_ahead(dir: &Path) -> io::Result<()> {
    let dev = fs::metadata(dir)?.dev();
    let bdi = format!("/sys/class/bdi/{}:{}", libc::major(dev), libc::minor(dev));
    fs::write(format!("{bdi}/read_ahead_kb"), "4096")
}

/// Answers the first request. `ring`: further ones shall come over io_uring.
pub fn greet(device: RawFd, ring: bool) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let request = receive(device, &mut buffer)?;
    let head = InHeader::from_bytes(request);
    let asked = InitIn::from_bytes(&request[size_of::<InHeader>()..]);
    let can = u64::from(asked.flags) | u64::from(asked.flags2) << 32;
    let mut want = ASYNC_READ | BIG_WRITES | PARALLEL_DIROPS | MAX_PAGES | INIT_EXT;
    want |= HANDLE_KILLPRIV_V2 | PASSTHROUGH;
    if ring {
        want |= OVER_IO_URING;
    }
    if head.opcode != INIT || can & want != want {
        let lacks = format!("the kernel lacks capabilities {:#x}", want & !can);
        return Err(io::Error::new(io::ErrorKind::Unsupported, lacks));
    }
    let answer = InitOut {
        major: 7,
        minor: asked.minor.min(42),
        max_readahead: 4 << 20,
        flags: want as u32,
        flags2: (want >> 32) as u32,
        max_background: 128,
        congestion_threshold: 96,
        max_write: MAX_WRITE as u32,
        time_gran: 1,
        max_pages: (MAX_WRITE / 4096) as u16,
        max_stack_depth: 1,
        ..Wire::zero()
    };
    send(device, head.unique, 0, answer.as_bytes())
}

/// Answers until the mount ends.
pub fn serve(device: RawFd, files: &Files) -> io::Result<()> {
    let (mut request, mut answer) = (vec![0; BUFFER], vec![0; MAX_WRITE]);
    loop {
        let served = serve_one(device, files, &mut request, &mut answer);
        match served.as_ref().map_err(io::Error::raw_os_error) {
            Err(Some(libc::ENODEV | libc::ECONNABORTED)) => return Ok(()),
            // ENOENT: the asker was interrupted and is gone.
            Ok(()) | Err(Some(libc::EINTR | libc::ENOENT)) => {}
            Err(_) => return served,
        }
    }
}

fn serve_one(
    device: RawFd,
    files: &Files,
    request: &mut [u8],
    answer: &mut [u8],
) -> io::Result<()> {
    let request = receive(device, request)?;
    let (head, args) = request.split_at(size_of::<InHeader>());
    let head = InHeader::from_bytes(head);
    match files.answer(&head, args, answer) {
        None => Ok(()),
        Some(Ok(len)) => send(device, head.unique, 0, &answer[..len]),
        Some(Err(errno)) => send(device, head.unique, -errno, &[]),
    }
}

/// Asks the kernel to send again what was read and not answered.
pub fn have_sent_again(device: RawFd) -> io::Result<()> {
    send(device, 0, NOTIFY_RESEND, &[])
}

fn receive(device: RawFd, buffer: &mut [u8]) -> io::Result<&[u8]> {
    // SAFETY: the buffer is as long as is said.
    let len = unsafe { libc::read(device, buffer.as_mut_ptr().cast(), buffer.len()) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    Ok(&buffer[..len])
}

fn send(device: RawFd, unique: u64, error: i32, body: &[u8]) -> io::Result<()> {
    let head = OutHeader {
        len: (size_of::<OutHeader>() + body.len()) as u32,
        error,
        unique,
    };
    let part = |bytes: &[u8]| libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let parts = [part(head.as_bytes()), part(body)];
    // SAFETY: both parts live until the call returns, which only reads them.
    let sent = unsafe { libc::writev(device, parts.as_ptr(), 2) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
    Ok(())
}
