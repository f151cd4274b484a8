//! Several members in one process, on a switchboard that can be cut.

mod common;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{block_on, put};
use etcdrs_apply::{Machine, Options, Shared};
use etcdrs_backend::Backend;
use etcdrs_platform::OsFs;
use etcdrs_raft_glue::{
    Chunks, Config, Handle, Inbound, Lane, Membership, Node, SnapshotUnsent, Transport, Unsent,
    live_database,
};
use etcdrs_snap::DbDirs;
use etcdrs_types::MemberId;
use parking_lot::Mutex;

const PATIENCE: Duration = Duration::from_secs(30);

/// Who is there, and which directed paths are cut.
#[derive(Default)]
struct Switch {
    members: Mutex<HashMap<MemberId, Inbound>>,
    cut: Mutex<HashSet<(MemberId, MemberId)>>,
}

impl Switch {
    fn path(&self, from: MemberId, to: MemberId) -> Option<Inbound> {
        if self.cut.lock().contains(&(from, to)) {
            return None;
        }
        self.members.lock().get(&to).cloned()
    }

    /// Tells everybody whom they can send to now.
    fn tell(&self) {
        let members = self.members.lock().clone();
        for (from, inbound) in &members {
            for to in (1..=5).map(MemberId).filter(|to| to != from) {
                inbound.link_changed(to, self.path(*from, to).is_some());
            }
        }
    }

    fn plug(&self, member: MemberId, inbound: Inbound) {
        self.members.lock().insert(member, inbound);
        self.tell();
    }

    fn unplug(&self, member: MemberId) {
        self.members.lock().remove(&member);
        self.tell();
    }

    /// Cuts a member off from all others, or heals that.
    fn isolate(&self, member: MemberId, cut: bool) {
        for other in (1..=5).map(MemberId) {
            for path in [(member, other), (other, member)] {
                if cut {
                    self.cut.lock().insert(path);
                } else {
                    self.cut.lock().remove(&path);
                }
            }
        }
        self.tell();
    }
}

struct Wire {
    from: MemberId,
    switch: Arc<Switch>,
}

impl Transport for Wire {
    fn send(&self, to: MemberId, _: Lane, message: Bytes) -> Result<(), Unsent> {
        let inbound = self.switch.path(self.from, to).ok_or(Unsent::NoLink)?;
        inbound.receive(self.from, &mut vec![message]);
        Ok(())
    }

    fn send_snapshot(
        &self,
        to: MemberId,
        head: Bytes,
        chunks: Chunks,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, SnapshotUnsent>> + Send>> {
        let (from, path) = (self.from, self.switch.path(self.from, to));
        Box::pin(async move {
            let inbound = path.ok_or(SnapshotUnsent("no path".into()))?;
            let answer = inbound.receive_snapshot(from, head, chunks).await;
            answer.map_err(|error| SnapshotUnsent(error.to_string()))
        })
    }
}

struct Member {
    node: Node<OsFs>,
    shared: Shared,
    handle: Handle,
}

struct Cluster {
    dir: tempfile::TempDir,
    switch: Arc<Switch>,
    members: HashMap<MemberId, Member>,
}

fn config(dir: &Path, member: MemberId, voters: &[MemberId]) -> Config {
    Config {
        heartbeat: Duration::from_millis(50),
        election: Duration::from_millis(500),
        snapshot_count: 50,
        catchup_entries: 10,
        ..common::config(dir, member, voters)
    }
}

impl Cluster {
    async fn of(size: u64) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut cluster = Self { dir, switch: Arc::default(), members: HashMap::new() };
        let voters: Vec<MemberId> = (1..=size).map(MemberId).collect();
        for id in &voters {
            cluster.start(*id, &voters).await;
        }
        cluster
    }

