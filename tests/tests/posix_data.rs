//! Contents: what reads see of what writers did.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    thread,
};

use kiseki_tests::{
    Content, Place, Result, have, is_root, run,
    run::{copy_program, sh},
    run_in, skip, tree,
};
use nix::libc;

#[test]
fn unlinked_open_file_lives_until_closed_and_stays_away() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("file");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    file.write_all(b"before")?;
    fs::remove_file(&path)?;
    file.write_all(b" after")?;
    file.set_len(400_000)?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let mut read = vec![0; 12];
    file.read_exact(&mut read)?;
    assert_eq!(read, b"before after");
    assert_eq!(file.metadata()?.nlink(), 0);
    assert_eq!(file.metadata()?.len(), 400_000);
    // A new file under the name is another file.
    fs::write(&path, "new")?;
    file.write_all(b"to the old one")?;
    drop(file);
    assert_eq!(fs::read(&path)?, b"new");
    fs::remove_file(&path)?;
    assert!(tree::names(place.dir())?.is_empty());
    place.remount()?;
    assert!(tree::names(place.dir())?.is_empty(), "it came back");
    place.finish()
}

#[test]
fn file_replaced_by_rename_stays_readable_through_its_descriptor() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    let old = Content(1);
    old.create(&place.path("file"), 3 << 20)?;
    let open = File::open(place.path("file"))?;
    fs::write(place.path("next"), "new")?;
    fs::rename(place.path("next"), place.path("file"))?;
    let mut read = vec![0; 3 << 20];
    open.read_exact_at(&mut read, 0)?;
    assert!(read == old.bytes(0, 3 << 20));
    assert_eq!(fs::read(place.path("file"))?, b"new");
    drop(open);
    place.finish()
}

#[test]
fn two_writers_on_disjoint_ranges_keep_both() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("file");
    File::create(&path)?;
    // Pieces that share pages, frames and chunks.
    const PIECE: usize = 1000;
    const COUNT: u64 = 3000;
    thread::scope(|scope| {
        for writer in 0..2 {
            let path = &path;
            scope.spawn(move || {
                let file = OpenOptions::new().write(true).open(path).unwrap();
                for n in (writer..COUNT).step_by(2) {
                    Content(7).write_at(&file, n * PIECE as u64, PIECE).unwrap();
                }
            });
        }
    });
    Content(7).verify(&path, COUNT * PIECE as u64)?;
    place.remount()?;
    Content(7).verify(&path, COUNT * PIECE as u64)?;
    place.finish()
}

#[test]
fn file_being_written_reads_as_far_as_it_is() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("file");
    let mut writer = File::create(&path)?;
    let mut reader = File::open(&path)?;
    for n in 0..200_u64 {
        let piece = Content(3).bytes(n * 5000, 5000);
        writer.write_all(&piece)?;
        let mut read = Vec::new();
        reader.read_to_end(&mut read)?;
        assert!(read == piece, "piece {n}: {} bytes of 5000", read.len());
        assert_eq!(fs::metadata(&path)?.len(), (n + 1) * 5000);
    }
    drop((writer, reader));
    place.finish()
}

#[test]
fn append_from_two_processes_loses_nothing() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    sh(
        place.dir(),
        "append() { for n in $(seq 1 400); do echo $1 $n >> log; done; }
        append a & append b & wait",
    )?;
    let log = fs::read_to_string(place.path("log"))?;
    for writer in ["a", "b"] {
        let wanted: Vec<_> = (1..=400).map(|n| format!("{writer} {n}")).collect();
        let found: Vec<_> = log.lines().filter(|l| l.starts_with(writer)).collect();
        assert_eq!(found, wanted);
    }
    place.finish()
}

#[test]
fn memory_map_reads_and_writes_the_file() -> Result {
    use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("file");
    const LEN: usize = 1 << 20;
    Content(5).create(&path, LEN as u64)?;
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let (access, kind) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a fresh mapping that nothing else refers to, unmapped below
    // after the last use of the slice made from it.
    let mapped = unsafe { mmap(std::ptr::null_mut(), LEN, access, kind, &file, 0)? };
    let bytes = unsafe { std::slice::from_raw_parts_mut(mapped.cast::<u8>(), LEN) };
    assert!(bytes == Content(5).bytes(0, LEN));
    bytes[5000..9000].fill(0xab);
    unsafe { msync(mapped, LEN, MsyncFlags::SYNC)? };
    let mut wanted = Content(5).bytes(0, LEN);
    wanted[5000..9000].fill(0xab);
    assert!(fs::read(&path)? == wanted);
    // A map outlives the descriptor it was made from, and needs no msync.
    drop(file);
    bytes[70_000..200_000].fill(0xcd);
    wanted[70_000..200_000].fill(0xcd);
    unsafe { munmap(mapped, LEN)? };
    assert!(fs::read(&path)? == wanted);
    place.remount()?;
    assert!(fs::read(&path)? == wanted);
    place.finish()
}

#[test]
fn direct_io_agrees_with_buffered_io() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("file");
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path);
    let direct = match opened {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            skip("O_DIRECT is not supported here");
            return Ok(());
        }
        other => other?,
    };
    // Aligned by hand, since the standard library has no aligned buffers.
    let mut memory = vec![0; (256 << 10) + 4096];
    let start = memory.as_ptr().align_offset(4096);
    let buffer = &mut memory[start..start + (256 << 10)];
    Content(9).fill(0, buffer);
    direct.write_all_at(buffer, 0)?;
    Content(9).verify(&path, 256 << 10)?;
    let buffered = OpenOptions::new().write(true).open(&path)?;
    Content(10).write_at(&buffered, 100_000, 5000)?;
    direct.read_exact_at(buffer, 0)?;
    assert!(buffer[100_000..105_000] == Content(10).bytes(100_000, 5000));
    drop((direct, buffered));
    place.remount()?;
    assert!(fs::read(&path)?[100_000..105_000] == Content(10).bytes(100_000, 5000));
    place.finish()
}

