//! Locks by NFSv3 (NLM), by clients that do what kernels do and what they do not.

use std::{
    fs,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use kiseki_fs::nfs::{
    nlm::xdr::{Holder, LockArgs, Mode, Reply, Status, Tested},
    v4::xdr::{Close, LockKind, LockTest, Operation, Status as Status4},
    xdr::Blob,
};
use kiseki_tests::{
    Result,
    guest::{self, Network},
    nfs_client::Client,
    nfs4_client::Session,
    nlm_client::{Heard, Locker, Services},
    served::Served,
};
use nfs3_types::nfs3::nfs_fh3;

/// A machine by the last byte of its loopback address.
fn machine(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

fn locker(served: &Served, last: u8, process: u32) -> Result<Locker> {
    let name = format!("machine{last}.example.org");
    Locker::new(machine(last), served.nfs()?, &name, process)
}

/// A served file.
fn file(served: &Served, name: &str) -> Result<nfs_fh3> {
    let mut nfs = Client::mount(served.nfs()?, "/")?;
    let root = nfs.root.clone();
    nfs.create_new(&root, name)
}

#[test]
fn locks_keep_others_out_and_end() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let file = file(&served, "file")?;
    let (mut one, mut two) = (locker(&served, 2, 7)?, locker(&served, 2, 8)?);
    let mut three = locker(&served, 3, 7)?;
    ensure!(one.lock(&file, (10, 10))? == Status::Granted);
    for other in [&mut two, &mut three] {
        ensure!(other.lock(&file, (19, 1))? == Status::Denied);
        ensure!(other.lock(&file, (20, 1))? == Status::Granted);
        ensure!(other.unlock(&file, (20, 1))? == Status::Granted);
    }
    let held = Holder {
        exclusive: true,
        process: 7,
        owner: Blob(b"7@machine2.example.org".to_vec()),
        offset: 10,
        length: 10,
    };
    ensure!(two.test(&file, (0, 0), false)? == Tested::Denied(held));
    ensure!(one.test(&file, (0, 0), true)? == Tested::Granted, "its own");
    // Length 0 is all that is behind.
    ensure!(one.lock(&file, (5, 0))? == Status::Granted);
    ensure!(two.lock(&file, (u64::MAX, 1))? == Status::Denied);
    let Tested::Denied(held) = two.test(&file, (0, 0), true)? else {
        anyhow::bail!("nothing is in the way");
    };
    ensure!((held.offset, held.length) == (5, 0), "{held:?}");
    ensure!(two.lock(&file, (9, u64::MAX - 1))? == Status::TooBig);
    ensure!(one.unlock(&file, (0, 0))? == Status::Granted);
    ensure!(one.unlock(&file, (0, 0))? == Status::Granted, "again");
    // Readers share.
    for reader in [&mut one, &mut two] {
        let asked = LockArgs {
            exclusive: false,
            ..reader.asking(&file, (0, 0))
        };
        ensure!(reader.ask(&asked)? == Status::Granted);
    }
    ensure!(three.lock(&file, (3, 1))? == Status::Denied);
    served.finish()
}

#[test]
fn only_files_that_one_may_open_are_locked() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mut nfs = Client::mount(served.nfs()?, "/")?;
    let root = nfs.root.clone();
    let file = nfs.create_new(&root, "file")?;
    let mut one = locker(&served, 2, 7)?;
    ensure!(one.lock(&root, (0, 0))? == Status::Failed, "a directory");
    let mut forged = one.asking(&file, (0, 0));
    forged.lock.file.0[43] ^= 1;
    ensure!(one.ask(&forged)? == Status::StaleHandle);
    let mut long = one.asking(&file, (0, 0));
    long.lock.owner = Blob(vec![7; 1024]);
    ensure!(one.ask(&long)? == Status::DeniedNoLocks);
    nfs.remove(&root, "file")?;
    ensure!(one.lock(&file, (0, 0))? == Status::StaleHandle, "gone");
    let old: Result<Reply> = one.call(7, &one.asking(&file, (0, 0)));
    ensure!(old.is_err(), "LOCK_MSG is not there");
    served.finish()
}

