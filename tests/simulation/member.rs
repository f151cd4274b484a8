//! A member: its disk, and its lives.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcdrs_apply::{Machine, Options, Shared};
use etcdrs_backend::{Backend, OpenError};
use etcdrs_platform::{Clock, CrashMode, Fs as _, OsFs, SimFs};
use etcdrs_raft_glue::{Config, Handle, Node, Platform, Threads, live_database};
use etcdrs_snap::DbDirs;
use etcdrs_tests::random::Random;
use etcdrs_types::{ClusterId, MemberId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::network::Network;
use crate::scribe::{self, Book};

pub(crate) const CLUSTER: ClusterId = ClusterId(9);

/// The runtime's clock.
pub(crate) struct VirtualClock(tokio::time::Instant);

impl VirtualClock {
    pub(crate) fn new() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for VirtualClock {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap()
    }

    fn wall_unix_ms(&self) -> u64 {
        self.now_ns() / 1_000_000
    }
}

/// How long syncs of a member's log take.
#[derive(Clone)]
pub(crate) struct Disk {
    random: Arc<std::sync::Mutex<Random>>,
    /// At most so much more than usual, milliseconds.
    slow_ms: Arc<AtomicU64>,
}

impl Disk {
    fn new(seed: u64) -> Self {
        Self { random: Arc::new(std::sync::Mutex::new(Random::new(seed))), slow_ms: Arc::default() }
    }

    pub(crate) fn slow(&self, millis: u64) {
        self.slow_ms.store(millis, Ordering::Relaxed);
    }

    fn sync_takes(&self) -> Duration {
        let mut random = self.random.lock().unwrap();
        let usual = Duration::from_micros(200 + random.below(4000));
        match self.slow_ms.load(Ordering::Relaxed) {
            0 => usual,
            slow => usual + Duration::from_millis(random.below(slow)),
        }
    }
}

/// A member that runs.
pub(crate) struct Life {
    pub(crate) number: u64,
    pub(crate) handle: Handle,
    pub(crate) shared: Shared,
    /// Becomes true when it ends: nobody gets an answer any more.
    pub(crate) over: watch::Sender<bool>,
    node: Node<SimFs>,
    tasks: Vec<JoinHandle<()>>,
}

pub(crate) struct Member {
    pub(crate) id: MemberId,
    /// Where it stands among the members.
    pub(crate) seat: usize,
    pub(crate) disk: Disk,
    pub(crate) fs: SimFs,
    pub(crate) life: Option<Life>,
    /// On the real file system: the databases.
    dir: PathBuf,
}

/// What members have in common.
pub(crate) struct Common {
    pub(crate) network: Network,
    pub(crate) book: Book,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) lives: AtomicU64,
}

fn config(dir: &Path, member: MemberId, voters: &[MemberId], clock: Arc<dyn Clock>) -> Config {
    Config {
        member,
        cluster: CLUSTER,
        voters: voters.to_vec(),
        force_new: false,
        wal_dir: dir.join("wal"),
        snap_dir: dir.join("snap"),
        heartbeat: Duration::from_millis(100),
        election: Duration::from_millis(1000),
        pre_vote: true,
        snapshot_count: 60,
        catchup_entries: 20,
        hold_log: Duration::from_secs(5),
        log_cache_bytes_max: 1 << 20,
        snaps_max: 2,
        wals_max: 2,
        warn_apply: Duration::from_secs(10),
        wal: etcdrs_wal::Options {
            segment_bytes: 32 << 10,
            prepare: etcdrs_wal::Prepare::Allocate,
            clock,
            ..etcdrs_wal::Options::default()
        },
    }
}

impl Member {
    pub(crate) fn new(seed: u64, root: &Path, id: MemberId, seat: usize) -> Self {
        let seed = seed ^ id.0 << 32;
        let dir = root.join(format!("m{}", id.0));
        let fs = SimFs::seeded(seed);
        for path in [dir.clone(), dir.join("snap")] {
            fs.create_dir_all(&path, 0o700).unwrap();
            std::fs::create_dir_all(&path).unwrap();
        }
        // The disk is older than the member.
        for path in dir.join("snap").ancestors() {
            fs.sync_dir(path).unwrap();
        }
        Self { id, seat, disk: Disk::new(seed), fs, life: None, dir }
    }

