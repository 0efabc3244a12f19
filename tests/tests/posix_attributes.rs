//! Attributes: times, modes, owners, extended attributes, ACLs and locks.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, chown, symlink},
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

use kiseki_tests::{
    Place, Result, is_root, need_tools,
    run::{run_in, sh},
    skip, tree,
};
use nix::{fcntl::FcntlArg, libc};
use rustix::{
    fs::{self as sys, AtFlags, CWD, FlockOperation, Timespec, Timestamps, XattrFlags},
    io::Errno,
};

fn set_times(path: &Path, atime: (i64, i64), mtime: (i64, i64)) -> Result {
    let spec = |(tv_sec, tv_nsec): (i64, i64)| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: spec(atime),
        last_modification: spec(mtime),
    };
    Ok(sys::utimensat(
        CWD,
        path,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

#[test]
fn times_are_kept_to_the_nanosecond_before_1970_and_beyond_2038() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    // The last is the end of what ext4 can hold.
    let times = [
        (0, 1),
        (1_700_000_000, 123_456_789),
        (-1_000_000_000, 999_999_999),
        (4_294_967_296, 5),
        (15_032_385_534, 999_999_999),
    ];
    for (n, time) in times.iter().enumerate() {
        let file = place.path(format!("file{n}"));
        fs::write(&file, "contents")?;
        set_times(&file, *time, *time)?;
        let dir = place.path(format!("dir{n}"));
        fs::create_dir(&dir)?;
        set_times(&dir, *time, *time)?;
        symlink("target", place.path(format!("link{n}")))?;
        set_times(&place.path(format!("link{n}")), *time, *time)?;
    }
    for round in 0..2 {
        for (n, time) in times.iter().enumerate() {
            for kind in ["file", "dir", "link"] {
                let meta = fs::symlink_metadata(place.path(format!("{kind}{n}")))?;
                let found = (meta.mtime(), meta.mtime_nsec());
                assert_eq!(found, *time, "{kind}{n}, round {round}");
            }
            let meta = fs::symlink_metadata(place.path(format!("file{n}")))?;
            assert_eq!((meta.atime(), meta.atime_nsec()), *time);
        }
        place.remount()?;
    }
    place.finish()
}

#[test]
fn mtime_set_after_writing_stays_when_the_file_is_closed() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    for len in [10, 100_000, 3 << 20] {
        let path = place.path(format!("file{len}"));
        let mut file = File::create(&path)?;
        std::io::Write::write_all(&mut file, &vec![7; len])?;
        let time = std::time::UNIX_EPOCH + Duration::new(1_000_000_000, 42);
        file.set_modified(time)?;
        assert_eq!(file.metadata()?.modified()?, time);
        drop(file);
        assert_eq!(fs::metadata(&path)?.modified()?, time);
        thread::sleep(Duration::from_millis(30));
        assert_eq!(fs::metadata(&path)?.modified()?, time);
    }
    place.remount()?;
    for len in [10, 100_000, 3 << 20] {
        let meta = fs::metadata(place.path(format!("file{len}")))?;
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000_000_000, 42));
    }
    place.finish()
}

#[test]
fn changes_move_mtime_and_ctime_as_posix_says() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("file");
    fs::write(&path, "one")?;
    let times = || {
        let meta = fs::metadata(&path).unwrap();
        let pair = |secs, nanos| (secs, nanos);
        (
            pair(meta.mtime(), meta.mtime_nsec()),
            pair(meta.ctime(), meta.ctime_nsec()),
        )
    };
    let pause = || thread::sleep(Duration::from_millis(20));
    let start = times();
    pause();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let after_chmod = times();
    assert_eq!(after_chmod.0, start.0);
    assert!(after_chmod.1 > start.1);
    pause();
    fs::write(&path, "two")?;
    let after_write = times();
    assert!(after_write.0 > start.0 && after_write.1 > after_chmod.1);
    pause();
    fs::hard_link(&path, place.path("link"))?;
    let after_link = times();
    assert_eq!(after_link.0, after_write.0);
    assert!(after_link.1 > after_write.1);
    pause();
    fs::read(&path)?;
    assert_eq!(times(), after_link);
    place.finish()
}

#[test]
fn modes_and_owners_are_kept() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    fs::write(place.path("file"), "")?;
    fs::create_dir(place.path("dir"))?;
    for (name, mode) in [("file", 0o4751), ("dir", 0o1700)] {
        if is_root() {
            chown(place.path(name), Some(1234), Some(5678))?;
        }
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode))?;
    }
    symlink("x", place.path("link"))?;
    place.remount()?;
    for (name, mode) in [("file", 0o4751), ("dir", 0o1700)] {
        let meta = fs::metadata(place.path(name))?;
        assert_eq!(meta.mode() & 0o7777, mode, "{name}");
        if is_root() {
            assert_eq!((meta.uid(), meta.gid()), (1234, 5678), "{name}");
        }
    }
    let mine = fs::symlink_metadata(place.path("link"))?;
    assert_eq!(mine.uid(), nix::unistd::geteuid().as_raw());
    place.finish()
}

