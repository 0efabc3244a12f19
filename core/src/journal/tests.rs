#![allow(clippy::unwrap_used)]
use std::os::fd::OwnedFd;

use super::*;

const VOLUME: VolumeId = VolumeId([3; 16]);

fn open(memory: &OwnedFd) -> Arc<Journal> {
    Journal::open(memory.try_clone().unwrap(), VOLUME, 64 << 20).unwrap()
}

fn change(ino: u64) -> FileChange {
    FileChange {
        ino: Ino(ino),
        ..FileChange::default()
    }
}

#[test]
fn writes_come_back_in_order_until_they_are_released() {
    let memory = Journal::memory().unwrap();
    let journal = open(&memory);
    assert!(journal.remains().is_none());
    let mut tickets = Vec::new();
    for index in 0..5_000_u64 {
        // Short and long ones, so that several blocks are filled by turns.
        let len = if index % 7 == 0 {
            100_000
        } else {
            index as usize % 90
        };
        let data = vec![index as u8; len];
        journal
            .write(&change(index), index, &data, index % 2 == 1, &mut tickets)
            .unwrap();
    }
    let released = tickets.split_off(4_000);
    journal.release(released);
    drop(journal);
    for _ in 0..2 {
        let left = open(&memory).remains().unwrap();
        assert_eq!(left.writes.len(), 4_000);
        for (index, write) in left.writes.iter().enumerate() {
            assert_eq!(write.change.ino, Ino(index as u64));
            assert_eq!(write.offset, index as u64);
            assert_eq!(write.under, index % 2 == 1);
            assert!(write.data.iter().all(|byte| *byte == index as u8));
            assert_eq!(write.ticket, tickets[index]);
        }
    }
    let journal = open(&memory);
    journal.release(tickets);
    assert_eq!(open(&memory).remains().unwrap().writes.len(), 0);
}

#[test]
fn pages_that_nobody_needs_go_back_bit_by_bit() {
    let memory = Journal::memory().unwrap();
    let journal = open(&memory);
    let pages = || 512 * nix::sys::stat::fstat(&memory).unwrap().st_blocks;
    let data = vec![1; 1 << 20];
    let mut tickets = Vec::new();
    for index in 0..80 {
        journal
            .write(&change(index), 0, &data, false, &mut tickets)
            .unwrap();
    }
    journal.release(tickets);
    assert!(pages() > 80 << 20, "the next stream needs them");
    journal.trim();
    journal.trim();
    assert!(pages() > 64 << 20, "it may only have paused");
    (0..100).for_each(|_| journal.trim());
    assert!(pages() < 48 << 20, "{}", pages());
    let mut tickets = Vec::new();
    for index in 0..80 {
        journal
            .write(&change(index), 0, &data, false, &mut tickets)
            .unwrap();
    }
    drop(journal);
    assert_eq!(open(&memory).remains().unwrap().writes.len(), 80);
}

#[test]
fn blocks_are_used_again() {
    let memory = Journal::memory().unwrap();
    let journal = open(&memory);
    let data = vec![1; 1 << 20];
    for round in 0..200 {
        let mut tickets = Vec::new();
        for _ in 0..20 {
            journal
                .write(&change(1), 0, &data, false, &mut tickets)
                .unwrap();
        }
        assert!(!journal.is_full(), "round {round}");
        journal.release(tickets);
    }
    let mut tickets = Vec::new();
    while !journal.is_full() {
        journal
            .write(&change(1), 0, &data, false, &mut tickets)
            .unwrap();
    }
    assert!(
        tickets.len() < 100,
        "{} MiB against a limit of 64",
        tickets.len()
    );
    journal.release(tickets);
    assert!(!journal.is_full());
}

