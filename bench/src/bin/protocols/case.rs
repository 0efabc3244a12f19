//! The matrix: protocols, work, sizes of objects, and clients at a time.

use clap::ValueEnum;
use kiseki_bench::sample::{Durability, Row, Unit};
use serde::Serialize;

/// What lies between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Nothing: the engine within the process that measures.
    InProcess,
    /// System calls on a mount.
    Fuse,
    /// NFS version 3.
    Nfs3,
    /// NFS version 4.1.
    #[value(name = "nfs4.1")]
    Nfs41,
    /// HTTP.
    S3,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This project.
    Kiseki,
    /// What it is compared with.
    Peer,
}

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// Make an object that was not there.
    Put,
    /// Get a whole object that is there, any of them.
    Get,
    /// 70% get, 30% put, in any order.
    Mixed,
}

/// What is measured at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Case {
    /// What clients do.
    pub work: Work,
    /// Bytes of an object.
    pub size: usize,
    /// Clients, each with a connection of its own that carries one operation
    /// at a time.
    pub clients: usize,
}

/// Sizes of objects in bytes.
pub const SIZES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];

/// Clients at a time, ascending.
pub const CLIENTS: [usize; 3] = [1, 4, 16];

/// What clients do, in an order in which all that is got was put before.
pub const WORKS: [Work; 3] = [Work::Put, Work::Get, Work::Mixed];

impl Protocol {
    /// As tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::InProcess => "in-process",
            Protocol::Fuse => "FUSE",
            Protocol::Nfs3 => "NFSv3",
            Protocol::Nfs41 => "NFSv4.1",
            Protocol::S3 => "S3",
        }
    }

    /// Whom it is compared with.
    pub fn peer(self) -> Option<&'static str> {
        match self {
            Protocol::InProcess => None,
            Protocol::Fuse => Some("bindfs"),
            Protocol::Nfs3 | Protocol::Nfs41 => Some("NFS-Ganesha"),
            Protocol::S3 => Some("s3s-fs"),
        }
    }

    /// What a put has made durable when its latency ends.
    fn durability(self, side: Side) -> Durability {
        match (self, side) {
            (Protocol::InProcess | Protocol::Fuse, _) => Durability::FsyncPerFile,
            // It closes its files, and syncs nothing.
            (Protocol::S3, Side::Peer) => Durability::None,
            (Protocol::Nfs3 | Protocol::Nfs41 | Protocol::S3, _) => Durability::WhenAnswered,
        }
    }

    /// The row of a case.
    pub fn row(self, side: Side, work: Work) -> Row {
        let durability = match work {
            Work::Get => Durability::Reads,
            Work::Put | Work::Mixed => self.durability(side),
        };
        Row::new(work.name(), Unit::Operations, durability)
    }
}

impl Work {
    /// As tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Work::Put => "put",
            Work::Get => "get",
            Work::Mixed => "mixed",
        }
    }
}

/// Bytes as tables show them.
pub fn size_name(size: usize) -> String {
    match size >> 20 {
        0 => format!("{} KiB", size >> 10),
        mib => format!("{mib} MiB"),
    }
}
