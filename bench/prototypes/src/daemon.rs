//! The daemon: how it serves, and its threads.

use std::{fs, io, os::fd::RawFd, path::Path, process, thread, time::Duration};

use crate::{device, files::Files, ring};

/// The way of requests and answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// /dev/fuse.
    Device,
    /// A ring for each core, whose thread stays there.
    Ring,
    /// The same, but the kernel does its part only when it is asked for requests, and does not
    /// interrupt the thread for it.
    DeferredRing,
    /// As `Ring`, but with threads that go where the scheduler puts them.
    FreeRing,
}

/// How a daemon serves.
#[derive(Clone, Copy)]
pub struct How {
    pub way: Way,
    /// Seconds for which attributes are believed.
    pub ttl: u64,
    /// Whether `open` is answered.
    pub opens: bool,
    /// In the place of a daemon that died.
    pub again: bool,
}

impl How {
    pub const PLAIN: How = How {
        way: Way::Device,
        ttl: 3600,
        opens: true,
        again: false,
    };

    /// As an argument for the daemon.
    pub fn text(self) -> String {
        let way = match self.way {
            Way::Device => "device",
            Way::Ring => "ring",
            Way::DeferredRing => "deferred",
            Way::FreeRing => "free",
        };
        format!("{way},{},{},{}", self.ttl, self.opens, self.again)
    }

    pub fn parse(text: &str) -> io::Result<How> {
        let parts: Vec<&str> = text.split(',').collect();
        let [way, ttl, opens, again] = parts[..] else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok(How {
            way: match way {
                "device" => Way::Device,
                "ring" => Way::Ring,
                "deferred" => Way::DeferredRing,
                "free" => Way::FreeRing,
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            },
            ttl: ttl.parse().map_err(io::Error::other)?,
            opens: opens.parse().map_err(io::Error::other)?,
            again: again.parse().map_err(io::Error::other)?,
        })
    }
}

/// Says that it is ready, serves until the mount at `dir` ends, and says what was asked.
pub fn serve(device: RawFd, dir: &Path, how: How) -> io::Result<()> {
    let ring = how.way != Way::Device;
    let threads = thread::available_parallelism()?.get();
    if ring {
        // The kernel waits for a queue of each possible core before it uses any.
        let possible = possible_cores()?;
        if possible > threads {
            let lacks = format!("{possible} possible cores, but queues for {threads} only");
            return Err(io::Error::new(io::ErrorKind::Unsupported, lacks));
        }
    }
    if !how.again {
        device::greet(device, ring)?;
    }
    let files = Files::new(device, how);
    println!("ready");
    thread::scope(|scope| {
        for core in 0..threads {
            let files = &files;
            scope.spawn(move || {
                let served = if ring {
                    ring::serve(device, core as u16, how.way, files)
                } else {
                    device::serve(device, files)
                };
                served.unwrap_or_else(|error| fail(dir, &error));
            });
        }
        if how.again {
            // When the queues of a ring are there.
            thread::sleep(Duration::from_millis(200));
            device::have_sent_again(device).unwrap_or_else(|error| fail(dir, &error));
        }
        if ring {
            // What never comes over a ring: forgets, interrupts.
            device::serve(device, &files).unwrap_or_else(|error| fail(dir, &error));
        }
    });
    for (operation, count) in files.counted() {
        println!("    operation {operation}: {count}");
    }
    Ok(())
}

/// Ends the daemon, whose other threads would serve on, and the requests that wait for it.
fn fail(dir: &Path, error: &io::Error) -> ! {
    eprintln!("the daemon failed: {error}");
    // It fails when files are open, but the requests have their error even then.
    let _ = device::unmount(dir, libc::MNT_FORCE);
    process::exit(1)
}

/// Cores that the kernel counts with, also those that are not there.
fn possible_cores() -> io::Result<usize> {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    // "0-3,8"
    let ranges = text.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<usize>().map_err(io::Error::other);
        Ok(number(last)? - number(first)? + 1)
    });
    ranges.sum()
}
