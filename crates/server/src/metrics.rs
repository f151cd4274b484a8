//! Metrics under etcd's names, where it has one.

mod peers;
mod rpc;

use std::sync::Arc;
use std::time::Duration;

use etcdrs_wal::Observer;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use self::peers::PeerMetrics;
pub(crate) use self::rpc::Rpcs;

/// What the server counts as it goes; what can be read off its parts is read when asked for.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) rpcs: Arc<Rpcs>,
    pub(crate) proposals_pending: Gauge,
    pub(crate) proposals_failed: Counter,
    pub(crate) read_indexes_failed: Counter,
    pub(crate) leader_changes: Counter,
    /// Heartbeats of this leader that were late.
    pub(crate) late_heartbeats: Counter,
    pub(crate) leases_expired: Counter,
    pub(crate) compactions: Counter,
    /// Revisions that compactions removed from the database.
    pub(crate) compacted_keys: Counter,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    pub(crate) wal: Arc<WalMetrics>,
    pub(crate) peers: PeerMetrics,
    /// Loop lag of the core thread, seconds.
    pub(crate) loop_lag: Histogram,
    registry: Arc<Registry>,
}

/// What the log's writer reports.
#[derive(Debug)]
pub(crate) struct WalMetrics {
    fsync: Histogram,
    write: Histogram,
    bytes: Counter,
}

impl WalMetrics {
    fn new(registry: &mut Registry) -> Self {
        let wal =
            Self { fsync: fsync_buckets(), write: fsync_buckets(), bytes: Counter::default() };
        registry.register(
            "etcd_disk_wal_fsync_duration_seconds",
            "The latency distributions of fsync called by WAL",
            wal.fsync.clone(),
        );
        registry.register(
            "etcd_disk_wal_write_duration_seconds",
            "The latency distributions of write called by WAL",
            wal.write.clone(),
        );
        registry.register(
            "etcd_disk_wal_write_bytes",
            "Total number of bytes written in WAL",
            wal.bytes.clone(),
        );
        wal
    }
}

impl Observer for WalMetrics {
    fn wrote(&self, bytes: u64, nanos: u64) {
        self.bytes.inc_by(bytes);
        self.write.observe(Duration::from_nanos(nanos).as_secs_f64());
    }

    fn synced(&self, nanos: u64) {
        self.fsync.observe(Duration::from_nanos(nanos).as_secs_f64());
    }
}

/// Numbers read off the server's parts when somebody asks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readings {
    pub(crate) has_leader: bool,
    pub(crate) is_leader: bool,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
    pub(crate) keys: i64,
    pub(crate) db_bytes: u64,
    pub(crate) db_in_use_bytes: u64,
    pub(crate) quota_bytes: i64,
    pub(crate) watchers: usize,
    pub(crate) streams: usize,
    pub(crate) slow_watchers: usize,
    pub(crate) pending_events: usize,
    pub(crate) events_total: u64,
    pub(crate) leases: usize,
    pub(crate) memory: etcdrs_mvcc::Memory,
    pub(crate) log_cache_bytes: usize,
    pub(crate) block_cache_bytes: u64,
    pub(crate) memtable_bytes: u64,
}

fn fsync_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 14))
}

impl Metrics {
    /// Metrics of a server of `version`.
    pub(crate) fn new(version: &'static str) -> Self {
        let mut registry = Registry::default();
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let proposals_failed =
            counter("etcd_server_proposals_failed", "The total number of failed proposals seen");
        let read_indexes_failed = counter(
            "etcd_server_read_indexes_failed",
            "The total number of failed read indexes seen",
        );
        let leader_changes =
            counter("etcd_server_leader_changes_seen", "The number of leader changes seen");
        let late_heartbeats = counter(
            "etcd_server_heartbeat_send_failures",
            "The total number of leader heartbeat send failures (likely overloaded from slow disk)",
        );
        let leases_expired =
            counter("etcd_debugging_server_lease_expired", "The total number of expired leases");
        let compactions = counter("etcd_rs_compactions", "The number of finished compactions");
        let compacted_keys =
            counter("etcd_debugging_mvcc_db_compaction_keys", "Total number of db keys compacted");
        let received = counter(
            "etcd_network_client_grpc_received_bytes",
            "The total number of bytes received from grpc clients",
        );
        let sent = counter(
            "etcd_network_client_grpc_sent_bytes",
            "The total number of bytes sent to grpc clients",
        );
        let proposals_pending = Gauge::default();
        registry.register(
            "etcd_server_proposals_pending",
            "The current number of pending proposals to commit",
            proposals_pending.clone(),
        );
        let wal = WalMetrics::new(&mut registry);
        let peers = PeerMetrics::new(&mut registry);
        let loop_lag = Histogram::new(exponential_buckets(0.0005, 2.0, 12));
        registry.register(
            "etcd_rs_core_loop_lag_seconds",
            "How late the core thread runs what is due",
            loop_lag.clone(),
        );
        let version_info = Family::<Vec<(&'static str, &'static str)>, Gauge>::default();
        version_info.get_or_create(&vec![("server_version", version)]).set(1);
        registry.register("etcd_server_version", "Which version is running", version_info);
        let rpcs = Arc::new(Rpcs::new());
        Self {
            rpcs,
            proposals_pending,
            proposals_failed,
            read_indexes_failed,
            leader_changes,
            late_heartbeats,
            leases_expired,
            compactions,
            compacted_keys,
            received,
            sent,
            peers,
            wal: Arc::new(wal),
            loop_lag,
            registry: Arc::new(registry),
        }
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn text(&self, readings: &Readings) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        let end = text.rfind("# EOF").unwrap_or(text.len());
        text.truncate(end);
        self.rpcs.write(&mut text);
        readings.write(&mut text);
        write_process(&mut text);
        text
    }
}

