//! The members: started, stopped, asked.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use etcdrs_apply::{Machine, Options, Shared};
use etcdrs_backend::Backend;
use etcdrs_platform::OsFs;
use etcdrs_raft_glue::{Config, Handle, Node, ReadError, live_database};
use etcdrs_snap::DbDirs;
use etcdrs_types::MemberId;

use crate::common::{self, put};
use crate::disk::Disk;
use crate::switch::{Switch, Wire};

/// Far above what anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long nothing may happen where nothing is to happen: several elections.
pub(crate) const QUIET: Duration = Duration::from_millis(2000);

pub(crate) struct Member {
    node: Node<Disk>,
    pub(crate) shared: Shared,
    pub(crate) handle: Handle,
}

pub(crate) struct Cluster {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) switch: Arc<Switch>,
    pub(crate) members: HashMap<MemberId, Member>,
    disks: HashMap<MemberId, Disk>,
}

fn config(dir: &Path, member: MemberId, voters: &[MemberId]) -> Config {
    Config {
        heartbeat: Duration::from_millis(50),
        // On a busy machine half a second passes without a word.
        election: Duration::from_millis(1000),
        snapshot_count: 50,
        catchup_entries: 10,
        ..common::config(dir, member, voters)
    }
}

pub(crate) fn machine_options() -> Options {
    Options { store: Default::default(), lease: Default::default(), watch: Default::default() }
}

impl Cluster {
    pub(crate) async fn of(size: u64) -> Self {
        Self::of_with(size, |config| config).await
    }

    /// A cluster whose members have other settings than usual.
    pub(crate) async fn of_with(size: u64, settings: impl Fn(Config) -> Config) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let (members, disks) = (HashMap::new(), HashMap::new());
        let mut cluster = Self { dir, switch: Arc::default(), members, disks };
        let voters: Vec<MemberId> = (1..=size).map(MemberId).collect();
        for id in &voters {
            cluster.start_with(*id, &voters, &settings).await;
        }
        cluster
    }

    pub(crate) async fn start(&mut self, id: MemberId, voters: &[MemberId]) {
        self.start_with(id, voters, |config| config).await;
    }

    /// Starts a member with other settings than usual.
    pub(crate) async fn start_with(
        &mut self,
        id: MemberId,
        voters: &[MemberId],
        settings: impl FnOnce(Config) -> Config,
    ) {
        let dir = self.dir.path().join(id.to_string());
        let config = settings(config(&dir, id, voters));
        std::fs::create_dir_all(&config.snap_dir).expect("snapshot directory");
        let databases = DbDirs::new(OsFs, &config.snap_dir);
        let live = live_database(&OsFs, &config.wal_dir, &databases).expect("a database");
        let backend = Backend::open(&live, &Default::default()).expect("open backend");
        let opened = Machine::open(backend, machine_options()).expect("open machine");
        let shared = opened.machine.shared();
        let wire = Arc::new(Wire { from: id, switch: Arc::clone(&self.switch) });
        let disk = self.disks.entry(id).or_default().clone();
        let node = Node::start(disk, config, opened, wire).await.expect("start node");
        let handle = node.handle();
        self.switch.plug(id, handle.inbound());
        self.members.insert(id, Member { node, shared, handle });
    }

    pub(crate) async fn stop(&mut self, id: MemberId) {
        self.switch.unplug(id);
        let member = self.members.remove(&id).expect("it runs");
        drop(member.shared);
        drop(member.handle);
        member.node.stop().await;
    }

    pub(crate) fn handle(&self, id: MemberId) -> &Handle {
        &self.members[&id].handle
    }

    /// The disk of a member.
    pub(crate) fn disk(&self, id: MemberId) -> &Disk {
        &self.disks[&id]
    }

    /// Waits until somebody other than `not` leads, as `at` sees it.
    pub(crate) async fn leader(&self, at: MemberId, not: Option<MemberId>) -> MemberId {
        let mut status = self.handle(at).watch_status();
        let known = status.wait_for(|status| status.leader.is_some() && status.leader != not);
        let known = tokio::time::timeout(PATIENCE, known).await.expect("a leader in time");
        known.expect("it runs").leader.expect("checked")
    }

    /// Waits until nobody leads, as `at` sees it.
    pub(crate) async fn leaderless(&self, at: MemberId) {
        let mut status = self.handle(at).watch_status();
        within(status.wait_for(|status| status.leader.is_none())).await.expect("it runs");
    }

    /// Waits until everybody that runs names the same leader.
    pub(crate) async fn settled(&self) -> MemberId {
        let first = self.leader(*self.members.keys().next().expect("a member"), None).await;
        for member in self.members.values() {
            let mut status = member.handle.watch_status();
            within(status.wait_for(|status| status.leader == Some(first))).await.expect("it runs");
        }
        first
    }

    pub(crate) fn other_than(&self, not: &[MemberId]) -> MemberId {
        *self.members.keys().find(|id| !not.contains(id)).expect("another member")
    }

    pub(crate) async fn put(&self, at: MemberId, key: &str) -> i64 {
        let committed = within(self.handle(at).propose(put(key))).await.expect("applied");
        committed.outcome.revision
    }

    /// Writes through `leader` until it has given up the log that others lack; the last revision.
    pub(crate) async fn outgrow_log(&self, leader: MemberId) -> i64 {
        let first = self.revision(leader).await;
        let mut revision = first;
        while revision < first + 200 || self.handle(leader).log_cache().entries > 150 {
            revision = self.put(leader, &format!("k{revision}")).await;
            assert!(revision < first + 20_000, "{:?}", self.handle(leader).log_cache());
        }
        revision
    }

    /// Lets `away` fall behind, and holds the database that is sent to it on its way; the last
    /// revision.
    pub(crate) async fn hold_snapshot(&self, leader: MemberId, away: MemberId) -> i64 {
        self.switch.isolate(away, true);
        let revision = self.outgrow_log(leader).await;
        self.switch.stall(away, true);
        self.switch.isolate(away, false);
        let held = async {
            while !self.switch.holds_snapshot() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(held).await;
        revision
    }

    /// The revision that a linearizable read at `at` sees.
    pub(crate) async fn revision(&self, at: MemberId) -> i64 {
        loop {
            match within(self.handle(at).read_barrier()).await {
                Ok(()) => return self.members[&at].shared.reader.current_revision(),
                Err(ReadError::LeaderChanged) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Fails unless all members come to the same data; its revision.
    pub(crate) async fn equal(&self) -> i64 {
        let any = *self.members.keys().next().expect("a member");
        let revision = self.revision(any).await;
        let mut hashes = Vec::new();
        for (id, member) in &self.members {
            assert_eq!(self.revision(*id).await, revision, "member {id}");
            hashes.push(member.shared.reader.hash_kv(revision).expect("a hash").hash);
        }
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
        revision
    }

    pub(crate) async fn end(mut self) {
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.stop(id).await;
        }
    }
}

impl Drop for Cluster {
    /// A test that fails must not wait for a disk that it held up itself.
    fn drop(&mut self) {
        self.disks.values().for_each(|disk| disk.hold(false));
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("done in time")
}
