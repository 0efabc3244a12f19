//! NFS by real clients, with the same tree mounted.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use kiseki_tests::{
    Content, Output, Result, daemon, env_number, guest, is_root, need_open_files, need_tools,
    nfs_client::{Client, done, place, refused_with, status},
    run,
    run::limited,
    served::Served,
    skip,
};
use nfs3_types::nfs3::{
    ACCESS3_LOOKUP, ACCESS3_MODIFY, ACCESS3_READ, ACCESS3args, LINK3args, MKDIR3args, Nfs3Option,
    RENAME3args, RMDIR3args, SETATTR3args, SYMLINK3args, createhow3, createverf3, nfspath3,
    nfsstat3, sattr3, stable_how, symlinkdata3,
};
use nfs3_types::xdr_codec::Opaque;

const MIB: u64 = 1 << 20;

fn mode(mode: u32) -> sattr3 {
    sattr3 {
        mode: Nfs3Option::Some(mode),
        ..sattr3::default()
    }
}

fn size(size: u64) -> sattr3 {
    sattr3 {
        size: Nfs3Option::Some(size),
        ..sattr3::default()
    }
}

#[test]
fn what_one_side_changes_the_other_sees_at_once() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mut nfs = Client::mount(served.nfs()?, "/")?;
    let root = nfs.root.clone();
    let there = served.mount().path("file");
    // The kernel of the mount remembers that there is no such name.
    ensure!(!there.exists());
    let file = nfs.create(&root, "file", createhow3::GUARDED(mode(0o640)))?;
    for round in 0..50_u32 {
        let text = format!("round {round}");
        nfs.write(&file, 0, text.as_bytes(), stable_how::UNSTABLE)?;
        ensure!(fs::read_to_string(&there)? == text, "over the mount");
        let text = format!("mount {round}");
        fs::write(&there, &text)?;
        ensure!(nfs.read_all(&file)? == text.as_bytes(), "over NFS");
    }
    ensure!(fs::metadata(&there)?.mode() & 0o777 == 0o640);
    fs::rename(&there, served.mount().path("moved"))?;
    nfs.lookup(&root, "moved")?;
    nfs.remove(&root, "moved")?;
    ensure!(!served.mount().path("moved").exists());
    served.finish()
}

#[test]
fn every_procedure_does_what_it_says() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mut nfs = Client::mount(served.nfs()?, "/")?;
    let (root, dir) = (nfs.root.clone(), served.mount().dir().to_owned());
    let Client {
        runtime,
        nfs: calls,
        ..
    } = &mut nfs;
    runtime.block_on(async {
        let made = calls
            .mkdir(&MKDIR3args {
                where_: place(&root, "d"),
                attributes: mode(0o755),
            })
            .await?;
        let Nfs3Option::Some(sub) = done(made)?.obj else {
            anyhow::bail!("MKDIR gave no handle");
        };
        let linked = SYMLINK3args {
            where_: place(&sub, "link"),
            symlink: symlinkdata3 {
                symlink_attributes: sattr3::default(),
                symlink_data: nfspath3(Opaque::borrowed(b"../else/where")),
            },
        };
        done(calls.symlink(&linked).await?)?;
        fs::write(dir.join("d/file"), "some text")?;
        let found = calls
            .lookup(&nfs3_types::nfs3::LOOKUP3args {
                what: place(&sub, "file"),
            })
            .await?;
        let file = done(found)?.object;
        let link = LINK3args {
            file: file.clone(),
            link: place(&root, "second"),
        };
        done(calls.link(&link).await?)?;
        let again = calls.link(&link).await?;
        ensure!(status(&again) == nfsstat3::NFS3ERR_EXIST);
        let cut = SETATTR3args {
            object: file.clone(),
            new_attributes: size(4),
            guard: Nfs3Option::None,
        };
        done(calls.setattr(&cut).await?)?;
        let rename = RENAME3args {
            from: place(&sub, "file"),
            to: place(&root, "second"),
        };
        // Two names of one file: nothing happens.
        done(calls.rename(&rename).await?)?;
        let full = RMDIR3args {
            object: place(&root, "d"),
        };
        let refused = calls.rmdir(&full).await?;
        ensure!(status(&refused) == nfsstat3::NFS3ERR_NOTEMPTY);
        let asked = ACCESS3args {
            object: sub.clone(),
            access: ACCESS3_READ | ACCESS3_LOOKUP | ACCESS3_MODIFY,
        };
        ensure!(done(calls.access(&asked).await?)?.access == asked.access);
        Ok(())
    })?;
    ensure!(fs::read_link(dir.join("d/link"))?.as_os_str() == "../else/where");
    ensure!(fs::read_to_string(dir.join("second"))? == "some");
    ensure!(fs::metadata(dir.join("second"))?.nlink() == 2);
    served.finish()
}

