//! Names: what directories hold, and what renames and links do to it.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    },
    path::Path,
};

use anyhow::ensure;
use kiseki_tests::{Place, Result, is_root, run::sh, skip, tree};
use rustix::fs::{self as sys, CWD, Mode, RenameFlags};

fn content(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), rustix::io::Errno> {
    sys::renameat_with(CWD, from, CWD, to, flags)
}

#[test]
fn new_name_answers_stat_right_after_rename() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    for n in 0..300 {
        let (old, new) = (place.path(format!("old{n}")), place.path(format!("new{n}")));
        fs::write(&old, format!("{n}"))?;
        // Ask for the new name first, so that a cached "no such file" is caught.
        assert!(fs::metadata(&new).is_err());
        fs::rename(&old, &new)?;
        assert_eq!(content(&new), format!("{n}"));
        assert_eq!(
            fs::metadata(&old).unwrap_err().kind(),
            ErrorKind::NotFound,
            "the old name still answers"
        );
    }
    place.finish()
}

#[test]
fn rename_over_a_file_shows_the_new_contents_at_once() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    let (target, temporary) = (place.path("target"), place.path("temporary"));
    for n in 0..200 {
        let text = format!("version {n} {}", "x".repeat(n * 50));
        fs::write(&temporary, &text)?;
        fs::rename(&temporary, &target)?;
        assert_eq!(content(&target), text);
        assert_eq!(fs::metadata(&target)?.len(), text.len() as u64);
    }
    assert_eq!(tree::names(place.dir())?, [b"target"]);
    place.finish()
}

#[test]
fn rename_while_open_for_write_keeps_the_writes_under_the_new_name() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let mut file = File::create(place.path("old"))?;
    file.write_all(b"before ")?;
    fs::rename(place.path("old"), place.path("new"))?;
    file.write_all(b"after")?;
    drop(file);
    assert_eq!(content(place.path("new")), "before after");
    place.remount()?;
    assert_eq!(content(place.path("new")), "before after");
    assert_eq!(tree::names(place.dir())?, [b"new"]);
    place.finish()
}

#[test]
fn rename_flags_noreplace_and_exchange() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    let (a, b, dir) = (place.path("a"), place.path("b"), place.path("dir"));
    fs::write(&a, "a")?;
    fs::write(&b, "b")?;
    fs::create_dir(&dir)?;
    fs::write(dir.join("inside"), "")?;
    let noreplace = rename_with(&a, &b, RenameFlags::NOREPLACE);
    assert_eq!(noreplace, Err(rustix::io::Errno::EXIST));
    assert_eq!((content(&a), content(&b)), ("a".into(), "b".into()));
    rename_with(&a, &place.path("c"), RenameFlags::NOREPLACE)?;
    rename_with(&place.path("c"), &b, RenameFlags::EXCHANGE)?;
    assert_eq!(content(place.path("c")), "b");
    assert_eq!(content(&b), "a");
    rename_with(&b, &dir, RenameFlags::EXCHANGE)?;
    assert_eq!(content(&dir), "a");
    assert!(b.join("inside").exists());
    let missing = rename_with(&b, &place.path("none"), RenameFlags::EXCHANGE);
    assert_eq!(missing, Err(rustix::io::Errno::NOENT));
    place.finish()
}

#[test]
fn rename_of_a_directory_into_itself_is_refused() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    fs::create_dir_all(place.path("a/b/c"))?;
    let error = fs::rename(place.path("a"), place.path("a/b/c/a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    fs::write(place.path("file"), "")?;
    let onto_dir = fs::rename(place.path("file"), place.path("a")).unwrap_err();
    assert_eq!(onto_dir.kind(), ErrorKind::IsADirectory);
    let onto_file = fs::rename(place.path("a"), place.path("file")).unwrap_err();
    assert_eq!(onto_file.kind(), ErrorKind::NotADirectory);
    fs::create_dir(place.path("d"))?;
    let full = fs::rename(place.path("d"), place.path("a")).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::DirectoryNotEmpty);
    assert!(place.path("a/b/c").is_dir());
    place.finish()
}

