//! NFSv4.1 by a client that does what kernels do not, with the same tree mounted.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use kiseki_fs::nfs::v4::xdr::{
    Attributes, Blob, ChangeInfo, Claim, Close, Create, CreateKind, Data, DataRead, LockKind,
    OpenHow, Opened, Operation, Read, Stability, StateId, Status, Unlock, Write, Written,
};
use kiseki_tests::{
    Result,
    nfs4_client::{Connection, Results, Session, request},
    served::Served,
};

fn text(text: &str) -> Blob<65_536> {
    Blob(text.as_bytes().to_vec())
}

fn make_directory(name: &str) -> Vec<Operation> {
    vec![
        Operation::PutRootHandle,
        Operation::Create(Create {
            kind: CreateKind::Directory,
            name: text(name),
            attributes: Attributes::default(),
        }),
    ]
}

fn writing(stateid: StateId, data: &[u8]) -> Operation {
    Operation::Write(Write {
        stateid,
        offset: 0,
        stability: Stability::File,
        data: Data::from(data),
    })
}

fn reading(stateid: StateId) -> Operation {
    Operation::Read(Read {
        stateid,
        offset: 0,
        count: 100,
    })
}

fn newest(stateid: StateId) -> StateId {
    StateId {
        sequence: 0,
        ..stateid
    }
}

#[test]
fn a_request_that_comes_twice_is_done_once() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mut session = Session::fresh(served.nfs()?, "one")?;
    let first = session.prepare(make_directory("made"))?;
    let answer = session.connection.call(&first)?;
    ensure!(Results::of(&answer)?.status == Status::Ok);
    fs::remove_dir(served.mount().path("made"))?;
    // Over another connection, as a client does whose first one broke.
    let mut another = Connection::open(served.nfs()?)?;
    ensure!(
        another.call(&first)? == answer,
        "another answer the second time"
    );
    ensure!(!served.mount().path("made").exists(), "it was made again");
    ensure!(session.status(make_directory("next"))? == Status::Ok);
    let late = Results::of(&another.call(&first)?)?;
    ensure!(late.status == Status::SeqMisordered, "{:?}", late.status);
    served.finish()
}

#[test]
fn versions_that_are_not_served_are_refused() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mut connection = Connection::open(served.nfs()?)?;
    for (minor, expected) in [
        (0, Status::MinorVersMismatch),
        (1, Status::OpNotInSession),
        (2, Status::OpNotInSession),
        (3, Status::MinorVersMismatch),
    ] {
        let asked = request(minor, &[Operation::PutRootHandle])?;
        let answer = Results::of(&connection.call(&asked)?)?;
        ensure!(answer.status == expected, "{minor}: {:?}", answer.status);
    }
    served.finish()
}

#[test]
fn each_side_sees_the_other_and_the_change_attribute_moves() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let there = served.mount().path("file");
    let mut session = Session::fresh(served.nfs()?, "one")?;
    let (handle, stateid) = session.open_file("file")?;
    let mut last = session.change(&handle)?;
    for round in 0..50_u32 {
        let words = format!("round {round}");
        if round % 2 == 0 {
            fs::write(&there, &words)?;
        } else {
            let put = vec![
                Operation::PutHandle(handle.clone()),
                writing(stateid, words.as_bytes()),
            ];
            ensure!(session.status(put)? == Status::Ok);
        }
        let mut results =
            session.run(vec![Operation::PutHandle(handle.clone()), reading(stateid)])?;
        results.skip()?;
        let read: DataRead = results.result()?;
        ensure!(read.data.0 == words.as_bytes(), "{read:?}");
        ensure!(fs::read(&there)? == words.as_bytes());
        let now = session.change(&handle)?;
        ensure!(now > last, "round {round}: {last} then {now}");
        last = now;
    }
    served.finish()
}

#[test]
fn an_unlinked_file_lives_until_it_is_closed() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mut session = Session::fresh(served.nfs()?, "one")?;
    let (handle, stateid) = session.open_file("file")?;
    let at = Operation::PutHandle(handle);
    fs::remove_file(served.mount().path("file"))?;
    let put = session.run(vec![at.clone(), writing(stateid, b"still here")])?;
    ensure!(put.status == Status::Ok, "{:?}", put.status);
    let mut results = session.run(vec![at.clone(), reading(stateid)])?;
    results.skip()?;
    ensure!(results.result::<DataRead>()?.data.0 == b"still here");
    let close = Operation::Close(Close {
        sequence: 0,
        stateid,
    });
    ensure!(session.status(vec![at.clone(), close])? == Status::Ok);
    // It goes once nobody has it open, the kernel of the mount included.
    let began = Instant::now();
    while session.status(vec![at.clone()])? != Status::Stale {
        ensure!(
            began.elapsed() < Duration::from_secs(60),
            "it is still there"
        );
        thread::sleep(Duration::from_millis(50));
    }
    served.finish()
}