#[test]
fn exclusive_create_finds_its_own_file_and_no_other() -> Result {
    let Some(mut served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let (mine, other) = (createverf3(*b"verifier"), createverf3(*b"not mine"));
    let handle = {
        let mut nfs = Client::mount(served.nfs()?, "/")?;
        let root = nfs.root.clone();
        let first = nfs.create(&root, "file", createhow3::EXCLUSIVE(mine))?;
        let second = nfs.create(&root, "file", createhow3::EXCLUSIVE(mine))?;
        ensure!(first == second, "the same file");
        let refused = nfs.create(&root, "file", createhow3::EXCLUSIVE(other));
        ensure!(refused_with(&refused.unwrap_err(), nfsstat3::NFS3ERR_EXIST));
        first
    };
    served.kill()?;
    served.start()?;
    let mut nfs = Client::mount(served.nfs()?, "/")?;
    let root = nfs.root.clone();
    let again = nfs.create(&root, "file", createhow3::EXCLUSIVE(mine))?;
    ensure!(again == handle, "also after a crash of the server");
    nfs.write(&again, 0, b"precious", stable_how::FILE_SYNC)?;
    let refused = nfs.create(&root, "file", createhow3::EXCLUSIVE(other));
    ensure!(refused_with(&refused.unwrap_err(), nfsstat3::NFS3ERR_EXIST));
    ensure!(nfs.read_all(&again)? == b"precious");
    served.finish()
}

#[test]
fn handles_outlive_the_server_and_what_is_gone_is_stale() -> Result {
    let Some(mut served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mut nfs = Client::mount(served.nfs()?, "/")?;
    let root = nfs.root.clone();
    let kept = nfs.create_new(&root, "kept")?;
    nfs.write(&kept, 0, b"kept", stable_how::FILE_SYNC)?;
    let gone = nfs.create_new(&root, "gone")?;
    // Open, so that the inode is still there when its last name goes.
    let open = fs::File::open(served.mount().path("gone"))?;
    fs::remove_file(served.mount().path("gone"))?;
    for call in [
        nfs.read(&gone, 0, 1).map(|_| ()),
        nfs.attributes(&gone).map(|_| ()),
    ] {
        ensure!(refused_with(&call.unwrap_err(), nfsstat3::NFS3ERR_STALE));
    }
    drop(open);
    served.stop()?;
    served.start()?;
    let mut nfs = Client::with_handle(served.nfs()?, root, 0, 0)?;
    ensure!(nfs.read_all(&kept)? == b"kept");
    let stale = nfs.attributes(&gone).unwrap_err();
    ensure!(refused_with(&stale, nfsstat3::NFS3ERR_STALE), "{stale}");
    let mut forged = kept.clone();
    let mut bytes = forged.data.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    forged.data = Opaque::owned(bytes);
    let refused = nfs.attributes(&forged).unwrap_err();
    ensure!(
        refused_with(&refused, nfsstat3::NFS3ERR_BADHANDLE),
        "{refused}"
    );
    served.finish()
}

#[test]
fn stable_writes_survive_a_kill_and_lost_ones_change_the_verifier() -> Result {
    let Some(mut served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mut nfs = Client::mount(served.nfs()?, "/")?;
    let root = nfs.root.clone();
    let (stable, unstable) = (nfs.create_new(&root, "s")?, nfs.create_new(&root, "u")?);
    let before = nfs.write(&unstable, 0, b"maybe", stable_how::UNSTABLE)?;
    for piece in 0..20_u64 {
        nfs.write(
            &stable,
            piece * 4,
            &(piece as u32).to_be_bytes(),
            stable_how::FILE_SYNC,
        )?;
    }
    let committed = nfs.create_new(&root, "c")?;
    let data = Content(7).bytes(0, 3 * MIB as usize);
    for (n, piece) in data.chunks(MIB as usize).enumerate() {
        nfs.write(&committed, n as u64 * MIB, piece, stable_how::UNSTABLE)?;
    }
    ensure!(
        nfs.commit(&committed)? == before,
        "one verifier while it runs"
    );
    served.kill()?;
    served.start()?;
    let mut nfs = Client::with_handle(served.nfs()?, root, 0, 0)?;
    let all: Vec<u8> = (0..20_u32).flat_map(u32::to_be_bytes).collect();
    ensure!(nfs.read_all(&stable)? == all);
    ensure!(nfs.read_all(&committed)? == data);
    ensure!(
        nfs.commit(&unstable)? != before,
        "a client has to write again"
    );
    served.finish()
}

#[test]
fn listings_go_on_where_they_were_whatever_changes() -> Result {
    let Some(mut served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let dir = served.mount().path("d");
    fs::create_dir(&dir)?;
    for n in 0..2000 {
        fs::write(dir.join(format!("stays-{n}")), "")?;
    }
    let mut nfs = Client::mount(served.nfs()?, "/")?;
    let handle = nfs.find("d")?;
    let all = nfs.list(&handle, 4096)?;
    ensure!(all.len() == 2002, "{} with . and ..", all.len());
    let small = nfs.list(&handle, 700)?;
    ensure!(small == all, "in pages of another size");
    ensure!(nfs.list(&handle, 100).is_err(), "not even one entry fits");
    for n in 0..500 {
        fs::write(dir.join(format!("comes-{n}")), "")?;
    }
    served.stop()?;
    served.start()?;
    let mut nfs = Client::mount(served.nfs()?, "/")?;
    let later = nfs.list(&handle, 8192)?;
    ensure!(later.len() == 2502);
    let of = |all: &[(String, u64)]| {
        let stay = all.iter().filter(|(name, _)| name.starts_with("stays"));
        stay.cloned().collect::<Vec<_>>()
    };
    ensure!(of(&later) == of(&all), "positions stay");
    served.finish()
}

#[test]
fn permissions_hold_for_users_of_clients() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    if !is_root() {
        skip("needs root, to make files of other users");
        return Ok(());
    }
    let path = |name: &str| served.mount().path(name);
    fs::create_dir(path("closed"))?;
    fs::write(path("closed/file"), "secret")?;
    fs::set_permissions(path("closed/file"), PermissionsExt::from_mode(0o644))?;
    fs::set_permissions(path("closed"), PermissionsExt::from_mode(0o700))?;
    fs::create_dir(path("shared"))?;
    fs::set_permissions(path("shared"), PermissionsExt::from_mode(0o1777))?;
    fs::set_permissions(served.mount().dir(), PermissionsExt::from_mode(0o755))?;
    let mut user = Client::mount_as(served.nfs()?, "/", 1234, 1234)?;
    let refused = |error: anyhow::Error| refused_with(&error, nfsstat3::NFS3ERR_ACCES);
    ensure!(refused(user.find("closed/file").unwrap_err()), "search");
    let root = user.root.clone();
    ensure!(
        refused(user.create_new(&root, "new").unwrap_err()),
        "create"
    );
    let shared = user.find("shared")?;
    let own = user.create(&shared, "own", createhow3::GUARDED(mode(0o600)))?;
    user.write(&own, 0, b"mine", stable_how::UNSTABLE)?;
    ensure!(fs::metadata(path("shared/own"))?.uid() == 1234);
    fs::write(path("shared/roots"), "")?;
    fs::set_permissions(path("shared/roots"), PermissionsExt::from_mode(0o644))?;
    let sticky = user.remove(&shared, "roots").unwrap_err();
    ensure!(refused_with(&sticky, nfsstat3::NFS3ERR_PERM), "{sticky}");
    let roots = user.find("shared/roots")?;
    ensure!(refused(
        user.write(&roots, 0, b"x", stable_how::UNSTABLE)
            .unwrap_err()
    ));
    let mut other = Client::mount_as(served.nfs()?, "/", 4321, 4321)?;
    ensure!(refused(other.read(&own, 0, 4).unwrap_err()), "mode 0600");
    served.finish()
}

#[test]
fn exports_let_in_whom_they_name_and_no_further() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mount = served.mount();
    fs::create_dir_all(mount.path("a/b"))?;
    fs::write(mount.path("a/b/file"), "text")?;
    fs::write(mount.path("outside"), "text")?;
    let export = |words: &[&str]| mount.on_store(&[&["export"], words].concat())?.ok();
    export(&["add", "/a", "127.0.0.1", "--read-only"])?;
    let mut nfs = Client::mount(served.nfs()?, "/a")?;
    let root = nfs.root.clone();
    let above = nfs.lookup(&root, "..")?;
    ensure!(above == root, "nothing is above the root of an export");
    let file = nfs.find("b/file")?;
    ensure!(nfs.read_all(&file)? == b"text");
    let refused = nfs.create_new(&root, "new").unwrap_err();
    ensure!(refused_with(&refused, nfsstat3::NFS3ERR_ROFS), "{refused}");
    export(&[
        "add",
        "/a",
        "127.0.0.1",
        "--squash",
        "all",
        "--anonymous-uid",
        "99",
    ])?;
    fs::set_permissions(mount.path("a"), PermissionsExt::from_mode(0o777))?;
    nfs.create_new(&root, "new")?;
    ensure!(!is_root() || fs::metadata(mount.path("a/new"))?.uid() == 99);
    let list: serde_json::Value = serde_json::from_str(&export(&["list", "--json"])?)?;
    ensure!(
        list[0]["path"] == "/a" && list[1]["from"] == "default",
        "{list}"
    );
    export(&["remove", "/a"])?;
    let stale = nfs.attributes(&root).unwrap_err();
    ensure!(refused_with(&stale, nfsstat3::NFS3ERR_STALE), "{stale}");
    export(&["add", "/", "loopback", "--read-only"])?;
    export(&["add", "/a", "10.0.0.0/8"])?;
    let mut nfs = Client::mount(served.nfs()?, "/a")?;
    ensure!(
        nfs.create_new(&nfs.root.clone(), "x").is_err(),
        "the rule for / counts"
    );
    ensure!(Client::mount(served.nfs()?, "/.kiseki").is_err(), "hidden");
    served.finish()
}

#[test]
fn exports_added_at_once_are_all_there() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mount = served.mount();
    let listed = || -> Result<Vec<serde_json::Value>> {
        let list = mount.on_store(&["export", "list", "--json"])?.ok()?;
        Ok(serde_json::from_str(&list)?)
    };
    let before = listed()?.len();
    let networks: Vec<String> = (0..16).map(|n| format!("10.0.{n}.0/24")).collect();
    let added: Result<Vec<String>> = thread::scope(|scope| {
        let add = |from: &str| mount.on_store(&["export", "add", "/", from])?.ok();
        let all: Vec<_> = networks
            .iter()
            .map(|from| scope.spawn(move || add(from)))
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    added?;
    ensure!(listed()?.len() == before + networks.len());
    served.finish()
}

#[test]
fn other_machines_are_let_in_only_by_an_export() -> Result {
    let Some(mut served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    served.stop()?;
    let refused = served.mount().on_store(&["serve", "--nfs", "0.0.0.0:0"])?;
    ensure!(
        refused.code != 0 && refused.stderr.contains("kiseki export add"),
        "{refused:?}"
    );
    served.finish()
}

/// Sends bytes and waits until the server has answered or closed.
fn answer_to(server: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(bytes)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    // A connection that is reset was closed as well.
    let _ = stream.read_to_end(&mut answer);
    Ok(answer)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A record that holds a call.
fn call(program: u32, version: u32, procedure: u32, arguments: &[u32]) -> Vec<u8> {
    let head = [7, 0, 2, program, version, procedure, 0, 0, 0, 0];
    let body = words(&[&head, arguments].concat());
    let mark = (body.len() as u32 | 0x8000_0000).to_be_bytes();
    [&mark[..], &body].concat()
}

#[test]
fn malformed_traffic_is_refused_and_stops_nothing() -> Result {
    let Some(served) = Served::by_nfs(&["--memory", "64M"])? else {
        return Ok(());
    };
    let server = served.nfs()?;
    let accept_stat = |answer: Vec<u8>| answer.get(24..28).map(<[u8]>::to_vec);
    let stat = |call: &[u8]| Ok::<_, anyhow::Error>(accept_stat(answer_to(server, call)?));
    ensure!(
        stat(&call(100_003, 3, 0, &[]))? == Some(words(&[0])),
        "NULL"
    );
    ensure!(
        stat(&call(100_003, 3, 1, &[]))? == Some(words(&[4])),
        "no arguments"
    );
    ensure!(
        stat(&call(100_003, 3, 1, &[0xffff_ffff]))? == Some(words(&[4])),
        "a claim"
    );
    ensure!(stat(&call(100_003, 3, 99, &[]))? == Some(words(&[3])));
    ensure!(stat(&call(100_003, 2, 0, &[]))? == Some(words(&[2])));
    ensure!(stat(&call(400_000, 1, 0, &[]))? == Some(words(&[1])));
    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &words(&[0x8000_0004, 7])] {
        ensure!(
            answer_to(server, junk)?.is_empty(),
            "no answer to what is no call"
        );
    }
    // Half messages of many, that never come to their end.
    let mut begun = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(server)?;
        stream.set_nonblocking(true)?;
        stream.write_all(&words(&[0x8010_0000]))?;
        // As much as the server takes.
        while stream.write(&[0; 65536]).is_ok_and(|written| written > 0) {
            if begun.len() % 2 == 0 {
                break;
            }
        }
        begun.push(stream);
    }
    let mut nfs = Client::mount(server, "/")?;
    let root = nfs.root.clone();
    let file = nfs.create_new(&root, "file")?;
    let data = Content(1).bytes(0, MIB as usize);
    nfs.write(&file, 0, &data, stable_how::FILE_SYNC)?;
    ensure!(nfs.read_all(&file)? == data);
    drop(begun);
    served.finish()
}

#[test]
fn idle_connections_cost_next_to_nothing() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let count = env_number("KISEKI_IDLE_CONNECTIONS", 10_000);
    if !need_open_files(count + 200)? {
        return served.finish();
    }
    let (store, server) = (served.mount().store(), served.nfs()?);
    let mut nfs = Client::mount(server, "/")?;
    let before = daemon::resident(store)?.0;
    let mut idle = Vec::new();
    for n in 0..count {
        // Loopback has 28,000 ports for one address; some may be in use.
        let mut stream = TcpStream::connect(server).with_context(|| format!("connection {n}"))?;
        stream.write_all(&call(100_003, 3, 0, &[]))?;
        idle.push(stream);
    }
    for stream in &mut idle {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.read_exact(&mut [0; 28])?;
    }
    let grown = daemon::grown(store, before)?;
    ensure!(
        grown < count * 16 * 1024,
        "{count} connections take {grown} bytes"
    );
    let root = nfs.root.clone();
    let file = nfs.create_new(&root, "file")?;
    nfs.write(&file, 0, b"quick", stable_how::FILE_SYNC)?;
    drop(idle);
    served.finish()
}

#[test]
fn a_slow_reader_stops_nobody_else() -> Result {
    let Some(served) = Served::by_nfs(&["--memory", "64M"])? else {
        return Ok(());
    };
    let server = served.nfs()?;
    let mut nfs = Client::mount(server, "/")?;
    let root = nfs.root.clone();
    let file = nfs.create_new(&root, "file")?;
    let data = Content(1).bytes(0, MIB as usize);
    nfs.write(&file, 0, &data, stable_how::FILE_SYNC)?;
    let handle: Vec<u32> = file
        .data
        .chunks(4)
        .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
        .collect();
    let arguments = [&[file.data.len() as u32], &handle[..], &[0, 0, 1 << 20]].concat();
    let read = call(100_003, 3, 6, &arguments);
    let mut slow = Vec::new();
    for _ in 0..30 {
        let mut stream = TcpStream::connect(server)?;
        for _ in 0..200 {
            stream.write_all(&read)?;
        }
        slow.push(stream);
    }
    let began = Instant::now();
    for _ in 0..20 {
        ensure!(nfs.read_all(&file)? == data);
    }
    ensure!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    let (resident, _) = daemon::resident(served.mount().store())?;
    ensure!(resident < 700 * MIB, "{resident} bytes");
    drop(slow);
    served.finish()
}

#[test]
fn a_call_that_comes_twice_is_carried_out_once() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mut nfs = Client::mount(served.nfs()?, "/")?;
    let root = nfs.root.clone();
    nfs.create_new(&root, "file")?;
    let handle: Vec<u32> = root
        .data
        .chunks(4)
        .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
        .collect();
    let name = u32::from_be_bytes(*b"file");
    let arguments = [&[root.data.len() as u32], &handle[..], &[4, name]].concat();
    // Root, of the machine without a name.
    let sys = [1, 20, 0, 0, 0, 0, 0, 0, 0];
    let head = [77, 0, 2, 100_003, 3, 12];
    let body = words(&[&head, &sys[..], &arguments[..]].concat());
    let remove = [&(body.len() as u32 | 0x8000_0000).to_be_bytes()[..], &body].concat();
    let first = answer_to(served.nfs()?, &remove)?;
    ensure!(first[28..32] == [0; 4], "it is removed: {first:?}");
    let again = answer_to(served.nfs()?, &remove)?;
    ensure!(first == again, "over another connection, the first answer");
    ensure!(nfs.lookup(&root, "file").is_err());
    served.finish()
}

/// A writer that notes what it was promised.
fn write_until(
    server: SocketAddr,
    root: nfs3_types::nfs3::nfs_fh3,
    writer: u64,
    stop: &std::sync::atomic::AtomicBool,
) -> Vec<(String, u64)> {
    let mut promised = Vec::new();
    let Ok(mut nfs) = Client::with_handle(server, root.clone(), 0, 0) else {
        // The others wrote enough before this one began, and the server is gone.
        return promised;
    };
    for n in 0.. {
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            break;
        }
        let name = format!("{writer}-{n}");
        let seed = writer << 32 | n;
        let data = Content(seed).bytes(0, 20_000);
        let wrote = (|| {
            let file = nfs.create(&root, &name, createhow3::UNCHECKED(mode(0o644)))?;
            if n % 2 == 0 {
                nfs.write(&file, 0, &data, stable_how::FILE_SYNC)?;
            } else {
                let first = nfs.write(&file, 0, &data, stable_how::UNSTABLE)?;
                ensure!(nfs.commit(&file)? == first, "it has to be written again");
            }
            anyhow::Ok(())
        })();
        match wrote {
            Ok(()) => promised.push((name, seed)),
            // The server is gone; so is the connection.
            Err(_) => break,
        }
    }
    promised
}

