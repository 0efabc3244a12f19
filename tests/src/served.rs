//! A volume served by `kiseki serve`: S3, NFS and a mount in one process.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use serde_json::Value;

use crate::{Mount, Output, Result, Setup, need_tools, run::limited, skip};

/// A running server; ended when dropped.
pub struct Served {
    mount: Mount,
    args: Vec<String>,
    /// The network that it is in, if not that of the tests.
    network: Option<PathBuf>,
    server: Option<Child>,
    url: String,
    nfs: Option<SocketAddr>,
    key: (String, String),
}

impl Served {
    /// Serves a fresh volume by S3 and a mount, with more arguments of
    /// `kiseki serve`; none when the test was skipped.
    pub fn fresh(args: &[&str]) -> Result<Option<Served>> {
        if !need_tools(&["python3"]) {
            return Ok(None);
        }
        let boto = Command::new("python3")
            .args(["-c", "import boto3"])
            .output()?;
        if !boto.status.success() {
            skip("not installed: boto3 for python3 (package python3-boto3)");
            return Ok(None);
        }
        let mut all = vec!["--s3", "127.0.0.1:0"];
        all.extend(args);
        let Some(mut served) = Served::prepare(&all)? else {
            return Ok(None);
        };
        served.start()?;
        served.key = served.new_key()?;
        Ok(Some(served))
    }

    /// Serves a fresh volume by NFS and a mount, with more arguments of
    /// `kiseki serve`; none when the test was skipped.
    pub fn by_nfs(args: &[&str]) -> Result<Option<Served>> {
        let mut all = vec!["--nfs", "127.0.0.1:0"];
        all.extend(args);
        let Some(mut served) = Served::prepare(&all)? else {
            return Ok(None);
        };
        served.start()?;
        Ok(Some(served))
    }

    /// Serves a fresh volume by NFS and a mount from another network, with a
    /// configuration file; none when the test was skipped.
    pub fn in_network(network: &Path, config: &str, args: &[&str]) -> Result<Option<Served>> {
        let Some(mut served) = Served::prepare(args)? else {
            return Ok(None);
        };
        let file = served.mount.base().join("kiseki.toml");
        fs::write(&file, config)?;
        let file = file.to_str().context("a path in UTF-8")?.to_owned();
        served.args.extend(["--config".to_owned(), file]);
        served.network = Some(network.to_owned());
        served.start()?;
        Ok(Some(served))
    }

    /// Serves a fresh volume by S3, NFS and a mount; none when the test was
    /// skipped.
    pub fn by_all(args: &[&str]) -> Result<Option<Served>> {
        let mut all = vec!["--nfs", "127.0.0.1:0"];
        all.extend(args);
        Served::fresh(&all)
    }

    fn prepare(args: &[&str]) -> Result<Option<Served>> {
        let Some(mount) = Mount::prepare(Setup::default())? else {
            return Ok(None);
        };
        Ok(Some(Served {
            mount,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            network: None,
            server: None,
            url: String::new(),
            nfs: None,
            key: Default::default(),
        }))
    }

