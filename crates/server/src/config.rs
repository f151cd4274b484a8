//! What can be configured, and how: flags first, then the environment, then defaults.

mod check;
mod duration;
mod flags;
mod gates;
mod initial;
mod load;
mod retention;
mod security;
mod urls;

use std::path::PathBuf;
use std::time::Duration;

use etcdrs_types::limits;

pub use self::flags::{FLAGS, Flag, Group, usage};
pub use self::gates::{FeatureGates, Gate};
pub use self::initial::InitialCluster;
pub use self::load::{ConfigError, Loaded};
pub use self::retention::Retention;
pub use self::security::{DiscoveryFlags, TlsFlags};
pub use self::urls::{Url, UrlError};

/// Least value of `--raft-read-timeout` and `--raft-write-timeout`; lower ones are raised to it.
const PEER_TIMEOUT_MIN: Duration = Duration::from_secs(5);

/// Everything that can be set. [`Config::default`] is what etcd does without a flag.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `--name`.
    pub name: String,
    /// `--data-dir`; empty means `<name>.etcd`.
    pub data_dir: PathBuf,
    /// `--wal-dir`; empty means inside the data directory.
    pub wal_dir: PathBuf,
    /// `--listen-client-urls`.
    pub listen_client_urls: Vec<Url>,
    /// `--advertise-client-urls`. Required as soon as `--listen-client-urls` is given.
    pub advertise_client_urls: Vec<Url>,
    /// `--listen-metrics-urls`.
    pub listen_metrics_urls: Vec<Url>,
    /// `--listen-peer-urls`. A cluster of one answers `/version` there; empty binds nothing.
    pub listen_peer_urls: Vec<Url>,
    /// `--initial-advertise-peer-urls`.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// `--initial-cluster`; empty means this member alone.
    pub initial_cluster: String,
    /// `--initial-cluster-state`.
    pub initial_cluster_state: String,
    /// `--initial-cluster-token`.
    pub initial_cluster_token: String,
    /// `--heartbeat-interval`.
    pub heartbeat: Duration,
    /// `--election-timeout`.
    pub election: Duration,
    /// `--initial-election-tick-advance`: the first election after a start need not wait a whole
    /// time-out.
    pub election_tick_advance: bool,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// `--raft-read-timeout`: silence after which a connection to a peer counts as dead.
    pub peer_read_timeout: Duration,
    /// `--raft-write-timeout`.
    pub peer_write_timeout: Duration,
    /// `--discovery-*`: how the members of a new cluster find each other.
    pub discovery: DiscoveryFlags,
    /// `--strict-reconfig-check`.
    pub strict_reconfig_check: bool,
    /// `--max-learners`.
    pub learners_max: usize,
    /// `--force-new-cluster`.
    pub force_new_cluster: bool,
    /// `--v2-deprecation`; every value means the same.
    pub v2_deprecation: String,
    /// `--auto-compaction-mode`: `periodic` or `revision`.
    pub auto_compaction_mode: String,
    /// `--auto-compaction-retention`; `0` turns it off.
    pub auto_compaction_retention: String,
    /// TLS towards clients.
    pub client_tls: TlsFlags,
    /// TLS between peers.
    pub peer_tls: TlsFlags,
    /// `--self-signed-cert-validity`, years.
    pub self_signed_cert_validity_years: u32,
    /// `--cipher-suites`, by Go's names.
    pub cipher_suites: Vec<String>,
    /// `--tls-min-version`: `TLS1.2` or `TLS1.3`.
    pub tls_min_version: String,
    /// `--tls-max-version`; empty means the newest there is.
    pub tls_max_version: String,
    /// `--cors`.
    pub cors: String,
    /// `--host-whitelist`.
    pub host_whitelist: String,
    /// `--auth-token`.
    pub auth_token: String,
    /// `--auth-token-ttl`.
    pub auth_token_ttl: Duration,
    /// `--bcrypt-cost`.
    pub bcrypt_cost: u32,
    /// `--snapshot-count`.
    pub snapshot_count: u64,
    /// `--snapshot-catchup-entries`.
    pub snapshot_catchup_entries: u64,
    /// `--max-snapshots`.
    pub snapshots_max: usize,
    /// `--max-wals`.
    pub wals_max: usize,
    /// `--quota-backend-bytes`.
    pub quota_bytes: i64,
    /// `--max-txn-ops`.
    pub txn_ops_max: usize,
    /// `--max-request-bytes`.
    pub request_bytes_max: usize,
    /// `--max-concurrent-streams`.
    pub concurrent_streams_max: u32,
    /// `--grpc-keepalive-interval`.
    pub keepalive_interval: Duration,
    /// `--grpc-keepalive-timeout`.
    pub keepalive_timeout: Duration,
    /// `--watch-progress-notify-interval`.
    pub progress_interval: Duration,
    /// `--compaction-batch-limit`.
    pub compaction_batch: usize,
    /// `--compaction-sleep-interval`.
    pub compaction_pause: Duration,
    /// `--warning-apply-duration`.
    pub warn_apply: Duration,
    /// `--feature-gates`.
    pub feature_gates: FeatureGates,
    /// `--experimental-enable-lease-checkpoint`: the gate LeaseCheckpoint before there were gates.
    pub experimental_lease_checkpoint: bool,
    /// `--experimental-enable-lease-checkpoint-persist`: the gate LeaseCheckpointPersist.
    pub experimental_lease_checkpoint_persist: bool,
    /// `--lease-checkpoint-interval`: how often the leader records what is left of leases, if the
    /// gate LeaseCheckpoint is on.
    pub lease_checkpoint_interval: Duration,
    /// `--unsafe-no-fsync`.
    pub no_fsync: bool,
    /// `--logger`; there is one.
    pub logger: String,
    /// `--log-level`.
    pub log_level: String,
    /// `--log-format`.
    pub log_format: String,
    /// `--log-outputs`.
    pub log_outputs: String,
    /// `--memory-budget`, bytes: values, recent events, log, memtables and blocks together.
    /// 0 takes a quarter of the machine.
    pub memory_budget_bytes: u64,
    /// `--disk-reserve-bytes`: kept aside for deletes and compaction on a full disk; writes stop
    /// when less than as much again is free. 0 keeps nothing and never stops.
    pub disk_reserve_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        let localhost = |port| vec![Url::localhost(port)];
        Self {
            name: "default".into(),
            data_dir: PathBuf::new(),
            wal_dir: PathBuf::new(),
            listen_client_urls: localhost(2379),
            advertise_client_urls: localhost(2379),
            listen_metrics_urls: Vec::new(),
            listen_peer_urls: localhost(2380),
            initial_advertise_peer_urls: localhost(2380),
            initial_cluster: String::new(),
            initial_cluster_state: "new".into(),
            initial_cluster_token: "etcd-cluster".into(),
            heartbeat: Duration::from_millis(limits::HEARTBEAT_MS),
            election: Duration::from_millis(limits::ELECTION_MS),
            election_tick_advance: true,
            pre_vote: true,
            peer_read_timeout: PEER_TIMEOUT_MIN,
            peer_write_timeout: PEER_TIMEOUT_MIN,
            discovery: DiscoveryFlags::default(),
            strict_reconfig_check: true,
            learners_max: 1,
            force_new_cluster: false,
            v2_deprecation: "write-only".into(),
            auto_compaction_mode: "periodic".into(),
            auto_compaction_retention: "0".into(),
            client_tls: TlsFlags::default(),
            peer_tls: TlsFlags::default(),
            self_signed_cert_validity_years: 1,
            cipher_suites: Vec::new(),
            tls_min_version: "TLS1.2".into(),
            tls_max_version: String::new(),
            cors: "*".into(),
            host_whitelist: "*".into(),
            auth_token: "simple".into(),
            auth_token_ttl: Duration::from_secs(300),
            bcrypt_cost: 10,
            snapshot_count: limits::SNAPSHOT_COUNT,
            snapshot_catchup_entries: limits::SNAPSHOT_CATCHUP_ENTRIES,
            snapshots_max: 5,
            wals_max: 5,
            quota_bytes: 0,
            txn_ops_max: limits::TXN_OPS_MAX,
            request_bytes_max: limits::REQUEST_BYTES_MAX,
            concurrent_streams_max: u32::MAX,
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            progress_interval: limits::WATCH_PROGRESS_INTERVAL,
            compaction_batch: limits::COMPACTION_BATCH,
            compaction_pause: limits::COMPACTION_PAUSE,
            warn_apply: Duration::from_millis(100),
            feature_gates: FeatureGates::default(),
            experimental_lease_checkpoint: false,
            experimental_lease_checkpoint_persist: false,
            lease_checkpoint_interval: Duration::from_secs(5 * 60),
            no_fsync: false,
            logger: "zap".into(),
            log_level: "info".into(),
            log_format: "json".into(),
            log_outputs: "default".into(),
            memory_budget_bytes: 0,
            disk_reserve_bytes: limits::DISK_RESERVE_BYTES,
        }
    }
}