#[test]
fn nothing_acknowledged_is_lost_when_the_server_is_killed_under_load() -> Result {
    let Some(mut served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mut all = Vec::new();
    for round in 0..env_number("KISEKI_NFS_KILLS", 5) {
        let server = served.nfs()?;
        let root = Client::mount(server, "/")?.root;
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (root, stop) = (root.clone(), stop.clone());
                thread::spawn(move || write_until(server, root, round * 4 + writer, &stop))
            })
            .collect();
        // Long enough for all to be at work.
        let began = Instant::now();
        while fs::read_dir(served.mount().dir())?.count() < all.len() + 20 {
            ensure!(began.elapsed() < Duration::from_secs(60), "nobody writes");
            thread::sleep(Duration::from_millis(5));
        }
        served.kill()?;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for writer in writers {
            all.extend(writer.join().unwrap());
        }
        served.start()?;
        let mut nfs = Client::mount(served.nfs()?, "/")?;
        for (name, seed) in &all {
            let file = nfs.find(name)?;
            let data = Content(*seed).bytes(0, 20_000);
            ensure!(nfs.read_all(&file)? == data, "{name} after kill {round}");
        }
    }
    ensure!(all.len() > 20, "only {} files were promised", all.len());
    served.finish()
}

#[test]
fn large_files_are_the_same_both_ways() -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let mut nfs = Client::mount(served.nfs()?, "/")?;
    let root = nfs.root.clone();
    let file = nfs.create_new(&root, "file")?;
    let content = Content(42);
    for piece in 0..32 {
        let data = content.bytes(piece * MIB, MIB as usize);
        nfs.write(&file, piece * MIB, &data, stable_how::UNSTABLE)?;
    }
    nfs.commit(&file)?;
    let there = fs::File::open(served.mount().path("file"))?;
    let mut buffer = vec![0; MIB as usize];
    for piece in 0..32 {
        there.read_exact_at(&mut buffer, piece * MIB)?;
        ensure!(buffer == content.bytes(piece * MIB, MIB as usize));
        let (data, end) = nfs.read(&file, piece * MIB, 1 << 20)?;
        ensure!(data == buffer && end == (piece == 31));
    }
    served.finish()
}

