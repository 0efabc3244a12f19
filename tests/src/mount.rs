//! A kiseki mount with a store and a key of its own.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Output, Result,
    daemon::{self, Watchdog},
    have, is_root,
    run::limited,
    skip,
    store::store_files,
};

/// Settings of a mount.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// `--memory`, such as `512M`.
    pub memory: Option<String>,
    /// More of the command line of `kiseki mount`.
    pub args: Vec<String>,
    /// Where the store is made; by default a directory of its own.
    pub store_in: Option<PathBuf>,
}

/// A store, its key and its mount point; removed when dropped.
pub struct Mount {
    base: TempDir,
    _store_dir: TempDir,
    _watchdog: Watchdog,
    store: PathBuf,
    point: PathBuf,
    key: PathBuf,
    setup: Setup,
}

/// The binary under test: `KISEKI_BIN`, or the release build.
#[must_use]
pub fn binary() -> PathBuf {
    std::env::var_os("KISEKI_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/kiseki"),
        PathBuf::from,
    )
}

/// A new directory on a real disk: in `KISEKI_TEST_STORES`, or in `target`.
pub fn scratch_dir(prefix: &str) -> Result<TempDir> {
    let parent = std::env::var_os("KISEKI_TEST_STORES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-stores"),
        PathBuf::from,
    );
    fs::create_dir_all(&parent)?;
    Ok(tempfile::Builder::new()
        .prefix(&format!("{prefix}-"))
        .tempdir_in(parent.canonicalize()?)?)
}

impl Mount {
    /// A fresh mount, or none when the test was skipped.
    pub fn fresh() -> Result<Option<Mount>> {
        Mount::with(Setup::default())
    }

    /// A fresh mount with settings.
    pub fn with(setup: Setup) -> Result<Option<Mount>> {
        let Some(mut mount) = Mount::prepare(setup)? else {
            return Ok(None);
        };
        mount.mount()?;
        Ok(Some(mount))
    }

    /// Everything for a mount, but not mounted yet.
    pub fn prepare(setup: Setup) -> Result<Option<Mount>> {
        if std::env::var_os("KISEKI_TEST_DIR").is_some() {
            skip("needs a store, and KISEKI_TEST_DIR asks for a plain directory");
            return Ok(None);
        }
        if File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .is_err()
        {
            skip("cannot open /dev/fuse");
            return Ok(None);
        }
        if !is_root() && !have("fusermount3") {
            skip("a mount by a user needs fusermount3 (package fuse3)");
            return Ok(None);
        }
        ensure!(
            binary().is_file(),
            "no binary at {}; run scripts/test, or build it with `cargo build --release`",
            binary().display()
        );
        let base = tempfile::Builder::new()
            .prefix("kiseki-test-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;
        let point = base.path().join("mnt");
        fs::create_dir(&point)?;
        let store_dir = match &setup.store_in {
            Some(parent) => tempfile::Builder::new()
                .prefix("store-")
                .tempdir_in(parent)?,
            None => scratch_dir("store")?,
        };
        let store = store_dir.path().join("store");
        Ok(Some(Mount {
            _watchdog: Watchdog::start(store.clone()),
            point,
            key: base.path().join("key"),
            base,
            _store_dir: store_dir,
            store,
            setup,
        }))
    }

    /// The mount point.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.point
    }

