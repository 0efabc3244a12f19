//! `kiseki serve`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use kiseki_bench::contender::{Contender, kiseki, kiseki_store};
use serde_json::Value;

use crate::{
    case::Protocol,
    server::{Address, Network, Process, make_directories},
};

/// Serves a fresh store below `home` by `protocol`, without a mount.
///
/// # Errors
/// It does not start.
pub fn start(protocol: Protocol, home: &Path, binary: &Path) -> Result<Network> {
    make_directories(Contender::Kiseki.start(home, binary)?.dir())?;
    let front = match protocol {
        Protocol::S3 => "--s3",
        _ => "--nfs",
    };
    let mut command = kiseki(binary, home);
    command.arg("serve").args(kiseki_store(home));
    let mut process = Process::start(command.args([front, "127.0.0.1:0"]), home, "server")?;
    let at = process.wait_for(|| {
        let status = say(home, binary, &["status", "--json"]).ok()?;
        Some(status[&front[2..]].as_str()?.to_owned())
    })?;
    let at = at.trim_start_matches("http://").parse()?;
    let address = match protocol {
        Protocol::S3 => {
            let made = say(home, binary, &["s3", "key", "create", "--json"])?;
            let part = |name: &str| made[name].as_str().map(str::to_owned);
            let key = part("access_key_id").zip(part("secret_access_key"));
            Address::S3(at, key.context("no key was made")?)
        }
        Protocol::Nfs41 => Address::Nfs41(at),
        _ => Address::Nfs3 {
            mountd: at,
            nfs: at,
        },
    };
    Ok(Network {
        address,
        _processes: vec![process],
    })
}

/// What a verb of kiseki says about the store below `home`.
fn say(home: &Path, binary: &Path, verb: &[&str]) -> Result<Value> {
    let said = kiseki(binary, home)
        .args(verb)
        .args(kiseki_store(home))
        .output()?;
    ensure!(
        said.status.success(),
        "kiseki {} failed: {}",
        verb.join(" "),
        String::from_utf8_lossy(&said.stderr).trim()
    );
    Ok(serde_json::from_slice(&said.stdout)?)
}
