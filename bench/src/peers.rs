//! Installs peers: programs of Debian that figures are compared with.

use std::process::Command;

use anyhow::{Result, ensure};

/// Part of the program, so that it works from anywhere.
const SCRIPT: &str = include_str!("../peers.sh");

/// Installs those of these packages that are missing.
///
/// # Errors
/// Some could not be installed.
pub fn install(packages: &[&str]) -> Result<()> {
    let status = Command::new("bash")
        .args(["-c", SCRIPT, "peers.sh"])
        .args(packages)
        .status()?;
    ensure!(
        status.success(),
        "the peers could not be installed; see bench/peers.sh"
    );
    Ok(())
}
