//! Settings of a transport, its limits, and who may watch it work.

use std::sync::Arc;
use std::time::Duration;

use etcdrs_platform::{Clock, OsRandom, Random, SystemClock};
use etcdrs_types::{ClusterId, MemberId};

use crate::connect::Connect;

/// Most messages in one `POST`, and most that wait in a lane while there is no stream.
pub(crate) const POST_QUEUE_MESSAGES: usize = 64;
/// Frames are gathered up to this many bytes before they are written.
pub(crate) const GATHER_BYTES: usize = 256 * 1024;
/// Shortest time between two heartbeats of a stream, whatever the read time-out is.
pub(crate) const HEARTBEAT_MIN: Duration = Duration::from_millis(10);
/// Shortest pause between two attempts to reach a peer.
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest pause, after many failures in a row.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(1);
/// A connection for `POST`s is kept this long after the last one.
pub(crate) const POST_IDLE: Duration = Duration::from_secs(1);
/// Time between two probes of a peer.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(4);
/// A peer's clock may differ by this much before it is worth a warning, milliseconds.
pub(crate) const CLOCK_DRIFT_MS_MAX: i64 = 1000;
/// Most senders that are remembered beside the peers: anybody can claim to be one.
pub(crate) const REMOTES_MAX: usize = 64;
/// Largest piece of a snapshot in one frame, bytes.
pub(crate) const SNAPSHOT_CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// Largest description or answer of a snapshot, bytes.
pub(crate) const SNAPSHOT_HEAD_BYTES_MAX: usize = 16 * 1024 * 1024;

const _: () = assert!(SNAPSHOT_HEAD_BYTES_MAX <= crate::frame::PAYLOAD_BYTES_MAX);
const _: () = assert!(SNAPSHOT_CHUNK_BYTES_MAX <= SNAPSHOT_HEAD_BYTES_MAX);

/// Settings of a transport.
#[derive(Clone)]
pub struct Config {
    /// This member.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Version this server claims, `3.7.1`.
    pub server_version: String,
    /// Oldest cluster it can talk to, `3.0.0`.
    pub min_cluster_version: String,
    /// URLs other members can reach this one at.
    pub peer_urls: Vec<String>,
    /// Time limit of a connection's set-up.
    pub dial_timeout: Duration,
    /// A stream that brings nothing for this long is dead (`--raft-read-timeout`).
    pub read_timeout: Duration,
    /// A connection that takes nothing for this long is dead (`--raft-write-timeout`).
    pub write_timeout: Duration,
    /// Most messages that wait in a lane.
    pub queue_messages: usize,
    /// Most bytes that wait in a lane; a single larger message is taken when nothing waits.
    pub queue_bytes: usize,
    /// A snapshot fails when for this long it neither moves nor is answered.
    pub snapshot_timeout: Duration,
    /// Most bytes a second of one snapshot; `None` is no limit.
    pub snapshot_bytes_per_second: Option<u64>,
    /// Opens connections.
    pub connector: Arc<dyn Connect>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance: tells runs of this member apart.
    pub random: Arc<dyn Random>,
    /// Gets the numbers for metrics.
    pub observer: Arc<dyn Observer>,
}

impl Config {
    /// etcd's defaults.
    #[must_use]
    pub fn new(member: MemberId, cluster: ClusterId, connector: Arc<dyn Connect>) -> Self {
        Self {
            member,
            cluster,
            server_version: "3.7.1".into(),
            min_cluster_version: "3.0.0".into(),
            peer_urls: Vec::new(),
            dial_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(5),
            queue_messages: 4096,
            queue_bytes: 64 * 1024 * 1024,
            snapshot_timeout: Duration::from_secs(60),
            snapshot_bytes_per_second: None,
            connector,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(OsRandom),
            observer: Arc::new(Unobserved),
        }
    }
}

/// Numbers for metrics (operations.md §4.3). Every method returns at once; all do nothing unless
/// implemented.
pub trait Observer: Send + Sync + 'static {
    /// Bytes of frames were handed to a connection to `to`.
    fn sent(&self, to: MemberId, bytes: usize) {
        let _ = (to, bytes);
    }

    /// Bytes of messages came from `from`.
    fn received(&self, from: MemberId, bytes: usize) {
        let _ = (from, bytes);
    }

    /// Messages to `to` were dropped, or could not be delivered.
    fn send_failed(&self, to: MemberId, messages: usize) {
        let _ = (to, messages);
    }

    /// What came from `from` was damaged.
    fn receive_failed(&self, from: MemberId) {
        let _ = from;
    }

    /// A probe of `to` was answered.
    fn round_trip(&self, to: MemberId, took: Duration) {
        let _ = (to, took);
    }

    /// `peer` became active or inactive.
    fn active(&self, peer: MemberId, active: bool) {
        let _ = (peer, active);
    }

    /// A snapshot to `to` begins.
    fn snapshot_send_started(&self, to: MemberId) {
        let _ = to;
    }

    /// A snapshot to `to` ended.
    fn snapshot_sent(&self, to: MemberId, ok: bool, took: Duration) {
        let _ = (to, ok, took);
    }

    /// A snapshot from `from` begins.
    fn snapshot_receive_started(&self, from: MemberId) {
        let _ = from;
    }

    /// A snapshot from `from` ended.
    fn snapshot_received(&self, from: MemberId, ok: bool, took: Duration) {
        let _ = (from, ok, took);
    }
}

struct Unobserved;

impl Observer for Unobserved {}
