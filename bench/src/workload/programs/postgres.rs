//! A PostgreSQL server of its own, on the mount.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use crate::contender::run;

/// Why there may be none.
pub const NOT_THERE: &str =
    "PostgreSQL is not installed, or this is not root, who can start it as another user";

/// Whose programs Debian installs where.
const PROGRAMS: &str = "/usr/lib/postgresql";
/// The server refuses to run as root.
const USER: &str = "postgres";
/// Scale factor: 100,000 accounts each.
const ACCOUNTS: &str = "2";
const CLIENTS: &str = "4";

/// A running server, stopped when dropped.
pub struct Server {
    programs: PathBuf,
    cluster: PathBuf,
    /// Of the socket: not on the mount, where other users may have no access.
    sockets: PathBuf,
}

impl Server {
    /// Makes a cluster in the new directory `cluster`, and serves it. `None`
    /// without PostgreSQL or the right to become its user.
    pub fn start(cluster: &Path) -> Result<Option<Server>> {
        let Some(programs) = programs() else {
            return Ok(None);
        };
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let sockets = std::env::temp_dir().join(format!("kiseki-bench-{}", std::process::id()));
        for dir in [cluster, &sockets] {
            fs::create_dir_all(dir)?;
            run(Command::new("chown").arg(USER).arg(dir))?;
        }
        let server = Server {
            programs,
            cluster: cluster.into(),
            sockets,
        };
        run(server
            .program("initdb")
            .args(["--auth=trust", "--locale=C", "--encoding=UTF8", "-D"])
            .arg(cluster))?;
        let settings = format!(
            "-c listen_addresses= -c unix_socket_directories={}",
            server.sockets.display()
        );
        run(server
            .control()
            .args(["-l", "/dev/null", "-o", &settings, "start"]))?;
        Ok(Some(server))
    }

    /// Makes the accounts.
    pub fn fill(&self) -> Result<()> {
        run(self
            .program("pgbench")
            .arg("-h")
            .arg(&self.sockets)
            .args(["-i", "-q", "-s", ACCOUNTS, USER]))
    }

    /// Transactions of all clients, each of whom makes `each`, and how long
    /// they took.
    pub fn transact(&self, each: u64) -> Result<(u64, Duration)> {
        let start = Instant::now();
        let said = self
            .program("pgbench")
            .arg("-h")
            .arg(&self.sockets)
            .args(["-c", CLIENTS, "-j", "2", "-t", &each.to_string(), USER])
            .output()?;
        let elapsed = start.elapsed();
        let text = String::from_utf8_lossy(&said.stdout);
        let done = text
            .lines()
            .find_map(|line| line.strip_prefix("number of transactions actually processed: "))
            .and_then(|counts| counts.split('/').next())
            .and_then(|count| count.parse().ok());
        match done {
            Some(done) if said.status.success() => Ok((done, elapsed)),
            _ => bail!("pgbench failed: {}", String::from_utf8_lossy(&said.stderr)),
        }
    }

    /// Whether every transaction is in all four tables that it changed.
    pub fn check(&self) -> Result<()> {
        let question = "select (select sum(delta) from pgbench_history) = all (array[\
                        (select sum(abalance) from pgbench_accounts), \
                        (select sum(tbalance) from pgbench_tellers), \
                        (select sum(bbalance) from pgbench_branches)])";
        let said = self
            .program("psql")
            .arg("-h")
            .arg(&self.sockets)
            .args(["-At", "-c", question, USER])
            .output()?;
        ensure!(said.stdout == b"t\n", "the tables of pgbench contradict");
        Ok(())
    }

    /// Ends the server; its files are closed then.
    pub fn stop(self) -> Result<()> {
        run(self.control().args(["-m", "fast", "stop"]))
    }

    fn control(&self) -> Command {
        let mut control = self.program("pg_ctl");
        control.arg("-s").arg("-w").arg("-D").arg(&self.cluster);
        control
    }

    /// One of PostgreSQL's programs as its user.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("runuser");
        command
            .args(["-u", USER, "--"])
            .arg(self.programs.join(name))
            .current_dir("/");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.cluster.join("postmaster.pid").exists() {
            let _ = self.control().args(["-m", "immediate", "stop"]).output();
        }
        let _ = fs::remove_dir_all(&self.sockets);
    }
}

/// Where the newest version is.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(PROGRAMS).ok()?.flatten();
    let newest = versions.max_by_key(|version| {
        let name = version.file_name();
        name.to_str().and_then(|name| name.parse::<u32>().ok())
    })?;
    let programs = newest.path().join("bin");
    programs.join("initdb").exists().then_some(programs)
}