#[test]
fn versions_3_and_4_lock_each_other_out() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let file = file(&served, "file")?;
    let mut three = locker(&served, 2, 7)?;
    let mut four = Session::fresh(served.nfs()?, "four")?;
    let (handle, open) = four.open_file("file")?;
    let at = Operation::PutHandle(handle);
    ensure!(three.lock(&file, (0, 10))? == Status::Granted);
    let wanted = vec![at, four.locking(open, 5, 10, false)];
    ensure!(four.status(wanted.clone())? == Status4::Denied);
    ensure!(three.unlock(&file, (0, 10))? == Status::Granted);
    ensure!(four.status(wanted)? == Status4::Ok);
    ensure!(three.lock(&file, (0, 10))? == Status::Denied);
    let Tested::Denied(held) = three.test(&file, (0, 10), false)? else {
        anyhow::bail!("nothing is in the way");
    };
    ensure!(
        (held.offset, held.length, held.process) == (5, 10, 0),
        "{held:?}"
    );
    served.finish()
}

#[test]
fn who_waits_is_called_when_the_lock_is_free() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let Some(services) = Services::at(machine(11), Status::Granted)? else {
        return served.finish();
    };
    let file = file(&served, "file")?;
    let (mut holder, mut waits) = (locker(&served, 2, 7)?, locker(&served, 11, 8)?);
    ensure!(holder.lock(&file, (0, 10))? == Status::Granted);
    ensure!(waits.wait_for(&file, (0, 5))? == Status::Blocked);
    ensure!(
        waits.wait_for(&file, (0, 5))? == Status::Blocked,
        "once more"
    );
    ensure!(holder.unlock(&file, (0, 10))? == Status::Granted);
    let granted = services.next(Duration::from_secs(20))?;
    ensure!(
        granted == Heard::Granted(waits.about(&file, (0, 5))),
        "{granted:?}"
    );
    ensure!(
        holder.lock(&file, (0, 10))? == Status::Denied,
        "it has the lock"
    );
    ensure!(waits.unlock(&file, (0, 5))? == Status::Granted);
    ensure!(
        waits.cancel(&file, (0, 5))? == Status::Denied,
        "it waits no more"
    );
    ensure!(holder.lock(&file, (0, 10))? == Status::Granted);
    // Who does not wait any more is not called.
    ensure!(waits.wait_for(&file, (0, 5))? == Status::Blocked);
    ensure!(waits.cancel(&file, (0, 5))? == Status::Granted);
    ensure!(holder.unlock(&file, (0, 10))? == Status::Granted);
    ensure!(services.next(Duration::from_secs(1)).is_err());
    ensure!(holder.lock(&file, (0, 10))? == Status::Granted);
    // Locks of version 4 are waited for as well.
    let mut four = Session::fresh(served.nfs()?, "four")?;
    let (handle, open) = four.open_file("file")?;
    let lock = four.locking(open, 50, 1, false);
    ensure!(four.status(vec![Operation::PutHandle(handle.clone()), lock])? == Status4::Ok);
    ensure!(waits.wait_for(&file, (50, 1))? == Status::Blocked);
    let close = Operation::Close(Close {
        sequence: 0,
        stateid: open,
    });
    ensure!(four.status(vec![Operation::PutHandle(handle), close])? == Status4::Ok);
    services.next(Duration::from_secs(20))?;
    served.finish()
}

#[test]
fn a_lock_that_nobody_wants_is_free_again() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let Some(services) = Services::at(machine(12), Status::Denied)? else {
        return served.finish();
    };
    let file = file(&served, "file")?;
    let mut holder = locker(&served, 2, 7)?;
    // One that says no, and one that cannot be reached.
    for last in [12, 13] {
        let mut waits = locker(&served, last, 8)?;
        ensure!(holder.lock(&file, (0, 10))? == Status::Granted);
        ensure!(waits.wait_for(&file, (0, 0))? == Status::Blocked);
        ensure!(holder.unlock(&file, (0, 10))? == Status::Granted);
        if last == 12 {
            services.next(Duration::from_secs(20))?;
        }
        until("the lock is free", || {
            Ok(holder.lock(&file, (0, 10))? == Status::Granted)
        })?;
        ensure!(holder.unlock(&file, (0, 10))? == Status::Granted);
    }
    served.finish()
}

