//! Opens what lies in the data directory, and makes it on the first start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use etcdrs_apply as apply;
use etcdrs_backend::{Backend, OnDamage};
use etcdrs_lease::min_ttl_seconds;
use etcdrs_membership::{Cluster, Version};
use etcdrs_mvcc::watch::HubOptions;
use etcdrs_platform::{Fs as _, Open, OsFs, process};
use etcdrs_raft_glue as raft;
use etcdrs_snap::DbDirs;
use etcdrs_types::MemberId;
use etcdrs_wal as wal;
use tokio::sync::watch;

use crate::ETCD_VERSION;
use crate::api::Keeper;
use crate::bootstrap::{self, Bootstrap, Disk, Kind, Network, Patience, SystemResolver};
use crate::config::{Config, Gate};
use crate::metrics::WalMetrics;
use crate::peers::{DiscoveryClient, PeerQuestions};
use crate::server::StartError;

/// Permissions of directories: nobody else's business.
const DIR_MODE: u32 = 0o700;
/// How long the log is held for a member that was sent a database, as in etcd.
const HOLD_LOG: Duration = Duration::from_secs(30);

pub(super) struct Storage {
    pub(super) machine: apply::Opened,
    pub(super) raft: raft::Config,
    /// Whom to talk to before anything is applied.
    pub(super) bootstrap: Bootstrap,
    /// What is wrong with the database's files, once a read has met it.
    pub(super) damage: watch::Receiver<Option<String>>,
}

/// The database, before it is known to whom it belongs.
struct Found {
    backend: Backend,
    budget: Budget,
    disk: Disk,
    damage: watch::Receiver<Option<String>>,
}

/// Opens everything, on a thread that may block, after it was found out who this member is.
pub(super) async fn open(
    config: &Config,
    metrics: Arc<WalMetrics>,
    questions: &PeerQuestions,
) -> Result<Storage, StartError> {
    let for_find = config.clone();
    let found = tokio::task::spawn_blocking(move || find(&for_find)).await??;
    let version: Version = ETCD_VERSION.parse().expect("our own version is one");
    let registry = DiscoveryClient::new(config);
    let network = Network {
        peers: questions,
        resolver: &SystemResolver,
        registry: &registry,
        patience: Patience::of(config),
    };
    let bootstrap = bootstrap::run(config, version, &found.disk, &network)
        .await
        .map_err(|error| StartError::Bootstrap(error.to_string()))?;
    let config = config.clone();
    tokio::task::spawn_blocking(move || begin(&config, metrics, found, bootstrap)).await?
}

/// Opens the database in use and looks at the log.
fn find(config: &Config) -> Result<Found, StartError> {
    let budget = Budget::of(config)?;
    let data_dir = config.data_dir();
    let snap_dir = snap_dir(config);
    let wal_dir = config.wal_dir();
    // A start on a full disk is what the reserve is for, too.
    keeper(config).release().map_err(|source| data_dir_error(&data_dir, source))?;
    prepare(&data_dir, &wal_dir)?;
    for dir in [&snap_dir, wal_dir.parent().unwrap_or(&data_dir)] {
        OsFs.create_dir_all(dir, DIR_MODE).map_err(|source| data_dir_error(dir, source))?;
    }
    // What is written into a directory survives a loss of power only if the directory does.
    for dir in [data_dir.join("member"), data_dir.clone()] {
        OsFs.sync_dir(&dir).map_err(|source| data_dir_error(&dir, source))?;
    }
    let live = raft::live_database(&OsFs, &wal_dir, &DbDirs::new(OsFs, &snap_dir))?;
    let (damaged, damage) = watch::channel(None);
    let backend = Backend::open(&live, &budget.backend(damaged)).map_err(|error| match error {
        etcdrs_backend::OpenError::Locked { .. } => StartError::InUse { path: data_dir.clone() },
        error => StartError::Backend(error),
    })?;
    let disk = disk(&backend, &wal_dir)?;
    Ok(Found { backend, budget, disk, damage })
}

/// Keeps a reserve on the disk, or on both if the log has its own.
pub(super) fn keeper(config: &Config) -> Keeper {
    let mut directories = vec![config.data_dir()];
    let wal_dir = config.wal_dir();
    if !wal_dir.starts_with(&directories[0]) {
        directories.extend(wal_dir.parent().map(Path::to_path_buf));
    }
    Keeper::new(OsFs, directories, config.disk_reserve_bytes)
}

fn snap_dir(config: &Config) -> PathBuf {
    config.data_dir().join("member").join("snap")
}

fn disk(backend: &Backend, wal_dir: &Path) -> Result<Disk, StartError> {
    if !wal::Wal::exists(&OsFs, wal_dir).map_err(|e| data_dir_error(wal_dir, e))? {
        let applied = apply::Machine::applied_in(backend)?;
        if applied.0 > 0 {
            return Err(StartError::LogMissing { dir: wal_dir.to_path_buf(), applied: applied.0 });
        }
        return Ok(Disk::Empty);
    }
    tracing::info!("server has already been initialized");
    let metadata = wal::metadata(&OsFs, wal_dir).map_err(|source| {
        StartError::Raft(raft::StartError::OpenLog { dir: wal_dir.to_path_buf(), source })
    })?;
    let cluster = Cluster::open(backend).map_err(apply::OpenError::Members)?;
    Ok(Disk::Log {
        member_id: metadata.node_id,
        cluster_id: metadata.cluster_id,
        members: cluster.members().cloned().collect(),
    })
}

