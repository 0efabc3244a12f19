//! Generated steps through the kernel, compared with a reference: several handles, renamed and unlinked open files, remounts, kills.
#![allow(clippy::unwrap_used)]

#[path = "../../core/src/engine/tests/reference.rs"]
#[allow(dead_code)]
mod reference;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
};

use kiseki_tests::{Mount, Result, env_number};
use proptest::{prelude::*, test_runner::TestRunner};
use reference::{HANDLES, Model, Outcome, Path, Seen, Step, pattern, step};
use rustix::fs::{FallocateFlags, XattrFlags};

const XATTR: &str = "user.model";

struct Subject {
    mount: Mount,
    handles: [Option<File>; HANDLES],
}

fn errno(error: impl Into<io::Error>) -> i32 {
    error.into().raw_os_error().unwrap()
}

impl Subject {
    fn path(&self, path: &Path) -> PathBuf {
        let names = path.iter().map(|name| char::from(b'a' + name).to_string());
        self.mount.path(names.collect::<PathBuf>())
    }

    fn file(&self, handle: usize) -> Result<&File, io::Error> {
        let closed = || io::Error::from_raw_os_error(nix::libc::EBADF);
        self.handles[handle].as_ref().ok_or_else(closed)
    }

    fn step(&mut self, step: &Step) -> Outcome {
        self.take(step).map_err(errno)
    }

    fn take(&mut self, step: &Step) -> Result<Vec<u8>, io::Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        match step {
            Step::Create(handle, path) => {
                let file = options.create_new(true).open(self.path(path))?;
                self.handles[*handle] = Some(file);
            }
            Step::Open(handle, path) => {
                self.handles[*handle] = Some(options.open(self.path(path))?);
            }
            Step::Close(handle) => self.handles[*handle] = None,
            Step::Write(handle, at, len, seed) => {
                let data = pattern(*seed, *len);
                self.file(*handle)?.write_all_at(&data, *at as u64)?;
            }
            Step::Read(handle, at, len) => return self.read(*handle, *at, *len),
            Step::Truncate(handle, len) => self.file(*handle)?.set_len(*len as u64)?,
            Step::Punch(handle, at, len) => {
                let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(self.file(*handle)?, how, *at as u64, *len as u64)?;
            }
            Step::Zero(handle, at, len) => {
                let how = FallocateFlags::ZERO_RANGE;
                rustix::fs::fallocate(self.file(*handle)?, how, *at as u64, *len as u64)?;
            }
            Step::Copy(from, to, len) => return self.copy(*from, *to, *len),
            Step::Fsync(handle) => self.file(*handle)?.sync_all()?,
            Step::Mkdir(path) => fs::create_dir(self.path(path))?,
            Step::Rmdir(path) => fs::remove_dir(self.path(path))?,
            Step::Unlink(path) => fs::remove_file(self.path(path))?,
            Step::Link(path, new) => fs::hard_link(self.path(path), self.path(new))?,
            Step::Rename(from, to) => fs::rename(self.path(from), self.path(to))?,
            Step::SetXattr(path, value) => {
                rustix::fs::setxattr(self.path(path), XATTR, &[*value], XattrFlags::empty())?;
            }
            Step::RemoveXattr(path) => rustix::fs::removexattr(self.path(path), XATTR)?,
            Step::Remount | Step::Crash => unreachable!("the caller's"),
        }
        Ok(Vec::new())
    }

    fn read(&self, handle: usize, at: usize, len: usize) -> Result<Vec<u8>, io::Error> {
        let (file, mut found) = (self.file(handle)?, vec![0; len]);
        let mut done = 0;
        while done < len {
            match file.read_at(&mut found[done..], (at + done) as u64)? {
                0 => break,
                n => done += n,
            }
        }
        found.truncate(done);
        Ok(found)
    }

    fn copy(
        &self,
        (from, mut from_at): (usize, usize),
        (to, to_at): (usize, usize),
        len: usize,
    ) -> Result<Vec<u8>, io::Error> {
        let (source, target) = (self.file(from)?, self.file(to)?);
        // Within one file the copy may lengthen what there is to copy.
        let size = source.metadata()?.len() as usize;
        let len = len.min(size.saturating_sub(from_at));
        let (mut done, mut at) = (0, to_at as u64);
        while done < len {
            let mut from_here = from_at as u64;
            let wanted = len - done;
            let copied = rustix::fs::copy_file_range(
                source,
                Some(&mut from_here),
                target,
                Some(&mut at),
                wanted,
            )?;
            if copied == 0 {
                break;
            }
            done += copied;
            from_at += copied;
        }
        self.read(to, to_at, done)
    }

    fn remount(&mut self) -> Result {
        self.handles = Default::default();
        self.mount.remount()
    }

    fn crash(&mut self) -> Result {
        self.mount.crash()?;
        self.handles = Default::default();
        self.mount.mount()
    }

    fn seen(&self) -> Result<Seen> {
        let mut seen = Seen::default();
        let mut found = Vec::new();
        let mut open = vec![Vec::new()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(self.path(&dir))? {
                let entry = entry?;
                let name = entry.file_name().into_encoded_bytes()[0] - b'a';
                let path = [&dir[..], &[name]].concat();
                if entry.file_type()?.is_dir() {
                    open.push(path.clone());
                }
                found.push(path);
            }
        }
        found.sort();
        let mut first = BTreeMap::new();
        for path in found {
            let there = self.path(&path);
            let about = fs::symlink_metadata(&there)?;
            let first = first.entry(about.ino()).or_insert_with(|| path.clone());
            let mut value = [0; 8];
            let xattr = match rustix::fs::getxattr(&there, XATTR, &mut value) {
                Ok(_) => Some(value[0]),
                Err(rustix::io::Errno::NODATA) => None,
                Err(error) => return Err(error.into()),
            };
            let about = (about.is_dir(), first.clone(), xattr);
            if !about.0 {
                seen.contents.insert(path.clone(), fs::read(there)?);
            }
            seen.names.insert(path, about);
        }
        Ok(seen)
    }
}