    async fn start(&mut self, id: MemberId, voters: &[MemberId]) {
        let dir = self.dir.path().join(id.to_string());
        let config = config(&dir, id, voters);
        std::fs::create_dir_all(&config.snap_dir).expect("snapshot directory");
        let databases = DbDirs::new(OsFs, &config.snap_dir);
        let live = live_database(&OsFs, &config.wal_dir, &databases).expect("a database");
        let backend = Backend::open(&live, &Default::default()).expect("open backend");
        let options = Options {
            store: Default::default(),
            lease: Default::default(),
            watch: Default::default(),
        };
        let opened = Machine::open(backend, options).expect("open machine");
        let shared = opened.machine.shared();
        let wire = Arc::new(Wire { from: id, switch: Arc::clone(&self.switch) });
        let node = Node::start(OsFs, config, opened, wire).await.expect("start node");
        let handle = node.handle();
        self.switch.plug(id, handle.inbound());
        self.members.insert(id, Member { node, shared, handle });
    }

    async fn stop(&mut self, id: MemberId) {
        self.switch.unplug(id);
        let member = self.members.remove(&id).expect("it runs");
        drop(member.shared);
        drop(member.handle);
        member.node.stop().await;
    }

    fn handle(&self, id: MemberId) -> &Handle {
        &self.members[&id].handle
    }

    /// Waits until somebody other than `not` leads, as `at` sees it.
    async fn leader(&self, at: MemberId, not: Option<MemberId>) -> MemberId {
        let mut status = self.handle(at).watch_status();
        let known = status.wait_for(|status| status.leader.is_some() && status.leader != not);
        let known = tokio::time::timeout(PATIENCE, known).await.expect("a leader in time");
        known.expect("it runs").leader.expect("checked")
    }

    fn other_than(&self, not: &[MemberId]) -> MemberId {
        *self.members.keys().find(|id| !not.contains(id)).expect("another member")
    }

    async fn put(&self, at: MemberId, key: &str) -> i64 {
        let committed = within(self.handle(at).propose(put(key))).await.expect("applied");
        committed.outcome.revision
    }

    /// The revision that a linearizable read at `at` sees.
    async fn revision(&self, at: MemberId) -> i64 {
        loop {
            match within(self.handle(at).read_barrier()).await {
                Ok(()) => return self.members[&at].shared.reader.current_revision(),
                Err(etcdrs_raft_glue::ReadError::LeaderChanged) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn end(mut self) {
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            self.stop(id).await;
        }
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("done in time")
}

#[test]
fn writes_and_reads_go_through_any_member() {
    block_on(async {
        let cluster = Cluster::of(3).await;
        for (i, at) in [1, 2, 3, 1, 2, 3].into_iter().enumerate() {
            assert_eq!(cluster.put(MemberId(at), &format!("k{i}")).await, i as i64 + 2);
            for reader in 1..=3 {
                assert_eq!(cluster.revision(MemberId(reader)).await, i as i64 + 2);
            }
        }
        let leaders: HashSet<_> =
            cluster.members.values().map(|m| m.handle.status().leader).collect();
        assert_eq!(leaders.len(), 1);
        cluster.end().await;
    });
}

#[test]
fn another_member_leads_when_the_leader_is_gone() {
    block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.leader(MemberId(1), None).await;
        let follower = cluster.other_than(&[leader]);
        assert_eq!(cluster.put(follower, "a").await, 2);
        cluster.stop(leader).await;
        cluster.leader(follower, Some(leader)).await;
        assert_eq!(cluster.put(follower, "b").await, 3);
        let voters: Vec<_> = (1..=3).map(MemberId).collect();
        cluster.start(leader, &voters).await;
        assert_eq!(cluster.revision(leader).await, 3);
        cluster.end().await;
    });
}

#[test]
fn a_leader_that_is_cut_off_knows_that_it_leads_no_more() {
    block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.leader(MemberId(1), None).await;
        cluster.put(leader, "a").await;
        cluster.switch.isolate(leader, true);
        let mut status = cluster.handle(leader).watch_status();
        within(status.wait_for(|status| status.leader.is_none() && !status.is_leader))
            .await
            .expect("it runs");
        let follower = cluster.other_than(&[leader]);
        cluster.leader(follower, Some(leader)).await;
        assert_eq!(cluster.put(follower, "b").await, 3);
        // Nothing can be written or read at the old leader, however long one waits.
        let handle = cluster.handle(leader);
        for _ in 0..2 {
            let write = handle.propose(put("lost"));
            assert!(tokio::time::timeout(Duration::from_millis(300), write).await.is_err());
            let read = handle.read_barrier();
            assert!(!matches!(
                tokio::time::timeout(Duration::from_millis(300), read).await,
                Ok(Ok(()))
            ));
        }
        cluster.switch.isolate(leader, false);
        let revision = cluster.put(leader, "c").await;
        assert_eq!(cluster.revision(follower).await, revision);
        cluster.end().await;
    });
}

