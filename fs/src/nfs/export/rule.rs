//! One rule of the export list.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use kiseki_core::ids::Ino;
use serde::{Deserialize, Serialize};

use super::Terms;

/// Whom users without a name here are taken for.
const NOBODY: u32 = 65_534;

/// A directory, for some clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The directory, from the root of the volume.
    pub path: String,
    /// Who may mount it.
    pub clients: Clients,
    /// Whether they may only read.
    #[serde(default)]
    pub read_only: bool,
    /// Whom their users are taken for.
    #[serde(default)]
    pub squash: SquashKind,
    /// User that squashed ones become.
    #[serde(default = "nobody")]
    pub anonymous_uid: u32,
    /// Their group.
    #[serde(default = "nobody")]
    pub anonymous_gid: u32,
}

fn nobody() -> u32 {
    NOBODY
}

/// Which users of a client are not taken for themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SquashKind {
    /// Root.
    #[default]
    Root,
    /// Nobody is squashed.
    None,
    /// All of them.
    All,
}

/// The same, with whom they become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Squash {
    /// Who is squashed.
    pub kind: SquashKind,
    /// User that they become.
    pub uid: u32,
    /// Group that they become.
    pub gid: u32,
}

/// Clients, by their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Any machine.
    All,
    /// This machine, over its loopback.
    ThisMachine,
    /// A network, or one address.
    Network(IpNet),
}

/// Why a rule makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The path is none.
    #[error("`{0}` is no path to export; write it from the root of the volume, such as /photos")]
    Path(String),
    /// The clients are none.
    #[error(
        "`{0}` names no clients; write an address, a network such as 192.168.1.0/24, `loopback` or `*`"
    )]
    Clients(String),
}

impl Rule {
    /// A rule with everything else as it is by default.
    ///
    /// # Errors
    /// The path is none.
    pub fn new(path: &str, clients: Clients) -> Result<Rule, RuleError> {
        Ok(Rule {
            path: normal(path)?,
            clients,
            read_only: false,
            squash: SquashKind::default(),
            anonymous_uid: NOBODY,
            anonymous_gid: NOBODY,
        })
    }

    /// The whole tree for this machine, whose root is root here.
    #[must_use]
    pub fn of_this_machine() -> Rule {
        Rule {
            path: "/".to_owned(),
            clients: Clients::ThisMachine,
            read_only: false,
            squash: SquashKind::None,
            anonymous_uid: NOBODY,
            anonymous_gid: NOBODY,
        }
    }

    /// The rule with its path in the one form in which paths are compared.
    ///
    /// # Errors
    /// The path is none.
    pub fn checked(mut self) -> Result<Rule, RuleError> {
        self.path = normal(&self.path)?;
        Ok(self)
    }

    pub(super) fn terms(&self, root: Ino) -> Terms {
        Terms {
            root,
            read_only: self.read_only,
            squash: Squash {
                kind: self.squash,
                uid: self.anonymous_uid,
                gid: self.anonymous_gid,
            },
        }
    }
}

/// A path with one slash before each of its names.
fn normal(path: &str) -> Result<String, RuleError> {
    let wrong = || RuleError::Path(path.to_owned());
    if !path.starts_with('/') || path.contains('\0') || path.len() > 4096 {
        return Err(wrong());
    }
    let mut normal = String::new();
    for name in path
        .split('/')
        .filter(|name| !name.is_empty() && *name != ".")
    {
        if name == ".." || name.len() > kiseki_core::engine::NAME_MAX {
            return Err(wrong());
        }
        normal.push('/');
        normal.push_str(name);
    }
    if normal.is_empty() {
        normal.push('/');
    }
    Ok(normal)
}

impl Clients {
    /// Whether a client is among them.
    #[must_use]
    pub fn include(&self, client: IpAddr) -> bool {
        match self {
            Clients::All => true,
            Clients::ThisMachine => client.to_canonical().is_loopback(),
            Clients::Network(network) => network.contains(&client.to_canonical()),
        }
    }

    /// Whether no other machine can be among them.
    #[must_use]
    pub fn is_this_machine(&self) -> bool {
        match self {
            Clients::All => false,
            Clients::ThisMachine => true,
            Clients::Network(network) => {
                network.network().is_loopback() && network.broadcast().is_loopback()
            }
        }
    }
}

impl FromStr for Clients {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Clients, RuleError> {
        match text {
            "*" => return Ok(Clients::All),
            "loopback" => return Ok(Clients::ThisMachine),
            _ => {}
        }
        let network = text.parse::<IpNet>().ok();
        network
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
            .map(|network| Clients::Network(network.trunc()))
            .ok_or_else(|| RuleError::Clients(text.to_owned()))
    }
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Clients::All => f.write_str("*"),
            Clients::ThisMachine => f.write_str("loopback"),
            Clients::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Clients::Network(network) => network.fmt(f),
        }
    }
}

impl Serialize for Clients {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Clients {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Clients, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn clients(text: &str) -> Clients {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn clients_are_addresses_and_networks() {
        assert!(clients("192.168.1.0/24").include(ip("192.168.1.7")));
        assert!(!clients("192.168.1.0/24").include(ip("192.168.2.7")));
        assert!(clients("10.1.2.3").include(ip("::ffff:10.1.2.3")));
        assert!(clients("fd00::/8").include(ip("fd00::1")));
        assert!(clients("*").include(ip("1.2.3.4")));
        let here = clients("loopback");
        assert!(here.include(ip("127.0.0.1")) && here.include(ip("::1")));
        assert!(!here.include(ip("10.0.0.1")));
        for text in ["", "here", "1.2.3", "10.0.0.0/33", "192.168.1.1-9"] {
            assert!(text.parse::<Clients>().is_err(), "{text}");
        }
    }

    #[test]
    fn who_reaches_only_this_machine_is_known() {
        for text in ["loopback", "127.0.0.1", "127.0.0.0/8", "::1"] {
            assert!(clients(text).is_this_machine(), "{text}");
        }
        for text in ["*", "10.0.0.1", "126.0.0.0/7", "0.0.0.0/0"] {
            assert!(!clients(text).is_this_machine(), "{text}");
        }
    }

    #[test]
    fn clients_are_shown_as_they_are_written() {
        for text in ["*", "loopback", "10.1.2.3", "192.168.1.0/24", "fd00::/8"] {
            assert_eq!(clients(text).to_string(), text);
        }
        assert_eq!(clients("192.168.1.77/24").to_string(), "192.168.1.0/24");
    }

    #[test]
    fn a_path_has_one_form() {
        let path = |text: &str| Rule::new(text, Clients::All).map(|rule| rule.path);
        assert_eq!(path("/").unwrap(), "/");
        assert_eq!(path("//a/./b//").unwrap(), "/a/b");
        for wrong in ["", "a", "/a/../b", "/a\0"] {
            assert!(path(wrong).is_err(), "{wrong:?}");
        }
    }
}
