//! One member's raft: opened from disk, running, stopped.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use etcdrs_apply as apply;
use etcdrs_platform::Fs;
use etcdrs_snap as snap;
use etcdrs_types::{ClusterId, LogIndex, MemberId, Term};
use etcdrs_wal as wal;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{Raft, ServerState, SnapshotPolicy, StepDownPolicy};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::error::{ProposeError, ReadError, StartError};
use crate::log_store::{Found, LogCacheStats, LogStore, Sink};
use crate::network::NoPeers;
use crate::propose::{self, Committed, Queued};
use crate::reads::{self, Waiting};
use crate::state_machine::{Never, SnapshotFiles, StateMachine};
use crate::types::{self, MembershipRecord, TypeConfig};

/// How often the commit index is written when no append carries it.
const COMMIT_WRITE_INTERVAL: Duration = Duration::from_millis(100);
/// How long a stop waits for the state machine to finish what it does.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often log segments that are not needed any more are looked for, as etcd does.
const PURGE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a proposal that nobody could take waits before it is offered again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// A member's raft settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member. Ignored when the log exists: the log knows.
    pub member: MemberId,
    /// The cluster. Ignored when the log exists.
    pub cluster: ClusterId,
    /// The voters of a cluster that starts for the first time. Ignored when the log exists.
    pub voters: Vec<MemberId>,
    /// Directory of the write-ahead log.
    pub wal_dir: PathBuf,
    /// Directory of the `.snap` files.
    pub snap_dir: PathBuf,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
    /// etcd's election time-out.
    pub election: Duration,
    /// Whether a candidate asks first whether it could win.
    pub pre_vote: bool,
    /// Applied entries between two snapshots.
    pub snapshot_count: u64,
    /// Entries kept behind a snapshot for slow followers.
    pub catchup_entries: u64,
    /// Bytes of log kept in memory; a snapshot is made early when it is passed.
    pub log_cache_bytes_max: usize,
    /// `.snap` files kept; 0 keeps all.
    pub snaps_max: usize,
    /// Segments of the log kept; 0 keeps all.
    pub wals_max: usize,
    /// Above this, applying a slice of entries is logged as slow.
    pub warn_apply: Duration,
    /// Options of the log itself.
    pub wal: wal::Options,
}

/// What a member knows of its cluster's raft at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The leader, if one is known.
    pub leader: Option<MemberId>,
    /// The current term.
    pub term: Term,
    /// The newest committed entry.
    pub committed: LogIndex,
    /// The newest applied entry.
    pub applied: LogIndex,
    /// Whether this member leads.
    pub is_leader: bool,
}

/// A running member. Dropping it does not stop it; [`Node::stop`] does.
pub struct Node<F: Fs> {
    raft: Raft<TypeConfig, StateMachine<F>>,
    handle: Handle,
    writer: wal::Writer,
    tasks: Vec<JoinHandle<()>>,
    /// Ends when nobody of raft's holds the database any more.
    database_in_use: mpsc::Receiver<Never>,
    fatal: watch::Receiver<Option<String>>,
}

/// Proposes, reads and tells the status. Cloneable, usable from any thread.
#[derive(Clone)]
pub struct Handle {
    member: MemberId,
    cluster: ClusterId,
    proposals: mpsc::Sender<Queued>,
    reads: mpsc::Sender<Waiting>,
    status: watch::Receiver<Status>,
    term: Arc<AtomicU64>,
    applied: watch::Receiver<u64>,
    log: LogStore,
}