    pub(crate) async fn start(&mut self, common: &Common, voters: &[MemberId]) {
        assert!(self.life.is_none());
        let config = config(&self.dir, self.id, voters, Arc::clone(&common.clock) as _);
        let databases = DbDirs::new(OsFs, &config.snap_dir);
        let live = live_database(&self.fs, &config.wal_dir, &databases).expect("a database");
        let backend = open_when_free(&live).await;
        let options = Options {
            store: Default::default(),
            lease: Default::default(),
            watch: Default::default(),
        };
        let opened = Machine::open(backend, options).expect("open machine");
        let shared = opened.machine.shared();
        let disk = self.disk.clone();
        let platform = Platform {
            fs: self.fs.clone(),
            clock: Arc::clone(&common.clock) as _,
            threads: Threads::None { sync_takes: Arc::new(move || disk.sync_takes()) },
        };
        let transport = common.network.transport(self.id);
        let node = Node::start_on(platform, config, opened, transport).await;
        let node =
            node.unwrap_or_else(|error| panic!("member {} does not start: {error:?}", self.id));
        let handle = node.handle();
        let number = common.lives.fetch_add(1, Ordering::Relaxed) + 1;
        common.network.plug(self.id, number, handle.inbound());
        let over = watch::Sender::new(false);
        let tasks = vec![
            tokio::spawn(scribe::write(common.book.clone(), self.seat, shared.clone())),
            tokio::spawn(scribe::feed(shared.clone())),
            tokio::spawn(remove_compacted(shared.clone())),
        ];
        self.life = Some(Life { number, handle, shared, over, node, tasks });
    }

    /// Ends it as a power loss or a `kill -9` does.
    pub(crate) async fn crash(&mut self, common: &Common, mode: CrashMode) {
        let Some(life) = self.life.take() else { return };
        common.network.unplug(self.id);
        self.fs = self.fs.crash_with(mode);
        let kept = self.dir.with_extension("kept");
        self.keep_databases(&life.shared, &kept);
        end(life).await;
        std::fs::remove_dir_all(&self.dir).unwrap();
        std::fs::rename(&kept, &self.dir).unwrap();
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(&mut self, common: &Common) {
        let Some(life) = self.life.take() else { return };
        common.network.unplug(self.id);
        end(life).await;
    }

    /// Copies what lies on disk now, without what the database has only in memory.
    fn keep_databases(&self, shared: &Shared, kept: &Path) {
        let backend = shared.backend();
        let (snap, kept) = (self.dir.join("snap"), kept.join("snap"));
        std::fs::create_dir_all(&kept).unwrap();
        for entry in std::fs::read_dir(&snap).unwrap() {
            let entry = entry.unwrap();
            let to = kept.join(entry.file_name());
            if entry.path() == backend.path() {
                backend.checkpoint_unflushed(&to).expect("copy the database");
            } else if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), to).unwrap();
            } else if entry.file_name().to_string_lossy().starts_with("db-") {
                link_all(&entry.path(), &to);
            }
        }
    }
}

impl Life {
    /// Tells what stopped it, if it stops by itself.
    pub(crate) fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.node.fatal()
    }
}

/// A call that is just being cut off may hold the database of the last life for a moment.
async fn open_when_free(live: &Path) -> Backend {
    for _ in 0..100 {
        match Backend::open(live, &etcdrs_backend::Options::default()) {
            Err(OpenError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            opened => return opened.expect("open backend"),
        }
    }
    panic!("somebody holds {}", live.display());
}

async fn end(life: Life) {
    let Life { handle, shared, over, node, tasks, .. } = life;
    over.send_replace(true);
    for task in &tasks {
        task.abort();
    }
    for task in tasks {
        drop(task.await);
    }
    drop((handle, shared));
    node.stop().await;
}

fn link_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::hard_link(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// What the server does after a compaction.
async fn remove_compacted(shared: Shared) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        while let Some(job) = shared.reader.compaction_job() {
            job.run().expect("remove what was compacted");
        }
    }
}
