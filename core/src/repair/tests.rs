//! Damage to every kind of file of a store, at places that a seed decides:
//! what is read is what was written or an error, repair keeps all that a sound
//! copy exists of, and a second repair finds nothing to do.
//!
//! `KISEKI_DAMAGE_CASES` is the number of cases, `KISEKI_SEED` the first seed.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;

use super::*;
use crate::{
    chunk::{CutPolicy, LocalChunks, LocalOptions},
    crypto::Secret,
    engine::{AtimePolicy, Caller, FrontId, Volume, VolumeOptions, open_volume},
    host::{MemoryDisk, SystemClock, SystemEntropy},
    ids::Ino,
    log::SyncPolicy,
    meta::{AttrChange, Command, Kind},
    store::{Store, Unlock, UnlockedStore},
};

const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    umask: 0o022,
    privileged: true,
    front: FrontId(0),
    request: crate::ids::RequestId::NONE,
};

/// What reads are compared by.
const BLOCK: usize = 4096;

/// Contents of all files by path.
type Tree = BTreeMap<String, Vec<u8>>;

/// What was found of a file: its length, and for each block whether it can be
/// read.
type Found = BTreeMap<String, Vec<bool>>;

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

fn tree() -> Tree {
    let mut tree = Tree::from([
        ("large".to_owned(), noise(1, 700_000)),
        ("other".to_owned(), noise(2, 300_000)),
    ]);
    let mut sparse = vec![0; 400_000];
    sparse[200_000..250_000].copy_from_slice(&noise(3, 50_000));
    tree.insert("sparse".to_owned(), sparse);
    for n in 0..60 {
        tree.insert(format!("d/small{n}"), noise(10 + n, 100 + 17 * n as usize));
    }
    tree
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}

fn unlock() -> Unlock {
    Unlock::KeyFile(Secret::from_bytes(&[7; 32]))
}

fn open_store(disk: &MemoryDisk) -> Result<(Arc<dyn Disk>, UnlockedStore, VolumeRecord)> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = Store::open(disk.clone())?.unlock(&unlock())?;
    let record = store.volume("default")?;
    Ok((disk, store, record))
}

fn open(disk: &MemoryDisk) -> Result<Volume> {
    let (disk, store, record) = open_store(disk)?;
    let options = VolumeOptions {
        memory: 32 << 20,
        read_only: false,
        atime: AtimePolicy::Never,
        sync_delay: Duration::from_secs(1),
        journal: None,
        ..VolumeOptions::default()
    };
    open_volume(disk, Arc::new(SystemClock), &store, &record, options)
}

async fn fill(volume: &Volume) {
    let d = volume
        .mkdir(&ROOT, Ino::ROOT, b"d", 0o755)
        .await
        .unwrap()
        .ino;
    for (path, contents) in tree() {
        let (parent, name) = match path.split_once('/') {
            Some((_, name)) => (d, name),
            None => (Ino::ROOT, &path[..]),
        };
        let attr = volume.create(&ROOT, parent, name.as_bytes(), 0o644);
        let ino = attr.await.unwrap().ino;
        let begin = contents.iter().position(|byte| *byte != 0).unwrap();
        let end = contents.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let data = Bytes::copy_from_slice(&contents[begin..end]);
        volume.write(&ROOT, ino, begin as u64, data).await.unwrap();
        let size = Some(contents.len() as u64);
        let change = crate::engine::SetAttr {
            size,
            ..Default::default()
        };
        volume.setattr(&ROOT, ino, change).await.unwrap();
        volume.release(ino).await.unwrap();
        // So that the log has many batches.
        volume.sync().await.unwrap();
    }
    volume.close().await.unwrap();
}

/// A store that was closed. With `cut`, its log begins behind an image.
fn store(cut: bool) -> &'static MemoryDisk {
    static STORES: [OnceLock<MemoryDisk>; 2] = [OnceLock::new(), OnceLock::new()];
    STORES[usize::from(cut)].get_or_init(|| {
        let disk = MemoryDisk::new();
        let entropy = Arc::new(SystemEntropy);
        let store = Store::create(
            Arc::new(disk.clone()),
            entropy,
            Arc::new(SystemClock),
            &unlock(),
        );
        let policy = CutPolicy::Auto;
        store
            .unwrap()
            .create_volume("default", policy, 0, 0)
            .unwrap();
        block_on(fill(&open(&disk).unwrap()));
        if cut {
            cut_log(&disk);
        }
        disk
    })
}

