//! What a server says of itself when it starts (operations.md §2.1, §5.3), so that its log tells by
//! which settings it ran.

use crate::ETCD_VERSION;
use crate::config::{Config, Url};

fn joined(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

/// What is about to be bound for peers.
pub(super) fn peer_listeners(urls: &[Url]) {
    tracing::info!(listen_peer_urls = joined(urls), "configuring peer listeners");
}

/// What is about to be bound for clients.
pub(super) fn client_listeners(urls: &[Url]) {
    tracing::info!(listen_client_urls = joined(urls), "configuring client listeners");
}

/// Every setting that makes a difference to others, or to what lies on disk.
pub(super) fn settings(config: &Config) {
    // What cannot be read is refused a little later, by whoever needs it.
    let initial = config.initial_cluster().map(|(cluster, _)| cluster.to_string());
    let (data_dir, wal_dir) = (config.data_dir(), config.wal_dir());
    tracing::info!(
        etcd_version = ETCD_VERSION,
        name = config.name,
        data_dir = %data_dir.display(),
        wal_dir = %wal_dir.display(),
        wal_dir_dedicated = %config.wal_dir.display(),
        member_dir = %data_dir.join("member").display(),
        force_new_cluster = config.force_new_cluster,
        heartbeat_interval = ?config.heartbeat,
        election_timeout = ?config.election,
        initial_election_tick_advance = config.election_tick_advance,
        snapshot_count = config.snapshot_count,
        max_wals = config.wals_max,
        max_snapshots = config.snapshots_max,
        snapshot_catchup_entries = config.snapshot_catchup_entries,
        initial_advertise_peer_urls = joined(&config.initial_advertise_peer_urls),
        listen_peer_urls = joined(&config.listen_peer_urls),
        advertise_client_urls = joined(&config.advertise_client_urls),
        listen_client_urls = joined(&config.listen_client_urls),
        listen_metrics_urls = joined(&config.listen_metrics_urls),
        initial_cluster = initial.unwrap_or_default(),
        initial_cluster_state = config.initial_cluster_state,
        initial_cluster_token = config.initial_cluster_token,
        quota_backend_bytes = config.effective_quota_bytes(),
        max_request_bytes = config.request_bytes_max,
        max_concurrent_streams = config.concurrent_streams_max,
        pre_vote = config.pre_vote,
        max_learners = config.learners_max,
        memory_budget = config.memory_budget_bytes,
        disk_reserve_bytes = config.disk_reserve_bytes,
        "starting an etcd server"
    );
}