#[test]
fn truncate_down_and_up_leaves_zeros() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    // Around the sizes where a file stops being small, and odd ones.
    let sizes = [0, 1, 100, 4095, 4096, 4097, 20_000, 65_537, 3 << 20];
    let name = |from: u64, to: u64| format!("{from}-{to}");
    for from in sizes {
        for to in sizes {
            let path = place.path(name(from, to));
            Content(from).create(&path, from)?;
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(to)?;
            file.set_len(from.max(to) + 5)?;
        }
    }
    let check = |place: &Place| {
        for from in sizes {
            for to in sizes {
                let found = fs::read(place.path(name(from, to))).unwrap();
                let kept = from.min(to) as usize;
                let mut wanted = Content(from).bytes(0, kept);
                wanted.resize(from.max(to) as usize + 5, 0);
                assert!(found == wanted, "{from} cut to {to}");
            }
        }
    };
    check(&place);
    place.remount()?;
    check(&place);
    place.finish()
}

#[test]
fn overwrites_of_any_size_match_a_model() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("file");
    let mut model = Vec::new();
    let mut dice = kiseki_tests::content::Dice::new(11);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)?;
    for step in 0..600 {
        let at = dice.below(2 << 20) as usize;
        let size = match dice.below(4) {
            0 => 1,
            1 => dice.below(100),
            2 => dice.below(10_000),
            _ => dice.below(200_000),
        } as usize;
        let data = Content(step).bytes(0, size);
        file.write_all_at(&data, at as u64)?;
        if size > 0 {
            model.resize(model.len().max(at + size), 0);
            model[at..at + size].copy_from_slice(&data);
        }
        match dice.below(40) {
            0 => {
                let len = dice.below(3 << 20);
                file.set_len(len)?;
                model.resize(len as usize, 0);
            }
            1 => file.sync_data()?,
            2 => {
                drop(file);
                place.remount()?;
                file = OpenOptions::new().read(true).write(true).open(&path)?;
            }
            _ => {}
        }
        let (at, len) = (dice.below(2 << 20) as usize, dice.below(100_000) as usize);
        let end = (at + len).min(model.len());
        let mut found = vec![0; end.saturating_sub(at)];
        file.read_exact_at(&mut found, at as u64)?;
        assert!(
            found == model[end - found.len()..end],
            "step {step} at {at}"
        );
    }
    drop(file);
    assert!(fs::read(&path)? == model);
    place.remount()?;
    assert!(fs::read(&path)? == model);
    place.finish()
}

#[test]
fn programs_run_from_the_mount() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    copy_program("/bin/true", place.path("program"))?;
    fs::write(place.path("script"), "#!/bin/sh\necho from the script\n")?;
    fs::set_permissions(place.path("script"), fs::Permissions::from_mode(0o755))?;
    place.remount()?;
    let program = place.path("program").to_str().unwrap().to_owned();
    run::<&str>(&program, &[])?.ok()?;
    let script = place.path("script").to_str().unwrap().to_owned();
    assert_eq!(run::<&str>(&script, &[])?.ok()?, "from the script\n");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644))?;
    assert_eq!(
        run::<&str>(&program, &[])?.code,
        126,
        "no x bit, and it ran"
    );
    place.finish()
}

#[test]
fn running_program_cannot_be_written() -> Result {
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    copy_program("/bin/sleep", place.path("program"))?;
    let mut child = std::process::Command::new(place.path("program"))
        .arg("30")
        .spawn()?;
    let opened = OpenOptions::new().write(true).open(place.path("program"));
    child.kill()?;
    child.wait()?;
    assert_eq!(opened.unwrap_err().raw_os_error(), Some(libc::ETXTBSY));
    place.finish()
}

#[test]
fn copying_over_an_existing_file_replaces_it() -> Result {
    let Some(mut place) = Place::open()? else {
        return Ok(());
    };
    let (long, short) = (place.outside().join("long"), place.outside().join("short"));
    Content(1).create(&long, 2 << 20)?;
    Content(2).create(&short, 10_000)?;
    for (from, seed, len) in [(&long, 1, 2 << 20), (&short, 2, 10_000)] {
        run_in(place.dir(), "cp", &[from.as_os_str(), "file".as_ref()])?.ok()?;
        Content(seed).verify(&place.path("file"), len)?;
    }
    place.remount()?;
    Content(2).verify(&place.path("file"), 10_000)?;
    place.finish()
}

#[test]
fn suid_is_cleared_when_another_user_writes() -> Result {
    if !is_root() || !have("setpriv") {
        skip("needs root and setpriv (package util-linux) to write as another user");
        return Ok(());
    }
    let Some(place) = Place::open()? else {
        return Ok(());
    };
    let path = place.path("program");
    fs::write(&path, "original")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6777))?;
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o6777);
    let script = "echo changed >> program";
    let mut args = vec!["--reuid=65534", "--regid=65534", "--clear-groups"];
    args.extend(["sh", "-c", script]);
    run_in(place.dir(), "setpriv", &args)?.ok()?;
    assert_eq!(mode(), 0o0777, "suid and sgid must go");
    place.finish()
}