    /// Starts the server and waits until it answers.
    pub fn start(&mut self) -> Result {
        let store = self.mount.store().to_owned();
        let log = File::create(self.mount.base().join("serve.log"))?;
        let mut args = vec!["serve", "--store"];
        args.push(store.to_str().context("a path in UTF-8")?);
        args.extend(["--key-file", self.mount.key().to_str().context("UTF-8")?]);
        args.extend(["--mount", self.mount.dir().to_str().context("UTF-8")?]);
        args.extend(self.args.iter().map(String::as_str));
        // Not under a time limit: the watchdog of the mount ends it.
        let mut command = self.program();
        command
            .args(&args)
            .env("HOME", self.mount.base())
            .env_remove("NOTIFY_SOCKET")
            .stdout(log.try_clone()?)
            .stderr(log);
        self.server = Some(command.spawn().context("start kiseki serve")?);
        let began = Instant::now();
        loop {
            let status = self.mount.on_store(&["status", "--json"]);
            if let Ok(output) = status
                && let Ok(status) = serde_json::from_str::<Value>(&output.stdout)
                && status["pid"].as_u64() == self.server.as_ref().map(|server| server.id().into())
            {
                status["s3"]
                    .as_str()
                    .unwrap_or("")
                    .clone_into(&mut self.url);
                let nfs = status["nfs"].as_str().map(str::parse);
                self.nfs = nfs.transpose()?;
                return Ok(());
            }
            let ended = self.server.as_mut().and_then(|child| child.try_wait().ok());
            if ended.flatten().is_some() || began.elapsed() > Duration::from_secs(60) {
                bail!("the server does not answer: {}", self.log()?);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn program(&self) -> Command {
        let Some(network) = &self.network else {
            return Command::new(crate::mount::binary());
        };
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", network.display()))
            .arg(crate::mount::binary());
        command
    }

    /// Asks for the same address of NFS at the next start, as clients that
    /// stay need it.
    pub fn keep_address(&mut self) -> Result {
        let address = self.nfs()?.to_string();
        let at = self.args.iter().position(|arg| arg == "--nfs");
        self.args[at.context("it is served by NFS")? + 1] = address;
        Ok(())
    }

    /// Where NFS answers.
    pub fn nfs(&self) -> Result<SocketAddr> {
        self.nfs.context("NFS is served")
    }

    /// Process of the server, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Ends the server with SIGTERM; everything is written out then.
    pub fn stop(&mut self) -> Result {
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        signal::kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGTERM)?;
        let status = server.wait()?;
        ensure!(status.success(), "kiseki serve: {status}: {}", self.log()?);
        ensure!(!self.mount.is_mounted(), "still mounted");
        Ok(())
    }

    /// Kills the server with SIGKILL and clears its mount away.
    pub fn kill(&mut self) -> Result {
        if let Some(mut server) = self.server.take() {
            server.kill()?;
            server.wait()?;
        }
        self.mount.clear()
    }

    /// Makes a key: id and secret.
    pub fn new_key(&self) -> Result<(String, String)> {
        let made = self
            .mount
            .on_store(&["s3", "key", "create", "--json"])?
            .ok()?;
        let made: Value = serde_json::from_str(&made)?;
        let field =
            |name: &str| Ok::<_, anyhow::Error>(made[name].as_str().context("a key")?.to_owned());
        Ok((field("access_key_id")?, field("secret_access_key")?))
    }

    /// Its store, key and mount point.
    #[must_use]
    pub fn mount(&self) -> &Mount {
        &self.mount
    }

    /// Where S3 answers.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Id and secret that clients sign with.
    #[must_use]
    pub fn key(&self) -> (&str, &str) {
        (&self.key.0, &self.key.1)
    }

    /// A program that finds server and key in its environment.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        let mut command = limited(program);
        command
            .env("AWS_ACCESS_KEY_ID", &self.key.0)
            .env("AWS_SECRET_ACCESS_KEY", &self.key.1)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", &self.url)
            .env("AWS_ENDPOINT_URL_S3", &self.url)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove("AWS_CA_BUNDLE")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("MOUNT", self.mount.dir())
            .env("HOME", self.mount.base());
        command
    }

    /// Runs a check of `tests/clients/s3.py`.
    pub fn check(&self, words: &[&str]) -> Result<String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/s3.py");
        let output = self.client("python3").arg(script).args(words).output()?;
        Output::of(&output)
            .ok()
            .with_context(|| format!("the check {}", words.join(" ")))
    }

    /// Ends the server and checks the store.
    pub fn finish(mut self) -> Result {
        self.stop()?;
        self.mount.fsck_clean()
    }

    /// What the server said.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(
            self.mount.base().join("serve.log"),
        )?)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // A test that failed left it running.
        let _ = self.kill();
    }
}
