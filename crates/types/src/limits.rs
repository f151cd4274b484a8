//! Every limit of the system, by name. Sources: v3-api.md §5, operations.md §1.

use std::time::Duration;

/// Largest encoded raft proposal, bytes (`--max-request-bytes`).
pub const REQUEST_BYTES_MAX: usize = 1_572_864;
/// What a gRPC message may be larger than a proposal, bytes.
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;
/// Above this a configured request limit is warned about, bytes.
pub const REQUEST_BYTES_RECOMMENDED_MAX: usize = 10 * 1024 * 1024;
/// Most operations in one list of a transaction (`--max-txn-ops`).
pub const TXN_OPS_MAX: usize = 128;
/// Requests wait this long for raft, plus twice the election time-out.
pub const REQUEST_TIMEOUT_BASE: Duration = Duration::from_secs(5);
/// A replicated request is refused while commit is this many entries ahead of apply.
pub const APPLY_GAP_MAX: u64 = 5000;

/// Default of `--heartbeat-interval`, milliseconds.
pub const HEARTBEAT_MS: u64 = 100;
/// Default of `--election-timeout`, milliseconds.
pub const ELECTION_MS: u64 = 1000;
/// Largest `--election-timeout`, milliseconds.
pub const ELECTION_MS_MAX: u64 = 50_000;

/// Size at which a WAL segment is cut, bytes (decimal megabytes, as etcd has it).
pub const WAL_SEGMENT_BYTES: u64 = 64_000_000;
/// Default of `--snapshot-count`, applied entries.
pub const SNAPSHOT_COUNT: u64 = 10_000;
/// Default of `--snapshot-catchup-entries`.
pub const SNAPSHOT_CATCHUP_ENTRIES: u64 = 5000;

/// Largest TTL of a lease, seconds.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// Default backend quota, bytes (`--quota-backend-bytes`).
pub const QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;
/// Disk kept aside for deletes and compaction, bytes: a segment of the log, or a flush.
pub const DISK_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// etcd's suggested largest quota, bytes.
pub const QUOTA_BYTES_SUGGESTED_MAX: i64 = 8 * 1024 * 1024 * 1024;

/// Most distinct revisions in one answer of a watcher that catches up.
pub const WATCH_BATCH_REVISIONS_MAX: usize = 1000;
/// Default of `--watch-progress-notify-interval`.
pub const WATCH_PROGRESS_INTERVAL: Duration = Duration::from_secs(600);
/// Smallest `--watch-progress-notify-interval`.
pub const WATCH_PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Blob size of the Snapshot stream, bytes.
pub const SNAPSHOT_CHUNK_BYTES: usize = 32 * 1024;
/// Revisions removed in one slice of a compaction (`--compaction-batch-limit`).
pub const COMPACTION_BATCH: usize = 1000;
/// Pause between two slices of a compaction (`--compaction-sleep-interval`).
pub const COMPACTION_PAUSE: Duration = Duration::from_millis(10);

const _: () =
    assert!((REQUEST_BYTES_MAX as u64) < WAL_SEGMENT_BYTES, "one proposal fits in one segment");