#[test]
fn a_machine_that_started_again_has_no_locks() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let file = file(&served, "file")?;
    let (mut one, mut two) = (locker(&served, 2, 7)?, locker(&served, 3, 7)?);
    for again in [Locker::notify, Locker::free_all] {
        ensure!(one.lock(&file, (0, 10))? == Status::Granted);
        ensure!(one.share(&file, Mode::Read, Mode::Read, false)? == Status::Granted);
        // Another one cannot say it in its place, whatever name it takes.
        let name = "machine2.example.org";
        again(&mut Locker::new(machine(3), served.nfs()?, name, 1)?)?;
        again(&mut Locker::new(machine(2), served.nfs()?, "machine", 1)?)?;
        ensure!(two.lock(&file, (0, 10))? == Status::Denied);
        ensure!(two.share(&file, Mode::Read, Mode::None, false)? == Status::Denied);
        // It may leave its domain out.
        again(&mut Locker::new(machine(2), served.nfs()?, "machine2", 1)?)?;
        ensure!(two.lock(&file, (0, 10))? == Status::Granted);
        ensure!(two.share(&file, Mode::Read, Mode::None, false)? == Status::Granted);
        ensure!(two.unlock(&file, (0, 10))? == Status::Granted);
        ensure!(two.share(&file, Mode::Read, Mode::None, true)? == Status::Granted);
    }
    served.finish()
}

#[test]
fn a_machine_that_says_twice_that_it_started_keeps_its_new_locks() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let file = file(&served, "file")?;
    let (mut one, mut two) = (locker(&served, 2, 7)?, locker(&served, 3, 7)?);
    let mut short = Locker::new(machine(2), served.nfs()?, "machine2", 1)?;
    ensure!(one.lock(&file, (0, 10))? == Status::Granted);
    one.notify()?;
    // This is what `notify` says that the machine has come to.
    let third = LockArgs {
        state: 3,
        ..one.asking(&file, (0, 5))
    };
    ensure!(one.ask(&third)? == Status::Granted);
    one.notify()?;
    short.notify()?;
    ensure!(two.lock(&file, (0, 1))? == Status::Denied, "it is lost");
    ensure!(two.lock(&file, (5, 5))? == Status::Granted);
    // One that locks before it has said it loses what it had before all the same.
    let mut early = Locker::new(machine(4), served.nfs()?, "machine4", 1)?;
    ensure!(early.lock(&file, (20, 5))? == Status::Granted);
    let third = LockArgs {
        state: 3,
        ..early.asking(&file, (30, 5))
    };
    ensure!(early.ask(&third)? == Status::Granted);
    early.notify()?;
    ensure!(two.lock(&file, (20, 5))? == Status::Granted);
    ensure!(two.lock(&file, (30, 5))? == Status::Denied);
    served.finish()
}

