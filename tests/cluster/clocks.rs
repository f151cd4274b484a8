//! What time does to a cluster: pauses, leases, and who minds them.

use std::collections::BTreeMap;

use etcdrs_tests::http;
use etcdrs_tests::server::Server;

use crate::support::*;

/// A cluster whose members miss a leader early.
fn quick() -> Shape {
    Shape::new().flag("heartbeat-interval", 50).flag("election-timeout", 500)
}

/// A number from `/metrics`.
async fn metric(member: &Server, name: &str) -> f64 {
    let text = http::get(member.client_port(), "/metrics").await.unwrap().body;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}")).trim().parse().unwrap()
}

/// R09: a member whose clock stands still does nothing, and when it goes on disturbs nobody.
#[tokio::test]
async fn r_09_a_paused_follower_disturbs_nobody() {
    let cluster = quick().start().await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let mut clients = cluster.clients(leader).await;
    let term = clients.status().await.raft_term;
    cluster.members[follower].pause();
    // Time is what this is about: it misses several elections.
    tokio::time::sleep(Duration::from_secs(2)).await;
    clients.put("a", "1").await;
    cluster.members[follower].resume();
    cluster.wait_equal(&[0, 1, 2]).await;
    cluster.clients(follower).await.put("a", "2").await;
    assert_eq!(cluster.leader().await, leader);
    assert_eq!(clients.status().await.raft_term, term);
}

/// R15: a leader whose heartbeats were late says so and counts it; one on time does not.
#[tokio::test]
async fn r_15_late_heartbeats_are_told_and_counted() {
    const COUNTER: &str = "etcd_server_heartbeat_send_failures_total";
    let shape = Shape::new().flag("heartbeat-interval", 500).flag("election-timeout", 5000);
    let cluster = shape.start().await;
    let leader = cluster.leader().await;
    let member = &cluster.members[leader];
    let mut clients = cluster.clients(leader).await;
    for at in 0..100 {
        clients.put("k", format!("{at}")).await;
    }
    let late = ["leader failed to send out heartbeat on time"];
    assert_eq!(metric(member, COUNTER).await, 0.0);
    assert!(!member.log().text().contains(late[0]));
    member.pause();
    tokio::time::sleep(Duration::from_millis(1700)).await;
    member.resume();
    assert!(member.log().wait_for(&late, LIMIT).await, "nothing said");
    assert!(metric(member, COUNTER).await >= 1.0);
    assert_eq!(cluster.leader().await, leader, "it was not away for long enough to lose its lead");
}

/// R19: without a leader nobody ends a lease; the next leader does, with time to spare.
#[tokio::test]
async fn r_19_no_lease_ends_without_a_leader() {
    let mut cluster = quick().start().await;
    let mut clients = cluster.clients(0).await;
    clients.grant(7, 2).await;
    clients.put_with_lease("leased", 7).await;
    cluster.wait_equal(&[0, 1, 2]).await;
    cluster.members[1].kill();
    cluster.members[2].kill();
    // Time is what this is about: the lease is over, twice.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let local = pb::RangeRequest { serializable: true, ..get("leased") };
    assert_eq!(clients.range(local).await.kvs.len(), 1, "ended by a follower");
    let begun = tokio::time::Instant::now();
    cluster.members[1].restart().await;
    let gone = || {
        let mut clients = clients.clone();
        async move {
            let left = clients.try_range(get("leased")).await.ok()?;
            left.kvs.is_empty().then_some(())
        }
    };
    eventually("the lease ends under a leader", gone).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "not extended: {:?}", begun.elapsed());
}

/// R20, R26: the keys of a lease that ended go in one revision, in their order, everywhere.
#[tokio::test]
async fn r_26_the_keys_of_an_ended_lease_go_in_one_revision() {
    const KEYS: usize = 40;
    let cluster = Cluster::start().await;
    let mut clients = cluster.clients(0).await;
    let mut session = cluster.clients(cluster.follower().await).await.watch();
    session.create(watching::on_all(1)).await;
    for lease in [1, 2, 3] {
        clients.grant(lease, 3).await;
        let puts = (0..KEYS)
            .map(|at| pb::PutRequest { lease, ..put(format!("{lease}/{at:02}"), "v") }.op());
        clients.txn(then(puts.collect())).await;
    }
    session.events(3 * KEYS).await;
    let mut deleted: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for event in session.events(3 * KEYS).await {
        assert_eq!(event.r#type(), EventType::Delete, "{event:?}");
        let kv = event.kv.unwrap();
        let key = String::from_utf8(kv.key.to_vec()).unwrap();
        deleted.entry(kv.mod_revision).or_default().push(key);
    }
    assert_eq!(deleted.keys().copied().collect::<Vec<_>>(), [5, 6, 7], "one for each lease");
    for keys in deleted.values() {
        let lease = &keys[0][..1];
        let expected: Vec<String> = (0..KEYS).map(|at| format!("{lease}/{at:02}")).collect();
        assert_eq!(*keys, expected);
    }
    cluster.wait_equal(&[0, 1, 2]).await;
    let none_left = || {
        let mut clients = clients.clone();
        async move { clients.leases().await.is_empty().then_some(()) }
    };
    eventually("every member has ended them", none_left).await;
}

/// R20, row 62, CP-06: history goes by itself, once for the whole cluster: the leader compacts.
#[tokio::test]
async fn r_20_row_062_only_the_leader_compacts_by_itself() {
    let shape = Shape::new().flag("auto-compaction-retention", "2s");
    let cluster = shape.flag("auto-compaction-mode", "periodic").start().await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let mut near = cluster.clients(leader).await;
    let first = near.put("k", "0").await.header.unwrap().revision;
    near.put("k", "1").await;
    let completed = "completed auto periodic compaction";
    assert!(cluster.members[leader].log().wait_for(&[completed], LIMIT).await);
    // Revisions go a period after the next ones came.
    let old = || pb::RangeRequest { revision: first, ..get("k") };
    let mut clients = cluster.clients(follower).await;
    let compacted = async {
        while clients.try_range(old()).await.is_ok() {
            near.put("more", "v").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LIMIT, compacted).await.unwrap();
    expect_error(clients.try_range(old()).await, errors::COMPACTED);
    for other in cluster.others(leader) {
        assert!(!cluster.members[other].log().text().contains(completed), "a follower compacted");
    }
}
