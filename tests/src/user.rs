//! Somebody who is not root, with a home directory of their own.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use nix::unistd;
use tempfile::TempDir;

use crate::{
    Output, Result, daemon, have, is_root,
    mount::binary,
    run::{copy_program, limited},
    skip,
};

/// A user with an empty home directory and a mount point in it. Root becomes
/// `nobody`; others stay who they are.
pub struct User {
    base: TempDir,
    ids: Option<(u32, u32)>,
}

impl User {
    /// A fresh home, or none when the test was skipped.
    pub fn fresh() -> Result<Option<User>> {
        if std::env::var_os("KISEKI_TEST_DIR").is_some() {
            skip("needs a store, and KISEKI_TEST_DIR asks for a plain directory");
            return Ok(None);
        }
        if !Path::new("/dev/fuse").exists() || !have("fusermount3") {
            skip("a mount by a user needs /dev/fuse and fusermount3 (package fuse3)");
            return Ok(None);
        }
        if fs::metadata("/dev/fuse")?.permissions().mode() & 0o006 != 0o006 {
            skip("/dev/fuse is closed to users (without udev: `chmod 666 /dev/fuse`)");
            return Ok(None);
        }
        let nobody = unistd::User::from_name("nobody")?.filter(|_| is_root());
        if is_root() && nobody.is_none() {
            skip("there is no user nobody to become");
            return Ok(None);
        }
        let base = tempfile::Builder::new()
            .prefix("kiseki-user-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;
        let user = User {
            base,
            ids: nobody.map(|user| (user.uid.as_raw(), user.gid.as_raw())),
        };
        // The build may lie where nobody cannot go.
        copy_program(binary(), user.program()).context("copy the binary under test")?;
        for dir in [user.home(), user.point()] {
            fs::create_dir(&dir)?;
            user.own(&dir)?;
        }
        Ok(Some(user))
    }

    /// The binary under test, where they can run it.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.base.path().join("kiseki")
    }

    /// The home directory.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.base.path().join("home")
    }

    /// A directory of theirs to mount on.
    #[must_use]
    pub fn point(&self) -> PathBuf {
        self.home().join("data")
    }

    /// Where the store is when they name none.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.home().join(".local/share/kiseki/default")
    }

    /// Makes a file or directory theirs.
    pub fn own(&self, path: &Path) -> Result {
        if let Some((uid, gid)) = self.ids {
            chown(path, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// Writes a file of theirs that nobody else can read.
    pub fn write_private(&self, path: &Path, text: &str) -> Result {
        fs::write(path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        self.own(path)
    }

    /// A program run by them, at home and with nothing else in the
    /// environment.
    #[must_use]
    pub fn program_of(&self, program: &str) -> Command {
        let mut command = limited(program);
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.home())
            .current_dir(self.home());
        command
    }

    /// A kiseki command line of theirs.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program_of(self.program().to_str().expect("the path is UTF-8"));
        command.args(args);
        command
    }

    /// Runs kiseki with these arguments; what it prints goes through files,
    /// which a daemon may keep.
    pub fn kiseki(&self, args: &[&str]) -> Result<Output> {
        self.collect(self.command(args))
    }

    /// Runs a command of theirs.
    pub fn collect(&self, mut command: Command) -> Result<Output> {
        let (out, err) = (
            tempfile::NamedTempFile::new()?,
            tempfile::NamedTempFile::new()?,
        );
        let status = command
            .stdout(out.reopen()?)
            .stderr(err.reopen()?)
            .status()
            .context("start kiseki")?;
        Ok(Output {
            code: status.code().unwrap_or(-1),
            stdout: fs::read_to_string(out.path())?,
            stderr: fs::read_to_string(err.path())?,
        })
    }

    /// Whether their mount point is one.
    #[must_use]
    pub fn is_mounted(&self) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let point = self.point();
        table
            .lines()
            .any(|line| line.split(' ').nth(4).map(Path::new) == Some(&point))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if self.is_mounted() {
            let mut detach = self.program_of("fusermount3");
            // What is left then, the removal of the directory reports.
            let _ = detach.args(["-u", "-z"]).arg(self.point()).output();
        }
        if daemon::wait_gone(&self.store()).is_err() {
            let _ = daemon::kill(&self.store());
        }
    }
}
