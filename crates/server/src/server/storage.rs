//! Opens what lies in the data directory, and makes it on the first start.

use std::path::Path;
use std::sync::Arc;

use etcdrs_apply as apply;
use etcdrs_backend::Backend;
use etcdrs_lease::min_ttl_seconds;
use etcdrs_membership::{Cluster, MemberRecord, cluster_id, member_id};
use etcdrs_mvcc::watch::HubOptions;
use etcdrs_platform::{Fs as _, OsFs, process};
use etcdrs_raft_glue as raft;
use etcdrs_types::{ClusterId, MemberId};
use etcdrs_wal as wal;

use crate::config::{Config, InitialCluster, Url};
use crate::metrics::WalMetrics;
use crate::server::StartError;

/// Permissions of directories: nobody else's business.
const DIR_MODE: u32 = 0o700;

pub(super) struct Storage {
    pub(super) machine: apply::Opened,
    pub(super) raft: raft::Config,
}

/// Opens everything on a thread that may block.
pub(super) async fn open(config: &Config, metrics: Arc<WalMetrics>) -> Result<Storage, StartError> {
    let config = config.clone();
    tokio::task::spawn_blocking(move || open_blocking(&config, metrics)).await?
}

fn open_blocking(config: &Config, metrics: Arc<WalMetrics>) -> Result<Storage, StartError> {
    let budget = Budget::of(config)?;
    let data_dir = config.data_dir();
    let snap_dir = data_dir.join("member").join("snap");
    let wal_dir = config.wal_dir();
    prepare(&data_dir)?;
    for dir in [&snap_dir, wal_dir.parent().unwrap_or(&data_dir)] {
        OsFs.create_dir_all(dir, DIR_MODE).map_err(|source| data_dir_error(dir, source))?;
    }
    let backend =
        Backend::open(&snap_dir.join("db"), &budget.backend()).map_err(|error| match error {
            etcdrs_backend::OpenError::Locked { .. } => {
                StartError::InUse { path: data_dir.clone() }
            }
            error => StartError::Backend(error),
        })?;
    let (member, cluster) = bootstrap(config, &backend, &wal_dir)?;
    let election_ms = u64::try_from(config.election.as_millis()).unwrap_or(u64::MAX);
    let request_timeout_ms =
        u64::try_from(config.request_timeout().as_millis()).unwrap_or(u64::MAX);
    let options = apply::Options {
        store: etcdrs_mvcc::Options {
            value_cache_bytes: budget.values,
            event_ring_bytes: budget.ring,
        },
        lease: etcdrs_lease::Options {
            min_ttl_seconds: min_ttl_seconds(election_ms),
            retry_ms: request_timeout_ms,
            ..Default::default()
        },
        watch: HubOptions {
            progress_interval_ms: u64::try_from(config.progress_interval.as_millis())
                .unwrap_or(u64::MAX),
            ..Default::default()
        },
    };
    let machine = apply::Machine::open(backend, options)?;
    tracing::info!(
        current_rev = machine.machine.shared().reader.current_revision(),
        "kvstore restored"
    );
    let raft = raft::Config {
        member,
        cluster,
        voters: vec![member],
        wal_dir,
        snap_dir,
        heartbeat: config.heartbeat,
        election: config.election,
        pre_vote: config.pre_vote,
        snapshot_count: config.snapshot_count.max(1),
        catchup_entries: config.snapshot_catchup_entries,
        log_cache_bytes_max: budget.log,
        snaps_max: config.snapshots_max,
        wals_max: config.wals_max,
        warn_apply: config.warn_apply,
        wal: wal::Options { sync: !config.no_fsync, observer: metrics, ..wal::Options::default() },
    };
    Ok(Storage { machine, raft })
}

fn data_dir_error(path: &Path, source: std::io::Error) -> StartError {
    StartError::DataDir { path: path.to_path_buf(), source }
}

/// Makes the data directory and finds out whether it can be written.
fn prepare(data_dir: &Path) -> Result<(), StartError> {
    OsFs.create_dir_all(data_dir, DIR_MODE).map_err(|source| data_dir_error(data_dir, source))?;
    let probe = data_dir.join(".touch");
    OsFs.write_durable(&probe, b"", 0o600)
        .and_then(|()| OsFs.remove_file(&probe))
        .map_err(|source| data_dir_error(data_dir, source))
}