#[test]
fn locks_are_taken_back_when_the_server_was_killed() -> Result {
    let Some(mut served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let Some(services) = Services::at(machine(14), Status::Granted)? else {
        return served.finish();
    };
    served.keep_address()?;
    let file = file(&served, "file")?;
    let mut holder = locker(&served, 14, 7)?;
    ensure!(holder.lock(&file, (0, 10))? == Status::Granted);
    let mut past = Vec::new();
    // A machine that gave up its locks is remembered all the same until the end.
    for last in [14, 15] {
        served.kill()?;
        served.start()?;
        let heard = services.next(Duration::from_secs(20))?;
        let Heard::Notified(started) = heard else {
            anyhow::bail!("{heard:?}");
        };
        ensure!(started.host.0 == b"127.0.0.1" && started.state % 2 == 1);
        ensure!(!past.contains(&started.state), "a state of before");
        past.push(started.state);
        let mut holder = locker(&served, 14, 7)?;
        let mut stranger = locker(&served, last + 10, 8)?;
        ensure!(stranger.lock(&file, (50, 1))? == Status::DeniedGracePeriod);
        ensure!(stranger.reclaim(&file, (50, 1))? == Status::Denied);
        ensure!(stranger.test(&file, (50, 1), true)? == Tested::DeniedGracePeriod);
        ensure!(holder.reclaim(&file, (0, 10))? == Status::Granted);
        // It is that of version 4 as well.
        let mut four = Session::open(served.nfs()?, "four")?;
        let looks = Operation::LockTest(LockTest {
            kind: LockKind::Write,
            offset: 50,
            length: 1,
            owner: four.owner(),
        });
        let name = Operation::Lookup(Blob(b"file".to_vec()));
        let looked = four.status(vec![Operation::PutRootHandle, name, looks])?;
        ensure!(looked == Status4::Grace, "{looked:?}");
    }
    // The grace period ends, and what was taken back holds.
    let (mut holder, mut other) = (locker(&served, 14, 7)?, locker(&served, 2, 8)?);
    until("the grace period ends", || {
        Ok(other.lock(&file, (50, 1))? == Status::Granted)
    })?;
    ensure!(other.lock(&file, (0, 1))? == Status::Denied);
    ensure!(
        holder.reclaim(&file, (60, 1))? == Status::Denied,
        "too late"
    );
    // Who gave up his locks before a clean end is not waited for.
    ensure!(holder.unlock(&file, (0, 0))? == Status::Granted);
    ensure!(other.unlock(&file, (0, 0))? == Status::Granted);
    served.stop()?;
    served.start()?;
    let mut other = locker(&served, 2, 8)?;
    ensure!(other.lock(&file, (0, 0))? == Status::Granted);
    served.finish()
}

#[test]
fn an_end_in_the_grace_period_takes_no_locks() -> Result {
    let Some(mut served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let Some(services) = Services::at(machine(16), Status::Granted)? else {
        return served.finish();
    };
    served.keep_address()?;
    let file = file(&served, "file")?;
    ensure!(locker(&served, 16, 7)?.lock(&file, (0, 10))? == Status::Granted);
    served.kill()?;
    // It is told, and before it does anything the server ends in order.
    for _ in 0..2 {
        served.start()?;
        let heard = services.next(Duration::from_secs(20))?;
        ensure!(matches!(heard, Heard::Notified(_)), "{heard:?}");
        // The server has the answer by then.
        thread::sleep(Duration::from_secs(1));
        served.stop()?;
    }
    served.start()?;
    let mut other = locker(&served, 2, 8)?;
    ensure!(other.lock(&file, (0, 10))? == Status::DeniedGracePeriod);
    let mut holder = locker(&served, 16, 7)?;
    ensure!(holder.reclaim(&file, (0, 10))? == Status::Granted);
    served.finish()
}

const EXPORT: &str = "[[export]]\npath = '/'\nclients = '10.0.2.0/24'\nsquash = 'none'\n";

/// Runs steps of `tests/guest/locks.py` in a guest that can be called, against a
/// server that rpcbind knows; beside that, what is done to the server.
fn in_guest(steps: &[&str], meanwhile: impl FnOnce(&mut Served) -> Result) -> Result {
    let Some(network) = Network::new()? else {
        return Ok(());
    };
    let rpcbind = format!("--rpcbind={}", network.rpcbind_socket().display());
    let args = ["--nfs", "0.0.0.0:2049", &rpcbind];
    let Some(mut served) = Served::in_network(&network.path(), EXPORT, &args)? else {
        return Ok(());
    };
    fs::write(served.mount().path("file"), "")?;
    thread::scope(|scope| {
        let guest = scope.spawn(|| guest::run_script(2049, Some(&network), "locks.sh", steps));
        let done = meanwhile(&mut served);
        let said = guest
            .join()
            .map_err(|_| anyhow::anyhow!("the guest's thread"))?;
        let said = said.with_context(|| served.log().unwrap_or_default())?;
        println!("{}", said.unwrap_or_default());
        done
    })?;
    served.finish()
}

#[test]
fn linux_clients_lock_and_wait() -> Result {
    in_guest(
        &[
            "conflicts",
            "waiting",
            "whole_file",
            "restart_of_the_client",
        ],
        |_| Ok(()),
    )
}

#[test]
fn linux_clients_take_their_locks_back() -> Result {
    in_guest(&["restart_of_the_server"], |served| {
        let (locked, restarted) = ("locked", "restarted");
        until("the guest has a lock", || {
            Ok(served.mount().path(locked).exists())
        })?;
        served.kill()?;
        served.start()?;
        fs::write(served.mount().path(restarted), "")?;
        Ok(())
    })
}

fn until(what: &'static str, mut done: impl FnMut() -> Result<bool>) -> Result {
    let began = Instant::now();
    while !done()? {
        if began.elapsed() > Duration::from_secs(100) {
            return Err(anyhow::anyhow!("not within 100 seconds")).context(what);
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
