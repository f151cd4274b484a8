//! One member's raft: opened from disk, running, stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use etcdrs_apply as apply;
use etcdrs_platform::{Fs, OsFs, Random as _, ThreadRandom};
use etcdrs_snap::DbDirs;
use etcdrs_types::{ClusterId, MemberId};
use etcdrs_wal as wal;
use openraft::{Raft, SnapshotPolicy, StepDownPolicy};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::contact::Contact;
use crate::error::StartError;
use crate::forwarded::Forwarded;
use crate::handle::{Handle, Status};
use crate::load::{Loaded, load};
use crate::log_store::{LogStore, Sink};
use crate::members::{self, Command, Membership};
use crate::peers::{Desk, Event, Inbound, Network, Peers, Transport, run_inbound};
use crate::propose::{self, Queued};
use crate::reads::{self, Rounds, Waiting};
use crate::runtime::{Platform, Threads};
use crate::snapshots::{self, Arrived, Incoming, Outgoing, Sends};
use crate::state_machine::{Never, SnapshotFiles, StateMachine};
use crate::types::TypeConfig;
use crate::upkeep::{self, Tell};

/// How long a stop waits for the state machine to finish what it does.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Commands that may wait.
const COMMANDS_MAX: usize = 64;

/// A member's raft settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member. Ignored when the log exists: the log knows.
    pub member: MemberId,
    /// The cluster. Ignored when the log exists.
    pub cluster: ClusterId,
    /// The voters of a cluster that starts for the first time. Ignored when the log exists.
    pub voters: Vec<MemberId>,
    /// Make this member the only one of its cluster, when the others are lost for ever. Only where
    /// there is a log.
    pub force_new: bool,
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
    /// How long the log is left as it is after a database was sent to a member, and while one is on
    /// its way, so that the member can go on from there; zero for not at all.
    pub hold_log: Duration,
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

/// A running member. Dropping it does not stop it; [`Node::stop`] does.
pub struct Node<F: Fs> {
    raft: Raft<TypeConfig, StateMachine<F>>,
    handle: Handle,
    writer: wal::Writer,
    threads: Threads,
    tasks: Vec<JoinHandle<()>>,
    /// Ends when nobody of raft's holds the database any more.
    database_in_use: mpsc::Receiver<Never>,
    fatal: watch::Receiver<Option<String>>,
}

impl<F: Fs> Node<F> {
    /// Opens the log, brings the machine to where it was, and starts raft. Runs inside a tokio
    /// runtime; its tasks stay on that runtime.
    ///
    /// # Errors
    ///
    /// [`StartError`] names what could not be opened.
    pub async fn start(
        fs: F,
        config: Config,
        opened: apply::Opened,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        Self::start_on(Platform::real(fs), config, opened, transport).await
    }

    /// Like [`Self::start`], on what a simulation provides.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub async fn start_on(
        platform: Platform<F>,
        config: Config,
        opened: apply::Opened,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        let loaded = load(&platform, &config, opened).await?;
        let settings = settings(&config)?;
        let lease = Duration::from_millis(settings.election_timeout_max);
        let (member, cluster) = (loaded.metadata.node_id, loaded.metadata.cluster_id);
        let sole = config.force_new || loaded.membership.voters().eq([member.0]);
        let peers = Peers::new(transport);
        let contact = Arc::new(Contact::new(Arc::clone(&platform.clock), lease));
        let forwarded = Forwarded::new(ThreadRandom.next_u64());
        let databases = DbDirs::new(OsFs, &config.snap_dir);
        let threads = platform.threads.clone();
        let shared = loaded.machine.shared();
        let sends = Sends::new(Arc::clone(&platform.clock), config.hold_log);
        let outgoing = Outgoing::new(shared, databases.clone(), threads.clone(), sends.clone());
        let (incoming, arrived) = Incoming::new(databases.clone(), threads.clone());
        let (inbound, calls) = Inbound::new(peers.clone(), Arc::clone(&contact), incoming);
        let network = Network { peers: peers.clone(), outgoing, patience: config.election };
        let writer = loaded.writer.clone();
        let (in_use, database_in_use) = mpsc::channel(1);
        let (machine, log) =
            machine(loaded, &platform, databases.clone(), &config, forwarded.clone(), in_use)?;
        let (applied, installs) = (machine.applied(), machine.installs());
        let raft = Raft::build(member.0, Arc::new(settings), network, log.clone(), machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        raft.run();
        if sole {
            // Nobody else can lead, so there is nothing to wait for.
            raft.trigger().elect(false).await.map_err(|e| StartError::Raft(e.to_string()))?;
        }
        let (queues, waiting) = queues();
        let (tell, told) = tell();
        let handle = Handle {
            member,
            cluster,
            proposals: queues.proposals,
            reads: queues.reads,
            commands: queues.commands,
            status: told.status,
            membership: told.membership,
            term: Arc::clone(&tell.term),
            applied,
            installs,
            log,
            peers,
            forwarded,
            inbound,
        };
        let work = Work { waiting, calls, arrived, databases, contact, sends, tell };
        let tasks = spawn(&raft, &handle, platform, &config, work);
        Ok(Self { raft, handle, writer, threads, tasks, database_in_use, fatal: told.fatal })
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
        let Self { raft, handle, writer, threads, mut database_in_use, .. } = self;
        drop(raft);
        handle.log.write_commit();
        // The state machine's task and a snapshot under way end by themselves now; the database
        // is free when they have.
        let ended = database_in_use.recv();
        if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
            tracing::warn!("the state machine is still busy");
        }
        // Joining the writer's thread blocks until its last sync.
        match threads.run(move || writer.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "could not close the log"),
            Err(_) => tracing::warn!("the log's writer ended abnormally"),
        }
    }
}