#[test]
fn clients_take_back_what_they_had_when_the_server_was_killed() -> Result {
    let Some(mut served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    served.keep_address()?;
    let mut holder = Session::fresh(served.nfs()?, "holder")?;
    Session::fresh(served.nfs()?, "other")?;
    let (handle, opened) = holder.open_file("file")?;
    let at = Operation::PutHandle(handle);
    let mut put = holder.run(vec![at.clone(), writing(opened, b"acknowledged")])?;
    put.skip()?;
    ensure!(put.result::<Written>()?.stability == Stability::File);
    let lock = holder.locking(opened, 10, 10, false);
    ensure!(holder.status(vec![at.clone(), lock])? == Status::Ok);

    served.kill()?;
    served.start()?;
    let old = holder.prepare(vec![])?;
    let mut connection = Connection::open(served.nfs()?)?;
    let answer = Results::of(&connection.call(&old)?)?;
    ensure!(answer.status == Status::BadSession, "{:?}", answer.status);

    // Nobody gets anything new before all are back.
    let mut other = Session::open(served.nfs()?, "other")?;
    let mut stranger = Session::fresh(served.nfs()?, "stranger")?;
    let anew = other.opening(OpenHow::NoCreate, Claim::Handle);
    ensure!(other.status(vec![at.clone(), anew.clone()])? == Status::Grace);
    ensure!(stranger.status(vec![at.clone(), anew.clone()])? == Status::Grace);
    let again = stranger.opening(OpenHow::NoCreate, Claim::Previous(0));
    let refused = stranger.status(vec![at.clone(), again])?;
    ensure!(refused == Status::NoGrace, "{refused:?}");

    let mut holder = Session::open(served.nfs()?, "holder")?;
    let again = holder.opening(OpenHow::NoCreate, Claim::Previous(0));
    let mut results = holder.run(vec![at.clone(), again])?;
    results.skip()?;
    let opened = results.result::<Opened>()?.stateid;
    let lock = holder.locking(opened, 10, 10, true);
    let mut results = holder.run(vec![at.clone(), lock])?;
    results.skip()?;
    let locked: StateId = results.result()?;
    for session in [&mut holder, &mut other] {
        let done = session.status(vec![Operation::ReclaimComplete(false)])?;
        ensure!(done == Status::Ok, "{done:?}");
    }

    // All are back: it goes on, and the lock holds.
    let mut results = stranger.run(vec![at.clone(), anew, reading(StateId::CURRENT)])?;
    results.skip()?;
    let theirs = results.result::<Opened>()?.stateid;
    ensure!(results.result::<DataRead>()?.data.0 == b"acknowledged");
    let lock = stranger.locking(theirs, 15, 1, false);
    let denied = stranger.status(vec![at.clone(), lock.clone()])?;
    ensure!(denied == Status::Denied, "{denied:?}");
    let unlock = Operation::Unlock(Unlock {
        kind: LockKind::Write,
        sequence: 0,
        stateid: newest(locked),
        offset: 0,
        length: u64::MAX,
    });
    ensure!(holder.status(vec![at.clone(), unlock])? == Status::Ok);
    ensure!(stranger.status(vec![at, lock])? == Status::Ok);
    served.finish()
}

#[test]
fn directories_say_how_they_changed() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mut session = Session::fresh(served.nfs()?, "one")?;
    ensure!(session.status(make_directory("made"))? == Status::Ok);
    let mut results = session.run(vec![
        Operation::PutRootHandle,
        Operation::Remove(text("made")),
    ])?;
    results.skip()?;
    let change: ChangeInfo = results.result()?;
    ensure!(change.after > change.before, "{change:?}");
    let names = ["", ".", "a/b", "none"];
    let expected = [
        Status::Inval,
        Status::BadName,
        Status::BadName,
        Status::NoEnt,
    ];
    for (name, expected) in names.into_iter().zip(expected) {
        let remove = Operation::Remove(text(name));
        let status = session.status(vec![Operation::PutRootHandle, remove])?;
        ensure!(status == expected, "{name:?}: {status:?}");
    }
    served.finish()
}
