//! Bugs planted in the engine, and disks that lie: the simulation of power loss finds each.
#![allow(clippy::unwrap_used)]

use kiseki_core::canary::{Canary, plant};
use kiseki_tests::power::{Failure, History, Lie};
use parking_lot::Mutex;

/// Histories in which a bug has to show.
const HISTORIES: u64 = 20;

/// The first image that is not as promised, in so many histories.
fn caught(lie: Option<Lie>, histories: u64) -> Option<Failure> {
    (1..=histories).find_map(|seed| {
        let history = History::record(seed, lie);
        let checked = history.and_then(|history| history.check_first(history.images()));
        checked.err()
    })
}

fn assert_caught(what: &str, failure: Option<Failure>) {
    match failure {
        Some(found) => println!(
            "{what}: history {}, image {:?}: {}",
            found.seed, found.image, found.what
        ),
        None => panic!("{what} was not noticed in {HISTORIES} histories"),
    }
}

/// A bug is planted for the whole process, the other test included.
static PROCESS: Mutex<()> = Mutex::new(());

#[test]
fn every_planted_bug_and_every_lie_is_found() {
    let _alone = PROCESS.lock();
    for lie in [
        Lie::LogNotSynced,
        Lie::ChunksNotSynced,
        Lie::ChunksSyncedBehindLog,
        Lie::TablesNotSynced,
        Lie::NamesNotSynced,
    ] {
        assert_caught(&format!("{lie:?}"), caught(Some(lie), HISTORIES));
    }
    for canary in [
        Canary::LogHashIgnored,
        Canary::ChunkChecksumIgnored,
        Canary::BarrierSkipped,
        Canary::TablesAheadOfLog,
        Canary::LogNotSettled,
        Canary::ChunksGivenUpEarly,
        Canary::FsyncAnswersEarly,
    ] {
        plant(Some(canary));
        let failure = caught(None, HISTORIES);
        plant(None);
        assert_caught(&format!("{canary:?}"), failure);
    }
    assert!(
        caught(None, 1).is_none(),
        "without a bug there is nothing to find"
    );
}

#[test]
fn a_seed_gives_the_same_history_again() {
    let _alone = PROCESS.lock();
    let record = |seed| History::record(seed, None).unwrap();
    assert_eq!(record(5).digest(), record(5).digest());
    assert_ne!(record(5).digest(), record(6).digest());
}
