//! The part of the FUSE protocol (include/uapi/linux/fuse.h) that the prototypes speak.

pub const LOOKUP: u32 = 1;
pub const FORGET: u32 = 2;
pub const GETATTR: u32 = 3;
pub const UNLINK: u32 = 10;
pub const OPEN: u32 = 14;
pub const READ: u32 = 15;
pub const WRITE: u32 = 16;
pub const RELEASE: u32 = 18;
pub const INIT: u32 = 26;
pub const CREATE: u32 = 35;
pub const INTERRUPT: u32 = 36;
pub const BATCH_FORGET: u32 = 42;

pub const FOPEN_DIRECT_IO: u32 = 1 << 0;
pub const FOPEN_KEEP_CACHE: u32 = 1 << 1;
pub const FOPEN_NOFLUSH: u32 = 1 << 5;
pub const FOPEN_PASSTHROUGH: u32 = 1 << 7;

pub const ASYNC_READ: u64 = 1 << 0;
pub const BIG_WRITES: u64 = 1 << 5;
pub const PARALLEL_DIROPS: u64 = 1 << 18;
pub const MAX_PAGES: u64 = 1 << 22;
pub const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
pub const INIT_EXT: u64 = 1 << 30;
pub const PASSTHROUGH: u64 = 1 << 37;
pub const OVER_IO_URING: u64 = 1 << 41;

/// A notification, in the place of an error.
pub const NOTIFY_RESEND: i32 = 7;

/// Commands of the ring, in the 80 bytes behind a submission.
pub const RING_REGISTER: u32 = 1;
pub const RING_COMMIT_AND_FETCH: u32 = 2;

/// `_IOW(229, 1, struct fuse_backing_map)`
pub const BACKING_OPEN: libc::c_ulong = 0x4010_e501;

/// A structure of the protocol: plain integers without padding.
///
/// # Safety
/// Every bit pattern is a value, and no byte is padding.
pub unsafe trait Wire: Copy {
    fn zero() -> Self {
        // SAFETY: every bit pattern is a value, that of zeros too.
        unsafe { std::mem::zeroed() }
    }

    /// The first bytes of `bytes` as this structure, zeros where it is shorter.
    fn from_bytes(bytes: &[u8]) -> Self {
        let mut value = Self::zero();
        let len = size_of::<Self>().min(bytes.len());
        // SAFETY: `len` is within both, and every bit pattern is a value.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut value).cast(), len);
        }
        value
    }

    fn as_bytes(&self) -> &[u8] {
        // SAFETY: no padding, so all bytes are initialized.
        unsafe { std::slice::from_raw_parts((&raw const *self).cast(), size_of::<Self>()) }
    }

    /// Puts it at the front of `out`; its length.
    fn put(&self, out: &mut [u8]) -> usize {
        let bytes = self.as_bytes();
        out[..bytes.len()].copy_from_slice(bytes);
        bytes.len()
    }
}

macro_rules! wire {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy)]
            pub struct $name { $(pub $field: $kind),* }

            const _: () = assert!(size_of::<$name>() == 0 $(+ size_of::<$kind>())*, "padding");

            // SAFETY: integers only, and the assertion above finds padding.
            unsafe impl Wire for $name {}
        )*
    };
}

wire! {
    InHeader { len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32, ext: u32 }
    OutHeader { len: u32, error: i32, unique: u64 }
    InitIn { major: u32, minor: u32, max_readahead: u32, flags: u32, flags2: u32, unused: [u32; 11] }
    InitOut {
        major: u32, minor: u32, max_readahead: u32, flags: u32,
        max_background: u16, congestion_threshold: u16, max_write: u32, time_gran: u32,
        max_pages: u16, map_alignment: u16, flags2: u32, max_stack_depth: u32,
        request_timeout: u16, unused: [u16; 11],
    }
    Attr {
        ino: u64, size: u64, blocks: u64, times: [u64; 3], nanos: [u32; 3],
        mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32, blksize: u32, flags: u32,
    }
    AttrOut { valid: u64, valid_nsec: u32, dummy: u32, attr: Attr }
    EntryOut {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64,
        entry_nsec: u32, attr_nsec: u32, attr: Attr,
    }
    OpenOut { fh: u64, open_flags: u32, backing_id: i32 }
    /// As much of `fuse_read_in` and `fuse_write_in` as is used.
    RangeIn { fh: u64, offset: u64, size: u32, flags: u32 }
    WriteOut { size: u32, padding: u32 }
    BackingMap { fd: i32, flags: u32, padding: u64 }
    /// What the kernel and the daemon exchange through memory for each entry of a ring.
    RingHeader {
        in_out: [u8; 128], op_in: [u8; 128],
        flags: u64, commit_id: u64, payload_len: u32, padding: u32, reserved: u64,
    }
    /// The command area of a submission.
    RingCommand { flags: u64, commit_id: u64, qid: u16, padding: [u16; 3] }
}
