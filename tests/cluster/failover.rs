//! The leader goes, in each of the ways it can.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::*;

const WRITERS: usize = 8;

/// Writers that go on until they are told to stop. Each has a key of its own.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    writers: JoinSet<Done>,
}

/// What one writer saw.
#[derive(Debug, Default)]
struct Done {
    key: String,
    /// The newest number that was acknowledged.
    acknowledged: u64,
    /// The newest number that was sent.
    sent: u64,
    /// How often a number had to be sent more than once, and how often at most.
    failed: u64,
    attempts_max: u64,
    gap_max: Duration,
}

impl Load {
    async fn through(cluster: &Cluster, members: &[usize]) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let clients = cluster.clients(members[writer % members.len()]).await;
            let (stop, written) = (stop.clone(), written.clone());
            writers.spawn(write(clients, format!("w{writer}"), stop, written));
        }
        Self { stop, written, writers }
    }

    /// Waits until so many more writes were acknowledged.
    async fn more(&self, count: u64) {
        let from = self.written.load(Ordering::SeqCst);
        let reached =
            || async { (self.written.load(Ordering::SeqCst) >= from + count).then_some(()) };
        eventually("writes go on", reached).await;
    }

    async fn end(self) -> Vec<Done> {
        self.stop.store(true, Ordering::SeqCst);
        self.writers.join_all().await
    }
}

async fn write(
    mut clients: Clients,
    key: String,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
) -> Done {
    let mut done = Done { key, ..Done::default() };
    let mut last = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        done.sent += 1;
        let mut attempts = 1;
        while let Err(status) = clients.try_put(put(done.key.clone(), done.sent.to_string())).await
        {
            assert!(is_passing(&status), "{status:?}");
            done.failed += 1;
            attempts += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        done.acknowledged = done.sent;
        done.attempts_max = done.attempts_max.max(attempts);
        done.gap_max = done.gap_max.max(last.elapsed());
        last = Instant::now();
        written.fetch_add(1, Ordering::SeqCst);
    }
    done
}

/// Every writer's newest acknowledged number is what its key holds.
async fn nothing_is_lost(cluster: &Cluster, through: usize, done: &[Done]) {
    let mut clients = cluster.clients(through).await;
    for writer in done {
        let value = clients.get(writer.key.clone()).await.expect("was written").value;
        assert_eq!(value, writer.acknowledged.to_string(), "{writer:?}");
    }
}

fn tell(what: &str, done: &[Done]) {
    let written: u64 = done.iter().map(|writer| writer.acknowledged).sum();
    let failed: u64 = done.iter().map(|writer| writer.failed).sum();
    let gap = done.iter().map(|writer| writer.gap_max).max().unwrap_or_default();
    println!("{what}: {written} writes, {failed} failed attempts, longest gap {gap:?}");
}

/// Issue 3: the leader is killed under load; one election later writes go on, none is lost.
#[tokio::test]
async fn writes_go_on_after_kill_9_of_the_leader_and_none_is_lost() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let rest = cluster.others(leader);
    let load = Load::through(&cluster, &rest).await;
    load.more(200).await;
    let term = cluster.clients(rest[0]).await.status().await.raft_term;
    cluster.members[leader].kill();
    load.more(200).await;
    let done = load.end().await;
    tell("kill -9 of the leader", &done);
    let elections = cluster.clients(rest[0]).await.status().await.raft_term - term;
    assert!((1..=6).contains(&elections), "{elections} terms passed");
    nothing_is_lost(&cluster, rest[1], &done).await;
    cluster.members[leader].restart().await;
    cluster.wait_equal(&[0, 1, 2]).await;
    nothing_is_lost(&cluster, leader, &done).await;
}