fn line(text: &mut String, kind: &str, name: &str, help: &str, value: impl std::fmt::Display) {
    use std::fmt::Write as _;
    // Writing to a string cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
}

impl Readings {
    fn write(&self, text: &mut String) {
        for (name, help, value) in self.of_raft().into_iter().chain(self.of_store()) {
            line(text, "gauge", name, help, value);
        }
        for (name, help, value) in self.of_memory() {
            line(text, "gauge", name, help, value);
        }
        let (name, help) =
            ("etcd_debugging_mvcc_events_total", "Total number of events sent by this member");
        line(text, "counter", name, help, self.events_total);
    }

    fn of_raft(&self) -> [Reading; 5] {
        let flag = |set: bool| if set { 1.0 } else { 0.0 };
        [
            (
                "etcd_server_has_leader",
                "Whether or not a leader exists. 1 is existence, 0 is not",
                flag(self.has_leader),
            ),
            (
                "etcd_server_is_leader",
                "Whether or not this member is a leader. 1 if is, 0 otherwise",
                flag(self.is_leader),
            ),
            (
                "etcd_server_proposals_committed_total",
                "The total number of consensus proposals committed",
                self.committed as f64,
            ),
            (
                "etcd_server_proposals_applied_total",
                "The total number of consensus proposals applied",
                self.applied as f64,
            ),
            (
                "etcd_server_quota_backend_bytes",
                "Current backend storage quota size in bytes",
                self.quota_bytes as f64,
            ),
        ]
    }

    fn of_store(&self) -> [Reading; 10] {
        [
            (
                "etcd_mvcc_db_total_size_in_bytes",
                "Total size of the underlying database physically allocated in bytes",
                self.db_bytes as f64,
            ),
            (
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Total size of the underlying database logically in use in bytes",
                self.db_in_use_bytes as f64,
            ),
            (
                "etcd_debugging_mvcc_current_revision",
                "The current revision of store",
                self.revision as f64,
            ),
            (
                "etcd_debugging_mvcc_compact_revision",
                "The revision of the last compaction in store",
                self.compact_revision as f64,
            ),
            ("etcd_debugging_mvcc_keys_total", "Total number of keys", self.keys as f64),
            ("etcd_debugging_mvcc_watcher_total", "Total number of watchers", self.watchers as f64),
            (
                "etcd_debugging_mvcc_watch_stream_total",
                "Total number of watch streams",
                self.streams as f64,
            ),
            (
                "etcd_debugging_mvcc_slow_watcher_total",
                "Total number of unsynced slow watchers",
                self.slow_watchers as f64,
            ),
            (
                "etcd_debugging_mvcc_pending_events_total",
                "Total number of pending events to be sent",
                self.pending_events as f64,
            ),
            ("etcd_debugging_lease_total", "Number of leases", self.leases as f64),
        ]
    }

    fn of_memory(&self) -> [Reading; 7] {
        [
            (
                "etcd_rs_memory_index_bytes",
                "Memory of the key index without the keys",
                self.memory.index as f64,
            ),
            ("etcd_rs_memory_key_bytes", "Memory of the keys", self.memory.keys as f64),
            (
                "etcd_rs_memory_value_bytes",
                "Memory of the newest values",
                self.memory.values as f64,
            ),
            ("etcd_rs_memory_event_ring_bytes", "Memory of recent events", self.memory.ring as f64),
            (
                "etcd_rs_memory_log_cache_bytes",
                "Memory of recent log entries",
                self.log_cache_bytes as f64,
            ),
            (
                "etcd_rs_memory_block_cache_bytes",
                "Memory of database blocks",
                self.block_cache_bytes as f64,
            ),
            (
                "etcd_rs_memory_memtable_bytes",
                "Memory of unflushed writes",
                self.memtable_bytes as f64,
            ),
        ]
    }
}

/// Name, help, value.
type Reading = (&'static str, &'static str, f64);

/// The process metrics that dashboards read.
fn write_process(text: &mut String) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let tasks = runtime.metrics().num_alive_tasks();
        line(text, "gauge", "etcd_rs_tasks", "Tasks that run or wait", tasks);
    }
    let Ok(usage) = etcdrs_platform::process::usage(std::process::id()) else { return };
    line(
        text,
        "counter",
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds",
        usage.cpu().as_secs_f64(),
    );
    line(
        text,
        "gauge",
        "process_resident_memory_bytes",
        "Resident memory size in bytes",
        usage.resident_bytes,
    );
    if let Ok(descriptors) = etcdrs_platform::process::file_descriptors() {
        line(
            text,
            "gauge",
            "process_open_fds",
            "Number of open file descriptors",
            descriptors.open,
        );
        line(
            text,
            "gauge",
            "process_max_fds",
            "Maximum number of open file descriptors",
            descriptors.limit,
        );
    }
}