#[test]
fn a_member_that_was_away_gets_the_database() {
    block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.leader(MemberId(1), None).await;
        let away = cluster.other_than(&[leader]);
        cluster.put(away, "first").await;
        cluster.switch.isolate(away, true);
        let mut revision = 0;
        // Far enough that the log behind the snapshots is purged.
        let mut i = 0;
        while i < 200 || cluster.handle(leader).log_cache().entries > 150 {
            revision = cluster.put(leader, &format!("k{i}")).await;
            i += 1;
            assert!(i < 20_000, "{:?}", cluster.handle(leader).log_cache());
        }
        let reader = cluster.members[&away].shared.reader.clone();
        cluster.switch.isolate(away, false);
        assert_eq!(cluster.revision(away).await, revision);
        assert_eq!(reader.current_revision(), revision, "an old handle sees the new state");
        let hash = |id| cluster.members[&id].shared.reader.hash_kv(revision).expect("hash").hash;
        assert_eq!(hash(away), hash(leader));
        assert_eq!(cluster.put(away, "after").await, revision + 1);

        drop(reader);

        // What it received is there after a start, and the old database is gone.
        cluster.stop(away).await;
        let voters: Vec<_> = (1..=3).map(MemberId).collect();
        cluster.start(away, &voters).await;
        assert_eq!(cluster.revision(away).await, revision + 1);
        let snaps = std::fs::read_dir(cluster.dir.path().join(away.to_string()).join("snap"));
        let databases = snaps
            .expect("list")
            .filter(|entry| entry.as_ref().expect("entry").file_type().expect("type").is_dir());
        assert_eq!(databases.count(), 1);
        cluster.end().await;
    });
}

#[test]
fn members_come_learn_vote_and_go() {
    block_on(async {
        let mut cluster = Cluster::of(1).await;
        let first = MemberId(1);
        cluster.leader(first, None).await;
        for i in 0..200 {
            cluster.put(first, &format!("k{i}")).await;
        }
        let change = |edit: fn(&mut Membership)| {
            let handle = cluster.handle(first).clone();
            async move {
                let old = handle.membership();
                let mut new = Membership::clone(&old);
                edit(&mut new);
                within(handle.change_members(new, &old, Bytes::new())).await.expect("changed");
            }
        };
        change(|members| members.learners = [MemberId(2)].into()).await;
        // A joiner knows nobody: whom it belongs to comes from the leader.
        cluster.start(MemberId(2), &[]).await;
        assert_eq!(cluster.revision(MemberId(2)).await, 201);
        let handle = cluster.handle(first).clone();
        let progress = within(handle.progress()).await;
        assert_eq!(progress.len(), 2, "{progress:?}");

        let old = handle.membership();
        let promoted =
            Membership { voters: [1, 2].map(MemberId).into(), learners: [].into(), at: old.at };
        within(handle.change_members(promoted.clone(), &old, Bytes::new()))
            .await
            .expect("promoted");
        // What was based on the old membership is refused.
        let raced = within(handle.change_members(promoted, &old, Bytes::new())).await;
        assert_eq!(raced.err(), Some(etcdrs_raft_glue::ChangeError::Raced));

        within(handle.transfer_leader(MemberId(2), PATIENCE)).await.expect("handed over");
        assert_eq!(cluster.leader(first, None).await, MemberId(2));
        assert_eq!(cluster.put(first, "through the new leader").await, 202);

        let handle = cluster.handle(MemberId(2)).clone();
        let old = handle.membership();
        let alone = Membership { voters: [MemberId(2)].into(), ..Membership::clone(&old) };
        within(handle.change_members(alone, &old, Bytes::new())).await.expect("removed");
        assert_eq!(cluster.put(MemberId(2), "alone").await, 203);
        cluster.end().await;
    });
}
