//! Prototypes behind docs/decisions: what the kernel's newer ways to a FUSE daemon would give.
//! The daemon is a process of its own, and each round mounts anew.

mod daemon;
mod device;
mod files;
mod load;
mod ring;
mod scene;
mod table;
mod wire;

use std::{
    env,
    fs::{self, File},
    io,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use daemon::{How, Way};
use load::Done;
use scene::Scene;
use table::Table;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", device, dir, how] => {
            let device = device.parse().map_err(io::Error::other)?;
            daemon::serve(device, Path::new(dir), How::parse(how)?)
        }
        ["transport"] => rounds(5, transport),
        ["passthrough"] => rounds(5, passthrough),
        ["opens", ref others @ ..] => rounds(5, |table| opens(table, others)),
        ["rules"] => rules(),
        ["takeover"] => takeover(),
        _ => Err(io::Error::other(
            "usage: transport | passthrough | opens [DIR...] | rules | takeover, as root",
        )),
    }
}

fn rounds(count: usize, round: impl Fn(&mut Table) -> io::Result<()>) -> io::Result<()> {
    let mut table = Table::default();
    for _ in 0..count {
        round(&mut table)?;
    }
    table.print();
    Ok(())
}

/// The same requests over /dev/fuse and over io_uring.
fn transport(table: &mut Table) -> io::Result<()> {
    let ways = [
        ("/dev/fuse", Way::Device),
        ("io_uring", Way::Ring),
        ("io_uring, deferred", Way::DeferredRing),
        ("io_uring, not pinned", Way::FreeRing),
    ];
    for (column, way) in ways {
        let how = How {
            way,
            ttl: 0,
            ..How::PLAIN
        };
        Scene::with(how, |scene| {
            for clients in [1, 4] {
                let run = scene.measure(|| load::stat(&scene.path("direct"), clients))?;
                table.both(&format!("fstat, {clients} clients"), column, run);
                let file = File::open(scene.path("direct"))?;
                let run = scene.measure(|| load::random(&file, clients))?;
                table.both(&format!("4 KiB random, {clients} clients"), column, run);
            }
            let file = File::open(scene.path("direct"))?;
            let run = scene.measure(|| load::sequential(&file))?;
            table.bytes("1 MiB sequential, direct", column, run);
            let file = File::open(scene.path("cold"))?;
            let run = scene.measure(|| load::sequential(&file))?;
            table.bytes("1 MiB sequential, read ahead", column, run);
            Ok(())
        })?;
    }
    Ok(())
}

/// Contents from the daemon through the page cache, past it, and from a file in memory.
fn passthrough(table: &mut Table) -> io::Result<()> {
    let ways = [
        ("kept", "cached"),
        ("direct", "direct"),
        ("through", "passthrough"),
    ];
    for (name, column) in ways {
        // A mount for each order of reading: the first read is cold only once.
        Scene::with(How::PLAIN, |scene| {
            let (file, opened) = open(scene, name)?;
            table.add("first open, ms", column, opened.micros() / 1e3);
            let run = scene.measure(|| load::random_cold(&file, 4096))?;
            table.both("4 KiB random, first", column, run);
            Ok(())
        })?;
        Scene::with(How::PLAIN, |scene| {
            let (file, opened) = open(scene, name)?;
            let first = scene.measure(|| load::sequential(&file))?;
            let whole = Done {
                took: first.done.took + opened.took,
                ..first.done
            };
            table.bytes("1 MiB sequential, first", column, first);
            table.add("the same with open, MB/s", column, whole.per_second() / 1e6);
            let run = scene.measure(|| load::sequential(&file))?;
            table.bytes("1 MiB sequential, again", column, run);
            for clients in [1, 4] {
                let run = scene.measure(|| load::random(&file, clients))?;
                table.both(
                    &format!("4 KiB random, again, {clients} clients"),
                    column,
                    run,
                );
            }
            drop(file);
            let (_, opened) = open(scene, name)?;
            table.add("second open, us", column, opened.micros());
            Ok(())
        })?;
    }
    Ok(())
}

fn open(scene: &Scene, name: &str) -> io::Result<(File, Done)> {
    let began = Instant::now();
    let file = File::open(scene.path(name))?;
    let took = began.elapsed();
    Ok((file, Done { count: 1, took }))
}

/// A small file read again: with `open` answered, with ENOSYS to it, and in other directories.
fn opens(table: &mut Table, others: &[&str]) -> io::Result<()> {
    for (column, opens) in [("open answered", true), ("no open", false)] {
        Scene::with(
            How {
                opens,
                ..How::PLAIN
            },
            |scene| {
                let path = scene.path("small");
                // The kernel learns how it is, and has the page.
                drop(File::open(&path)?);
                load::open_read_close(&path, 1)?;
                for clients in [1, 2, 4] {
                    let run = scene.measure(|| load::open_read_close(&path, clients))?;
                    table.both(
                        &format!("open + read + close, {clients} clients"),
                        column,
                        run,
                    );
                }
                Ok(())
            },
        )?;
    }
    for dir in others {
        let path = scene::small_file(Path::new(dir))?;
        for clients in [1, 2, 4] {
            let run = scene::measure_here(|| load::open_read_close(&path, clients))?;
            table.both(&format!("open + read + close, {clients} clients"), dir, run);
        }
        fs::remove_file(path)?;
    }
    Ok(())
}

/// What the kernel does at the edges.
fn rules() -> io::Result<()> {
    for opens in [true, false] {
        let said = Scene::with(
            How {
                opens,
                ..How::PLAIN
            },
            |scene| {
                for number in 0..100 {
                    drop(File::open(scene.path("small"))?);
                    drop(File::create(scene.path(&format!("new{number}")))?);
                }
                Ok(())
            },
        )?;
        println!("opens answered: {opens}; 100 times open and close, 100 times create and close:");
        print!("{said}");
    }
    Scene::with(
        How {
            ttl: 0,
            opens: false,
            ..How::PLAIN
        },
        |scene| {
            println!("an unlinked file without open: {}", scene.unlinked()?);
            Ok(())
        },
    )?;
    Scene::with(How::PLAIN, |scene| {
        println!("a file that is open for passthrough: {}", scene.edges()?);
        Ok(())
    })?;
    Ok(())
}

/// What becomes of a request that a daemon had when it was killed, and of later ones.
fn takeover() -> io::Result<()> {
    for (name, way) in [("/dev/fuse", Way::Device), ("io_uring", Way::Ring)] {
        let how = How { way, ..How::PLAIN };
        Scene::with(how, |scene| {
            let (had, later) = (read_once(scene, "stuck"), |scene: &Scene| {
                read_once(scene, "direct")
            });
            thread::sleep(Duration::from_millis(200));
            scene.replace(How { again: true, ..how })?;
            let said = |answer: &mpsc::Receiver<io::Result<()>>| match answer
                .recv_timeout(Duration::from_secs(5))
            {
                Ok(Ok(())) => "answered".into(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer within 5 s".into(),
            };
            let (had, later): (String, String) = (said(&had), said(&later(scene)));
            println!("{name}: what the dead daemon had: {had}; later: {later}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Reads a page on a thread of its own.
fn read_once(scene: &Scene, name: &str) -> mpsc::Receiver<io::Result<()>> {
    let (path, (send, receive)) = (scene.path(name), mpsc::channel());
    thread::spawn(move || {
        let read = File::open(path).and_then(|file| load::random_cold(&file, 1));
        let _ = send.send(read.map(|_| ()));
    });
    receive
}
