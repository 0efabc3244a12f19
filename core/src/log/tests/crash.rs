//! Power loss: what comes back is a prefix of what was appended, and holds at
//! least what was durable.

use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Sync,
    Close,
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..700_usize).prop_map(Step::Append),
        3 => Just(Step::Sync),
        1 => Just(Step::Close),
        2 => any::<u64>().prop_map(Step::Crash),
    ]
}

fn policy() -> impl Strategy<Value = SyncPolicy> {
    prop_oneof![
        Just(WHEN_ASKED),
        Just(SyncPolicy::EveryBatch),
        Just(SyncPolicy::EveryRecord),
        Just(SyncPolicy::Group(Duration::from_micros(100))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_crash_leaves_a_prefix_with_all_that_was_durable(
        steps in prop::collection::vec(step(), 1..60),
        policy in policy(),
    ) {
        let options = |known_durable| LogOptions {
            policy,
            known_durable,
            rotate_at: 3000,
            set_aside: 2048,
            ..LogOptions::default()
        };
        let mut disk = MemoryDisk::new();
        let (mut log, _) = open(&disk, options(Revision(0))).unwrap();
        let mut model: Vec<Vec<u8>> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append(len) => {
                    let record = vec![n as u8; len];
                    let revision = log.append(&record).unwrap();
                    model.push(record);
                    prop_assert_eq!(revision.0, model.len() as u64);
                }
                Step::Sync => log.sync_blocking(log.head()).unwrap(),
                Step::Close => {
                    log.close().unwrap();
                    let (opened, records) = open(&disk, options(log.head())).unwrap();
                    prop_assert_eq!(&records, &model);
                    log = opened;
                }
                Step::Crash(seed) => {
                    let durable = log.durable();
                    disk = disk.crash(seed);
                    let (opened, records) = open(&disk, options(durable)).unwrap();
                    prop_assert!(records.len() as u64 >= durable.0);
                    prop_assert!(model.starts_with(&records));
                    model = records;
                    log = opened;
                }
            }
        }
    }
}

fn files_of_a_few_batches() -> LogOptions {
    LogOptions {
        rotate_at: 5000,
        ..when_asked()
    }
}

/// Longer than a sector, now and then, so that batches tear.
fn record(revision: u64) -> Vec<u8> {
    vec![revision as u8; (revision * 397 % 1201) as usize]
}

/// A workload with everything a log does to the disk; returns the last
/// revision it knows to be durable and the last it appended.
fn work(disk: &MemoryDisk, signer: &SigningKey, from: Revision) -> (u64, u64) {
    let options = LogOptions {
        key: Some(signer.verifying_key()),
        ..files_of_a_few_batches()
    };
    let disk = Arc::new(disk.clone());
    let Ok(log) = Log::open(disk, "log", VOLUME, options, from, &mut |_, _| Ok(())) else {
        return (0, 0);
    };
    for _ in 0..8 {
        for _ in 0..5 {
            if log.append(&record(log.head().0 + 1)).is_err() {
                break;
            }
        }
        // Errors are the power going off; the crash shows what that leaves.
        let _ = log.sync_blocking(log.head());
        let _ = log.checkpoint(signer);
        let _ = log.cut(Revision(log.durable().0.saturating_sub(12)));
    }
    (log.durable().0, log.head().0)
}

#[test]
fn power_loss_after_any_operation_leaves_a_log_that_opens() {
    let signer = SigningKey::from_bytes(&[5; 32]);
    let full = MemoryDisk::new();
    work(&full, &signer, Revision(0));
    let operations = full.operations();
    assert!(operations > 60, "{operations}");
    for last in 0..=operations {
        let disk = MemoryDisk::new();
        disk.power_off_after(last);
        let (durable, head) = work(&disk, &signer, Revision(0));
        for seed in 0..12 {
            let image = disk.crash(seed * 1000 + last);
            let found = reopen(&image, &signer, durable);
            assert!(
                (durable..=head).contains(&found),
                "{durable} {found} {head}"
            );
            // And once more, with the power going off while it recovers.
            let again = disk.crash(seed * 1000 + last);
            again.power_off_after(seed % 6);
            let _ = try_reopen(&again, &signer, durable);
            let found = reopen(&again.crash(seed), &signer, durable);
            // Which can be late enough for the record it appends.
            assert!((durable..=head + 1).contains(&found));
        }
    }
}

fn reopen(disk: &MemoryDisk, signer: &SigningKey, durable: u64) -> u64 {
    try_reopen(disk, signer, durable).unwrap()
}

fn try_reopen(disk: &MemoryDisk, signer: &SigningKey, durable: u64) -> Result<u64> {
    // Like a projection that trails a little.
    let from = Revision(durable.saturating_sub(13));
    let mut next = from;
    let mut replay = |revision: Revision, bytes: &[u8]| {
        next = next.next();
        assert_eq!(revision, next);
        assert_eq!(bytes, record(revision.0));
        Ok(())
    };
    let options = LogOptions {
        key: Some(signer.verifying_key()),
        known_durable: Revision(durable),
        ..files_of_a_few_batches()
    };
    let log = Log::open(
        Arc::new(disk.clone()),
        "log",
        VOLUME,
        options,
        from,
        &mut replay,
    )?;
    let found = log.head().0;
    // A log that came back goes on.
    log.append(&record(found + 1))?;
    log.close()?;
    assert_eq!(check(disk).problems, []);
    Ok(found)
}

#[test]
fn power_loss_while_cutting_leaves_a_whole_log() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, short_files()).unwrap();
    fill(&log, 60, 2);
    let before = disk.operations();
    for last in 0..12 {
        let disk = disk.crash(0);
        let (log, _) = open(&disk, short_files()).unwrap();
        disk.power_off_after(disk.operations() + last);
        let _ = log.cut(Revision(50));
        for seed in 0..40 {
            let image = disk.crash(seed);
            let mut next = 50;
            let mut replay = |revision: Revision, _: &[u8]| {
                assert_eq!(revision.0, next);
                next += 1;
                Ok(())
            };
            let options = when_asked();
            Log::read(&image, "log", VOLUME, &options, Revision(49), &mut replay).unwrap();
            assert_eq!(next, 61);
            assert_eq!(check(&image).problems, []);
        }
    }
    assert_eq!(disk.operations(), before);
}

#[test]
fn what_a_torn_batch_left_is_gone_before_the_next_is_written() {
    let mut torn = 0;
    for seed in 0..300 {
        let disk = MemoryDisk::new();
        let (log, _) = open(&disk, when_asked()).unwrap();
        fill(&log, 2, 2);
        log.append(&[1; 3000]).unwrap();
        // The power goes off when there is room for the long batch and it is
        // written, and before it is synced.
        disk.power_off_after(disk.operations() + 2);
        log.sync_blocking(log.head()).unwrap_err();
        let disk = disk.crash(seed);
        let before = written(&disk, &disk.paths().pop().unwrap());
        let (log, records) = open(&disk, when_asked()).unwrap();
        let tear = records.len() == 2;
        assert!(records.len() == 2 || records.len() == 3);
        let path = disk.paths().pop().unwrap();
        torn += u32::from(tear && written(&disk, &path) < before);
        // A short batch takes its place, and the power goes off again.
        log.append(&[2; 900]).unwrap();
        disk.power_off_after(disk.operations() + 1 + seed % 2);
        let _ = log.sync_blocking(log.head());
        for seed in 0..20 {
            let found = open(&disk.crash(seed), when_asked()).unwrap().1.len();
            assert!(found == records.len() || found == records.len() + 1);
        }
    }
    assert!(torn > 50, "{torn}");
}