#[test]
fn what_is_longer_than_a_block_comes_back_in_pieces() {
    let memory = Journal::memory().unwrap();
    let journal = open(&memory);
    let data: Vec<u8> = (0..9_000_000_u32).map(|at| (at / 1000) as u8).collect();
    let mut tickets = Vec::new();
    journal
        .write(&change(1), 77, &data, false, &mut tickets)
        .unwrap();
    let left = open(&memory).remains().unwrap();
    let mut at = 77;
    let mut found = Vec::new();
    for write in left.writes {
        assert_eq!(write.offset, at);
        at += write.data.len() as u64;
        found.extend(write.data);
    }
    assert!(found == data);
    let refused = journal.command(Revision(1), Revision(0), RequestId(2), Ino(0), &data);
    assert!(matches!(refused, Err(Error::NoSpace)));
    assert_eq!(journal.done(RequestId(2)), None);
}

#[test]
fn durable_commands_make_room() {
    let memory = Journal::memory().unwrap();
    let journal = open(&memory);
    let record = vec![5; 10_000];
    for revision in 1..10_000_u64 {
        let durable = Revision(revision.saturating_sub(100));
        let (request, made) = (RequestId(revision * 2), Ino(revision));
        journal
            .command(Revision(revision), durable, request, made, &record)
            .unwrap();
        assert!(!journal.is_full());
    }
    let last = journal
        .command(
            Revision(10_000),
            Revision(9_899),
            RequestId(20_000),
            Ino(1),
            b"",
        )
        .unwrap();
    journal.cancel(last, RequestId(20_000));
    let next = open(&memory);
    let left = next.remains().unwrap();
    assert_eq!(left.commands.last().unwrap().revision, Revision(9_999));
    assert!(left.commands.first().unwrap().revision <= Revision(9_900));
    let ordered = left.commands.is_sorted_by_key(|command| command.revision);
    assert!(ordered);
    assert_eq!(next.done(RequestId(19_998)), Some(Ino(9_999)));
    assert_eq!(next.done(RequestId(20_000)), None);
    // The blocks of the dead process are given up like any other.
    for revision in 10_000..20_000_u64 {
        let durable = Revision(revision - 1);
        next.command(
            Revision(revision),
            durable,
            RequestId::NONE,
            Ino(0),
            &record,
        )
        .unwrap();
        assert!(!next.is_full());
    }
}

#[test]
fn inodes_are_known_until_forgotten_as_often() {
    let memory = Journal::memory().unwrap();
    let journal = open(&memory);
    let (near, far) = (Ino(9), Ino(1 << 40));
    assert!(!journal.knows(near));
    journal.remember(near);
    journal.remember(near);
    let journal = open(&memory);
    assert!(!journal.forget(near, 1));
    assert!(journal.knows(near));
    assert!(journal.forget(near, 1));
    assert!(!journal.knows(near));
    assert!(journal.forget(near, 5), "more than it was known");
    // Those that are not counted stay.
    assert!(journal.knows(far) && !journal.forget(far, 1));
}

#[test]
fn inodes_of_the_past_take_no_memory() {
    let memory = Journal::memory().unwrap();
    let journal = open(&memory);
    let resident = || nix::sys::stat::fstat(&memory).unwrap().st_blocks * 512;
    let before = resident();
    // One in a hundred thousand stays known.
    let stays = |ino: u64| ino.is_multiple_of(100_000);
    for ino in 1..=3_000_000 {
        journal.remember(Ino(ino));
        if !stays(ino) {
            assert!(journal.forget(Ino(ino), 1));
        }
        if ino % 10_000 == 0 {
            journal.trim();
            let most = before + (30 + 17) * (64 << 10);
            assert!(resident() <= most, "{} at {ino}", resident());
        }
    }
    for ino in (1..=30).map(|n| n * 100_000) {
        assert!(journal.knows(Ino(ino)) && !journal.knows(Ino(ino - 1)));
    }
    assert!(open(&memory).knows(Ino(3_000_000)));
}

#[test]
fn pages_are_not_given_back_under_those_who_count() {
    let memory = Journal::memory().unwrap();
    let journal = open(&memory);
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let journal = &journal;
            scope.spawn(move || {
                for round in 0..40_000_u64 {
                    let ino = Ino(round * 64 + thread);
                    journal.remember(ino);
                    assert!(journal.knows(ino));
                    assert!(journal.forget(ino, 1));
                }
            });
        }
        for _ in 0..2_000 {
            journal.tables.trim(&journal.memory);
        }
    });
}