/// Where a handle puts what it wants done.
struct Queues {
    proposals: mpsc::Sender<Queued>,
    reads: mpsc::Sender<Waiting>,
    commands: mpsc::Sender<Command>,
}

/// The other ends.
struct WaitingWork {
    proposals: mpsc::Receiver<Queued>,
    reads: mpsc::Receiver<Waiting>,
    commands: mpsc::Receiver<Command>,
}

fn queues() -> (Queues, WaitingWork) {
    let (proposals, proposals_waiting) = mpsc::channel(propose::QUEUE_MAX);
    let (reads, reads_waiting) = mpsc::channel(reads::QUEUE_MAX);
    let (commands, commands_waiting) = mpsc::channel(COMMANDS_MAX);
    let waiting = WaitingWork {
        proposals: proposals_waiting,
        reads: reads_waiting,
        commands: commands_waiting,
    };
    (Queues { proposals, reads, commands }, waiting)
}

/// What a handle follows.
struct Told {
    status: watch::Receiver<Status>,
    membership: watch::Receiver<Arc<Membership>>,
    fatal: watch::Receiver<Option<String>>,
}

fn tell() -> (Tell, Told) {
    let (status_tx, status) = watch::channel(Status::default());
    let (membership_tx, membership) = watch::channel(Arc::new(Membership::default()));
    let (fatal_tx, fatal) = watch::channel(None);
    let tell = Tell {
        status: status_tx,
        membership: membership_tx,
        term: Arc::default(),
        fatal: fatal_tx,
    };
    (tell, Told { status, membership, fatal })
}

/// What the tasks beside raft work on.
struct Work {
    waiting: WaitingWork,
    calls: mpsc::Receiver<Event>,
    arrived: mpsc::Receiver<Arrived>,
    databases: DbDirs<OsFs>,
    contact: Arc<Contact>,
    sends: Sends,
    tell: Tell,
}

fn spawn<F: Fs>(
    raft: &Raft<TypeConfig, StateMachine<F>>,
    handle: &Handle,
    platform: Platform<F>,
    config: &Config,
    work: Work,
) -> Vec<JoinHandle<()>> {
    let Work { waiting, calls, arrived, databases, contact, sends, tell } = work;
    let rounds = Rounds {
        raft: raft.clone(),
        member: handle.member,
        peers: handle.peers.clone(),
        status: handle.status.clone(),
        applied: handle.applied.clone(),
    };
    let desk = Desk {
        raft: raft.clone(),
        inbound: handle.inbound.clone(),
        proposals: handle.proposals.clone(),
        reads: handle.reads.clone(),
    };
    let (log, applied) = (handle.log.clone(), handle.applied.clone());
    let Platform { fs, threads, .. } = platform;
    let (wal_dir, wals_max) = (config.wal_dir.clone(), config.wals_max);
    vec![
        tokio::spawn(propose::run(raft.clone(), waiting.proposals)),
        tokio::spawn(rounds.run(waiting.reads)),
        tokio::spawn(run_inbound(desk, calls)),
        tokio::spawn(members::run(raft.clone(), config.heartbeat, waiting.commands)),
        tokio::spawn(snapshots::install(raft.clone(), databases, threads.clone(), arrived)),
        tokio::spawn(upkeep::follow(raft.clone(), contact, tell, config.heartbeat)),
        tokio::spawn(upkeep::keep_snapshots(
            raft.clone(),
            log.clone(),
            applied,
            sends,
            config.clone(),
        )),
        tokio::spawn(upkeep::keep_commit(log)),
        tokio::spawn(upkeep::keep_wals(fs, threads, wal_dir, wals_max)),
    ]
}

/// The state machine and the log of what was found on disk.
fn machine<F: Fs>(
    loaded: Loaded<F>,
    platform: &Platform<F>,
    databases: DbDirs<OsFs>,
    config: &Config,
    forwarded: Forwarded,
    in_use: mpsc::Sender<Never>,
) -> Result<(StateMachine<F>, LogStore), StartError> {
    let Loaded { writer, found, machine, membership, store, .. } = loaded;
    let membership = membership.stored().map_err(StartError::Entry)?;
    let snapshot_at = found.purged;
    let log = LogStore::new(Sink::Log(writer), found);
    let files = SnapshotFiles {
        store,
        keep: config.snaps_max,
        log: log.clone(),
        databases,
        threads: platform.threads.clone(),
        in_use,
    };
    let machine = StateMachine::new(
        machine,
        membership,
        snapshot_at,
        files,
        forwarded,
        Arc::clone(&platform.clock),
        config.warn_apply,
    );
    Ok((machine, log))
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
        // Kept beyond what is asked for, before a purge is worth it.
        purge_batch_size: config.catchup_entries.clamp(1, 1024),
        replication_lag_threshold: 10_000,
        removed_leader_step_down: StepDownPolicy::After(election / 4),
        enable_leader_restore: Some(false),
        broadcast_submitted_on_append: Some(false),
        // Ended early when the transport says that the peer is back.
        backoff: "50ms 100ms ...1s".into(),
        ..openraft::Config::default()
    }
    .validate()
    .map_err(|error| StartError::Config(error.to_string()))
}
