//! kiseki and its peers, each on a fresh store on the same disk.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    round_trips::Counts,
    site::{Mounted, Site},
};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Contender {
    /// This project: encrypted, deduplicated, verified.
    Kiseki,
    /// Encrypted; a FUSE process in Go.
    Gocryptfs,
    /// Plain pass-through: what FUSE costs without any work.
    Bindfs,
    /// The directory below them all.
    Plain,
}

impl Contender {
    /// As tables show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Contender::Kiseki => "kiseki",
            Contender::Gocryptfs => "gocryptfs",
            Contender::Bindfs => "bindfs",
            Contender::Plain => "plain",
        }
    }

    /// Mounts on a fresh store below `home`, which must be empty.
    ///
    /// # Errors
    /// A program is missing or refuses.
    pub fn start(self, home: &Path, kiseki: &Path) -> Result<Site> {
        let mount = FuseMount {
            contender: self,
            home: home.to_owned(),
            store: home.join("store"),
            point: home.join("mount"),
            kiseki: kiseki.to_owned(),
            is_up: false,
        };
        fs::create_dir_all(&mount.store)?;
        if self == Contender::Plain {
            return Ok(Site::directory(&mount.store));
        }
        fs::create_dir_all(&mount.point)?;
        mount.create()?;
        let point = mount.point.clone();
        let mut mount = Box::new(mount);
        mount.up()?;
        Ok(Site::mount(&point, mount))
    }
}

/// The kiseki binary, with logs and sockets of the run below `home` and not in
/// the user's directories.
#[must_use]
pub fn kiseki(binary: &Path, home: &Path) -> Command {
    let mut command = Command::new(binary);
    for name in ["HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env(name, home);
    }
    command
}

/// The arguments that name the store below `home`, and the file with its key.
#[must_use]
pub fn kiseki_store(home: &Path) -> [OsString; 4] {
    [
        "--store".into(),
        home.join("store").into(),
        "--key-file".into(),
        home.join("key").into(),
    ]
}

struct FuseMount {
    contender: Contender,
    home: PathBuf,
    store: PathBuf,
    point: PathBuf,
    kiseki: PathBuf,
    is_up: bool,
}

/// Longest wait for a process to end after its mount is gone.
const ENDING: Duration = Duration::from_secs(30);

impl FuseMount {
    fn create(&self) -> Result<()> {
        if self.contender != Contender::Gocryptfs {
            return Ok(());
        }
        let pass = self.home.join("pass");
        fs::write(&pass, "measured\n")?;
        // The cheapest passphrase hash: mounting is part of no row.
        run(Command::new("gocryptfs")
            .args(["-init", "-q", "-scryptn", "10", "-passfile"])
            .args([&pass, &self.store]))
    }

    fn kiseki(&self) -> Command {
        kiseki(&self.kiseki, &self.home)
    }

    /// The device number tells a mount from the directory it covers.
    fn is_mounted(&self) -> Result<bool> {
        Ok(fs::metadata(&self.point)?.dev() != fs::metadata(&self.home)?.dev())
    }
}

/// The arguments that let other users look, such as that of a database server:
/// nothing where this is not root, who may always ask for it.
fn shared(arguments: &'static [&'static str]) -> &'static [&'static str] {
    match rustix::process::geteuid().is_root() {
        true => arguments,
        false => &[],
    }
}

impl Mounted for FuseMount {
    fn up(&mut self) -> Result<()> {
        match self.contender {
            Contender::Kiseki => run(self
                .kiseki()
                .arg("mount")
                .args(kiseki_store(&self.home))
                .args(shared(&["-o", "allow_other"]))
                .arg(&self.point))?,
            Contender::Gocryptfs => run(Command::new("gocryptfs")
                .args(["-q", "-passfile"])
                .arg(self.home.join("pass"))
                .args(shared(&["-allow_other"]))
                .args([&self.store, &self.point]))?,
            Contender::Bindfs => run(Command::new("bindfs")
                .args(shared(&["-o", "allow_other"]))
                .args([&self.store, &self.point]))?,
            Contender::Plain => bail!("a plain directory is not mounted"),
        }
        ensure!(
            self.is_mounted()?,
            "{} said it was mounted at {} and is not",
            self.contender.name(),
            self.point.display()
        );
        self.is_up = true;
        Ok(())
    }

    fn down(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_up) {
            return Ok(());
        }
        match self.contender {
            Contender::Kiseki => run(self.kiseki().arg("umount").arg(&self.point))?,
            _ => run(Command::new("umount").arg(&self.point))?,
        }
        // A daemon that still flushes would share the disk with the next row.
        let start = Instant::now();
        while named_in_processes(&self.point) {
            ensure!(
                start.elapsed() < ENDING,
                "{} did not end after it was unmounted",
                self.contender.name()
            );
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn store(&self) -> &Path {
        &self.store
    }

    fn counts(&self) -> Result<Option<Counts>> {
        if self.contender != Contender::Kiseki {
            return Ok(None);
        }
        let said = self
            .kiseki()
            .args(["stats", "--total", "--json"])
            .arg(&self.point)
            .output()?;
        ensure!(
            said.status.success(),
            "kiseki stats failed: {}",
            String::from_utf8_lossy(&said.stderr).trim()
        );
        let all: Statistics = serde_json::from_slice(&said.stdout)?;
        let counts = all.operations.into_iter().map(|op| (op.name, op.count));
        Ok(Some(counts.collect()))
    }
}

/// What `kiseki stats --total --json` says, as far as it matters here.
#[derive(Deserialize)]
struct Statistics {
    operations: Vec<Operation>,
}

#[derive(Deserialize)]
struct Operation {
    name: String,
    count: u64,
}

impl Drop for FuseMount {
    fn drop(&mut self) {
        if self.down().is_err() {
            let _ = Command::new("umount").arg("-l").arg(&self.point).output();
        }
    }
}

/// Whether a process has `path` as an argument.
fn named_in_processes(path: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    processes.flatten().any(|process| {
        fs::read(process.path().join("cmdline")).is_ok_and(|line| {
            line.split(|byte| *byte == 0)
                .any(|argument| argument == path.as_os_str().as_encoded_bytes())
        })
    })
}

/// Runs a program that must succeed; what it says is part of the error.
///
/// # Errors
/// It cannot be started, or it failed.
pub fn run(command: &mut Command) -> Result<()> {
    // Daemons keep the descriptors they inherit, so errors go to a file that
    // nobody waits for.
    let said = tempfile()?;
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.try_clone()?)
        .status()
        .with_context(|| format!("cannot start {}", show(command.get_program())))?;
    if status.success() {
        return Ok(());
    }
    let mut text = vec![0; 4096];
    let len = std::os::unix::fs::FileExt::read_at(&said, &mut text, 0)?;
    text.truncate(len);
    bail!(
        "{} failed: {}",
        show(command.get_program()),
        String::from_utf8_lossy(&text).trim()
    )
}

fn tempfile() -> Result<fs::File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(memfd_create("said", MemfdFlags::CLOEXEC)?.into())
}

fn show(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}