/// Issue 3, CO-07: a leader that is stopped hands over first.
#[tokio::test]
async fn co_07_sigterm_of_the_leader_hands_over_and_fails_no_write_twice() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let rest = cluster.others(leader);
    let load = Load::through(&cluster, &rest).await;
    load.more(200).await;
    let term = cluster.clients(rest[0]).await.status().await.raft_term;
    cluster.members[leader].terminate().await;
    load.more(200).await;
    let done = load.end().await;
    tell("SIGTERM of the leader", &done);
    let log = cluster.members[leader].log().text();
    assert!(log.contains("leadership transfer"), "no line of a transfer");
    let elections = cluster.clients(rest[0]).await.status().await.raft_term - term;
    assert_eq!(elections, 1, "the transfer is the only election");
    let attempts = done.iter().map(|writer| writer.attempts_max).max().unwrap();
    if cluster.members[0].flavour() == Flavour::Current {
        assert!(attempts <= 2, "a write needed {attempts} attempts");
    }
    nothing_is_lost(&cluster, rest[0], &done).await;
}

/// MT-06, row 112: who may be asked, and for whom.
#[tokio::test]
async fn mt_06_row_112_the_leader_moves_to_voters_only() {
    let cluster = Cluster::start().await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let (leader_id, follower_id) = (cluster.id(leader).await, cluster.id(follower).await);
    let ask = |at: usize, target_id: u64| {
        let cluster = &cluster;
        async move {
            let mut clients = cluster.clients(at).await;
            let request = pb::MoveLeaderRequest { target_id };
            limited(clients.maintenance.move_leader(request)).await.map(drop)
        }
    };
    expect_error(ask(follower, follower_id).await, errors::NOT_LEADER);
    expect_error(ask(leader, 12345).await, errors::BAD_LEADER_TRANSFEREE);
    ask(leader, leader_id).await.expect("it leads already");
    ask(leader, follower_id).await.unwrap();
    assert_eq!(cluster.leader().await, follower);
    expect_error(ask(leader, leader_id).await, errors::NOT_LEADER);
}

/// WA-31, row 91: a watcher of a follower sees every revision once, whoever leads.
#[tokio::test]
async fn wa_31_row_091_a_watch_goes_on_across_leaders() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let rest = cluster.others(leader);
    let mut session = cluster.clients(rest[0]).await.watch();
    session.create(watching::on_all(1)).await;
    let load = Load::through(&cluster, &rest).await;
    load.more(100).await;
    cluster.members[leader].kill();
    load.more(100).await;
    cluster.members[leader].restart().await;
    cluster.move_leader(leader).await;
    load.more(100).await;
    let done = load.end().await;
    let newest = cluster.clients(rest[0]).await.revision().await;
    let events = session.events(usize::try_from(newest - 1).unwrap()).await;
    let revisions: Vec<i64> = events.iter().map(|e| e.kv.as_ref().unwrap().mod_revision).collect();
    assert_eq!(revisions, (2..=newest).collect::<Vec<_>>());
    let last: BTreeMap<_, _> =
        events.into_iter().map(|event| event.kv.unwrap()).map(|kv| (kv.key, kv.value)).collect();
    for writer in &done {
        assert_eq!(last[writer.key.as_bytes()], writer.acknowledged.to_string());
    }
}

/// U17, U23: all members are killed at once and come back with everything.
#[tokio::test]
async fn u_17_all_members_restart_at_once() {
    let mut cluster = Cluster::start().await;
    let load = Load::through(&cluster, &[0, 1, 2]).await;
    load.more(150).await;
    let done = load.end().await;
    let ids = [cluster.id(0).await, cluster.id(1).await, cluster.id(2).await];
    let revision = cluster.clients(0).await.revision().await;
    cluster.members.iter_mut().for_each(|member| member.kill());
    for member in &mut cluster.members {
        member.begin_restart().unwrap();
    }
    cluster.wait_ready().await;
    assert_eq!(cluster.clients(1).await.revision().await, revision);
    nothing_is_lost(&cluster, 2, &done).await;
    assert_eq!([cluster.id(0).await, cluster.id(1).await, cluster.id(2).await], ids);
    cluster.wait_equal(&[0, 1, 2]).await;
}