/// Writes the first rows of a member that begins, and opens the state machine.
fn begin(
    config: &Config,
    metrics: Arc<WalMetrics>,
    found: Found,
    bootstrap: Bootstrap,
) -> Result<Storage, StartError> {
    let Found { backend, budget, damage, .. } = found;
    let voters: Vec<MemberId> = match bootstrap.kind {
        Kind::New => bootstrap.members.iter().map(|member| member.id).collect(),
        // Whoever joins learns from the leader who votes.
        Kind::Join | Kind::Restart | Kind::ForceNew => Vec::new(),
    };
    if matches!(bootstrap.kind, Kind::New | Kind::Join) {
        let mut batch = backend.batch();
        let mut cluster = Cluster::open(&backend).map_err(apply::OpenError::Members)?;
        cluster.bootstrap(&mut batch, bootstrap.members.iter().cloned());
        backend.write(batch)?;
        backend.flush()?;
        let (id, cluster_id) = (bootstrap.member_id, bootstrap.cluster_id);
        tracing::info!(local_member_id = %id, %cluster_id, "starting local member");
    }
    let machine = apply::Machine::open(backend, apply_options(config, &budget))?;
    tracing::info!(
        current_rev = machine.machine.shared().reader.current_revision(),
        applied_index = machine.machine.applied().0.0,
        "kvstore restored"
    );
    let raft = raft::Config {
        member: bootstrap.member_id,
        cluster: bootstrap.cluster_id,
        voters,
        force_new: bootstrap.kind == Kind::ForceNew,
        wal_dir: config.wal_dir(),
        snap_dir: snap_dir(config),
        heartbeat: config.heartbeat,
        election: config.election,
        pre_vote: config.pre_vote,
        snapshot_count: config.snapshot_count.max(1),
        catchup_entries: config.snapshot_catchup_entries,
        hold_log: HOLD_LOG,
        log_cache_bytes_max: budget.log,
        snaps_max: config.snapshots_max,
        wals_max: config.wals_max,
        warn_apply: config.warn_apply,
        wal: wal::Options { sync: !config.no_fsync, observer: metrics, ..wal::Options::default() },
    };
    Ok(Storage { machine, raft, bootstrap, damage })
}

fn apply_options(config: &Config, budget: &Budget) -> apply::Options {
    let election_ms = u64::try_from(config.election.as_millis()).unwrap_or(u64::MAX);
    let request_timeout_ms =
        u64::try_from(config.request_timeout().as_millis()).unwrap_or(u64::MAX);
    apply::Options {
        store: etcdrs_mvcc::Options {
            value_cache_bytes: budget.values,
            event_ring_bytes: budget.ring,
        },
        lease: etcdrs_lease::Options {
            min_ttl_seconds: min_ttl_seconds(election_ms),
            retry_ms: request_timeout_ms,
            checkpoint_interval_ms: config.lease_checkpoint_interval_ms(),
            persist_checkpoints: config.feature_gates.is_on(Gate::LeaseCheckpointPersist),
            ..Default::default()
        },
        watch: HubOptions {
            progress_interval_ms: u64::try_from(config.progress_interval.as_millis())
                .unwrap_or(u64::MAX),
            ..Default::default()
        },
    }
}

fn data_dir_error(path: &Path, source: io::Error) -> StartError {
    StartError::DataDir { path: path.to_path_buf(), source }
}

/// Makes the data directory and finds out whether it can be written; and, if there is a log, whether
/// it and the database can be, before anything of them is touched.
fn prepare(data_dir: &Path, wal_dir: &Path) -> Result<(), StartError> {
    OsFs.create_dir_all(data_dir, DIR_MODE)
        .and_then(|()| probe(data_dir))
        .map_err(|source| data_dir_error(data_dir, source))?;
    if wal::Wal::exists(&OsFs, wal_dir).map_err(|source| data_dir_error(wal_dir, source))? {
        let member = data_dir.join("member");
        probe(&member).map_err(|source| StartError::MemberDir { path: member, source })?;
        let path = wal_dir.to_path_buf();
        probe(wal_dir).map_err(|source| StartError::WalDir { path, source })?;
    }
    Ok(())
}

/// Whether files can be made in a directory.
fn probe(dir: &Path) -> io::Result<()> {
    let path = dir.join(".touch");
    OsFs.open(&path, Open::Create(0o600)).and_then(|_| OsFs.remove_file(&path))
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

    fn backend(&self, damaged: watch::Sender<Option<String>>) -> etcdrs_backend::Options {
        let tell = move |what: &str| {
            damaged.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert_with(|| what.to_owned());
                is_first
            });
        };
        etcdrs_backend::Options {
            on_damage: Some(OnDamage(Arc::new(tell))),
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
}
