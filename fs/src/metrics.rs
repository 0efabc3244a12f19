//! What front ends and the engine measure, in the text format of OpenMetrics,
//! which Prometheus reads.
//!
//! [`Metrics`] gathers it and [`Server`] answers `GET /metrics` with it. Names
//! and meanings are in `docs/guide.md`.

mod server;

use std::{fmt, sync::Arc};

use kiseki_core::engine::{Volume, VolumeStatus};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use crate::stats::{BOUNDS_NANOS, Counted, OpStats};

pub use server::{MetricsError, Server};

/// Where figures come from.
pub struct Metrics {
    volume: Volume,
    fronts: Vec<Arc<dyn Counted>>,
}

impl Metrics {
    /// Those of a volume.
    #[must_use]
    pub fn of(volume: Volume) -> Metrics {
        Metrics {
            volume,
            fronts: Vec::new(),
        }
    }

    /// Adds those of a front end.
    pub fn add(&mut self, front: Arc<dyn Counted>) {
        self.fronts.push(front);
    }

    /// All of them, as of now.
    ///
    /// # Errors
    /// The volume has no state to tell.
    pub async fn text(&self) -> kiseki_core::Result<String> {
        let seen = Seen {
            volume: self.volume.status().await?,
            fronts: self
                .fronts
                .iter()
                .map(|front| (front.front(), front.snapshot()))
                .collect(),
        };
        let mut registry = Registry::with_prefix("kiseki");
        registry.register_collector(Box::new(seen));
        let mut text = String::new();
        // A `String` takes everything.
        let _ = text::encode(&mut text, &registry);
        Ok(text)
    }
}

/// What was found at one moment.
struct Seen {
    volume: VolumeStatus,
    fronts: Vec<(&'static str, Vec<OpStats>)>,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.operations(&mut encoder)?;
        self.gauges(&mut encoder)?;
        self.counters(&mut encoder)
    }
}

impl Seen {
    fn operations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut latency = encoder.encode_descriptor(
            "operation_duration",
            "Time from the arrival of a request to its reply",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (labels, stats) in self.each() {
            let (total, buckets) = (stats.total.as_secs_f64(), buckets(stats));
            let mut family = latency.encode_family(&labels)?;
            family.encode_histogram::<NoLabelSet>(total, stats.count, &buckets, None)?;
        }
        let mut bytes = encoder.encode_descriptor(
            "operation",
            "Bytes that operations read or wrote",
            Some(&Unit::Bytes),
            MetricType::Counter,
        )?;
        for (labels, stats) in self.each().filter(|(_, stats)| stats.bytes > 0) {
            let mut family = bytes.encode_family(&labels)?;
            family.encode_counter::<NoLabelSet, u64, f64>(&stats.bytes, None)?;
        }
        let mut waited = encoder.encode_descriptor(
            "operations_waited",
            "Operations that could not be answered at once",
            None,
            MetricType::Counter,
        )?;
        for (labels, stats) in self.each().filter(|(_, stats)| stats.pending > 0) {
            let mut family = waited.encode_family(&labels)?;
            family.encode_counter::<NoLabelSet, u64, f64>(&stats.pending, None)?;
        }
        Ok(())
    }

    /// Every operation, with its labels.
    fn each(&self) -> impl Iterator<Item = ([(&'static str, &'static str); 2], &OpStats)> {
        self.fronts.iter().flat_map(|(front, operations)| {
            let labels = |stats: &OpStats| [("front", *front), ("op", stats.name)];
            operations.iter().map(move |stats| (labels(stats), stats))
        })
    }

    fn gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (volume, bytes) = (&self.volume, Some(&Unit::Bytes));
        let gauges = [
            (
                "dirty",
                "Written and not sealed yet",
                bytes,
                volume.dirty_bytes,
            ),
            (
                "cache",
                "Decrypted contents in memory",
                bytes,
                volume.cache_bytes,
            ),
            (
                "stored",
                "Segments in the store",
                bytes,
                volume.chunks.stored_bytes,
            ),
            (
                "inline",
                "Sealed contents of small files",
                bytes,
                volume.usage.inline_bytes,
            ),
            (
                "logical",
                "Sizes of all files together",
                bytes,
                volume.usage.logical_bytes,
            ),
            (
                "chunks",
                "Chunks that files refer to",
                None,
                volume.usage.chunks,
            ),
            (
                "chunks_stored",
                "Chunks in the store, referred to or not",
                None,
                volume.chunks.chunks,
            ),
            (
                "segments",
                "Files that chunks are in",
                None,
                volume.chunks.segments,
            ),
            ("files", "Regular files", None, volume.usage.files),
            ("inodes", "Inodes of every kind", None, volume.usage.inodes),
            (
                "revision",
                "Number of the last change",
                None,
                volume.revision.0,
            ),
            (
                "durable_revision",
                "The last change that survives power loss",
                None,
                volume.durable_revision.0,
            ),
            (
                "read_only",
                "Whether the volume takes no writes",
                None,
                u64::from(volume.read_only.is_some()),
            ),
        ];
        for (name, help, unit, value) in gauges {
            let mut gauge = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            gauge.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counters(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut syncs = encoder.encode_descriptor(
            "log_syncs",
            "Batches that the log made durable, with one sync each",
            None,
            MetricType::Counter,
        )?;
        syncs.encode_counter::<NoLabelSet, u64, f64>(&self.volume.log_batches, None)
    }
}

/// Bounds in seconds, each with what lies between it and the one before.
fn buckets(stats: &OpStats) -> Vec<(f64, u64)> {
    let bounds = BOUNDS_NANOS.iter().map(|nanos| *nanos as f64 / 1e9);
    bounds.chain([f64::INFINITY]).zip(stats.buckets).collect()
}
