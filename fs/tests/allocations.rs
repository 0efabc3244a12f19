//! What operations cost in memory: allocations, counted where they are made. A
//! program of its own, because it counts those of the whole process.

#![allow(clippy::unwrap_used)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use kiseki_core::{
    crypto::Secret,
    engine::{Caller, Volume, VolumeOptions, open_volume},
    host::{OsDisk, SystemClock, SystemEntropy},
    ids::Ino,
    store::{CutPolicy, Store, Unlock},
};
use kiseki_fs::fuse::{FuseMount, MountOptions};
use nix::{
    sys::stat::{fstat, stat},
    unistd::{getgid, getuid},
};
use tokio::runtime::Runtime;

/// Counts what every thread asks of the system's allocator.
struct Counting;

thread_local! {
    static HERE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

static EVERYWHERE: AtomicU64 = AtomicU64::new(0);

fn count() {
    EVERYWHERE.fetch_add(1, Ordering::Relaxed);
    // A thread that ends has no counter any more.
    let _ = HERE.try_with(|here| here.set(here.get() + 1));
}

// SAFETY: all work is done by the system's allocator, with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Operations of each kind.
const TIMES: u64 = 1_000;

/// Allocations per operation on this thread, all of which end at once. The
/// first tenth is not counted: caches fill, and counters are made.
fn on_this_thread(mut operation: impl FnMut(u64)) -> f64 {
    let warm = TIMES / 10;
    (0..warm).for_each(&mut operation);
    let before = HERE.get();
    (warm..warm + TIMES).for_each(&mut operation);
    (HERE.get() - before) as f64 / TIMES as f64
}

/// Tries of [`in_this_process`], and operations in each: so few that they end
/// between two rounds of the background, on a slow machine as well.
const TRIES: u64 = 50;
const IN_A_TRY: u64 = 100;

/// The least of some tries over all threads: what the background does now and
/// then is no part of an operation.
fn in_this_process(mut operation: impl FnMut(u64)) -> f64 {
    let mut least = f64::MAX;
    for _ in 0..TRIES {
        let before = EVERYWHERE.load(Ordering::Relaxed);
        (0..IN_A_TRY).for_each(&mut operation);
        let made = EVERYWHERE.load(Ordering::Relaxed) - before;
        least = least.min(made as f64 / IN_A_TRY as f64);
    }
    least
}

fn volume(dir: &Path) -> Volume {
    let disk = Arc::new(OsDisk::open(dir.to_owned()).unwrap());
    let key = Unlock::KeyFile(Secret::random(&SystemEntropy));
    let (entropy, clock) = (Arc::new(SystemEntropy), Arc::new(SystemClock));
    let store = Store::create(disk.clone(), entropy, clock.clone(), &key).unwrap();
    let (user, group) = (getuid(), getgid());
    store
        .create_volume("test", CutPolicy::Auto, user.as_raw(), group.as_raw())
        .unwrap();
    let options = VolumeOptions {
        memory: 64 << 20,
        ..VolumeOptions::default()
    };
    let record = store.volume("test").unwrap();
    open_volume(disk, clock, &store, &record, options).unwrap()
}

/// An answer that is there at once, as it must be for these operations.
fn now<T>(operation: impl Future<Output = kiseki_core::Result<T>>) -> T {
    operation
        .now_or_never()
        .expect("it has to wait for something")
        .unwrap()
}

fn show(what: &str, allocations: f64) {
    println!("{what:<40} {allocations:>8.3} allocations per operation");
}

/// One test, so that no other one is counted.
#[test]
fn a_cached_getattr_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let inside = runtime.enter();
    let volume = volume(dir.path());
    let getattr = through_the_volume(&runtime, &volume);
    drop(inside);
    let mounted = through_the_kernel(&runtime, &volume);
    runtime.block_on(volume.close()).unwrap();
    assert_eq!(getattr, 0.0, "getattr of the volume allocates");
    if let Some(getattr) = mounted {
        assert_eq!(getattr, 0.0, "getattr of the mount allocates");
    }
}

/// What calls of the engine cost; returns the figure of `getattr`.
fn through_the_volume(runtime: &Runtime, volume: &Volume) -> f64 {
    let who = Caller::default();
    let file = now(volume.create(&who, Ino::ROOT, b"file", 0o600)).ino;
    let page = Bytes::from(vec![7; 4096]);
    for number in 0..16 {
        now(volume.write(&who, file, number * 4096, page.clone()));
    }
    runtime.block_on(volume.fsync(file, false)).unwrap();
    // The first read finds the sealed bytes, which is no matter of memory alone.
    runtime.block_on(volume.read(file, 0, 65_536)).unwrap();
    let getattr = on_this_thread(|_| {
        now(volume.getattr(file));
    });
    show("volume: getattr", getattr);
    let lookup = on_this_thread(|_| {
        now(volume.lookup(Ino::ROOT, b"file"));
    });
    show("volume: lookup", lookup);
    let read = on_this_thread(|n| drop(now(volume.read(file, n % 16 * 4096, 4096))));
    show("volume: read, 4 KiB, cached", read);
    let write = on_this_thread(|n| {
        now(volume.write(&who, file, n % 16 * 4096, page.clone()));
    });
    show("volume: write, 4 KiB", write);
    let create = on_this_thread(|n| {
        let name = n.to_string();
        let made = now(volume.create(&who, Ino::ROOT, name.as_bytes(), 0o600));
        now(volume.release(made.ino));
    });
    show("volume: create", create);
    getattr
}

/// The same through a mount of this process, where every call asks: request,
/// dispatch, engine, counters, reply. `None` where nothing can be mounted.
fn through_the_kernel(runtime: &Runtime, volume: &Volume) -> Option<f64> {
    let point = tempfile::tempdir().unwrap();
    let mut options = MountOptions::default();
    options.ttl = Duration::ZERO;
    let handle = runtime.handle().clone();
    let mount = match FuseMount::start(volume.clone(), point.path(), options, handle) {
        Ok(mount) => mount,
        Err(error) => {
            println!("nothing can be mounted here; only the engine was looked at: {error}");
            return None;
        }
    };
    let path = point.path().join("file");
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let asked = |op: &str| {
        let all = mount.statistics().snapshot();
        all.iter()
            .find(|stats| stats.name == op)
            .map_or(0, |stats| stats.count)
    };
    let before = asked("getattr");
    let getattr = in_this_process(|_| {
        fstat(&file).unwrap();
    });
    // Or the kernel answered, and nothing was shown. The last is counted behind its answer.
    let answered = Instant::now();
    while asked("getattr") < before + TRIES * IN_A_TRY {
        assert!(
            answered.elapsed() < Duration::from_secs(10),
            "not all of them were asked"
        );
    }
    show("mount: fstat, asked each time", getattr);
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let lookup = in_this_process(|_| {
        stat(&*path).unwrap();
    });
    show("mount: stat by name, asked each time", lookup);
    let page = [7; 4096];
    let write = in_this_process(|n| file.write_all_at(&page, n % 16 * 4096).unwrap());
    show("mount: write, 4 KiB", write);
    drop(file);
    mount.unmount().unwrap();
    Some(getattr)
}
