//! Generated steps on a volume and on the reference: several handles, renamed
//! and unlinked open files, links, holes, copies, attributes, remounts, and
//! power losses in between.

use super::{
    power_loss::open_on,
    reference::{HANDLES, Model, Outcome, Path, Seen, Step, pattern, step},
    *,
};
use crate::{
    Error,
    engine::{Allocate, RenameFlags, SetAttr, XattrSet},
    host::MemoryDisk,
    meta::Kind,
};
use proptest::prelude::*;

const XATTR: &[u8] = b"user.model";

struct Subject {
    disk: MemoryDisk,
    volume: Volume,
    handles: [Option<Ino>; HANDLES],
}

fn name(number: u8) -> Vec<u8> {
    vec![b'a' + number]
}

fn errno(error: Error) -> i32 {
    error.errno() as i32
}

impl Subject {
    async fn parent(&self, path: &Path) -> crate::Result<(Ino, Vec<u8>)> {
        let (last, dirs) = path.split_last().unwrap();
        let mut dir = Ino::ROOT;
        for part in dirs {
            let found = self.volume.lookup(dir, &name(*part)).await?;
            if found.kind != Kind::Directory {
                return Err(Error::NotADirectory);
            }
            dir = found.ino;
        }
        Ok((dir, name(*last)))
    }

    async fn find(&self, path: &Path) -> crate::Result<(Ino, Kind)> {
        let (dir, name) = self.parent(path).await?;
        let found = self.volume.lookup(dir, &name).await?;
        Ok((found.ino, found.kind))
    }