#[test]
fn umask_and_setgid_directories_shape_new_files() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    sh(
        place.dir(),
        "umask 027; touch file; mkdir dir; umask 0; touch open",
    )?;
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().mode() & 0o7777;
    assert_eq!(
        (mode("file"), mode("dir"), mode("open")),
        (0o640, 0o750, 0o666)
    );
    if is_root() {
        chown(place.path("dir"), None, Some(4321))?;
        fs::set_permissions(place.path("dir"), fs::Permissions::from_mode(0o2775))?;
        sh(place.dir(), "touch dir/file; mkdir dir/sub")?;
        assert_eq!(fs::metadata(place.path("dir/file"))?.gid(), 4321);
        assert_eq!(fs::metadata(place.path("dir/sub"))?.gid(), 4321);
        assert_eq!(mode("dir/sub") & 0o2000, 0o2000);
    }
    place.finish()
}

#[test]
fn permissions_hold_for_other_users() -> Result {
    if !is_root() || !need_tools(&["setpriv"]) {
        skip("needs root to become another user");
        return Ok(());
    }
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    sh(
        place.dir(),
        "echo secret > private; chmod 600 private; echo free > public; chmod 644 public
        mkdir closed; touch closed/file; chmod 700 closed",
    )?;
    let as_nobody = |script: &str| {
        let mut args = vec!["--reuid=65534", "--regid=65534", "--clear-groups"];
        args.extend(["sh", "-c", script]);
        run_in(place.dir(), "setpriv", &args).unwrap().code
    };
    assert_eq!(as_nobody("cat public"), 0);
    for refused in [
        "cat private",
        "echo x >> public",
        "ls closed",
        "cat closed/file",
        "touch new",
        "rm public",
        "chmod 777 public",
    ] {
        assert_ne!(as_nobody(refused), 0, "{refused} must be refused");
    }
    place.finish()
}

#[test]
fn xattrs_are_kept_listed_and_removed() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("file");
    fs::write(&path, "")?;
    let set =
        |name: &[u8], value: &[u8], how| sys::setxattr(&path, OsStr::from_bytes(name), value, how);
    // ext4 keeps all attributes of an inode in one block by default.
    let big = vec![9; 3000];
    let wanted = BTreeMap::from([
        (b"user.empty".to_vec(), Vec::new()),
        (b"user.binary".to_vec(), vec![0, 255, 10, 0]),
        (b"user.big".to_vec(), big),
        (b"user.\xff\xfe".to_vec(), b"name of bytes".to_vec()),
    ]);
    for (name, value) in &wanted {
        set(name, value, XattrFlags::CREATE)?;
    }
    assert_eq!(set(b"user.big", b"", XattrFlags::CREATE), Err(Errno::EXIST));
    let absent = set(b"user.absent", b"", XattrFlags::REPLACE);
    assert_eq!(absent, Err(Errno::NODATA));
    place.remount()?;
    let mut found = tree::xattrs(&path)?;
    found.retain(|name, _| name.starts_with(b"user."));
    assert_eq!(found, wanted);
    let mut small = [0; 10];
    let short = sys::getxattr(&path, "user.big", &mut small[..]);
    assert_eq!(short.unwrap_err(), Errno::RANGE);
    assert_eq!(sys::getxattr_query(&path, "user.big"), Ok(3000));
    sys::removexattr(&path, "user.big")?;
    assert_eq!(sys::removexattr(&path, "user.big"), Err(Errno::NODATA));
    assert_eq!(sys::getxattr_query(&path, "user.big"), Err(Errno::NODATA));
    place.finish()
}

#[test]
fn xattr_of_64_kib_is_kept_or_refused_for_space() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("file");
    fs::write(&path, "")?;
    let value = kiseki_tests::Content(8).bytes(0, 64 << 10);
    match sys::setxattr(&path, "user.large", &value, XattrFlags::empty()) {
        Ok(()) => {
            place.remount()?;
            assert!(tree::xattr(&path, "user.large".as_ref())? == value);
        }
        Err(e) => assert!(matches!(e, Errno::NOSPC | Errno::TOOBIG), "{e}"),
    }
    let larger = vec![0; (64 << 10) + 1];
    let refused = sys::setxattr(&path, "user.larger", &larger, XattrFlags::empty());
    assert_eq!(refused, Err(Errno::TOOBIG));
    place.finish()
}