/// The ids of this member and its cluster. On the first start the member's record is written and
/// made durable; later the log knows the ids and the flags are ignored.
fn bootstrap(
    config: &Config,
    backend: &Backend,
    wal_dir: &Path,
) -> Result<(MemberId, ClusterId), StartError> {
    let restart = wal::Wal::exists(&OsFs, wal_dir).map_err(|e| data_dir_error(wal_dir, e))?;
    if restart {
        tracing::info!("server has already been initialized");
        return Ok(Default::default());
    }
    let applied = apply::Machine::applied_in(backend)?;
    if applied.0 > 0 {
        return Err(StartError::LogMissing { dir: wal_dir.to_path_buf(), applied: applied.0 });
    }
    let peer_urls: Vec<String> =
        config.initial_advertise_peer_urls.iter().map(Url::to_string).collect();
    check_initial_cluster(config)?;
    if config.initial_cluster_state == "existing" {
        return Err(StartError::Bootstrap(
            "joining an existing cluster is not available in this version; start with --initial-cluster-state=new"
                .into(),
        ));
    }
    let id = member_id(&peer_urls, &config.initial_cluster_token, None);
    let cluster_id = cluster_id(&[id]);
    let mut batch = backend.batch();
    let mut cluster = Cluster::open(backend).map_err(apply::OpenError::Members)?;
    let record = MemberRecord { id, peer_urls, ..MemberRecord::default() };
    cluster.insert(&mut batch, record);
    backend.write(batch)?;
    backend.flush()?;
    tracing::info!(local_member_id = %id, cluster_id = %cluster_id, "starting local member");
    Ok((id, cluster_id))
}

/// operations.md §2.6, for the one member there is.
fn check_initial_cluster(config: &Config) -> Result<(), StartError> {
    if config.initial_cluster.is_empty() {
        return Ok(());
    }
    let cluster = InitialCluster::parse(&config.initial_cluster).map_err(StartError::Bootstrap)?;
    let Some(own) = cluster.members.get(&config.name) else {
        return Err(StartError::Bootstrap(format!(
            "couldn't find local name {:?} in the initial cluster configuration",
            config.name
        )));
    };
    if cluster.members.len() > 1 {
        return Err(StartError::Bootstrap(format!(
            "--initial-cluster names {} members: clusters of more than one are not available in this version",
            cluster.members.len()
        )));
    }
    if own != &config.initial_advertise_peer_urls {
        let list = |urls: &[Url]| urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",");
        return Err(StartError::Bootstrap(format!(
            "--initial-cluster has {}={} but missing from --initial-advertise-peer-urls={}",
            config.name,
            list(own),
            list(&config.initial_advertise_peer_urls)
        )));
    }
    Ok(())
}

/// How `--memory-budget` is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Budget {
    values: usize,
    ring: usize,
    log: usize,
    memtables: usize,
    blocks: usize,
}

impl Budget {
    /// Below this the parts are too small to work with.
    const LEAST: u64 = 64 << 20;

    fn of(config: &Config) -> Result<Self, StartError> {
        let given = match config.memory_budget_bytes {
            0 => process::machine_memory_bytes().map_or(1 << 30, |machine| machine / 4),
            bytes => bytes,
        };
        if given < Self::LEAST {
            return Err(StartError::MemoryBudget { given, least: Self::LEAST });
        }
        Ok(Self::share(given))
    }

    /// Everything but the values is bounded from above: more of it would not help.
    fn share(total: u64) -> Self {
        let part = |share: u64, most: u64| {
            usize::try_from((total / share).min(most)).unwrap_or(usize::MAX)
        };
        let (ring, log) = (part(32, 16 << 20), part(16, 32 << 20));
        let (memtables, blocks) = (part(4, 64 << 20), part(8, 512 << 20));
        let rest = usize::try_from(total).unwrap_or(usize::MAX);
        Self { values: rest - ring - log - memtables - blocks, ring, log, memtables, blocks }
    }

    fn backend(&self) -> etcdrs_backend::Options {
        etcdrs_backend::Options {
            block_cache_bytes: self.blocks,
            memtable_bytes: self.memtables,
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_shared_out_whole_and_refused_when_too_small() {
        for total in [64 << 20, 1 << 30, 64 << 30] {
            let Budget { values, ring, log, memtables, blocks } = Budget::share(total);
            assert_eq!((values + ring + log + memtables + blocks) as u64, total);
        }
        let small = Config { memory_budget_bytes: 1 << 20, ..Config::default() };
        let error = Budget::of(&small).expect_err("too small").to_string();
        assert!(error.contains("--memory-budget=1048576 is too small"), "{error}");
    }

    #[test]
    fn a_name_outside_the_initial_cluster_is_told() {
        let config = Config {
            name: "zz".into(),
            initial_cluster: "a=http://127.0.0.1:1".into(),
            ..Config::default()
        };
        let error = check_initial_cluster(&config).expect_err("refused").to_string();
        assert_eq!(error, "couldn't find local name \"zz\" in the initial cluster configuration");
    }
}
