//! What can be configured, and how: flags first, then the environment, then defaults.

mod duration;
mod flags;
mod load;
mod urls;

use std::path::PathBuf;
use std::time::Duration;

use etcdrs_types::limits;

pub use self::flags::{FLAGS, Flag, Group, usage};
pub use self::load::{ConfigError, Loaded};
pub use self::urls::{InitialCluster, Url, UrlError};

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
    /// `--advertise-client-urls`.
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
    /// `--pre-vote`.
    pub pre_vote: bool,
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
    /// `--unsafe-no-fsync`.
    pub no_fsync: bool,
    /// `--log-level`.
    pub log_level: String,
    /// `--log-format`.
    pub log_format: String,
    /// `--log-outputs`.
    pub log_outputs: String,
    /// `--memory-budget`, bytes: values, recent events, log, memtables and blocks together.
    /// 0 takes a quarter of the machine.
    pub memory_budget_bytes: u64,
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
            pre_vote: true,
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
            no_fsync: false,
            log_level: "info".into(),
            log_format: "json".into(),
            log_outputs: "default".into(),
            memory_budget_bytes: 0,
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

    /// Checks what single values cannot show, in etcd's words where it has some.
    ///
    /// # Errors
    ///
    /// A text that names the flags and what to change.
    pub fn check(&self) -> Result<(), String> {
        let millis = |duration: Duration| duration.as_millis();
        let (heartbeat, election) = (millis(self.heartbeat), millis(self.election));
        if heartbeat == 0 {
            return Err("--heartbeat-interval must be >0 (set to 0ms)".into());
        }
        if election == 0 {
            return Err("--election-timeout must be >0 (set to 0ms)".into());
        }
        if 5 * heartbeat > election {
            return Err(format!(
                "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
            ));
        }
        if election > u128::from(limits::ELECTION_MS_MAX) {
            return Err(format!(
                "--election-timeout[{election}ms] is too long, and should be set less than {}ms",
                limits::ELECTION_MS_MAX
            ));
        }
        if self.progress_interval < limits::WATCH_PROGRESS_INTERVAL_MIN {
            return Err("--watch-progress-notify-interval must be at least 100ms".into());
        }
        if self.txn_ops_max == 0 || self.request_bytes_max == 0 || self.compaction_batch == 0 {
            return Err(
                "--max-txn-ops, --max-request-bytes and --compaction-batch-limit must be >0".into(),
            );
        }
        if !matches!(self.initial_cluster_state.as_str(), "new" | "existing") {
            return Err(format!("unexpected clusterState {:?}", self.initial_cluster_state));
        }
        if self.listen_client_urls.is_empty() {
            return Err("--listen-client-urls names no URL".into());
        }
        let listened = self.listen_client_urls.iter().chain(&self.listen_metrics_urls);
        if let Some(url) = listened.clone().find(|url| url.is_secure()) {
            return Err(format!("{url}: TLS is not available in this version; use http"));
        }
        listened.chain(&self.listen_peer_urls).try_for_each(Url::check_listen)
    }
}