#[test]
fn posix_acls_are_kept_and_inherited() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    if !need_tools(&["setfacl", "getfacl"]) {
        return Ok(());
    }
    sh(
        place.dir(),
        "mkdir dir; setfacl -d -m u:1234:rwx,g:5678:r-x dir
        touch file; setfacl -m u:1234:rw file; umask 077; touch dir/new; mkdir dir/sub",
    )?;
    place.remount()?;
    let acl = |name: &str| sh(place.dir(), &format!("getfacl -cnE {name}")).unwrap();
    assert!(acl("file").contains("user:1234:rw-"), "{}", acl("file"));
    // A default ACL takes the place of the umask.
    assert!(acl("dir/new").contains("user:1234:rwx"));
    assert!(acl("dir/new").contains("mask::rw-"), "{}", acl("dir/new"));
    assert!(acl("dir/sub").contains("default:group:5678:r-x"));
    assert!(!acl("dir/new").contains("default:"));
    sh(place.dir(), "setfacl -b file; setfacl -k dir")?;
    assert!(!acl("file").contains("1234"));
    assert!(!acl("dir").contains("default:"));
    // chmod of the group bits moves the mask.
    sh(place.dir(), "chmod 700 dir/new")?;
    assert!(acl("dir/new").contains("mask::---"), "{}", acl("dir/new"));
    place.finish()
}

/// Takes a lock whose holder was closed. Another test may be between fork and
/// exec, and its child still holds what that was.
fn take_after_close(take: impl Fn() -> bool) {
    let closed = Instant::now();
    while !take() {
        assert!(
            closed.elapsed() < Duration::from_secs(10),
            "kept after close"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn flock_keeps_others_out() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    let open = || File::create(place.path("lock")).unwrap();
    let (first, second) = (open(), open());
    let try_exclusive = FlockOperation::NonBlockingLockExclusive;
    sys::flock(&first, FlockOperation::LockExclusive)?;
    assert_eq!(sys::flock(&second, try_exclusive), Err(Errno::WOULDBLOCK));
    sys::flock(&first, FlockOperation::LockShared)?;
    sys::flock(&second, FlockOperation::NonBlockingLockShared)?;
    assert_eq!(sys::flock(&second, try_exclusive), Err(Errno::WOULDBLOCK));
    drop(first);
    take_after_close(|| sys::flock(&second, try_exclusive).is_ok());
    // One that waits gets it when it is free.
    let waiting = open();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| sys::flock(&waiting, FlockOperation::LockExclusive));
        thread::sleep(Duration::from_millis(100));
        assert!(!waiter.is_finished());
        sys::flock(&second, FlockOperation::Unlock).unwrap();
        waiter.join().unwrap()
    })?;
    drop((second, waiting));
    place.finish()
}

#[test]
fn byte_range_locks_conflict_where_they_overlap() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("file");
    fs::write(&path, vec![0; 1000])?;
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap()
    };
    let (first, second) = (open(), open());
    let range = |kind: i32, start: i64, len: i64| libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    let lock = |file: &File, kind, start, len| {
        nix::fcntl::fcntl(file, FcntlArg::F_OFD_SETLK(&range(kind, start, len)))
    };
    lock(&first, libc::F_WRLCK, 0, 100)?;
    let conflict = lock(&second, libc::F_RDLCK, 50, 10).unwrap_err();
    assert!(matches!(conflict, nix::Error::EAGAIN | nix::Error::EACCES));
    lock(&second, libc::F_WRLCK, 100, 100)?;
    let mut asked = range(libc::F_WRLCK, 0, 0);
    nix::fcntl::fcntl(&second, FcntlArg::F_OFD_GETLK(&mut asked))?;
    assert_eq!(i32::from(asked.l_type), libc::F_WRLCK);
    assert_eq!((asked.l_start, asked.l_len), (0, 100));
    // Freeing the middle leaves both ends locked.
    lock(&first, libc::F_UNLCK, 40, 20)?;
    lock(&second, libc::F_WRLCK, 45, 10)?;
    assert!(lock(&second, libc::F_WRLCK, 39, 1).is_err());
    assert!(lock(&second, libc::F_WRLCK, 60, 1).is_err());
    // A process's own locks conflict with those of an open file.
    let process = nix::fcntl::fcntl(&first, FcntlArg::F_SETLK(&range(libc::F_WRLCK, 150, 1)));
    assert!(process.is_err());
    drop(second);
    take_after_close(|| lock(&first, libc::F_WRLCK, 0, 0).is_ok());
    drop(first);
    place.finish()
}