/// Edits the tree over the mount: new files, common ones, renames, removals.
fn edit_by_mount(dir: &Path, rounds: u64) -> Result {
    for n in 0..rounds {
        let sub = dir.join(format!("d{}", n % 5));
        let data = Content(n).bytes(0, (n as usize * 37) % 9000);
        fs::write(sub.join(format!("mount-{n}")), &data)?;
        let common = format!("common-{}", n % 7);
        fs::write(sub.join("mount-new"), &data)?;
        fs::rename(sub.join("mount-new"), sub.join(&common))?;
        if n % 4 == 0 {
            fs::remove_file(sub.join(format!("mount-{n}")))?;
        }
    }
    Ok(())
}

/// The same over NFS. Common files may go and come between two calls.
fn edit_by_nfs(server: SocketAddr, rounds: u64) -> Result {
    let mut nfs = Client::mount(server, "/tree")?;
    for n in 0..rounds {
        let sub = nfs.find(&format!("d{}", n % 5))?;
        let data = Content(1000 + n).bytes(0, (n as usize * 53) % 9000);
        let own = nfs.create_new(&sub, &format!("nfs-{n}"))?;
        nfs.write(&own, 0, &data, stable_how::UNSTABLE)?;
        let common = format!("common-{}", n % 7);
        let how = createhow3::UNCHECKED(size(0));
        let written = nfs
            .create(&sub, &common, how)
            .and_then(|file| nfs.write(&file, 0, &data, stable_how::UNSTABLE));
        if let Err(error) = written {
            ensure!(refused_with(&error, nfsstat3::NFS3ERR_STALE), "{error}");
        }
        nfs.commit(&own)?;
        if n % 5 == 0 {
            nfs.remove(&sub, &format!("nfs-{n}"))?;
        }
    }
    Ok(())
}

