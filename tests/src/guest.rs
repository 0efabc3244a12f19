//! The Linux machine of `scripts/guest`, as a client of a server under test.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Output, Result, need_tools, run,
    run::{limit, limited},
    skip,
};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/guest")
}

/// Runs a script of `tests/guest` in the guest, as a client of the server at a
/// port of this machine, or of a network; what it printed, or none when it was
/// skipped.
pub fn run_script(
    port: u16,
    network: Option<&Network>,
    name: &str,
    words: &[&str],
) -> Result<Option<String>> {
    // It says itself, before the limit of this program, that it took too long.
    let seconds = limit() * 2 / 3;
    let mut command = limited(script());
    command.args(["-s", &seconds.to_string()]);
    if let Some(network) = network {
        command.args(["-n", &network.name]);
    }
    let output = command
        .args(["run", &port.to_string()])
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("guest")
                .join(name),
        )
        .args(words)
        .output()?;
    let output = Output::of(&output);
    if output.code == 77 {
        skip(output.stdout.trim());
        return Ok(None);
    }
    output.ok().map(Some)
}

/// A network of its own, with an rpcbind; gone when dropped.
pub struct Network {
    name: String,
    dir: tempfile::TempDir,
    rpcbind: Option<Child>,
}

impl Network {
    /// None when the test was skipped.
    pub fn new() -> Result<Option<Network>> {
        if !need_tools(&["ip", "nsenter", "unshare"]) {
            return Ok(None);
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kn{}-{number}", std::process::id());
        if !Path::new("/dev/net/tun").exists() || run("ip", &["netns", "add", &name])?.code != 0 {
            skip("there can be no network of its own here");
            return Ok(None);
        }
        let mut network = Network {
            name,
            dir: tempfile::tempdir()?,
            rpcbind: None,
        };
        run("ip", &["-n", &network.name, "link", "set", "lo", "up"])?.ok()?;
        Ok(network.start_rpcbind()?.then_some(network))
    }

    fn start_rpcbind(&mut self) -> Result<bool> {
        // Should nobody end it, it ends behind the test.
        let seconds = (2 * limit()).to_string();
        let mut child = Command::new(script())
            .args(["-s", &seconds, "rpcbind", &self.name])
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let began = Instant::now();
        while !self.rpcbind_socket().exists() {
            if let Some(status) = child.try_wait()? {
                ensure!(status.code() == Some(77), "rpcbind: {status}");
                skip("no guest whose rpcbind could run; scripts/guest build makes it");
                return Ok(false);
            }
            ensure!(began.elapsed() < Duration::from_secs(30), "no rpcbind");
            thread::sleep(Duration::from_millis(50));
        }
        self.rpcbind = Some(child);
        Ok(true)
    }

    /// What a process enters to be in it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Where its rpcbind listens.
    #[must_use]
    pub fn rpcbind_socket(&self) -> PathBuf {
        self.dir.path().join("rpcbind.sock")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(mut rpcbind) = self.rpcbind.take() {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(rpcbind.id().cast_signed()), Signal::SIGTERM);
            let _ = rpcbind.wait();
        }
        let _ = run("ip", &["netns", "del", &self.name]);
    }
}
