//! What clients do, and how long it takes them.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::files::{LARGE, SMALL, check, word};

/// How long each figure is measured, unless it ends with the file.
pub const SPAN: Duration = Duration::from_millis(1000);
const PAGE: usize = 4096;
const PIECE: usize = 1 << 20;

/// Work done, and the time it took.
#[derive(Clone, Copy)]
pub struct Done {
    pub count: u64,
    pub took: Duration,
}

impl Done {
    pub fn per_second(self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }

    /// Microseconds for each.
    pub fn micros(self) -> f64 {
        self.took.as_secs_f64() * 1e6 / self.count as f64
    }
}

/// Repeats `step` on each of `threads` for [`SPAN`]; it gets the number of its thread and its turn.
pub fn repeat(threads: u64, step: impl Fn(u64, u64) -> io::Result<()> + Sync) -> io::Result<Done> {
    let began = Instant::now();
    let counts = thread::scope(|scope| {
        let run = |thread| {
            let step = &step;
            scope.spawn(move || {
                let mut turn = 0;
                while turn % 16 != 0 || began.elapsed() < SPAN {
                    step(thread, turn)?;
                    turn += 1;
                }
                io::Result::Ok(turn)
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum::<io::Result<u64>>()
    })?;
    Ok(Done {
        count: counts,
        took: began.elapsed(),
    })
}

/// `fstat` in a loop.
pub fn stat(path: &Path, threads: u64) -> io::Result<Done> {
    let file = File::open(path)?;
    repeat(threads, |_, _| {
        // SAFETY: zeros are a `stat`, and the call fills it.
        check(unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            libc::fstat(file.as_raw_fd(), &raw mut stat)
        })?;
        Ok(())
    })
}

/// Reads of 4 KiB anywhere in an open file.
pub fn random(file: &File, threads: u64) -> io::Result<Done> {
    repeat(threads, |thread, turn| {
        random_page(file, thread << 32 | turn)
    })
}

/// As many reads of a file of which the kernel has no page before. Of 4,096, 134 ask for a page
/// that an earlier one has brought.
pub fn random_cold(file: &File, count: u64) -> io::Result<Done> {
    // SAFETY: takes no memory.
    let refused = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
    if refused != 0 {
        return Err(io::Error::from_raw_os_error(refused));
    }
    let began = Instant::now();
    for turn in 0..count {
        random_page(file, turn)?;
    }
    Ok(Done {
        count,
        took: began.elapsed(),
    })
}

fn random_page(file: &File, turn: u64) -> io::Result<()> {
    let offset = word(turn << 3) % (LARGE / PAGE as u64) * PAGE as u64;
    let mut page = [0; PAGE];
    file.read_exact_at(&mut page, offset)?;
    check_contents(&page, offset)
}

/// The whole file in pieces of 1 MiB; counts bytes.
pub fn sequential(file: &File) -> io::Result<Done> {
    let mut piece = vec![0; PIECE];
    let began = Instant::now();
    for offset in (0..LARGE).step_by(PIECE) {
        file.read_exact_at(&mut piece, offset)?;
        check_contents(&piece, offset)?;
    }
    Ok(Done {
        count: LARGE,
        took: began.elapsed(),
    })
}

/// `open`, `read` of a whole small file, `close`.
pub fn open_read_close(path: &Path, threads: u64) -> io::Result<Done> {
    repeat(threads, |_, _| {
        let mut page = [0; SMALL as usize];
        File::open(path)?.read_exact_at(&mut page, 0)?;
        check_contents(&page, 0)
    })
}

/// Looks at one word of each page.
fn check_contents(bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut pages = bytes.chunks(PAGE).zip((offset..).step_by(PAGE));
    let right = pages.all(|(page, at)| page[..8] == word(at).to_ne_bytes());
    if right {
        Ok(())
    } else {
        Err(io::Error::other("wrong bytes"))
    }
}