impl Handle {
    /// This member's id.
    #[must_use]
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The current term; cheaper than [`Self::status`].
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.term.load(Ordering::Relaxed))
    }

    /// What is known now.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { applied: LogIndex(*self.applied.borrow()), ..*self.status.borrow() }
    }

    /// Follows the status as it changes. Its `applied` may lag.
    #[must_use]
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// How much of the log is in memory.
    #[must_use]
    pub fn log_cache(&self) -> LogCacheStats {
        self.log.stats()
    }

    /// Appends an encoded `InternalRaftRequest` and waits until it is committed, durable and
    /// applied here. Waits, without a limit of its own, while there is no leader.
    ///
    /// # Errors
    ///
    /// [`ProposeError::OutcomeUnknown`] means that the entry may still be applied later.
    pub async fn propose(&self, request: Bytes) -> Result<Committed, ProposeError> {
        loop {
            let (done, written) = oneshot::channel();
            let queued = Queued { request: request.clone(), done };
            self.proposals.try_send(queued).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => ProposeError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
            })?;
            let written = written.await.map_err(|_| ProposeError::Stopped)?;
            match propose::committed(written) {
                // Nothing was appended: the leader is not there yet, or not ready yet.
                Err(ProposeError::NotLeader) if self.may_lead() => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                result => return result,
            }
        }
    }

    fn may_lead(&self) -> bool {
        let status = self.status.borrow();
        status.leader.is_none() || status.leader == Some(self.member)
    }

    /// Returns once everything that was committed when the call began is applied here, confirmed
    /// by a quorum. What is read then is linearizable. Waits while there is no leader.
    ///
    /// # Errors
    ///
    /// [`ReadError::Stopped`] when the member stops.
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        loop {
            let (done, round) = oneshot::channel();
            self.reads.send(done).await.map_err(|_| ReadError::Stopped)?;
            match round.await.map_err(|_| ReadError::Stopped)? {
                Err(ReadError::NoLeader) => tokio::time::sleep(RETRY_PAUSE).await,
                result => return result,
            }
        }
    }
}

impl<F: Fs> Node<F> {
    /// Opens the log, brings the machine to where it was, and starts raft. Runs inside a tokio
    /// runtime; its tasks stay on that runtime.
    ///
    /// # Errors
    ///
    /// [`StartError`] names what could not be opened.
    pub async fn start(fs: F, config: Config, opened: apply::Opened) -> Result<Self, StartError> {
        let Loaded { writer, found, metadata, machine, membership, store } =
            load(&fs, &config, opened)?;
        let member = metadata.node_id;
        let sole = membership.voters().eq([member.0]);
        let membership = membership.stored().map_err(StartError::Entry)?;
        let snapshot_at = found.purged;
        let log = LogStore::new(Sink::Log(writer.clone()), found);
        let files = SnapshotFiles { store, keep: config.snaps_max, log: log.clone() };
        let (in_use, database_in_use) = mpsc::channel(1);
        let machine =
            StateMachine::new(machine, membership, snapshot_at, files, config.warn_apply, in_use);
        let applied = machine.applied();
        let settings = Arc::new(settings(&config)?);
        let raft = Raft::build(member.0, settings, NoPeers, log.clone(), machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        raft.run();
        if sole {
            // Nobody else can lead, so there is nothing to wait for.
            raft.trigger().elect(false).await.map_err(|e| StartError::Raft(e.to_string()))?;
        }
        let (proposals, proposal_queue) = mpsc::channel(propose::QUEUE_MAX);
        let (reads, read_queue) = mpsc::channel(reads::QUEUE_MAX);
        let (status_tx, status) = watch::channel(Status::default());
        let (fatal_tx, fatal) = watch::channel(None);
        let term = Arc::new(AtomicU64::new(0));
        let tasks = vec![
            tokio::spawn(propose::run(raft.clone(), proposal_queue)),
            tokio::spawn(reads::run(raft.clone(), read_queue, applied.clone())),
            tokio::spawn(follow_status(raft.clone(), status_tx, Arc::clone(&term), fatal_tx)),
            tokio::spawn(keep_snapshots(
                raft.clone(),
                log.clone(),
                applied.clone(),
                config.clone(),
            )),
            tokio::spawn(keep_commit(log.clone())),
            tokio::spawn(keep_wals(fs, config.wal_dir.clone(), config.wals_max)),
        ];
        let handle = Handle {
            member,
            cluster: metadata.cluster_id,
            proposals,
            reads,
            status,
            term,
            applied,
            log,
        };
        Ok(Self { raft, handle, writer, tasks, database_in_use, fatal })
    }

    /// The member's handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Tells why raft stopped by itself, once it has: the member must not live on.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.fatal.clone()
    }