#[test]
fn listing_shows_untouched_entries_once_while_others_come_and_go() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    let dir = place.path("dir");
    fs::create_dir(&dir)?;
    for n in 0..2000 {
        File::create(dir.join(format!("stays{n}")))?;
        File::create(dir.join(format!("goes{n}")))?;
    }
    let mut seen = BTreeMap::<Vec<u8>, u32>::new();
    for (n, entry) in fs::read_dir(&dir)?.enumerate() {
        *seen
            .entry(entry?.file_name().as_bytes().to_vec())
            .or_default() += 1;
        if n < 2000 {
            fs::remove_file(dir.join(format!("goes{n}")))?;
            File::create(dir.join(format!("comes{n}")))?;
        }
        ensure!(n < 20_000, "the listing does not end");
    }
    for n in 0..2000 {
        let count = seen.get(format!("stays{n}").as_bytes()).copied();
        assert_eq!(count, Some(1), "stays{n} was listed {count:?} times");
    }
    assert!(seen.values().all(|count| *count == 1));
    place.finish()
}

#[test]
fn listing_of_a_subdirectory_is_its_own() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    fs::create_dir_all(place.path("outer/inner"))?;
    fs::write(place.path("at_root"), "")?;
    fs::write(place.path("outer/file"), "")?;
    let names: BTreeSet<_> = tree::names(&place.path("outer"))?.into_iter().collect();
    assert_eq!(names, [b"file".to_vec(), b"inner".to_vec()].into());
    assert!(tree::names(&place.path("outer/inner"))?.is_empty());
    let listed = sh(place.dir(), "find . | sort | tr '\\n' ' '")?;
    assert_eq!(listed, ". ./at_root ./outer ./outer/file ./outer/inner ");
    sh(place.dir(), "rm -rf outer")?;
    assert_eq!(tree::names(place.dir())?, [b"at_root"]);
    place.finish()
}

#[test]
fn looking_for_names_creates_none() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    for n in 0..50 {
        assert!(fs::metadata(place.path(format!("absent{n}"))).is_err());
        assert!(File::open(place.path(format!("absent{n}/below"))).is_err());
    }
    assert!(tree::names(place.dir())?.is_empty());
    place.finish()
}

#[test]
fn names_are_bytes_up_to_255_of_them() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let longest = vec![b'n'; 255];
    let odd: [&[u8]; 6] = [
        b"\xff\xfe\x80not utf-8",
        b" ",
        b"-rf",
        b"new\nline",
        "\u{1f980} \u{e9}".as_bytes(),
        &longest,
    ];
    for name in odd {
        fs::write(place.path(OsStr::from_bytes(name)), name)?;
    }
    let too_long = fs::write(place.path("n".repeat(256)), "").unwrap_err();
    assert_eq!(
        too_long.raw_os_error(),
        Some(nix::errno::Errno::ENAMETOOLONG as i32)
    );
    place.remount()?;
    let wanted: BTreeSet<_> = odd.iter().map(|name| name.to_vec()).collect();
    let found: BTreeSet<_> = tree::names(place.dir())?.into_iter().collect();
    assert_eq!(wanted, found);
    for name in odd {
        assert_eq!(fs::read(place.path(OsStr::from_bytes(name)))?, name);
    }
    place.finish()
}

#[test]
fn hard_links_share_one_inode() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    fs::create_dir(place.path("dir"))?;
    fs::write(place.path("a"), "one")?;
    fs::hard_link(place.path("a"), place.path("b"))?;
    fs::hard_link(place.path("b"), place.path("dir/c"))?;
    let again = fs::hard_link(place.path("a"), place.path("b")).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    assert!(fs::hard_link(place.path("dir"), place.path("d")).is_err());
    fs::write(place.path("dir/c"), "changed through a link")?;
    place.remount()?;
    let (a, c) = (
        fs::metadata(place.path("a"))?,
        fs::metadata(place.path("dir/c"))?,
    );
    assert_eq!((a.ino(), a.nlink()), (c.ino(), 3));
    assert_eq!(content(place.path("a")), "changed through a link");
    fs::remove_file(place.path("a"))?;
    assert_eq!(fs::metadata(place.path("b"))?.nlink(), 2);
    // Renaming a name onto another name of the same inode changes nothing.
    fs::rename(place.path("b"), place.path("dir/c"))?;
    assert_eq!(content(place.path("b")), "changed through a link");
    place.finish()
}