/// Fails like a test of the reference does, so that the steps are made fewer.
fn fail(what: String) -> TestCaseError {
    TestCaseError::fail(what)
}

fn run(steps: &[Step], mount: Mount) -> Result<(), TestCaseError> {
    let broken = |error: anyhow::Error| fail(format!("{error:#}"));
    let mut model = Model::default();
    let mut subject = Subject {
        mount,
        handles: Default::default(),
    };
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Remount => {
                subject.remount().map_err(broken)?;
                model.remounted();
            }
            Step::Crash => {
                subject.crash().map_err(broken)?;
                let seen = subject.seen().map_err(broken)?;
                let fits = model.crashed(&seen);
                fits.map_err(|why| fail(format!("after the kill at step {at}: {why}")))?;
            }
            step => {
                let (wanted, found) = (model.step(step), subject.step(step));
                let codes = (wanted.as_ref().err(), found.as_ref().err());
                if wanted != found {
                    return Err(fail(format!("step {at}, {step:?}: errors {codes:?}")));
                }
            }
        }
    }
    let same = |subject: &Subject, when: &str| {
        let seen = subject.seen().map_err(broken)?;
        prop_assert_eq!(&seen.names, &model.seen().names, "{}", when);
        prop_assert!(seen.contents == model.seen().contents, "contents {when}");
        Ok(())
    };
    same(&subject, "at the end")?;
    subject.remount().map_err(broken)?;
    same(&subject, "after the last remount")?;
    subject.mount.umount().map_err(broken)?;
    subject.mount.fsck_clean().map_err(broken)
}

#[test]
fn a_mount_behaves_like_the_reference() -> Result {
    if Mount::prepare(kiseki_tests::Setup::default())?.is_none() {
        return Ok(());
    }
    let config = ProptestConfig {
        cases: env_number("KISEKI_MODEL_CASES", 24) as u32,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new(config);
    let steps = prop::collection::vec(step(), 1..100);
    let result = runner.run(&steps, |steps| {
        let mount = Mount::fresh().map_err(|error| fail(format!("{error:#}")))?;
        run(&steps, mount.expect("looked at above"))
    });
    Ok(result?)
}
