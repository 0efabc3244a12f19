//! What verbs report, in the form in which the control socket and `--json`
//! carry it, and the text people read.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
};

use kiseki_core::chunk::Collected;
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Attempt, Result},
    quantity::Size,
};

/// Totals of a volume. Fields that need the key are `null` without it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Directory of the store.
    pub store: PathBuf,
    /// Name of the volume.
    pub volume: String,
    /// Whether it is mounted.
    pub mounted: bool,
    /// Where it is mounted.
    pub mountpoint: Option<PathBuf>,
    /// Where S3 answers.
    #[serde(default)]
    pub s3: Option<String>,
    /// Where NFS answers.
    #[serde(default)]
    pub nfs: Option<SocketAddr>,
    /// Where Prometheus is answered.
    #[serde(default)]
    pub metrics: Option<String>,
    /// Process that serves it.
    pub pid: Option<u32>,
    /// Sum of the sizes of all files, in bytes.
    pub logical_bytes: Option<u64>,
    /// What they take in the store, in bytes: segments and inline contents.
    pub stored_bytes: Option<u64>,
    /// Chunks that files refer to, each stored once.
    pub unique_chunks: Option<u64>,
    /// `logical_bytes` over `stored_bytes`; 1 for an empty volume.
    pub dedup_ratio: Option<f64>,
    /// Regular files.
    pub files: Option<u64>,
    /// Inodes of every kind.
    pub inodes: Option<u64>,
    /// Number of the last change.
    pub revision: Option<u64>,
    /// The last change that survives power loss.
    pub durable_revision: Option<u64>,
    /// Bytes written and not yet sealed.
    pub dirty_bytes: Option<u64>,
    /// Why it takes no writes, when it takes none.
    pub read_only: Option<String>,
    /// Format of the store.
    pub format_version: u32,
    /// What is missing to say more.
    pub needs: Option<String>,
}

/// Logical over stored bytes.
#[must_use]
pub fn dedup_ratio(logical: u64, stored: u64) -> f64 {
    if stored == 0 {
        1.0
    } else {
        logical as f64 / stored as f64
    }
}

/// Counters of a mount since it was mounted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Bytes read through the mount.
    pub read_bytes: u64,
    /// Bytes written through the mount.
    pub written_bytes: u64,
    /// Operations of each kind.
    pub operations: Vec<Operation>,
}

/// Counters of one kind of operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its name.
    pub name: String,
    /// Answers given.
    pub count: u64,
    /// Half of them took at most this long, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 took at most this long, in microseconds.
    pub p99_us: f64,
}

/// What a garbage collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Chunks that nothing referred to.
    pub chunks: u64,
    /// Bytes given back to the disk.
    pub freed_bytes: u64,
    /// Live bytes that had to be copied.
    pub copied_bytes: u64,
}

impl From<Collected> for Collection {
    fn from(done: Collected) -> Collection {
        Collection {
            chunks: done.chunks,
            freed_bytes: done.freed_bytes,
            copied_bytes: done.copied_bytes,
        }
    }
}

/// Prints one JSON object on stdout.
///
/// # Errors
/// Stdout is closed or full.
pub fn print_json(report: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string(report)
        .map_err(io::Error::from)
        .attempt(|| "cannot write the report as JSON".into())?;
    text.push('\n');
    print(&text)
}

/// Prints text on stdout.
///
/// # Errors
/// Stdout is closed or full.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .attempt(|| "cannot write to standard output".into())
}

/// Lines of `label  value`, the values aligned.
#[must_use]
pub fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    rows.iter()
        .map(|(label, value)| format!("{label:width$}  {value}\n"))
        .collect()
}

impl Status {
    /// As people read it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut rows = vec![
            ("store", self.store.display().to_string()),
            ("volume", self.volume.clone()),
            (
                "mounted",
                match (&self.mountpoint, self.pid) {
                    (Some(point), Some(pid)) => format!("at {} by process {pid}", point.display()),
                    (Some(point), None) => format!("at {}", point.display()),
                    (None, _) => if self.mounted { "yes" } else { "no" }.to_owned(),
                },
            ),
        ];
        rows.extend(self.s3.clone().map(|url| ("S3", url)));
        rows.extend(self.nfs.map(|address| ("NFS", address.to_string())));
        rows.extend(self.metrics.clone().map(|url| ("metrics", url)));
        let mut number = |label, value: Option<u64>| {
            rows.extend(value.map(|value| (label, value.to_string())));
        };
        number("files", self.files);
        number("unique chunks", self.unique_chunks);
        number("revision", self.revision);
        let mut bytes = |label, value: Option<u64>| {
            rows.extend(value.map(|value| (label, Size(value).to_string())));
        };
        bytes("logical size", self.logical_bytes);
        bytes("stored size", self.stored_bytes);
        bytes(
            "not yet sealed",
            self.dirty_bytes.filter(|bytes| *bytes > 0),
        );
        rows.extend(
            self.dedup_ratio
                .map(|ratio| ("dedup ratio", format!("{ratio:.2}"))),
        );
        rows.extend(self.read_only.clone().map(|why| ("read-only", why)));
        rows.push(("format version", self.format_version.to_string()));
        rows.extend(self.needs.clone().map(|needs| ("not shown", needs)));
        table(&rows)
    }
}

impl Statistics {
    /// As people read it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "read {}, written {}\n{:<16} {:>12} {:>10} {:>10}\n",
            Size(self.read_bytes),
            Size(self.written_bytes),
            "operation",
            "answered",
            "p50 us",
            "p99 us"
        );
        for operation in &self.operations {
            text += &format!(
                "{:<16} {:>12} {:>10.1} {:>10.1}\n",
                operation.name, operation.count, operation.p50_us, operation.p99_us
            );
        }
        text
    }
}

impl Collection {
    /// As people read it.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "{} chunks removed, {} given back, {} copied\n",
            self.chunks,
            Size(self.freed_bytes),
            Size(self.copied_bytes)
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn status_has_its_promised_fields_even_without_a_key() {
        let status = Status {
            needs: Some("totals need the key".into()),
            ..Status::default()
        };
        let json = serde_json::to_value(&status).unwrap();
        for field in [
            "store",
            "volume",
            "mounted",
            "logical_bytes",
            "stored_bytes",
            "unique_chunks",
            "dedup_ratio",
            "files",
            "revision",
            "format_version",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
        let text = status.text();
        assert!(
            text.contains("totals need the key") && !text.contains("files"),
            "{text}"
        );
    }

    #[test]
    fn an_empty_volume_has_ratio_one() {
        assert!((dedup_ratio(0, 0) - 1.0).abs() < f64::EPSILON);
        assert!((dedup_ratio(20, 10) - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn tables_are_aligned() {
        assert_eq!(
            table(&[("a", "1".into()), ("long", "2".into())]),
            "a     1\nlong  2\n"
        );
    }
}
