//! Keys in the memory of a process that has a volume open, and of one that had.
//!
//! The process that looks must not know what it looks for: it is given the
//! keys with every bit of them turned round, by the test that started it.

use std::{
    fs::{self, File},
    num::NonZeroUsize,
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    slice,
    sync::Arc,
    time::Duration,
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

use super::super::{Store, Unlock, keyring::Keyring};
use crate::{
    chunk::CutPolicy,
    crypto::{Secret, VolumeKeys, Wrapped, Wraps, key_file},
    engine::{AtimePolicy, Caller, FrontId, VolumeOptions, open_volume},
    host::{Disk, SystemClock, SystemEntropy, disk::OsDisk},
    ids::{Epoch, Ino},
};

const DIR: &str = "KISEKI_MEMORY_TEST_DIR";
const KEYS: &str = "keys";
const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    umask: 0o022,
    privileged: true,
    front: FrontId(0),
    request: crate::ids::RequestId::NONE,
};

/// Keys that ciphers and signatures prepare and keep for themselves, outside
/// of locked memory.
const PREPARED: [&str; 2] = ["record key", "log key"];

fn disk(dir: &Path) -> Arc<dyn Disk> {
    Arc::new(OsDisk::open(dir.join("store")).unwrap())
}

#[test]
fn keys_are_in_locked_memory_and_gone_after_closing() {
    let dir = tempfile::tempdir().unwrap();
    let key = Secret::random(&SystemEntropy);
    key_file::create(&dir.path().join("key"), &key).unwrap();
    let unlock = Unlock::KeyFile(Secret::from_bytes(key.expose()));
    let store = Store::create(
        disk(dir.path()),
        Arc::new(SystemEntropy),
        Arc::new(SystemClock),
        &unlock,
    )
    .unwrap();
    let record = store
        .create_volume("default", CutPolicy::Auto, 0, 0)
        .unwrap();
    let id = store.store().id();
    let store_key = Keyring::read(&*disk(dir.path()), id)
        .unwrap()
        .unlock(&unlock)
        .unwrap();
    let wrapping = store_key.derive(b"kiseki volume wrapping v1");
    let master = record.master(id, &wrapping).unwrap();
    let epochs = VolumeKeys::epoch_wrapping_key(&master);
    let text = serde_json::to_value(&record).unwrap()["epochs"][0]["sealing_key"].take();
    let wraps = Wraps::SealingKey {
        volume: record.id,
        epoch: Epoch(1),
    };
    let sealing = serde_json::from_value::<Wrapped>(text)
        .unwrap()
        .unwrap(&epochs, wraps)
        .unwrap();
    let keys = [
        ("unlock key", key.derive(b"kiseki unlock v1")),
        ("id key", master.derive(b"kiseki chunk id v1")),
        ("name key", master.derive(b"kiseki name tag v1")),
        ("xattr key", master.derive(b"kiseki xattr tag v1")),
        ("log key", master.derive(b"kiseki log checkpoint v1")),
        ("record key", sealing.derive(b"kiseki record v1")),
        ("sealing key", sealing),
        ("epoch wrapping key", epochs),
        ("master key", master),
        ("volume wrapping key", wrapping),
        ("store key", store_key),
        ("key file", key),
    ];
    let lines = keys.map(|(name, key)| {
        let turned = key.expose().map(|byte| !byte);
        format!("{name}:{}\n", hex::encode(turned))
    });
    fs::write(dir.path().join(KEYS), lines.concat()).unwrap();

    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture"])
        .arg("store::tests::memory::process_that_looks_at_itself")
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("looked twice"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "run by the test above, in a process of its own"]
fn process_that_looks_at_itself() {
    let dir = std::env::var_os(DIR).expect("started by the test above");
    let dir = Path::new(&dir);
    let turned = fs::read_to_string(dir.join(KEYS)).unwrap();
    let keys: Vec<(&str, [u8; 32])> = turned
        .lines()
        .map(|line| {
            let (name, digits) = line.split_once(':').unwrap();
            (name, hex::decode(digits).unwrap().try_into().unwrap())
        })
        .collect();
    let while_open = use_volume(dir, || look_for(&keys));
    let after = look_for(&keys);
    let seen = |name| while_open.iter().any(|found| found.name == name);
    assert!(seen("id key"), "the look finds nothing: {while_open:?}");
    let strays: Vec<_> = while_open
        .iter()
        .filter(|found| !found.locked && !PREPARED.contains(&found.name))
        .collect();
    assert!(strays.is_empty(), "outside of locked memory: {strays:?}");
    assert!(!seen("key file"), "the key file is kept: {while_open:?}");
    assert!(after.is_empty(), "left after closing: {after:?}");
    println!("looked twice");
}

/// Opens the volume as a mount does, works with it, calls `look`, and closes.
fn use_volume<T>(dir: &Path, look: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let unlock = Unlock::KeyFile(key_file::read(&dir.join("key")).unwrap());
    let disk = disk(dir);
    let store = Store::open(disk.clone()).unwrap().unlock(&unlock).unwrap();
    drop(unlock);
    let record = store.volume("default").unwrap();
    let options = VolumeOptions {
        memory: 64 << 20,
        read_only: false,
        atime: AtimePolicy::Relative,
        sync_delay: Duration::from_millis(100),
        ..VolumeOptions::default()
    };
    let volume = open_volume(disk, Arc::new(SystemClock), &store, &record, options).unwrap();
    runtime.block_on(async {
        let file = volume
            .create(&ROOT, Ino::ROOT, b"file", 0o600)
            .await
            .unwrap();
        let data = vec![7; 3 << 20];
        volume
            .write(&ROOT, file.ino, 0, data[..1 << 20].to_vec().into())
            .await
            .unwrap();
        volume.fsync(file.ino, false).await.unwrap();
        volume.read(file.ino, 0, 1 << 20).await.unwrap();
        volume.lookup(Ino::ROOT, b"file").await.unwrap();
    });
    let found = look();
    runtime.block_on(volume.close()).unwrap();
    drop(volume);
    drop(store);
    runtime.shutdown_timeout(Duration::from_secs(10));
    found
}

#[derive(Debug)]
#[allow(dead_code, reason = "shown when the test fails")]
struct Found<'k> {
    name: &'k str,
    mapping: String,
    locked: bool,
}

