//! The filesystem: one directory with files whose bytes are computed, opened each in its own way.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, FromRawFd, RawFd},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::{daemon::How, wire::*};

/// Length of the large files.
pub const LARGE: u64 = 256 << 20;
pub const SMALL: u64 = 4096;

const ROOT: u64 = 1;
/// Files by number from here on.
const FIRST: u64 = 2;
/// What `create` makes; empty, and takes every write.
const CREATED: u64 = 100;

/// Name, length and how `open` is answered.
const FILES: &[(&str, u64, u32)] = &[
    ("direct", LARGE, FOPEN_DIRECT_IO | FOPEN_NOFLUSH),
    // The kernel drops its pages with each open.
    ("cold", LARGE, FOPEN_NOFLUSH),
    ("kept", LARGE, FOPEN_KEEP_CACHE | FOPEN_NOFLUSH),
    ("through", LARGE, FOPEN_PASSTHROUGH | FOPEN_NOFLUSH),
    ("small", SMALL, FOPEN_KEEP_CACHE | FOPEN_NOFLUSH),
    // Every other open goes through the page cache.
    ("mixed", LARGE, FOPEN_PASSTHROUGH | FOPEN_NOFLUSH),
    // The first daemon never answers a read.
    ("stuck", LARGE, FOPEN_DIRECT_IO | FOPEN_NOFLUSH),
    // Its length is how many inodes the kernel has forgotten.
    ("forgets", 0, FOPEN_NOFLUSH),
];

/// The eight bytes at `offset`, a multiple of eight.
pub fn word(offset: u64) -> u64 {
    let mut x = offset.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub struct Files {
    /// The decrypted contents, as it were.
    contents: Vec<u8>,
    how: How,
    device: RawFd,
    backing: Mutex<Option<i32>>,
    counts: [AtomicU64; 64],
}

impl Files {
    pub fn new(device: RawFd, how: How) -> Files {
        Files {
            contents: (0..LARGE)
                .step_by(8)
                .flat_map(|at| word(at).to_ne_bytes())
                .collect(),
            how,
            device,
            backing: Mutex::new(None),
            counts: [const { AtomicU64::new(0) }; 64],
        }
    }

    /// Requests so far: the number of the operation, and how many.
    pub fn counted(&self) -> impl Iterator<Item = (usize, u64)> {
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        counts.enumerate().filter(|(_, count)| *count > 0)
    }

    /// Answers a request into `out`: how many bytes, or the error. `None` when it wants no answer.
    pub fn answer(
        &self,
        head: &InHeader,
        args: &[u8],
        out: &mut [u8],
    ) -> Option<Result<usize, i32>> {
        self.counts[head.opcode as usize % 64].fetch_add(1, Ordering::Relaxed);
        Some(match head.opcode {
            FORGET | BATCH_FORGET | INTERRUPT => return None,
            LOOKUP => self.lookup(args).map(|entry| entry.put(out)),
            GETATTR => self.attr(head.nodeid).map(|attr| {
                let answer = AttrOut {
                    valid: self.how.ttl,
                    attr,
                    ..Wire::zero()
                };
                answer.put(out)
            }),
            OPEN if !self.how.opens => Err(libc::ENOSYS),
            OPEN => self.open(head.nodeid).map(|open| open.put(out)),
            READ if self.is_stuck(head.nodeid) => loop {
                thread::park();
            },
            READ => {
                let range = RangeIn::from_bytes(args);
                let end = self.attr(head.nodeid).map_or(0, |attr| attr.size);
                let from = range.offset.min(end) as usize;
                let to = (range.offset + u64::from(range.size)).min(end) as usize;
                // Stands for opening sealed frames, which writes into a buffer as well.
                out[..to - from].copy_from_slice(&self.contents[from..to]);
                Ok(to - from)
            }
            CREATE => self.attr(CREATED).map(|attr| {
                let len = self.entry(attr).put(out);
                len + OpenOut {
                    open_flags: FOPEN_NOFLUSH,
                    ..Wire::zero()
                }
                .put(&mut out[len..])
            }),
            WRITE => {
                let range = RangeIn::from_bytes(args);
                Ok(WriteOut {
                    size: range.size,
                    padding: 0,
                }
                .put(out))
            }
            RELEASE | UNLINK => Ok(0),
            // A flush among them: the kernel asks once.
            _ => Err(libc::ENOSYS),
        })
    }

    fn lookup(&self, name: &[u8]) -> Result<EntryOut, i32> {
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let place = FILES.iter().position(|file| file.0.as_bytes() == name);
        let place = place.ok_or(libc::ENOENT)?;
        self.attr(FIRST + place as u64).map(|attr| self.entry(attr))
    }

    fn entry(&self, attr: Attr) -> EntryOut {
        EntryOut {
            nodeid: attr.ino,
            entry_valid: 3600,
            attr_valid: self.how.ttl,
            attr,
            ..Wire::zero()
        }
    }

    fn attr(&self, ino: u64) -> Result<Attr, i32> {
        let file = |size, mode| Attr {
            ino,
            size,
            blocks: size / 512,
            mode,
            nlink: 1,
            blksize: 4096,
            ..Wire::zero()
        };
        match ino {
            ROOT => Ok(file(0, libc::S_IFDIR | 0o755)),
            CREATED => Ok(file(0, libc::S_IFREG | 0o644)),
            _ => {
                let found = FILES.get((ino - FIRST) as usize).ok_or(libc::ENOENT)?;
                let size = if found.0 == "forgets" {
                    self.forgets()
                } else {
                    found.1
                };
                Ok(file(size, libc::S_IFREG | 0o644))
            }
        }
    }

    fn is_stuck(&self, ino: u64) -> bool {
        let file = FILES.get((ino - FIRST) as usize);
        !self.how.again && file.is_some_and(|file| file.0 == "stuck")
    }

    fn forgets(&self) -> u64 {
        let one = self.counts[FORGET as usize].load(Ordering::Relaxed);
        one + self.counts[BATCH_FORGET as usize].load(Ordering::Relaxed)
    }

    fn open(&self, ino: u64) -> Result<OpenOut, i32> {
        let (name, _, mut flags) = *FILES.get((ino - FIRST) as usize).ok_or(libc::EIO)?;
        let opened = self.counts[OPEN as usize].load(Ordering::Relaxed);
        if name == "mixed" && opened.is_multiple_of(2) {
            flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH;
        }
        let backing_id = if flags & FOPEN_PASSTHROUGH == 0 {
            0
        } else {
            self.backing()
                .map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?
        };
        Ok(OpenOut {
            fh: 0,
            open_flags: flags,
            backing_id,
        })
    }

    /// The number under which the kernel knows the file in memory that holds all contents. The
    /// first open makes it.
    fn backing(&self) -> io::Result<i32> {
        let mut known = self.backing.lock().expect("no panic");
        if let Some(id) = *known {
            return Ok(id);
        }
        // SAFETY: the name is a C string, and nobody else has the new descriptor.
        let mut file = unsafe {
            let file = libc::memfd_create(c"plain".as_ptr(), libc::MFD_CLOEXEC);
            File::from_raw_fd(check(file)?)
        };
        file.write_all(&self.contents)?;
        // The kernel takes a reference of its own.
        let map = BackingMap {
            fd: file.as_raw_fd(),
            ..Wire::zero()
        };
        // SAFETY: the ioctl reads one `BackingMap`.
        let id = check(unsafe { libc::ioctl(self.device, BACKING_OPEN, &raw const map) })?;
        *known = Some(id);
        Ok(id)
    }
}

/// What a system call said.
pub fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