    /// Stops raft, then the log. Entries that are queued are still written.
    pub async fn stop(self) {
        if self.raft.shutdown().await.is_err() {
            tracing::warn!("raft ended abnormally");
        }
        for task in &self.tasks {
            task.abort();
        }
        let Self { raft, handle, writer, mut database_in_use, .. } = self;
        drop(raft);
        handle.log.write_commit();
        // The state machine's task and a snapshot under way end by themselves now; the database
        // is free when they have.
        let ended = database_in_use.recv();
        if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
            tracing::warn!("the state machine is still busy");
        }
        // Joining the writer's thread blocks until its last sync.
        match tokio::task::spawn_blocking(move || writer.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "could not close the log"),
            Err(_) => tracing::warn!("the log's writer ended abnormally"),
        }
    }
}

struct Loaded<F: Fs> {
    writer: wal::Writer,
    found: Found,
    metadata: wal::Metadata,
    machine: apply::Machine,
    membership: MembershipRecord,
    store: snap::Store<F>,
}

fn load<F: Fs>(fs: &F, config: &Config, opened: apply::Opened) -> Result<Loaded<F>, StartError> {
    let mut machine = opened.machine;
    let store = snap::Store::open(fs.clone(), &config.snap_dir)?;
    let dir = config.wal_dir.clone();
    // Damaged files are set aside here; the database is what a start reads.
    match store.newest() {
        Ok(_) | Err(snap::Error::NoSnapshot) => {}
        Err(error) => return Err(error.into()),
    }
    let exists = wal::Wal::exists(fs, &dir)
        .map_err(|source| wal::OpenError::Io { path: dir.clone(), source })
        .map_err(|source| StartError::OpenLog { dir: dir.clone(), source })?;
    let membership = match &opened.membership {
        Some(bytes) => MembershipRecord::decode(bytes.clone())
            .map_err(|error| StartError::Entry(format!("stored membership: {error}")))?,
        // The members are durable before the log exists, so this is another database.
        None if exists => {
            let path = machine.shared().backend().path().to_path_buf();
            return Err(StartError::DatabaseMissing { path });
        }
        None => {
            let record = MembershipRecord::seed(config.voters.iter().map(|id| id.0));
            // Durable before the log exists: a log whose members are unknown could never start.
            machine.seed_membership(&record.encode_to_vec())?;
            record
        }
    };
    if !exists {
        let metadata = wal::Metadata { node_id: config.member, cluster_id: config.cluster };
        let log = wal::Wal::create(fs.clone(), &dir, &metadata, config.wal.clone())
            .map_err(|source| StartError::CreateLog { dir: dir.clone(), source })?;
        let found = Found {
            purged: types::log_id(0, 0),
            entries: VecDeque::new(),
            hard_state: wal::HardState::default(),
        };
        let writer = wal::Writer::spawn(log).map_err(StartError::Thread)?;
        return Ok(Loaded { writer, found, metadata, machine, membership, store });
    }
    // A mark is written after the flush it speaks of, so none above the database is there.
    let applied = machine.applied().0;
    let from = wal::StartAt::NewestAtOrBelow(applied);
    let opened = wal::Wal::open(fs.clone(), &dir, &from, config.wal.clone())
        .map_err(|source| StartError::OpenLog { dir: dir.clone(), source })?;
    let content = opened.content;
    let purged = types::log_id(content.base.term.0, content.base.index.0);
    let entries = content
        .entries
        .into_iter()
        .map(types::from_wal)
        .collect::<Result<VecDeque<_>, _>>()
        .map_err(StartError::Entry)?;
    let last = entries.back().map_or(purged.index, |entry| entry.log_id.index);
    if applied.0 > last {
        return Err(StartError::LogBehind { applied: applied.0, last });
    }
    if applied.0 < purged.index {
        return Err(StartError::DatabaseBehind { applied: applied.0, purged: purged.index });
    }
    let found = Found { purged, entries, hard_state: content.hard_state };
    let writer = wal::Writer::spawn(opened.wal).map_err(StartError::Thread)?;
    Ok(Loaded { writer, found, metadata: content.metadata, machine, membership, store })
}

