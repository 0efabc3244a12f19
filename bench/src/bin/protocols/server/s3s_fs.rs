//! `s3s-fs` over a directory: buckets are directories, objects are files.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};

use crate::server::{Address, Network, Process, Programs, make_directories, process::free_address};

/// Serves a fresh directory below `home`.
///
/// # Errors
/// It does not start.
pub fn start(home: &Path, programs: &Programs) -> Result<Network> {
    let root = home.join("store");
    make_directories(&root)?;
    let program = programs
        .s3s_fs
        .as_ref()
        .context("s3s-fs is not installed")?;
    let address = free_address()?;
    let (id, secret) = ("MEASURED", "of no worth");
    let mut command = Command::new(program);
    command
        .args(["--host", "127.0.0.1", "--port"])
        .arg(address.port().to_string())
        .args(["--access-key", id, "--secret-key", secret])
        .arg(&root);
    let mut process = Process::start(&mut command, home, "server")?;
    process.wait_at(address)?;
    Ok(Network {
        address: Address::S3(address, (id.to_owned(), secret.to_owned())),
        _processes: vec![process],
    })
}