    async fn hold(&mut self, handle: usize, ino: Option<Ino>) -> crate::Result<()> {
        if let Some(former) = std::mem::replace(&mut self.handles[handle], ino) {
            self.volume.release(former).await?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Outcome {
        self.take(step).await.map_err(errno)
    }

    async fn take(&mut self, step: &Step) -> crate::Result<Vec<u8>> {
        match step {
            Step::Create(handle, path) => {
                let (dir, name) = self.parent(path).await?;
                let made = self.volume.create(&ROOT, dir, &name, 0o644).await?;
                self.hold(*handle, Some(made.ino)).await?;
            }
            Step::Open(handle, path) => {
                let (ino, kind) = self.find(path).await?;
                if kind == Kind::Directory {
                    return Err(Error::IsADirectory);
                }
                self.volume.open(ino).await?;
                self.hold(*handle, Some(ino)).await?;
            }
            Step::Close(handle) => self.hold(*handle, None).await?,
            Step::Write(..)
            | Step::Read(..)
            | Step::Truncate(..)
            | Step::Punch(..)
            | Step::Zero(..)
            | Step::Copy(..)
            | Step::Fsync(_) => return self.contents(step).await,
            _ => return self.names(step).await,
        }
        Ok(Vec::new())
    }

    async fn contents(&self, step: &Step) -> crate::Result<Vec<u8>> {
        let volume = &self.volume;
        let ino = |handle: usize| self.handles[handle].expect("the model has it open");
        let allocate = |handle, how, at: usize, len: usize| {
            volume.allocate(&ROOT, ino(handle), how, at as u64, len as u64)
        };
        match *step {
            Step::Write(handle, at, len, seed) => {
                write_all(volume, ino(handle), at as u64, &pattern(seed, len)).await;
            }
            Step::Read(handle, at, len) => {
                let read = volume.read(ino(handle), at as u64, len as u32).await?;
                return Ok(read.to_vec());
            }
            Step::Truncate(handle, len) => {
                let change = SetAttr {
                    size: Some(len as u64),
                    ..SetAttr::default()
                };
                volume.setattr(&ROOT, ino(handle), change).await?;
            }
            Step::Punch(handle, at, len) => allocate(handle, Allocate::Punch, at, len).await?,
            Step::Zero(handle, at, len) => allocate(handle, Allocate::Zero, at, len).await?,
            Step::Copy((from, from_at), (to, to_at), len) => {
                let (from, to) = (ino(from), ino(to));
                // The kernel cuts a copy to the end of the source.
                let size = volume.getattr(from).await?.size;
                let len = (len as u64).min(size.saturating_sub(from_at as u64));
                let copied = volume
                    .copy_range(&ROOT, from, from_at as u64, to, to_at as u64, len)
                    .await?;
                assert_eq!(copied, len);
                let read = volume.read(to, to_at as u64, len as u32).await?;
                return Ok(read[..len as usize].to_vec());
            }
            Step::Fsync(handle) => volume.fsync(ino(handle), false).await?,
            _ => unreachable!("no step of contents"),
        }
        Ok(Vec::new())
    }

    async fn names(&self, step: &Step) -> crate::Result<Vec<u8>> {
        let volume = &self.volume;
        match step {
            Step::Mkdir(path) => {
                let (dir, name) = self.parent(path).await?;
                volume.mkdir(&ROOT, dir, &name, 0o755).await?;
            }
            Step::Rmdir(path) => {
                let (dir, name) = self.parent(path).await?;
                volume.rmdir(&ROOT, dir, &name).await?;
            }
            Step::Unlink(path) => {
                let (dir, name) = self.parent(path).await?;
                volume.unlink(&ROOT, dir, &name).await?;
            }
            Step::Link(path, new) => {
                let (ino, kind) = self.find(path).await?;
                let (dir, name) = self.parent(new).await?;
                // The kernel looks at the new name first.
                if kind == Kind::Directory && volume.lookup(dir, &name).await.is_ok() {
                    return Err(Error::Exists);
                }
                volume.link(&ROOT, ino, dir, &name).await?;
            }
            Step::Rename(from, to) => {
                let (dir, name) = self.parent(from).await?;
                let (new_dir, new_name) = self.parent(to).await?;
                let flags = RenameFlags::Replace;
                volume
                    .rename(&ROOT, dir, &name, new_dir, &new_name, flags)
                    .await?;
            }
            Step::SetXattr(path, value) => {
                let (ino, _) = self.find(path).await?;
                volume
                    .setxattr(&ROOT, ino, XATTR, &[*value], XattrSet::Any)
                    .await?;
            }
            Step::RemoveXattr(path) => {
                let (ino, _) = self.find(path).await?;
                volume.removexattr(&ROOT, ino, XATTR).await?;
            }
            _ => unreachable!("no step of names"),
        }
        Ok(Vec::new())
    }

    async fn remount(&mut self) {
        self.volume.close().await.unwrap();
        self.handles = [None; HANDLES];
        self.volume = open_on(&self.disk).unwrap();
    }

    async fn crash(&mut self, seed: u64) {
        self.disk.power_off_after(self.disk.operations());
        let image = self.disk.crash(seed);
        self.handles = [None; HANDLES];
        // Its threads find the power off and end.
        let _ = self.volume.close().await;
        self.disk = image;
        self.volume = open_on(&self.disk).unwrap();
    }

    async fn seen(&self) -> Seen {
        let mut seen = Seen::default();
        let mut first = BTreeMap::new();
        let mut found = Vec::new();
        let mut open = vec![(Vec::new(), Ino::ROOT)];
        while let Some((path, dir)) = open.pop() {
            for entry in self.volume.readdir(dir, 0, 1000).await.unwrap() {
                if matches!(&entry.name[..], b"." | b"..") {
                    continue;
                }
                let path = [&path[..], &[entry.name[0] - b'a']].concat();
                if entry.kind == Kind::Directory {
                    open.push((path.clone(), entry.ino));
                }
                found.push((path, entry.ino, entry.kind));
            }
        }
        found.sort_by(|one, two| one.0.cmp(&two.0));
        for (path, ino, kind) in found {
            let first = first.entry(ino).or_insert_with(|| path.clone()).clone();
            let xattr = match self.volume.getxattr(ino, XATTR).await {
                Ok(value) => Some(value[0]),
                Err(Error::NoAttribute) => None,
                Err(error) => panic!("{error}"),
            };
            let about = (kind == Kind::Directory, first, xattr);
            seen.names.insert(path.clone(), about);
            if kind == Kind::File {
                seen.contents
                    .insert(path, read_all(&self.volume, ino).await);
            }
        }
        seen
    }
}

/// Handles that are closed cannot be used, which the kernel sees to.
fn is_possible(model: &Model, step: &Step) -> bool {
    match step {
        Step::Write(handle, ..)
        | Step::Read(handle, ..)
        | Step::Truncate(handle, _)
        | Step::Punch(handle, ..)
        | Step::Zero(handle, ..)
        | Step::Fsync(handle) => model.is_open(*handle),
        Step::Copy(from, to, _) => model.is_open(from.0) && model.is_open(to.0),
        _ => true,
    }
}

async fn run(steps: &[Step]) {
    let disk = MemoryDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = Store::create(
        shared,
        Arc::new(SystemEntropy),
        Arc::new(SystemClock),
        &unlock(),
    )
    .unwrap();
    store
        .create_volume("default", CutPolicy::Auto, 0, 0)
        .unwrap();
    let mut model = Model::default();
    let volume = open_on(&disk).unwrap();
    let mut subject = Subject {
        disk,
        volume,
        handles: [None; HANDLES],
    };
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Remount => {
                subject.remount().await;
                model.remounted();
                assert_same(&model.seen(), &subject.seen().await, "after a remount");
            }
            Step::Crash => {
                subject.crash(at as u64).await;
                let seen = subject.seen().await;
                if let Err(why) = model.crashed(&seen) {
                    panic!("after the crash at step {at}: {why}");
                }
            }
            step if is_possible(&model, step) => {
                let (wanted, found) = (model.step(step), subject.step(step).await);
                assert!(
                    wanted == found,
                    "step {at}, {step:?}: {}",
                    differ(&wanted, &found)
                );
            }
            _ => {}
        }
    }
    assert_same(&model.seen(), &subject.seen().await, "at the end");
    subject.volume.close().await.unwrap();
}

/// Bytes are too many to be shown.
fn differ(wanted: &Outcome, found: &Outcome) -> String {
    match (wanted, found) {
        (Ok(wanted), Ok(found)) => {
            let at = wanted.iter().zip(found).position(|(a, b)| a != b);
            format!(
                "{} and {} bytes differ at {at:?}",
                wanted.len(),
                found.len()
            )
        }
        (wanted, found) => format!(
            "wanted {:?}, found {:?}",
            wanted.as_ref().err(),
            found.as_ref().err()
        ),
    }
}

fn assert_same(wanted: &Seen, found: &Seen, when: &str) {
    assert_eq!(wanted.names, found.names, "{when}");
    for (path, content) in &wanted.contents {
        assert!(
            found.contents[path] == *content,
            "contents of {path:?} {when}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_volume_behaves_like_the_reference(steps in prop::collection::vec(step(), 1..80)) {
        block_on(run(&steps));
    }
}