/// Where in this process the keys are, given turned round.
fn look_for<'k>(keys: &[(&'k str, [u8; 32])]) -> Vec<Found<'k>> {
    const WINDOW: usize = 1 << 20;
    // A mapping of its own, to be left out: it has copies of all that is read.
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let size = NonZeroUsize::new(WINDOW + 4096).unwrap();
    // SAFETY: a new private mapping of that size, used through `window` alone.
    let window = unsafe {
        let start = mmap_anonymous(None, size, protection, MapFlags::MAP_PRIVATE).unwrap();
        slice::from_raw_parts_mut(start.as_ptr().cast::<u8>(), WINDOW)
    };
    let own = window.as_ptr() as u64;
    let mut first = [false; 256];
    for (_, key) in keys {
        first[usize::from(!key[0])] = true;
    }
    let memory = File::open("/proc/self/mem").unwrap();
    let mut found = Vec::new();
    for mapping in mappings() {
        let mut at = mapping.start;
        while at < mapping.end {
            let len = (mapping.end - at).min(WINDOW as u64) as usize;
            let overlaps = at < own + size.get() as u64 && own < at + len as u64;
            // Some mappings of the kernel cannot be read.
            if overlaps || memory.read_exact_at(&mut window[..len], at).is_err() {
                at += 4096;
                continue;
            }
            for (offset, part) in window[..len].windows(32).enumerate() {
                if first[usize::from(part[0])]
                    && let Some((name, _)) = keys.iter().find(|(_, key)| {
                        key.iter().zip(part).all(|(turned, byte)| !turned == *byte)
                    })
                {
                    found.push(Found {
                        name,
                        mapping: format!(
                            "{} +{:x}",
                            mapping.line,
                            at + offset as u64 - mapping.start
                        ),
                        locked: mapping.locked,
                    });
                }
            }
            // A key may lie across two windows.
            at += if at + (len as u64) < mapping.end {
                len as u64 - 4096
            } else {
                len as u64
            };
        }
    }
    found
}

struct Mapping {
    line: String,
    start: u64,
    end: u64,
    locked: bool,
}

fn mappings() -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        let range = line.split_once(' ').and_then(|(range, rest)| {
            let (start, end) = range.split_once('-')?;
            let number = |digits| u64::from_str_radix(digits, 16).ok();
            Some((number(start)?, number(end)?, rest.starts_with('r')))
        });
        if let Some((start, end, readable)) = range {
            mappings.push(Mapping {
                line: line.to_owned(),
                start,
                end: if readable { end } else { start },
                locked: false,
            });
        } else if let (Some(flags), Some(last)) =
            (line.strip_prefix("VmFlags:"), mappings.last_mut())
        {
            last.locked = flags.split(' ').any(|flag| flag == "lo");
        }
    }
    mappings
}