fn digest(data: &[u8]) -> String {
    blake3::hash(data).to_hex().to_string()
}

#[test]
fn a_tree_edited_by_mount_s3_and_nfs_at_once_is_the_same_for_all() -> Result {
    let Some(mut served) = Served::by_all(&[])? else {
        return Ok(());
    };
    let tree = served.mount().path("tree");
    for n in 0..5 {
        let dir = tree.join(format!("d{n}"));
        fs::create_dir_all(&dir)?;
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o777))?;
    }
    let rounds = env_number("KISEKI_THREE_ROUNDS", 120);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/three.py");
    let mut by_s3 = served.client("python3");
    by_s3.arg(script).args(["edit", &rounds.to_string()]);
    let server = served.nfs()?;
    thread::scope(|scope| {
        let mount = scope.spawn(|| edit_by_mount(&tree, rounds));
        let nfs = scope.spawn(|| edit_by_nfs(server, rounds));
        let s3 = Output::of(&by_s3.output()?).ok();
        mount.join().unwrap().context("over the mount")?;
        nfs.join().unwrap().context("over NFS")?;
        s3.context("over S3").map(|_| ())
    })?;
    for round in 0..2 {
        let mut nfs = Client::mount(served.nfs()?, "/tree")?;
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for n in 0..5 {
            let dir = tree.join(format!("d{n}"));
            for entry in fs::read_dir(&dir)? {
                let name = entry?.file_name().into_string().unwrap();
                here.push((format!("d{n}/{name}"), digest(&fs::read(dir.join(name))?)));
            }
            let handle = nfs.find(&format!("d{n}"))?;
            let names = nfs.list(&handle, 4096)?;
            for (name, _) in names.iter().filter(|(name, _)| !name.starts_with('.')) {
                let file = nfs.lookup(&handle, name)?;
                there.push((format!("d{n}/{name}"), digest(&nfs.read_all(&file)?)));
            }
        }
        here.sort();
        there.sort();
        ensure!(here.len() > 100, "only {} files are left", here.len());
        ensure!(here == there, "mount and NFS differ in round {round}");
        let mut by_s3 = served.client("python3");
        let listed = Output::of(&by_s3.arg(script).arg("digest").output()?).ok()?;
        let objects: Vec<_> = listed.lines().collect();
        let expected: Vec<String> = here
            .iter()
            .map(|(key, _)| {
                let data = fs::read(tree.join(key))?;
                Ok(format!("{key} {}", sha256(&data)?))
            })
            .collect::<Result<_>>()?;
        ensure!(objects == expected, "mount and S3 differ in round {round}");
        if round == 0 {
            served.stop()?;
            served.start()?;
        }
    }
    served.finish()
}