fn cut_log(disk: &MemoryDisk) {
    let (disk, store, record) = open_store(disk).unwrap();
    let keys = store.volume_keys(&record).unwrap();
    let options = MetaOptions {
        signing_key: Some(keys.log_signing_key()),
        sync: SyncPolicy::EveryRecord,
        cut_after: 2 << 10,
        ..MetaOptions::default()
    };
    let meta = LocalMeta::open(disk.clone(), &record.dir(), record.id, options).unwrap();
    for round in 0..60 {
        let change = AttrChange {
            mode: Some(0o700 + round % 8),
            ..AttrChange::default()
        };
        let ino = Ino::ROOT;
        meta.apply(Command::SetAttr { ino, change }).wait().unwrap();
        if round == 30 {
            meta.checkpoint().unwrap();
        }
    }
    meta.close().unwrap();
    let dir = format!("{}/log", record.dir());
    assert!(log::begin(&*disk, &dir).unwrap() > Some(Revision(1)));
}

/// Does something to a file of the store; says what.
fn damage(disk: &MemoryDisk, dice: &mut Dice) -> String {
    let mut paths = disk.paths();
    paths.retain(|path| !path.ends_with("lock"));
    let path = paths[dice.below(paths.len() as u64) as usize].clone();
    hit(disk, &path, &paths, dice)
}

fn hit(disk: &MemoryDisk, path: &str, paths: &[String], dice: &mut Dice) -> String {
    let file = disk.open(path, OpenMode::Write).unwrap();
    let len = file.len().unwrap();
    let at = dice.below(len);
    let what = match dice.below(6) {
        0 => {
            let mut byte = [0];
            file.read_at(&mut byte, at).unwrap();
            file.write_at(&[byte[0] ^ (1 << dice.below(8))], at)
                .unwrap();
            format!("a bit at {at}")
        }
        1 => {
            file.set_len(at).unwrap();
            format!("cut at {at}")
        }
        2 => {
            let page = at / BLOCK as u64 * BLOCK as u64;
            let zeros = vec![0; BLOCK.min((len - page) as usize)];
            file.write_at(&zeros, page).unwrap();
            format!("zeros at {page}")
        }
        3 => {
            disk.remove(path).unwrap();
            "removed".to_owned()
        }
        4 => {
            let garbage = noise(at, 1 + dice.below(9000) as usize);
            file.write_at(&garbage, len).unwrap();
            format!("{} bytes more", garbage.len())
        }
        _ => {
            let other = &paths[dice.below(paths.len() as u64) as usize];
            disk.rename(path, "swap").unwrap();
            if other != path {
                disk.rename(other, path).unwrap();
            }
            disk.rename("swap", other).unwrap();
            format!("swapped with {other}")
        }
    };
    // What a crash would take away is no damage.
    file.sync_data().unwrap();
    for path in paths {
        let (dir, _) = path.rsplit_once('/').unwrap_or(("", path));
        disk.sync_dir(dir).unwrap();
    }
    format!("{path} of {len} bytes: {what}")
}

/// Reads everything. Other bytes than were written fail.
async fn read(volume: &Volume, what: &str) -> Result<Found> {
    let tree = tree();
    let mut found = Found::new();
    let mut directories = vec![(Ino::ROOT, String::new())];
    while let Some((ino, path)) = directories.pop() {
        for (entry, attr) in volume.readdir_plus(ino, 0, 1000).await? {
            let path = format!("{path}{}", String::from_utf8_lossy(&entry.name));
            if attr.kind == Kind::Directory {
                directories.push((entry.ino, format!("{path}/")));
                continue;
            }
            let mut blocks = Vec::new();
            for at in (0..attr.size as usize).step_by(BLOCK) {
                let block = volume.read(entry.ino, at as u64, BLOCK as u32).await;
                if let (Ok(block), Some(contents)) = (&block, tree.get(&path)) {
                    let wanted = contents.get(at..at + block.len());
                    assert!(
                        wanted == Some(&block[..]),
                        "{what}: other data in {path} at {at}"
                    );
                }
                blocks.push(block.is_ok());
            }
            found.insert(path, blocks);
        }
    }
    Ok(found)
}

