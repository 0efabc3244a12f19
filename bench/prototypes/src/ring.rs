//! Answers over io_uring (Documentation/filesystems/fuse-io-uring.rst): a queue and a thread for
//! each core, which one system call has send answers and fetch the next requests.

use std::{io, os::fd::RawFd};

use io_uring::{IoUring, cqueue, opcode::UringCmd80, squeue::Entry128, types::Fd};

use crate::{
    daemon::Way,
    device::MAX_WRITE,
    files::{Files, check},
    wire::*,
};

/// Requests that each queue can hold.
const DEPTH: usize = 8;

/// Memory in which the kernel puts one request, and finds the answer.
struct Slot {
    header: Box<RingHeader>,
    payload: Vec<u8>,
    /// Both of them, for the kernel.
    parts: [libc::iovec; 2],
}

impl Slot {
    fn new() -> Slot {
        let mut header = Box::new(RingHeader::zero());
        let mut payload = vec![0; MAX_WRITE];
        let parts = [
            libc::iovec {
                iov_base: (&raw mut *header).cast(),
                iov_len: size_of::<RingHeader>(),
            },
            libc::iovec {
                iov_base: payload.as_mut_ptr().cast(),
                iov_len: payload.len(),
            },
        ];
        Slot {
            header,
            payload,
            parts,
        }
    }

    /// Answers the request in the slot, in place.
    fn answer(&mut self, files: &Files) {
        let head = InHeader::from_bytes(&self.header.in_out);
        let mut name = [0; 256];
        let args = if head.opcode == LOOKUP {
            let len = (self.header.payload_len as usize).min(name.len());
            name[..len].copy_from_slice(&self.payload[..len]);
            &name[..len]
        } else {
            &self.header.op_in[..]
        };
        // Requests without an answer do not come this way.
        let result = files
            .answer(&head, args, &mut self.payload)
            .unwrap_or(Ok(0));
        let (len, error) = result.map_or_else(|errno| (0, -errno), |len| (len, 0));
        let answer = OutHeader {
            len: (size_of::<OutHeader>() + len) as u32,
            error,
            unique: head.unique,
        };
        answer.put(&mut self.header.in_out);
        self.header.payload_len = len as u32;
    }
}

/// Answers what processes on core `qid` ask, until the mount ends.
pub fn serve(device: RawFd, qid: u16, way: Way, files: &Files) -> io::Result<()> {
    if way != Way::FreeRing {
        pin(qid)?;
    }
    // Never freed, however this ends: the kernel still has the addresses when the ring is closed.
    let slots = (0..DEPTH).map(|_| Slot::new()).collect::<Vec<_>>().leak();
    let mut builder = IoUring::<Entry128, cqueue::Entry>::builder();
    builder.setup_cqsize(2 * DEPTH as u32);
    if way == Way::DeferredRing {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    let mut ring = builder.build(DEPTH as u32)?;
    for (place, slot) in slots.iter().enumerate() {
        let entry = with_parts(command(device, RING_REGISTER, qid, 0, place), &slot.parts);
        // SAFETY: the slots live as long as the process, and the kernel writes to one only until
        // it has completed the command.
        unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    }
    let mut done = Vec::with_capacity(2 * DEPTH);
    loop {
        match ring.submit_and_wait(1) {
            Err(error) if error.raw_os_error() != Some(libc::EINTR) => return Err(error),
            _ => {}
        }
        done.extend(
            ring.completion()
                .map(|entry| (entry.user_data() as usize, entry.result())),
        );
        for (place, result) in done.drain(..) {
            match -result {
                0 => {}
                libc::ENOTCONN => return Ok(()),
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
            let slot = &mut slots[place];
            slot.answer(files);
            let entry = command(
                device,
                RING_COMMIT_AND_FETCH,
                qid,
                slot.header.commit_id,
                place,
            );
            // SAFETY: as above.
            unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
        }
    }
}

fn command(device: RawFd, what: u32, qid: u16, commit_id: u64, place: usize) -> Entry128 {
    let mut area = [0; 80];
    let command = RingCommand {
        commit_id,
        qid,
        ..Wire::zero()
    };
    command.put(&mut area);
    UringCmd80::new(Fd(device), what)
        .cmd(area)
        .build()
        .user_data(place as u64)
}

/// The entry with address and number of `parts`, which the crate has no setter for.
fn with_parts(mut entry: Entry128, parts: &[libc::iovec; 2]) -> Entry128 {
    /// `addr` and `len` of `struct io_uring_sqe`.
    const ADDR: usize = 16;
    const LEN: usize = 24;
    let bytes = (&raw mut entry).cast::<u8>();
    // SAFETY: an entry is the 128 bytes of the kernel's structure, and both fields lie in it.
    unsafe {
        bytes
            .add(ADDR)
            .cast::<u64>()
            .write_unaligned(parts.as_ptr() as u64);
        bytes
            .add(LEN)
            .cast::<u32>()
            .write_unaligned(parts.len() as u32);
    }
    entry
}

/// Keeps the calling thread on one core.
fn pin(core: u16) -> io::Result<()> {
    // SAFETY: a set of cores is bits, and the call reads it.
    check(unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(usize::from(core), &mut cores);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cores)
    })?;
    Ok(())
}