fn sha256(data: &[u8]) -> Result<String> {
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    child.stdin.take().context("a pipe")?.write_all(data)?;
    let said = Output::of(&child.wait_with_output()?).ok()?;
    Ok(said.split_whitespace().next().context("a sum")?.to_owned())
}

fn a_day_in_the_guest(words: &[&str]) -> Result {
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    guest::run_script(served.nfs()?.port(), None, "work.sh", words)
        .with_context(|| served.log().unwrap_or_default())?;
    served.finish()
}

#[test]
fn the_linux_client_works_by_version_3() -> Result {
    a_day_in_the_guest(&["3", "nolock"])
}

#[test]
fn the_linux_client_works_by_version_4_1() -> Result {
    a_day_in_the_guest(&["4.1"])
}

#[test]
fn the_linux_client_works_by_version_4_2() -> Result {
    a_day_in_the_guest(&["4.2"])
}

#[test]
fn libnfs_copies_there_and_back() -> Result {
    if !need_tools(&["nfs-cp", "nfs-cat", "nfs-ls"]) {
        return Ok(());
    }
    let Some(served) = Served::by_nfs(&[])? else {
        return Ok(());
    };
    let port = served.nfs()?.port();
    fs::create_dir(served.mount().path("d"))?;
    let url =
        |path: &str| format!("nfs://127.0.0.1/{path}?version=3&nfsport={port}&mountport={port}");
    let local = served.mount().base().join("local");
    Content(3).create(&local, 3 * MIB)?;
    run(
        "nfs-cp",
        &[local.to_str().context("UTF-8")?, &url("d/file")],
    )?
    .ok()?;
    Content(3).verify(&served.mount().path("d/file"), 3 * MIB)?;
    let listed = run("nfs-ls", &[url("d")])?.ok()?;
    ensure!(listed.contains("3145728 file"), "{listed}");
    let back = limited("nfs-cat").arg(url("d/file")).output()?;
    ensure!(back.stdout == fs::read(&local)?);
    served.finish()
}