    /// A path in the mount.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.point.join(name)
    }

    /// The directory of the store.
    #[must_use]
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The key file.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// A directory for what else the test needs beside the mount point.
    #[must_use]
    pub fn base(&self) -> &Path {
        self.base.path()
    }

    /// A kiseki command line, kept from the files of whoever runs the tests.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = limited(binary());
        command
            .args(args)
            .env("HOME", self.base())
            .env("XDG_DATA_HOME", self.base().join("data"))
            .env("XDG_CONFIG_HOME", self.base().join("config"))
            .env_remove("CREDENTIALS_DIRECTORY")
            .env_remove("NOTIFY_SOCKET");
        command
    }

    /// Runs kiseki with these arguments.
    pub fn kiseki(&self, args: &[&str]) -> Result<Output> {
        let output = self.command(args).output().context("start kiseki")?;
        Ok(Output::of(&output))
    }

    /// Runs a kiseki verb on the store, with its key.
    pub fn on_store(&self, words: &[&str]) -> Result<Output> {
        let mut args = words.to_vec();
        let (store, key) = (text(&self.store), text(&self.key));
        args.extend(["--store", store, "--key-file", key]);
        self.kiseki(&args)
    }

    /// The arguments that mount this store here.
    #[must_use]
    pub fn mount_args(&self) -> Vec<&str> {
        let mut args = vec!["mount", "--store", text(&self.store)];
        args.extend(["--key-file", text(&self.key)]);
        if let Some(memory) = &self.setup.memory {
            args.extend(["--memory", memory]);
        }
        if is_root() {
            args.extend(["-o", "allow_other"]);
        }
        args.extend(self.setup.args.iter().map(String::as_str));
        args.push(text(&self.point));
        args
    }

    /// Runs `kiseki mount` and says how it ended. What it prints goes through
    /// a file: a daemon that keeps a pipe open must not make a test hang.
    pub fn try_mount(&self) -> Result<Output> {
        self.logged(&self.mount_args())
    }

    /// Runs kiseki with its output in a file.
    pub fn logged(&self, args: &[&str]) -> Result<Output> {
        let path = self.base().join("output");
        let log = File::create(&path)?;
        let status = self
            .command(args)
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .context("start kiseki")?;
        Ok(Output {
            code: status.code().unwrap_or(-1),
            stdout: String::new(),
            stderr: String::from_utf8_lossy(&fs::read(&path)?).into_owned(),
        })
    }

    /// Mounts. The mount must answer when the command returns.
    pub fn mount(&mut self) -> Result {
        self.try_mount()?.ok().context("kiseki mount")?;
        ensure!(
            self.is_mounted(),
            "`kiseki mount` returned 0 and nothing is mounted at {}",
            self.point.display()
        );
        fs::read_dir(&self.point).context("list the new mount")?;
        Ok(())
    }

    /// Whether something is mounted at the mount point.
    #[must_use]
    pub fn is_mounted(&self) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let point = text(&self.point);
        table
            .lines()
            .any(|line| line.split(' ').nth(4) == Some(point))
    }

    /// Unmounts with `kiseki umount` and waits for the daemon's end.
    pub fn umount(&mut self) -> Result {
        let daemons = daemon::of_store(&self.store);
        self.kiseki(&["umount", text(&self.point)])?
            .ok()
            .context("kiseki umount")?;
        ensure!(!self.is_mounted(), "still mounted after `kiseki umount`");
        daemon::wait_ended(&daemons, &self.store)?;
        daemon::wait_gone(&self.store)
    }

    /// Unmounts and mounts again.
    pub fn remount(&mut self) -> Result {
        self.umount()?;
        self.mount()
    }

    /// Kills the daemon with SIGKILL and clears the dead mount away.
    pub fn crash(&mut self) -> Result {
        daemon::kill(&self.store)?;
        self.clear()
    }

    /// Clears away the mount of a daemon that is dead.
    pub fn clear(&mut self) -> Result {
        clear(&self.point);
        let start = Instant::now();
        while self.is_mounted() {
            if start.elapsed() > Duration::from_secs(10) {
                bail!("{} stays mounted after a crash", self.point.display());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Fails unless `kiseki fsck` of the unmounted store finds nothing.
    pub fn fsck_clean(&self) -> Result {
        let found = self.on_store(&["fsck"])?;
        found.ok().context("kiseki fsck")?;
        Ok(())
    }

    /// `kiseki status --json` of the mount.
    pub fn status(&self) -> Result<Value> {
        let text = self
            .kiseki(&["status", "--json", text(&self.point)])?
            .ok()
            .context("kiseki status")?;
        serde_json::from_str(&text).with_context(|| format!("status is no JSON: {text}"))
    }

    /// A number of `status --json`.
    pub fn status_number(&self, field: &str) -> Result<u64> {
        let status = self.status()?;
        status[field]
            .as_u64()
            .with_context(|| format!("no number {field} in {status}"))
    }

    /// How many operations of each kind the mount answered since it began.
    pub fn operations(&self) -> Result<BTreeMap<String, u64>> {
        let text = self
            .kiseki(&["stats", "--total", "--json", text(&self.point)])?
            .ok()
            .context("kiseki stats")?;
        let all: Value = serde_json::from_str(&text)?;
        let kinds = all["operations"].as_array().context("no operations")?;
        let kind = |kind: &Value| {
            let name = kind["name"].as_str().context("no name")?;
            Ok((name.to_owned(), kind["count"].as_u64().context("no count")?))
        };
        kinds.iter().map(kind).collect()
    }

    /// Collects garbage through the mount.
    pub fn gc(&self) -> Result {
        self.kiseki(&["gc", text(&self.point)])?
            .ok()
            .context("kiseki gc")?;
        Ok(())
    }

    /// Bytes on disk below the store.
    pub fn disk_usage(&self) -> Result<u64> {
        use std::os::unix::fs::MetadataExt;
        let files = store_files(&self.store)?;
        let blocks = files.iter().map(|path| match fs::metadata(path) {
            Ok(about) => Ok(about.blocks()),
            // A daemon at work also removes files.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error.into()),
        });
        Ok(512 * blocks.sum::<Result<u64>>()?)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("store of the failed test: {}", self.store.display());
        }
        if self.is_mounted() {
            let _ = self.kiseki(&["umount", "--lazy", text(&self.point)]);
        }
        while self.is_mounted() {
            clear(&self.point);
            thread::sleep(Duration::from_millis(20));
        }
        if !daemon::of_store(&self.store).is_empty() && daemon::wait_gone(&self.store).is_err() {
            let _ = daemon::kill(&self.store);
        }
    }
}

/// Unmounts what a daemon, dead or alive, has mounted here, without waiting for
/// it.
pub fn clear(point: &Path) {
    let mut command = match is_root() {
        true => Command::new("umount"),
        false => Command::new("fusermount3"),
    };
    let args: &[&str] = if is_root() {
        &["-l"]
    } else {
        &["-q", "-u", "-z"]
    };
    // It may be gone already.
    let _ = command.args(args).arg(point).output();
}

/// Test paths are made here and are text.
fn text(path: &Path) -> &str {
    path.to_str().expect("paths of the harness are UTF-8")
}
