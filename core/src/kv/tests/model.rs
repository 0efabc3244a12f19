//! A projection against a map, over random histories.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Clone)]
enum Op {
    Apply(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    Get(Vec<u8>),
    Scan(Vec<u8>, Vec<u8>, usize),
    Checkpoint,
    /// Closed or dropped, and opened again.
    Reopen(bool),
}

/// Few different keys, prefixes of each other among them.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![0_u8..4, Just(255)], 0..4)
}

fn op() -> impl Strategy<Value = Op> {
    let change = (
        key(),
        proptest::option::weighted(0.7, vec(any::<u8>(), 0..8)),
    );
    prop_oneof![
        8 => vec(change, 0..12).prop_map(Op::Apply),
        4 => key().prop_map(Op::Get),
        4 => (key(), key(), prop_oneof![Just(usize::MAX), 1_usize..5])
            .prop_map(|(from, to, limit)| Op::Scan(from, to, limit)),
        1 => Just(Op::Checkpoint),
        1 => any::<bool>().prop_map(Op::Reopen),
    ]
}

fn check_all(projection: &Projection, model: &Model) {
    let all = collect(projection, &[], &[255; 8], usize::MAX);
    let expected: Pairs = model.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    assert_eq!(all, expected);
}

fn run(ops: Vec<Op>, options: &ProjectionOptions, mut open: impl FnMut() -> Arc<dyn Backend>) {
    // The state after every revision: a reopened projection may be at any
    // that is not older than its last checkpoint.
    let mut history = vec![Model::new()];
    let mut projection = Projection::open(open(), options.clone()).unwrap();
    for op in ops {
        let model = history.last().unwrap().clone();
        match op {
            Op::Apply(changes) => {
                let mut model = model;
                let mut batch = Batch::default();
                for (key, value) in changes {
                    match value {
                        Some(value) => {
                            batch.put(&key[..], &value[..]);
                            model.insert(key, value);
                        }
                        None => {
                            batch.delete(&key[..]);
                            model.remove(&key);
                        }
                    }
                }
                projection.apply(Revision(history.len() as u64), &mut batch);
                assert!(batch.is_empty());
                history.push(model);
            }
            Op::Get(key) => {
                let found = projection.get(&key).unwrap();
                assert_eq!(found.as_deref(), model.get(&key).map(Vec::as_slice));
            }
            Op::Scan(from, to, limit) => {
                let found = collect(&projection, &from, &to, limit);
                let expected: Pairs = model
                    .iter()
                    .filter(|(key, _)| **key >= from && **key < to)
                    .take(limit)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                assert_eq!(found, expected);
            }
            Op::Checkpoint => {
                let reached = projection.checkpoint().unwrap();
                assert_eq!(reached.0, history.len() as u64 - 1);
                assert_eq!(projection.checkpointed(), reached);
            }
            Op::Reopen(close) => {
                let applied = projection.applied();
                if close {
                    projection.close().unwrap();
                    assert_eq!(projection.checkpointed(), applied);
                    check_all(&projection, &model);
                }
                let least = projection.checkpointed();
                drop(projection);
                projection = Projection::open(open(), options.clone()).unwrap();
                let reached = projection.applied();
                assert!(least <= reached && reached <= applied);
                assert!(!close || reached == applied);
                history.truncate(usize::try_from(reached.0).unwrap() + 1);
                check_all(&projection, history.last().unwrap());
            }
        }
    }
    check_all(&projection, history.last().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn memory_is_a_map(ops in vec(op(), 0..80), calm in any::<bool>()) {
        let backend = Arc::new(MemoryBackend::new());
        let options = if calm { resting() } else { restless() };
        run(ops, &options, || backend.clone());
    }

    #[test]
    fn redb_is_a_map(ops in vec(op(), 0..40), calm in any::<bool>()) {
        let disk = TestDisk::default();
        let options = if calm { resting() } else { restless() };
        run(ops, &options, || Arc::new(super::redb(&disk).unwrap()));
    }
}