/// What a mount shows; nothing when the store does not open.
fn look(disk: &MemoryDisk, what: &str) -> Option<Result<Found>> {
    let volume = open(disk).ok()?;
    let found = block_on(async {
        let found = read(&volume, what).await;
        let _ = volume.close().await;
        found
    });
    Some(found)
}

/// Everything that `fsck --repair` does.
fn mend(disk: &MemoryDisk) -> Result<Vec<String>> {
    let (disk, store, record) = open_store(disk)?;
    let keys = store.volume_keys(&record)?;
    let mut done = repair(&disk, &record, &keys, Timestamp::default())?;
    if index_flaw(&disk, &record)?.is_some() {
        forget_index(&*disk, &record)?;
        done.push("index".to_owned());
    }
    done.extend(mend_chunks(&disk, &record, &keys, &mut |_, _| {})?);
    Ok(done)
}

/// Holds a mended store to what `fsck` would say of it; returns the blocks that
/// are lost, by inode.
fn check(disk: &MemoryDisk, what: &str) -> BTreeMap<Ino, BTreeSet<u64>> {
    let (disk, store, record) = open_store(disk).unwrap();
    let keys = store.volume_keys(&record).unwrap();
    assert!(tables_flaw(&disk, &record).unwrap().is_none(), "{what}");
    assert!(index_flaw(&disk, &record).unwrap().is_none(), "{what}");
    let key = keys.log_verifying_key();
    assert!(
        image_flaw(&*disk, &record, Some(&key)).unwrap().is_none(),
        "{what}"
    );
    let dir = format!("{}/log", record.dir());
    let found = log::verify(&*disk, &dir, record.id, Some(&key), &mut |_, _| {}).unwrap();
    assert_eq!(found.problems, [], "{what}");
    let dir = format!("{}/chunks", record.dir());
    let options = LocalOptions::default();
    let chunks = LocalChunks::open(disk.clone(), &dir, record.id, options, &mut |_, _| {}).unwrap();
    let verified = chunk::verify(
        &*disk,
        &dir,
        record.id,
        Some(&keys),
        &mut |_, _| {},
        &mut |p| {
            panic!("{what}: {p:?}");
        },
    )
    .unwrap();
    let options = MetaOptions::default();
    let meta = LocalMeta::open(disk.clone(), &record.dir(), record.id, options).unwrap();
    meta.check(&mut |problem| panic!("{what}: {problem}"))
        .unwrap();
    let losses = losses(&meta, &chunks, &verified.intact, Some(&keys)).unwrap();
    let mut blocks = BTreeMap::new();
    for (ino, losses) in losses {
        for loss in losses {
            assert!(loss.is_known, "{what}: {loss:?}");
            let range = loss.from / BLOCK as u64..loss.to.div_ceil(BLOCK as u64);
            blocks
                .entry(ino)
                .or_insert_with(BTreeSet::new)
                .extend(range);
        }
    }
    blocks
}

fn unreadable(found: &Found) -> BTreeMap<String, BTreeSet<u64>> {
    let blocks = found.iter().map(|(path, blocks)| {
        let lost = (0..).zip(blocks).filter(|(_, sound)| !**sound);
        (
            path.clone(),
            lost.map(|(at, _)| at).collect::<BTreeSet<u64>>(),
        )
    });
    blocks.filter(|(_, lost)| !lost.is_empty()).collect()
}

