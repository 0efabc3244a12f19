//! Addresses to listen on.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs},
    str::FromStr,
};

use serde::Deserialize;

/// An address as people write it: without a host, it is the one that only
/// this machine reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Listen(pub SocketAddr);

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Listen, String> {
        text.parse()
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse() {
            return Ok(Listen(SocketAddr::new(here, port)));
        }
        text.to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next())
            .map(Listen)
            .ok_or_else(|| {
                format!(
                    "`{text}` is no address; write PORT, :PORT, or HOST:PORT such as 0.0.0.0:9000"
                )
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn without_a_host_nobody_else_gets_in() {
        for text in [":9000", "9000", "127.0.0.1:9000"] {
            assert_eq!(
                text.parse::<Listen>().unwrap().0.to_string(),
                "127.0.0.1:9000"
            );
        }
        assert_eq!("[::]:1".parse::<Listen>().unwrap().0.to_string(), "[::]:1");
        for text in ["", "here", "1.2.3.4", "70000"] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }
}
