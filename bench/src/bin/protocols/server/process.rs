//! A server process.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

/// Longest wait for a server's first answer.
const START: Duration = Duration::from_secs(60);

/// A running server; killed when dropped, as its store is removed then.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, whose output goes to the file `name` below `home`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command, home: &Path, name: &str) -> Result<Process> {
        let path = home.join(format!("{name}.log"));
        let log = File::create(&path)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Process { child, log: path })
    }

    /// Asks again and again for what a server has only when it answers.
    ///
    /// # Errors
    /// It ended, or took too long.
    pub fn wait_for<T>(&mut self, answer: impl Fn() -> Option<T>) -> Result<T> {
        let began = Instant::now();
        loop {
            if let Some(answer) = answer() {
                return Ok(answer);
            }
            ensure!(
                self.child.try_wait()?.is_none() && began.elapsed() < START,
                "the server does not answer: {}",
                fs::read_to_string(&self.log)?
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until somebody listens at `address`.
    ///
    /// # Errors
    /// The server ended, or took too long.
    pub fn wait_at(&mut self, address: SocketAddr) -> Result<()> {
        self.wait_for(|| TcpStream::connect(address).ok()).map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of this machine where nobody listens now.
///
/// # Errors
/// No port is left.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