fn case(seed: u64) {
    let mut dice = Dice(seed);
    let cut = dice.below(2) == 1;
    let disk = store(cut).crash(0);
    let what = format!("seed {seed}, cut {cut}: {}", damage(&disk, &mut dice));
    let before = look(&disk.crash(0), &what);
    let all: BTreeSet<String> = tree().into_keys().collect();
    if let Some(Ok(found)) = &before {
        let names: BTreeSet<String> = found.keys().cloned().collect();
        assert!(names == all, "{what}: names are missing");
    }
    if let Err(error) = mend(&disk) {
        // The records of the store itself have no second copy.
        assert!(
            what.contains(".json") || what.contains("swapped"),
            "{what}: {error}"
        );
        assert!(!matches!(before, Some(Ok(_))), "{what}: {error}");
        return;
    }
    let lost = check(&disk, &what);
    let found = look(&disk, &what).unwrap().unwrap();
    let names: BTreeSet<String> = found.keys().cloned().collect();
    assert!(names == all, "{what}: names are missing after repair");
    let failing = unreadable(&found);
    let swapped = what.contains("swapped") && !what.contains(".json");
    assert!(!swapped || failing.is_empty(), "{what}: {failing:?}");
    let told: Vec<_> = lost.values().cloned().collect();
    let mut failed: Vec<_> = failing.values().cloned().collect();
    failed.sort();
    let mut sorted = told;
    sorted.sort();
    assert_eq!(
        failed, sorted,
        "{what}: fsck tells of other bytes than fail"
    );
    if let Some(Ok(before)) = &before {
        for (path, blocks) in &failing {
            let known = unreadable(before);
            let ok = known.get(path).is_some_and(|known| blocks.is_subset(known));
            assert!(
                ok,
                "{what}: repair lost {blocks:?} of {path}, {known:?} before"
            );
        }
    }
    let again = mend(&disk).unwrap();
    assert_eq!(
        again,
        Vec::<String>::new(),
        "{what}: not mended by the first repair"
    );
}

fn number(variable: &str, default: u64) -> u64 {
    let set = std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok());
    set.unwrap_or(default)
}

#[test]
fn damage_anywhere_is_an_error_there_and_is_mended() {
    let first = number("KISEKI_SEED", 1);
    for seed in first..first + number("KISEKI_DAMAGE_CASES", 120) {
        case(seed);
    }
}

/// The power goes off within a repair; the next one brings it to its end.
#[test]
fn an_interrupted_repair_is_run_again() {
    let first = number("KISEKI_SEED", 1);
    for seed in first..first + number("KISEKI_DAMAGE_CASES", 120) / 6 {
        let mut dice = Dice(seed);
        let disk = store(dice.below(2) == 1).crash(0);
        let mut what = format!("seed {seed}: {}", damage(&disk, &mut dice));
        let whole = disk.crash(0);
        if mend(&whole).is_err() {
            continue;
        }
        let lost = check(&whole, &what);
        for _ in 0..2 {
            let torn = disk.crash(0);
            let last = dice.below(whole.operations());
            what += &format!(", power off after operation {last}");
            torn.power_off_after(last);
            let _ = mend(&torn);
            let found = torn.crash(seed);
            mend(&found).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(check(&found, &what), lost, "{what}");
        }
    }
}

/// Tables and log are both damaged: what can be read of the tables is kept.
#[test]
fn two_damages_leave_no_wrong_data() {
    let first = number("KISEKI_SEED", 1);
    let mut kept = 0;
    for seed in first..first + number("KISEKI_DAMAGE_CASES", 120) / 4 {
        let mut dice = Dice(seed);
        let disk = store(false).crash(0);
        let paths = disk.paths();
        let mut what = format!("seed {seed}");
        for ending in ["tables.redb", "0000000000000001.log"] {
            let path = paths.iter().find(|path| path.ends_with(ending)).unwrap();
            what += &format!(
                ", {}",
                hit(&disk, path, std::slice::from_ref(path), &mut dice)
            );
        }
        look(&disk.crash(0), &what);
        if mend(&disk).is_err() {
            continue;
        }
        check(&disk, &what);
        let found = look(&disk, &what).unwrap().unwrap();
        kept += found.len();
        let again = mend(&disk).unwrap();
        assert_eq!(again, Vec::<String>::new(), "{what}");
    }
    assert!(kept > 0, "nothing was kept of anything");
}
