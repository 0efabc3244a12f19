//! One file against a plain vector of bytes.

use proptest::prelude::*;

use super::{ROOT, block_on, create, noise, open, read_all, takeover::Mount, write_all};
use crate::{
    Error,
    engine::{Allocate, Seek, SetAttr, Volume},
    ids::Ino,
};

#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize, u64),
    Truncate(usize),
    Punch(usize, usize),
    Collapse(usize),
    Insert(usize),
    Copy(usize, usize, usize),
    Fsync,
    Read(usize, usize),
    Seek(usize),
    /// The volume is closed and opened again, or its process dies and another
    /// one takes over.
    Reopen,
}

const SPAN: usize = 200_000;

fn step() -> impl Strategy<Value = Step> {
    let at = 0..SPAN;
    let len = prop_oneof![1..20usize, 1..9000usize, 1..90_000usize];
    prop_oneof![
        6 => (at.clone(), len.clone(), any::<u64>()).prop_map(|(a, l, s)| Step::Write(a, l, s)),
        1 => (prop_oneof![Just(0), 0..5000usize, at.clone()]).prop_map(Step::Truncate),
        1 => (at.clone(), len.clone()).prop_map(|(a, l)| Step::Punch(a, l)),
        1 => (0..40usize).prop_map(Step::Collapse),
        1 => (0..40usize).prop_map(Step::Insert),
        1 => (at.clone(), at.clone(), len.clone()).prop_map(|(a, b, l)| Step::Copy(a, b, l)),
        2 => Just(Step::Fsync),
        3 => (at.clone(), len).prop_map(|(a, l)| Step::Read(a, l)),
        1 => at.prop_map(Step::Seek),
        1 => Just(Step::Reopen),
    ]
}

fn splice(model: &mut Vec<u8>, at: usize, data: &[u8]) {
    if model.len() < at + data.len() {
        model.resize(at + data.len(), 0);
    }
    model[at..at + data.len()].copy_from_slice(data);
}

async fn run_step(volume: &Volume, ino: Ino, model: &mut Vec<u8>, step: &Step) {
    match *step {
        Step::Write(at, len, seed) => {
            let data = noise(seed, len);
            splice(model, at, &data);
            write_all(volume, ino, at as u64, &data).await;
        }
        Step::Truncate(size) => {
            model.resize(size, 0);
            let change = SetAttr {
                size: Some(size as u64),
                ..SetAttr::default()
            };
            let attr = volume.setattr(&ROOT, ino, change).await.unwrap();
            assert_eq!(attr.size, size as u64);
        }
        Step::Punch(at, len) => {
            let end = (at + len).min(model.len());
            if at < end {
                model[at..end].fill(0);
            }
            volume
                .allocate(&ROOT, ino, Allocate::Punch, at as u64, len as u64)
                .await
                .unwrap();
        }
        Step::Collapse(block) => {
            let (at, len) = (block * 4096, 8192);
            let result = volume
                .allocate(&ROOT, ino, Allocate::Collapse, at as u64, len)
                .await;
            if at + (len as usize) < model.len() {
                result.unwrap();
                model.drain(at..at + len as usize);
            } else {
                assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
            }
        }
        Step::Insert(block) => {
            let (at, len) = (block * 4096, 4096);
            let result = volume
                .allocate(&ROOT, ino, Allocate::Insert, at as u64, len)
                .await;
            if at < model.len() {
                result.unwrap();
                model.splice(at..at, vec![0; len as usize]);
            } else {
                assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
            }
        }
        Step::Copy(from, to, len) => {
            let len = len.min(model.len().saturating_sub(from));
            let overlap = from < to + len && to < from + len;
            let result = volume
                .copy_range(&ROOT, ino, from as u64, ino, to as u64, len as u64)
                .await;
            if len > 0 && overlap {
                assert!(matches!(result, Err(Error::Invalid(_))));
            } else {
                assert_eq!(result.unwrap(), len as u64);
                let data = model[from.min(model.len())..from.min(model.len()) + len].to_vec();
                if !data.is_empty() {
                    splice(model, to, &data);
                }
            }
        }
        Step::Fsync => volume.fsync(ino, false).await.unwrap(),
        Step::Read(at, len) => {
            let read = volume.read(ino, at as u64, len as u32).await.unwrap();
            let end = (at + len).min(model.len());
            let expected = model.get(at..end.max(at)).unwrap_or(&[]);
            assert!(read == expected, "read of {len} at {at}");
        }
        Step::Seek(at) => {
            let data = volume.seek(ino, at as u64, Seek::Data).await;
            if at >= model.len() {
                assert!(matches!(data, Err(Error::NoSuchRegion)));
            } else {
                let next = data.map_or(model.len(), |data| data as usize);
                assert!(model[at..next].iter().all(|b| *b == 0), "data was skipped");
            }
        }
        Step::Reopen => {}
    }
    assert_eq!(volume.getattr(ino).await.unwrap().size, model.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_file_behaves_like_a_vector(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut volume = create(dir.path());
        let mut model = Vec::new();
        let mut ino = block_on(volume.create(&ROOT, Ino::ROOT, b"f", 0o644)).unwrap().ino;
        for step in &steps {
            if matches!(step, Step::Reopen) {
                block_on(volume.close()).unwrap();
                volume = open(dir.path());
                ino = block_on(volume.lookup(Ino::ROOT, b"f")).unwrap().ino;
                block_on(volume.open(ino)).unwrap();
            }
            block_on(run_step(&volume, ino, &mut model, step));
        }
        prop_assert!(block_on(read_all(&volume, ino)) == model);
        block_on(volume.close()).unwrap();
        let volume = open(dir.path());
        prop_assert!(block_on(read_all(&volume, ino)) == model, "after the last remount");
        block_on(volume.close()).unwrap();
    }

    #[test]
    fn a_file_does_not_notice_that_processes_die(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Mount::new(dir.path());
        let mut model = Vec::new();
        let ino = block_on(mount.volume.create(&ROOT, Ino::ROOT, b"f", 0o644)).unwrap().ino;
        for step in &steps {
            if matches!(step, Step::Reopen) {
                mount.die_and_take_over();
            }
            block_on(run_step(&mount.volume, ino, &mut model, step));
        }
        mount.die_and_take_over();
        prop_assert!(block_on(read_all(&mount.volume, ino)) == model);
        block_on(mount.volume.close()).unwrap();
        let volume = open(dir.path());
        prop_assert!(block_on(read_all(&volume, ino)) == model, "after a remount");
        block_on(volume.close()).unwrap();
    }
}