/// engine.md §1.2: E/2..3E/4 puts a fail-over into etcd's window of E..2E.
fn settings(config: &Config) -> Result<openraft::Config, StartError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let election = millis(config.election);
    let heartbeat = millis(config.heartbeat);
    let election_timeout_max = (election * 3 / 4).max(heartbeat + 2);
    openraft::Config {
        cluster_name: config.cluster.to_string(),
        heartbeat_interval: heartbeat,
        heartbeat_min_interval: Some(heartbeat / 2),
        election_timeout_min: (election / 2).max(heartbeat + 1),
        election_timeout_max,
        enable_pre_vote: Some(config.pre_vote),
        quorum_loss_probe_interval: Some(2 * election_timeout_max + heartbeat),
        max_payload_entries: 1024,
        max_append_entries: Some(4096),
        api_batch_capacity: 4096,
        api_batch_linger_ms: 0,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: config.catchup_entries,
        purge_batch_size: 1024,
        replication_lag_threshold: 10_000,
        removed_leader_step_down: StepDownPolicy::After(election / 4),
        enable_leader_restore: Some(false),
        broadcast_submitted_on_append: Some(false),
        ..openraft::Config::default()
    }
    .validate()
    .map_err(|error| StartError::Config(error.to_string()))
}

async fn follow_status<F: Fs>(
    raft: Raft<TypeConfig, StateMachine<F>>,
    status: watch::Sender<Status>,
    term: Arc<AtomicU64>,
    fatal: watch::Sender<Option<String>>,
) {
    let mut metrics = raft.metrics();
    loop {
        let (now, running) = {
            let seen = metrics.borrow_and_update();
            let now = Status {
                leader: seen.current_leader.map(MemberId),
                term: Term(seen.current_term),
                committed: LogIndex(seen.local_committed.map_or(0, |id| id.index)),
                applied: LogIndex(seen.last_applied.map_or(0, |id| id.index)),
                is_leader: seen.state == ServerState::Leader,
            };
            (now, seen.running_state.clone())
        };
        term.store(now.term.0, Ordering::Relaxed);
        status.send_replace(now);
        if let Err(error) = running {
            fatal.send_replace(Some(error.to_string()));
            return;
        }
        if metrics.changed().await.is_err() {
            fatal.send_replace(Some("raft ended without a word".into()));
            return;
        }
    }
}

/// Makes a snapshot every `snapshot_count` applied entries, or when the log in memory outgrows its
/// budget, and gives up what a snapshot made superfluous down to half of that budget.
async fn keep_snapshots<F: Fs>(
    raft: Raft<TypeConfig, StateMachine<F>>,
    log: LogStore,
    mut applied: watch::Receiver<u64>,
    config: Config,
) {
    let metrics = raft.metrics();
    let low = config.log_cache_bytes_max / 2;
    let mut asked = *applied.borrow_and_update();
    let (mut building, mut purged) = (false, 0);
    while applied.changed().await.is_ok() {
        let now = *applied.borrow_and_update();
        let made = metrics.borrow_watched().snapshot.map_or(0, |id| id.index);
        building &= made < asked;
        let bytes = log.stats().bytes;
        if bytes > low
            && let Some(upto) = log.superfluous(made, low).filter(|upto| *upto > purged)
        {
            purged = upto;
            if raft.trigger().purge_log(upto).await.is_err() {
                return;
            }
        }
        let due = now - asked > config.snapshot_count;
        let outgrown = bytes > config.log_cache_bytes_max && now > made;
        if !building && (due || outgrown) {
            (asked, building) = (now, true);
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
    }
}

/// Deletes segments that nothing needs any more beyond `wals_max`.
async fn keep_wals<F: Fs>(fs: F, dir: PathBuf, wals_max: usize) {
    let mut ticks = tokio::time::interval(PURGE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (fs, dir) = (fs.clone(), dir.clone());
        let purged = tokio::task::spawn_blocking(move || wal::purge(&fs, &dir, wals_max)).await;
        if let Ok(Err(error)) = purged {
            tracing::warn!(%error, "could not purge log segments");
        }
    }
}

async fn keep_commit(log: LogStore) {
    let mut ticks = tokio::time::interval(COMMIT_WRITE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        log.write_commit();
    }
}
