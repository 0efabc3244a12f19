//! NFS-Ganesha over a directory.

use std::{fs, net::SocketAddr, os::unix::net::UnixStream, path::Path, process::Command};

use anyhow::Result;

use crate::{
    case::Protocol,
    objects::ROOT,
    server::{Address, Network, Process, make_directories, process::free_address},
};

/// Where rpcbind answers programs of its machine.
const REGISTRY: &str = "/run/rpcbind.sock";

/// Serves a fresh directory below `home`. Needs root.
///
/// # Errors
/// It does not start.
pub fn start(protocol: Protocol, home: &Path) -> Result<Network> {
    make_directories(&home.join("store"))?;
    let (nfs, mountd) = (free_address()?, free_address()?);
    let path = home.join("ganesha.conf");
    fs::write(&path, configuration(home, nfs, mountd))?;
    let mut command = Command::new("ganesha.nfsd");
    command
        .arg("-F")
        .args(["-L", "STDERR", "-N", "NIV_MAJ", "-f"]);
    command.arg(&path).arg("-p").arg(home.join("ganesha.pid"));
    let registry = registry(home)?;
    let mut server = Process::start(&mut command, home, "server")?;
    server.wait_at(nfs)?;
    server.wait_at(mountd)?;
    let mut processes = vec![server];
    processes.extend(registry);
    Ok(Network {
        address: match protocol {
            Protocol::Nfs41 => Address::Nfs41(nfs),
            _ => Address::Nfs3 { mountd, nfs },
        },
        _processes: processes,
    })
}

/// It wants to register, even where nobody is going to ask. A registry of our
/// own, where this machine has none: in a network of its own, because with an
/// address to listen at (`-h`) Debian's rpcbind 1.2.6 ends by a double free.
/// Programs of this machine register through the socket.
fn registry(home: &Path) -> Result<Option<Process>> {
    if UnixStream::connect(REGISTRY).is_ok() {
        return Ok(None);
    }
    let mut registry = Process::start(
        Command::new("unshare").args(["--net", "rpcbind", "-f"]),
        home,
        "registry",
    )?;
    registry.wait_for(|| UnixStream::connect(REGISTRY).ok())?;
    Ok(Some(registry))
}

/// Defaults, but for where it answers, and that nobody has to wait for clients
/// of an earlier life.
fn configuration(home: &Path, nfs: SocketAddr, mountd: SocketAddr) -> String {
    let (home, nfs, mountd) = (home.display(), nfs.port(), mountd.port());
    format!(
        "NFS_CORE_PARAM {{
    Protocols = 3, 4;
    Bind_addr = 127.0.0.1;
    NFS_Port = {nfs};
    MNT_Port = {mountd};
    mount_path_pseudo = true;
    Enable_UDP = false;
    Enable_NLM = false;
    Enable_RQUOTA = false;
}}
NFSv4 {{
    Minor_Versions = 1;
    Graceless = true;
    RecoveryRoot = \"{home}/recovery\";
}}
EXPORT {{
    Export_Id = 1;
    Path = \"{home}/store/{ROOT}\";
    Pseudo = \"/{ROOT}\";
    Access_Type = RW;
    Squash = No_Root_Squash;
    SecType = sys;
    Transports = TCP;
    FSAL {{ Name = VFS; }}
}}
"
    )
}
