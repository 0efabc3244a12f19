//! The daemon dies, again and again, while programs use the mount. They see a
//! pause and nothing else.
//!
//! Each program of `programs_do_not_notice_that_the_daemon_is_killed` knows
//! what must be there after every call that returned, so a change that was
//! answered and lost, or done twice, fails it.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use kiseki_tests::{
    Content, Mount, Result, Setup,
    content::Dice,
    daemon, env_number, need_tools,
    run::{copy_program, sh},
    sources::git_repository,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::fs::{FallocateFlags, fallocate};

/// How long a mount may take until another daemon answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Kills the daemon that serves `mount`; the one that keeps it stays.
fn kill_daemon(mount: &Mount) -> Result<i32> {
    let start = Instant::now();
    loop {
        if let Some(pid) = daemon::serving(mount.store()) {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            return Ok(pid);
        }
        ensure!(start.elapsed() < PATIENCE, "no daemon took over");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until commands find a daemon, which is a moment after programs do.
fn wait_for_commands(mount: &Mount) -> Result {
    let start = Instant::now();
    while let Err(error) = mount.status() {
        if start.elapsed() > PATIENCE {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A program that works until it is told to stop. What it answers is how much
/// it did.
struct Program {
    name: &'static str,
    thread: JoinHandle<Result<u64>>,
}

impl Program {
    fn start(
        name: &'static str,
        stop: &Arc<AtomicBool>,
        mut step: impl FnMut() -> Result + Send + 'static,
    ) -> Program {
        let stop = Arc::clone(stop);
        let thread = thread::spawn(move || {
            let mut steps = 0;
            while !stop.load(Ordering::Relaxed) {
                step().with_context(|| format!("step {steps} of {name}"))?;
                steps += 1;
            }
            Ok(steps)
        });
        Program { name, thread }
    }

    fn finish(self) -> Result {
        let steps = self.thread.join().unwrap()?;
        println!("{}: {steps} steps", self.name);
        ensure!(steps > 0, "{} did nothing", self.name);
        Ok(())
    }
}

/// Random changes of one file, each compared with a copy in memory.
fn change_a_file(path: PathBuf, seed: u64) -> impl FnMut() -> Result + Send {
    const MOST: u64 = 600_000;
    let mut dice = Dice::new(seed);
    let mut model: Vec<u8> = Vec::new();
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    let mut step = seed << 32;
    move || {
        step += 1;
        let (at, len) = (dice.below(MOST), 1 + dice.below(60_000));
        let end = (at + len) as usize;
        match dice.below(16) {
            0..6 => {
                let data = Content(step).bytes(0, len as usize);
                file.write_all_at(&data, at)?;
                model.resize(model.len().max(end), 0);
                model[at as usize..end].copy_from_slice(&data);
            }
            6 => {
                file.set_len(at)?;
                model.resize(at as usize, 0);
            }
            7 => {
                let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&file, how, at, len)?;
                let stop = end.min(model.len());
                if (at as usize) < stop {
                    model[at as usize..stop].fill(0);
                }
            }
            8 | 9 => {
                fallocate(&file, FallocateFlags::ZERO_RANGE, at, len)?;
                model.resize(model.len().max(end), 0);
                model[at as usize..end].fill(0);
            }
            10 => file.sync_all()?,
            11 => file = File::options().read(true).write(true).open(&path)?,
            _ => {
                let mut found = vec![0; len as usize];
                let mut read = 0;
                while read < found.len() {
                    match file.read_at(&mut found[read..], at + read as u64)? {
                        0 => break,
                        more => read += more,
                    }
                }
                let start = (at as usize).min(model.len());
                let must = &model[start..end.min(model.len()).max(start)];
                ensure!(found[..read] == *must, "read of {len} at {at}");
            }
        }
        let len = file.metadata()?.len();
        ensure!(
            len == model.len() as u64,
            "{len} bytes, not {}",
            model.len()
        );
        Ok(())
    }
}

/// Names that come and go, where doing something twice is an error.
fn change_names(dir: PathBuf, seed: u64) -> impl FnMut() -> Result + Send {
    fs::create_dir(&dir).unwrap();
    let mut dice = Dice::new(seed);
    let mut names: BTreeSet<u64> = BTreeSet::new();
    let mut step = 0;
    move || {
        step += 1;
        let path = |name: u64| dir.join(name.to_string());
        let any = |dice: &mut Dice, names: &BTreeSet<u64>| {
            let nth = dice.below(names.len().max(1) as u64) as usize;
            names.iter().nth(nth).copied()
        };
        match (dice.below(8), any(&mut dice, &names)) {
            (0, _) | (_, None) => drop(File::create_new(path(step))?),
            (1, _) => fs::create_dir(path(step))?,
            (2, _) => symlink("nowhere", path(step))?,
            (3, Some(from)) if path(from).symlink_metadata()?.is_file() => {
                fs::hard_link(path(from), path(step))?;
            }
            (4 | 5, Some(from)) => {
                fs::rename(path(from), path(step))?;
                names.remove(&from);
            }
            (_, Some(gone)) => {
                if path(gone).symlink_metadata()?.is_dir() {
                    fs::remove_dir(path(gone))?;
                } else {
                    fs::remove_file(path(gone))?;
                }
                names.remove(&gone);
                step -= 1;
            }
        }
        if !path(step)
            .symlink_metadata()
            .is_err_and(|e| e.kind() == io::ErrorKind::NotFound)
        {
            names.insert(step);
        }
        if step.is_multiple_of(50) {
            let found: BTreeSet<u64> = fs::read_dir(&dir)?
                .map(|entry| Ok(entry?.file_name().to_str().unwrap().parse()?))
                .collect::<Result<_>>()?;
            ensure!(found == names, "the names are not what they should be");
        }
        Ok(())
    }
}

/// A log that one program writes and `tail -f` follows.
struct Log {
    path: PathBuf,
    copy: PathBuf,
    tail: Child,
}

impl Log {
    fn start(mount: &Mount) -> Result<Log> {
        let (path, copy) = (mount.path("log"), mount.base().join("tail"));
        File::create(&path)?;
        let tail = Command::new("tail")
            .args(["-n", "+1", "-s", "0.05", "-f"])
            .arg(&path)
            .stdout(File::create(&copy)?)
            .stderr(Stdio::inherit())
            .spawn()?;
        Ok(Log { path, copy, tail })
    }

    fn writer(&self) -> impl FnMut() -> Result + Send + use<> {
        let mut log = OpenOptions::new().append(true).open(&self.path).unwrap();
        let mut line = 0;
        move || {
            line += 1;
            log.write_all(format!("line {line}\n").as_bytes())?;
            thread::sleep(Duration::from_micros(300));
            Ok(())
        }
    }

    /// Both have every line, in order.
    fn check(mut self) -> Result {
        let must = fs::read_to_string(&self.path)?;
        let lines = must.lines().enumerate();
        for (at, line) in lines {
            ensure!(line == format!("line {}", at + 1), "line {at} is {line:?}");
        }
        let start = Instant::now();
        while fs::metadata(&self.copy)?.len() < must.len() as u64 {
            ensure!(start.elapsed() < PATIENCE, "tail -f stopped following");
            ensure!(self.tail.try_wait()?.is_none(), "tail -f ended");
            thread::sleep(Duration::from_millis(20));
        }
        self.tail.kill()?;
        self.tail.wait()?;
        ensure!(
            fs::read_to_string(&self.copy)? == must,
            "tail -f saw other lines"
        );
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = self.tail.kill();
        let _ = self.tail.wait();
    }
}

/// Clones a repository into the mount and checks the clone.
fn clone_repositories(mount: &Mount) -> Result<impl FnMut() -> Result + Send + use<>> {
    let origin = mount.base().join("origin");
    git_repository(&origin)?;
    let dir = mount.path("clones");
    fs::create_dir(&dir)?;
    let mut number = 0;
    Ok(move || {
        number += 1;
        sh(
            &dir,
            &format!(
                "git clone -q --no-local '{}' {number} && cd {number} \
                 && test -z \"$(git status --porcelain)\" && git fsck --strict \
                 && cd .. && rm -rf {number}",
                origin.display()
            ),
        )?;
        Ok(())
    })
}

/// The real fsx, where `scripts/fsx` has installed it.
fn start_fsx(mount: &Mount) -> Result<Option<Child>> {
    let fsx = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/fsx");
    if !fsx.exists() {
        return Ok(None);
    }
    let child = Command::new(fsx)
        .args(["-q", "-N", "100000000", "-S", "7", "-P"])
        .arg(mount.base())
        .arg(mount.path("fsx"))
        .stdout(File::create(mount.base().join("fsx.log"))?)
        .stderr(Stdio::inherit())
        .spawn()?;
    Ok(Some(child))
}

/// Locks and descriptors that are held from before the first kill.
struct Held {
    lock: File,
    unlinked: File,
    len: u64,
}

impl Held {
    fn take(mount: &Mount) -> Result<Held> {
        let lock = File::create(mount.path("lock"))?;
        lock.lock()?;
        let path = mount.path("unlinked");
        let unlinked = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        fs::remove_file(path)?;
        Ok(Held {
            lock,
            unlinked,
            len: 0,
        })
    }

    fn check(&mut self, mount: &Mount) -> Result {
        let other = File::open(mount.path("lock"))?;
        ensure!(
            matches!(other.try_lock(), Err(TryLockError::WouldBlock)),
            "the lock is gone"
        );
        let content = Content(5);
        let more = content.bytes(self.len, 10_000);
        self.unlinked.write_all_at(&more, self.len)?;
        self.len += 10_000;
        let mut found = Vec::new();
        // Its offset is where the last check left it: at the end.
        self.unlinked.read_to_end(&mut found)?;
        ensure!(found == more, "the offset of a descriptor moved");
        let mut all = vec![0; self.len as usize];
        self.unlinked.read_exact_at(&mut all, 0)?;
        ensure!(all == content.bytes(0, self.len as usize), "unlinked file");
        Ok(())
    }
}

#[test]
fn programs_do_not_notice_that_the_daemon_is_killed() -> Result {
    if !need_tools(&["git", "tail"]) {
        return Ok(());
    }
    let Some(mut mount) = Mount::with(Setup {
        args: vec!["--sync-delay".into(), "1s".into()],
        ..Setup::default()
    })?
    else {
        return Ok(());
    };
    let kills = env_number("KISEKI_TAKEOVERS", 40);
    let mut dice = Dice::new(env_number("KISEKI_SEED", 1));
    let stop = Arc::new(AtomicBool::new(false));
    let log = Log::start(&mount)?;
    let mut fsx = start_fsx(&mount)?;
    let mut held = Held::take(&mount)?;
    let programs = [
        Program::start("writer", &stop, change_a_file(mount.path("one"), 1)),
        Program::start("other writer", &stop, change_a_file(mount.path("two"), 2)),
        Program::start("names", &stop, change_names(mount.path("names"), 3)),
        Program::start("log", &stop, log.writer()),
        Program::start("git", &stop, clone_repositories(&mount)?),
    ];
    let mut longest = Duration::ZERO;
    for round in 0..kills {
        thread::sleep(Duration::from_millis(dice.below(400)));
        kill_daemon(&mount)?;
        let start = Instant::now();
        held.check(&mount)
            .with_context(|| format!("kill {round}"))?;
        longest = longest.max(start.elapsed());
        for program in &programs {
            if program.thread.is_finished() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    println!("{kills} kills; the longest pause was {longest:?}");
    stop.store(true, Ordering::Relaxed);
    for program in programs {
        program.finish()?;
    }
    if let Some(fsx) = &mut fsx {
        let ended = fsx.try_wait()?;
        fsx.kill()?;
        fsx.wait()?;
        let said = fs::read_to_string(mount.base().join("fsx.log"))?;
        ensure!(ended.is_none(), "fsx ended: {said}");
    }
    log.check()?;
    held.lock.unlock()?;
    drop(held);
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn what_was_answered_is_there_without_a_sync() -> Result {
    // So long that nothing reaches the disk by itself.
    let Some(mut mount) = Mount::with(Setup {
        args: vec!["--sync-delay".into(), "10m".into()],
        ..Setup::default()
    })?
    else {
        return Ok(());
    };
    let content = Content(9);
    let mut file = File::create(mount.path("large"))?;
    for at in 0..30 {
        file.write_all(&content.bytes(at << 20, 1 << 20))?;
    }
    for name in 0..500 {
        fs::write(mount.path(format!("small-{name}")), format!("{name}"))?;
    }
    for _ in 0..3 {
        kill_daemon(&mount)?;
        content.verify(&mount.path("large"), 30 << 20)?;
        for name in 0..500 {
            let found = fs::read_to_string(mount.path(format!("small-{name}")))?;
            ensure!(found == format!("{name}"));
        }
    }
    drop(file);
    mount.remount()?;
    content.verify(&mount.path("large"), 30 << 20)?;
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn commands_find_the_daemon_that_took_over() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    fs::write(mount.path("a"), "1")?;
    let killed = kill_daemon(&mount)?;
    // The kernel answers only once the next daemon does.
    fs::write(mount.path("b"), "2")?;
    wait_for_commands(&mount)?;
    let pid = mount.status_number("pid")?;
    ensure!(pid != killed as u64, "status names the dead one");
    ensure!(mount.status_number("files")? == 2);
    mount.gc()?;
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn a_daemon_that_is_killed_while_it_is_unmounted_loses_nothing() -> Result {
    let Some(mut mount) = Mount::with(Setup {
        args: vec!["--sync-delay".into(), "10m".into()],
        ..Setup::default()
    })?
    else {
        return Ok(());
    };
    fs::write(mount.path("a"), Content(3).bytes(0, 3 << 20))?;
    let pid = daemon::serving(mount.store()).context("no daemon")?;
    // Stopped, it can write nothing out; the kernel unmounts without it.
    kill(Pid::from_raw(pid), Signal::SIGSTOP)?;
    mount.clear()?;
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    daemon::wait_gone(mount.store())?;
    mount.mount()?;
    Content(3).verify(&mount.path("a"), 3 << 20)?;
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn a_mount_whose_keeper_died_goes_on_and_ends() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    let serving = daemon::serving(mount.store()).context("no daemon")?;
    for pid in daemon::of_store(mount.store()) {
        if pid != serving {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        }
    }
    fs::write(mount.path("a"), "1")?;
    ensure!(mount.status_number("pid")? == serving as u64);
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn an_unmount_during_a_takeover_waits_for_its_end() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    for round in 0..8 {
        fs::write(mount.path("a"), round.to_string())?;
        kill_daemon(&mount)?;
        let point = mount.dir().to_str().context("no text")?;
        mount.kiseki(&["umount", point])?.ok()?;
        ensure!(daemon::of_store(mount.store()).is_empty(), "not the end");
        mount.mount()?;
        ensure!(fs::read_to_string(mount.path("a"))? == round.to_string());
    }
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn an_unmount_outlives_the_daemon_that_it_asked() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    let point = mount.dir().to_str().context("no text")?.to_owned();
    for round in 0..6 {
        // So much that the daemon is still writing it out when it is killed.
        fs::write(mount.path("a"), Content(round).bytes(0, 64 << 20))?;
        let unmounted = thread::scope(|scope| -> Result<_> {
            let umount = scope.spawn(|| mount.kiseki(&["umount", &point]));
            thread::sleep(Duration::from_millis(10 + 20 * round));
            // It may have ended already.
            if let Some(pid) = daemon::serving(mount.store()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            umount.join().unwrap()?.ok()
        });
        unmounted.with_context(|| format!("round {round}"))?;
        ensure!(daemon::of_store(mount.store()).is_empty(), "not the end");
        mount.mount()?;
        Content(round).verify(&mount.path("a"), 64 << 20)?;
    }
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn a_daemon_that_cannot_serve_is_given_up() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    fs::write(mount.path("a"), "1")?;
    File::open(mount.path("a"))?.sync_all()?;
    let header = mount.store().join("kiseki.json");
    let kept = fs::read(&header)?;
    fs::write(&header, "{")?;
    kill_daemon(&mount)?;
    if daemon::wait_gone(mount.store()).is_err() {
        bail!("daemons are started for ever");
    }
    ensure!(!mount.is_mounted(), "a mount that nobody serves is left");
    fs::write(&header, kept)?;
    mount.mount()?;
    ensure!(fs::read(mount.path("a"))? == b"1");
    mount.umount()?;
    mount.fsck_clean()
}

#[test]
fn an_upgrade_under_load_is_a_pause() -> Result {
    let Some(mut mount) = Mount::fresh()? else {
        return Ok(());
    };
    let keeper = |mount: &Mount| {
        let serving = daemon::serving(mount.store());
        let mut all = daemon::of_store(mount.store());
        all.retain(|pid| Some(*pid) != serving);
        all
    };
    let before = keeper(&mount);
    let stop = Arc::new(AtomicBool::new(false));
    let programs = [
        Program::start("writer", &stop, change_a_file(mount.path("one"), 1)),
        Program::start("names", &stop, change_names(mount.path("names"), 3)),
    ];
    // Not the file that runs already, as an upgrade brings another one.
    let program = mount.base().join("kiseki");
    copy_program(kiseki_tests::mount::binary(), &program)?;
    for _ in 0..4 {
        let served = daemon::serving(mount.store());
        let said = Command::new(&program)
            .arg("upgrade")
            .arg(mount.dir())
            .output()?;
        ensure!(
            said.status.success(),
            "{}",
            String::from_utf8_lossy(&said.stderr)
        );
        let serves = daemon::serving(mount.store());
        ensure!(serves.is_some() && serves != served, "nothing changed");
        let runs = fs::read_link(format!("/proc/{}/exe", serves.unwrap()))?;
        ensure!(runs == program, "{} serves", runs.display());
        ensure!(
            keeper(&mount) == before,
            "the process that systemd knows is gone"
        );
        kill_daemon(&mount)?;
        wait_for_commands(&mount)?;
    }
    stop.store(true, Ordering::Relaxed);
    for program in programs {
        program.finish()?;
    }
    mount.umount()?;
    mount.fsck_clean()
}
