//! A mount with its daemon.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::{self, Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    daemon::How,
    device,
    files::{SMALL, check, word},
    load::Done,
};

/// A mounted filesystem and its daemon. Neither outlives it.
pub struct Scene {
    dir: PathBuf,
    daemon: Option<Daemon>,
    /// Held as well, so that the mount outlives its daemon.
    device: OwnedFd,
}

/// Unmounts whoever uses it, and whether the daemon answers or not.
const AT_ONCE: i32 = libc::MNT_FORCE | libc::MNT_DETACH;

/// What was done, and what processor time daemon and clients took for it.
pub struct Run {
    pub done: Done,
    pub cpu: Duration,
}

impl Scene {
    /// Mounts, has `act` use it, unmounts; what the daemon says.
    pub fn with(how: How, act: impl FnOnce(&mut Scene) -> io::Result<()>) -> io::Result<String> {
        let mut scene = Scene::begin(how)?;
        act(&mut scene)?;
        scene.end()
    }

    fn begin(how: How) -> io::Result<Scene> {
        let dir = env::temp_dir().join(format!("kiseki-prototype-{}", process::id()));
        fs::create_dir_all(&dir)?;
        let device = device::mount(&dir)?;
        let mut scene = Scene {
            dir,
            daemon: None,
            device,
        };
        scene.daemon = Some(Daemon::spawn(&scene.device, &scene.dir, how)?);
        device::read_ahead(&scene.dir)?;
        Ok(scene)
    }

    /// Kills the daemon and has another one serve.
    pub fn replace(&mut self, how: How) -> io::Result<()> {
        self.daemon = None;
        self.daemon = Some(Daemon::spawn(&self.device, &self.dir, how)?);
        Ok(())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn measure(&self, load: impl FnOnce() -> io::Result<Done>) -> io::Result<Run> {
        let before = self.cpu()?;
        let run = measure_here(load)?;
        Ok(Run {
            cpu: run.cpu + self.cpu()? - before,
            ..run
        })
    }

    /// Processor time of the daemon so far.
    fn cpu(&self) -> io::Result<Duration> {
        let daemon = self.daemon.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let mut total = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{}/task", daemon.process.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let nanos = text.split(' ').next().and_then(|text| text.parse().ok());
            total += Duration::from_nanos(nanos.unwrap_or_default());
        }
        Ok(total)
    }

    /// What comes of an open through the page cache while the file is open for passthrough, and
    /// when it is closed.
    pub fn edges(&self) -> io::Result<String> {
        let path = self.path("mixed");
        let said =
            |open: io::Result<fs::File>| open.map_or_else(|e| e.to_string(), |_| "works".into());
        let through = fs::File::open(&path)?;
        let meanwhile: String = said(fs::File::open(&path));
        drop(through);
        // The release travels behind the close.
        thread::sleep(Duration::from_millis(100));
        let through = said(fs::File::open(&path));
        Ok(format!(
            "cached while it is open: {meanwhile}; passthrough again: {through}"
        ))
    }

    /// When the kernel forgets a file that loses its name while it is open.
    pub fn unlinked(&self) -> io::Result<String> {
        let forgotten = || {
            // Forgets travel behind.
            thread::sleep(Duration::from_millis(100));
            fs::metadata(self.path("forgets")).map(|metadata| metadata.len())
        };
        // The kernel learns with the first open that there is none.
        drop(fs::File::open(self.path("small"))?);
        let path = self.path("new");
        let file = fs::File::create(&path)?;
        let before = forgotten()?;
        fs::remove_file(&path)?;
        let open = forgotten()? - before;
        drop(file);
        let closed = forgotten()? - before;
        Ok(format!(
            "{open} forgets while it is open, {closed} when it is closed"
        ))
    }

    /// Unmounts, and hears the daemon out.
    fn end(mut self) -> io::Result<String> {
        let mut daemon = self.daemon.take().ok_or(io::ErrorKind::NotFound)?;
        let unmounted =
            device::unmount(&self.dir, 0).or_else(|_| device::unmount(&self.dir, AT_ONCE));
        let mut said = String::new();
        daemon.said.read_to_string(&mut said)?;
        // A daemon that failed may have unmounted, and its error says more.
        daemon.ended()?;
        unmounted?;
        Ok(said)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Both fail where all is done already. The daemon goes behind this.
        let _ = device::unmount(&self.dir, AT_ONCE);
        let _ = fs::remove_dir(&self.dir);
    }
}

/// A process that serves a mount. It is killed when nobody needs it any more.
struct Daemon {
    process: Child,
    /// What it says.
    said: BufReader<ChildStdout>,
}

impl Daemon {
    /// Starts one, and waits until it is ready.
    fn spawn(device: &OwnedFd, dir: &Path, how: How) -> io::Result<Daemon> {
        let mut process = Command::new(env::current_exe()?)
            .arg("serve")
            .arg(device.as_raw_fd().to_string())
            .arg(dir)
            .arg(how.text())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = process.stdout.take().expect("asked for above");
        let mut daemon = Daemon {
            process,
            said: BufReader::new(said),
        };
        let mut line = String::new();
        if daemon.said.read_line(&mut line)? == 0 {
            daemon.ended()?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(daemon)
    }

    /// Waits for its end, and whether that was a good one.
    fn ended(&mut self) -> io::Result<()> {
        let status = self.process.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the daemon ended: {status}")))
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail when it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a load; the processor time is that of this process.
pub fn measure_here(load: impl FnOnce() -> io::Result<Done>) -> io::Result<Run> {
    let before = own_cpu()?;
    let done = load()?;
    Ok(Run {
        done,
        cpu: own_cpu()? - before,
    })
}

fn own_cpu() -> io::Result<Duration> {
    // SAFETY: zeros are a `timespec`, and the call fills it.
    let time = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        check(libc::clock_gettime(
            libc::CLOCK_PROCESS_CPUTIME_ID,
            &raw mut time,
        ))?;
        time
    };
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Makes the small file in another directory.
pub fn small_file(dir: &Path) -> io::Result<PathBuf> {
    let path = dir.join(format!("kiseki-prototype-{}", process::id()));
    let bytes: Vec<u8> = (0..SMALL)
        .step_by(8)
        .flat_map(|at| word(at).to_ne_bytes())
        .collect();
    fs::write(&path, bytes)?;
    Ok(path)
}
