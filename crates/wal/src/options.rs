//! How a log behaves.

use std::fmt;
use std::sync::Arc;

use etcdrs_platform::{Clock, SystemClock};
use etcdrs_types::{LogIndex, limits};

use crate::types::SnapshotMark;

/// How the next segment is made ready while the current one fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prepare {
    /// A thread writes zeros at this many bytes per second, so that a later sync need not change
    /// the file's extents; it is 35-40% faster then (engine.md §2.1).
    ZeroFill {
        /// The pace, so that live syncs do not queue behind the zeros.
        bytes_per_second: u64,
    },
    /// Space is reserved at the cut, as etcd does.
    Allocate,
}

/// Options of a log.
#[derive(Clone)]
pub struct Options {
    /// A segment is cut when it has at least this many bytes.
    pub segment_bytes: u64,
    /// How the next segment is made ready.
    pub prepare: Prepare,
    /// Whether to sync at all. `false` is `--unsafe-no-fsync`: everything still reaches the
    /// kernel, so only a power loss loses data.
    pub sync: bool,
    /// Measures how long syncs take.
    pub clock: Arc<dyn Clock>,
    /// Is told about writes and syncs.
    pub observer: Arc<dyn Observer>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: limits::WAL_SEGMENT_BYTES,
            prepare: Prepare::ZeroFill { bytes_per_second: 64 << 20 },
            sync: true,
            clock: Arc::new(SystemClock::new()),
            observer: Arc::new(NoObserver),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("segment_bytes", &self.segment_bytes)
            .field("prepare", &self.prepare)
            .field("sync", &self.sync)
            .finish_non_exhaustive()
    }
}

/// Where in the log to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At this mark, which must be in the log.
    Mark(SnapshotMark),
    /// At the newest mark whose index is not above this one. Segments that it does not need are
    /// neither read nor locked.
    NewestAtOrBelow(LogIndex),
}

/// Is told what the log does; for metrics. Called on the thread that writes.
pub trait Observer: Send + Sync + 'static {
    /// `bytes` reached the kernel in `nanos` (`etcd_disk_wal_write_bytes_total`,
    /// `etcd_disk_wal_write_duration_seconds`).
    fn wrote(&self, bytes: u64, nanos: u64) {
        let _ = (bytes, nanos);
    }

    /// A sync took `nanos` (`etcd_disk_wal_fsync_duration_seconds`).
    fn synced(&self, nanos: u64) {
        let _ = nanos;
    }

    /// One write carried this many batches and entries.
    fn grouped(&self, batches: usize, entries: usize) {
        let _ = (batches, entries);
    }

    /// A new segment was begun.
    fn cut(&self) {}

    /// The next segment could not be made ready (a full disk, say). The current one still takes
    /// what fits in it.
    fn prepare_failed(&self, error: &std::io::Error) {
        let _ = error;
    }

    /// The log failed for good.
    fn failed(&self) {}
}

/// An observer that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