impl Config {
    /// The data directory, with etcd's default for an empty one.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        if self.data_dir.as_os_str().is_empty() {
            PathBuf::from(format!("{}.etcd", self.name))
        } else {
            self.data_dir.clone()
        }
    }

    /// The write-ahead log's directory.
    #[must_use]
    pub fn wal_dir(&self) -> PathBuf {
        if self.wal_dir.as_os_str().is_empty() {
            self.data_dir().join("member").join("wal")
        } else {
            self.wal_dir.clone()
        }
    }

    /// How long a request may wait for raft (CO-01).
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        limits::REQUEST_TIMEOUT_BASE + 2 * self.election
    }

    /// The quota in force: etcd's default for 0, none below.
    #[must_use]
    pub fn effective_quota_bytes(&self) -> i64 {
        match self.quota_bytes {
            0 => limits::QUOTA_BYTES,
            bytes if bytes < 0 => 0,
            bytes => bytes,
        }
    }

    /// Milliseconds between two records of what is left of a lease; `None` without the gate.
    pub(crate) fn lease_checkpoint_interval_ms(&self) -> Option<u64> {
        let interval = self.lease_checkpoint_interval.as_millis();
        let recorded = self.feature_gates.is_on(Gate::LeaseCheckpoint);
        recorded.then(|| u64::try_from(interval).unwrap_or(u64::MAX))
    }

    /// The members that the flags name, and the token that goes into their ids: this member alone
    /// if `--initial-cluster` is empty or names are to be discovered.
    ///
    /// # Errors
    ///
    /// A text that names the part that cannot be read.
    pub fn initial_cluster(&self) -> Result<(InitialCluster, &str), String> {
        let alone = InitialCluster::of(&self.name, &self.initial_advertise_peer_urls);
        if !self.discovery.endpoints.is_empty() {
            return Ok((alone, &self.discovery.token));
        }
        let token = &self.initial_cluster_token;
        if self.initial_cluster.is_empty() {
            return Ok((alone, token));
        }
        let cluster = InitialCluster::parse(&self.initial_cluster)
            .map_err(|why| format!("error setting up initial cluster: {why}"))?;
        Ok((cluster, token))
    }
}