#[test]
fn symlinks_hold_targets_of_4095_bytes() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let long = "t/".repeat(2047) + "t";
    symlink(&long, place.path("long"))?;
    symlink(OsStr::from_bytes(b"\xffnowhere"), place.path("dangling"))?;
    fs::write(place.path("file"), "through")?;
    symlink("file", place.path("short"))?;
    place.remount()?;
    assert_eq!(
        fs::read_link(place.path("long"))?.as_os_str(),
        long.as_str()
    );
    assert_eq!(fs::symlink_metadata(place.path("long"))?.len(), 4095);
    assert_eq!(
        fs::read_link(place.path("dangling"))?
            .as_os_str()
            .as_bytes(),
        b"\xffnowhere"
    );
    assert_eq!(content(place.path("short")), "through");
    assert!(symlink("x", place.path("short")).is_err());
    assert!(symlink("t".repeat(4096), place.path("longer")).is_err());
    place.finish()
}

#[test]
fn special_files_keep_their_kind() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let make = |name: &str, kind, dev| {
        let mode = Mode::from_raw_mode(0o640);
        sys::mknodat(CWD, place.path(name), kind, mode, dev)
    };
    make("fifo", sys::FileType::Fifo, 0)?;
    make("socket", sys::FileType::Socket, 0)?;
    if is_root() {
        make("null", sys::FileType::CharacterDevice, sys::makedev(1, 3))?;
    }
    place.remount()?;
    let kind = |name: &str| fs::symlink_metadata(place.path(name)).unwrap();
    assert!(kind("fifo").file_type().is_fifo());
    assert!(kind("socket").file_type().is_socket());
    assert_eq!(kind("fifo").permissions().mode() & 0o7777, 0o640);
    if is_root() {
        assert!(kind("null").file_type().is_char_device());
        assert_eq!(kind("null").rdev(), sys::makedev(1, 3));
    }
    let passed = sh(place.dir(), "echo through > fifo & cat fifo; wait")?;
    assert_eq!(passed, "through\n");
    place.finish()
}

#[test]
fn directories_count_their_links_and_changes() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    let dir = place.path("dir");
    fs::create_dir(&dir)?;
    let meta = || fs::metadata(&dir).unwrap();
    let mtime = || (meta().mtime(), meta().mtime_nsec());
    let pause = || std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(meta().nlink(), 2);
    type Step<'a> = &'a dyn Fn() -> std::io::Result<()>;
    let steps: [(&str, Step, u64); 6] = [
        ("mkdir", &|| fs::create_dir(dir.join("a")), 3),
        ("create", &|| fs::write(dir.join("f"), ""), 3),
        ("rename", &|| fs::rename(dir.join("f"), dir.join("g")), 3),
        (
            "move out",
            &|| fs::rename(dir.join("a"), place.path("a")),
            2,
        ),
        ("move in", &|| fs::rename(place.path("a"), dir.join("b")), 3),
        ("rmdir", &|| fs::remove_dir(dir.join("b")), 2),
    ];
    for (what, step, links) in steps {
        let before = mtime();
        pause();
        step()?;
        assert!(mtime() > before, "{what} left the directory's mtime");
        assert_eq!(meta().nlink(), links, "links after {what}");
    }
    let before = mtime();
    pause();
    fs::write(dir.join("g"), "contents are no change of the directory")?;
    assert_eq!(mtime(), before);
    assert!(fs::remove_dir(&dir).is_err(), "not empty");
    File::open(&dir)?.sync_all()?;
    place.finish()
}

#[test]
fn a_removed_working_directory_is_empty_and_takes_nothing() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    if !Path::new("/proc/self/cwd").exists() {
        skip("needs /proc");
        return Ok(());
    }
    let said = sh(
        place.dir(),
        "mkdir gone; cd gone; rmdir ../gone
        if touch file 2>/dev/null; then echo created; fi
        ls -A . | wc -l; cd \"$OLDPWD\" && ls -A | wc -l",
    )?;
    assert_eq!(said, "0\n0\n");
    place.finish()
}
