//! What a cluster tells of itself in numbers (rows R29, R48, W06, W09, T35).

use etcdrs_tests::http;

use crate::support::*;

/// The metrics of a member at one moment.
struct Metrics(String);

impl Metrics {
    async fn of(cluster: &Cluster, at: usize) -> Self {
        let answer = http::get(cluster.members[at].client_port(), "/metrics").await.unwrap();
        assert_eq!(answer.status, 200);
        Self(answer.body)
    }

    /// The value of a metric without labels.
    fn value(&self, name: &str) -> f64 {
        self.find(&format!("{name} ")).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The value of a metric for a peer.
    fn of_peer(&self, name: &str, label: &str, peer: u64) -> f64 {
        self.find(&format!("{name}{{{label}=\"{peer:x}\"}} ")).unwrap_or(0.0)
    }

    fn find(&self, start: &str) -> Option<f64> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(start));
        value.map(|value| value.trim().parse().unwrap())
    }
}

/// Waits until a metric of a member is as wanted.
async fn reaches(cluster: &Cluster, at: usize, name: &str, wanted: impl Fn(f64) -> bool) {
    let look = || async { wanted(Metrics::of(cluster, at).await.value(name)).then_some(()) };
    eventually(name, look).await;
}

const HAS_LEADER: &str = "etcd_server_has_leader";
const IS_LEADER: &str = "etcd_server_is_leader";
const CHANGES: &str = "etcd_server_leader_changes_seen_total";
const COMMITTED: &str = "etcd_server_proposals_committed_total";
const APPLIED: &str = "etcd_server_proposals_applied_total";
const PENDING: &str = "etcd_server_proposals_pending";
const FAILED: &str = "etcd_server_proposals_failed_total";

/// R29: who leads, how often that changed, and how far the log is, at every member.
#[tokio::test]
async fn r_29_the_gauges_follow_the_leader_and_the_log() {
    let mut cluster = Cluster::start().await;
    cluster.move_leader(0).await;
    let mut before = Vec::new();
    for at in 0..3 {
        let metrics = Metrics::of(&cluster, at).await;
        assert_eq!(metrics.value(HAS_LEADER), 1.0);
        assert_eq!(metrics.value(IS_LEADER) == 1.0, at == 0);
        before.push((metrics.value(CHANGES), metrics.value(COMMITTED)));
    }
    let clients = cluster.clients(1).await;
    fill(&clients, "k", 50).await;
    for (at, (_, committed)) in before.iter().enumerate() {
        reaches(&cluster, at, COMMITTED, |value| value >= committed + 50.0).await;
        reaches(&cluster, at, APPLIED, |value| value >= committed + 50.0).await;
    }
    cluster.move_leader(1).await;
    for (at, (changes, _)) in before.iter().enumerate() {
        reaches(&cluster, at, CHANGES, |value| value > *changes).await;
        reaches(&cluster, at, IS_LEADER, |value| (value == 1.0) == (at == 1)).await;
    }
    cluster.members[1].kill();
    cluster.members[2].kill();
    reaches(&cluster, 0, HAS_LEADER, |value| value == 0.0).await;
    reaches(&cluster, 0, IS_LEADER, |value| value == 0.0).await;
}

/// R48: index and term that a member tells are those of the entry it applied last.
#[tokio::test]
async fn r_48_index_and_term_are_those_of_the_newest_entry() {
    let cluster = Cluster::start().await;
    let mut clients = cluster.clients(0).await;
    let mut last = (0, 0);
    for round in 0..4 {
        if round == 2 {
            cluster.move_leader(cluster.follower().await).await;
        }
        let answer = clients.put("k", format!("{round}")).await;
        cluster.wait_equal(&[0, 1, 2]).await;
        let mut told = Vec::new();
        for at in 0..3 {
            let status = cluster.clients(at).await.status().await;
            assert_eq!(status.raft_index, status.raft_applied_index, "{status:?}");
            assert_eq!(status.header.unwrap().raft_term, status.raft_term);
            told.push((status.raft_term, status.raft_applied_index));
        }
        assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
        assert_eq!(answer.header.unwrap().raft_term, told[0].0);
        // Another leader, another term and an entry more.
        match round {
            0 => {}
            2 => assert!(told[0].0 > last.0 && told[0].1 > last.1 + 1, "{told:?} {last:?}"),
            _ => assert_eq!(told[0], (last.0, last.1 + 1)),
        }
        last = told[0];
    }
}

/// W06, W09: a proposal is pending until it ends, however it ends, and counted when it failed.
#[tokio::test]
async fn w_06_w_09_proposals_are_pending_until_they_end() {
    let shape = Shape::new().flag("heartbeat-interval", 50).flag("election-timeout", 500);
    let cluster = shape.start().await;
    cluster.move_leader(0).await;
    let clients = cluster.clients(0).await;
    clients.clone().put("k", "v").await;
    let idle = Metrics::of(&cluster, 0).await;
    assert_eq!(idle.value(PENDING), 0.0);
    let failed = idle.value(FAILED);
    cluster.members[1].pause();
    cluster.members[2].pause();
    let write = |at: usize| {
        let mut clients = clients.clone();
        async move { clients.try_put(put(format!("w{at}"), "v")).await }
    };
    let patient = tokio::spawn(futures_util::future::join_all((0..3).map(write)));
    let impatient = tokio::spawn(futures_util::future::join_all((3..10).map(write)));
    reaches(&cluster, 0, PENDING, |value| value == 10.0).await;
    // The calls are given up by their clients, who tell the server so.
    impatient.abort();
    reaches(&cluster, 0, PENDING, |value| value <= 3.0).await;
    for answer in patient.await.unwrap() {
        let status = answer.expect_err("there is no majority");
        assert!(status.message().starts_with("etcdserver: request timed out"), "{status:?}");
    }
    reaches(&cluster, 0, PENDING, |value| value == 0.0).await;
    assert!(Metrics::of(&cluster, 0).await.value(FAILED) >= failed + 3.0);
    cluster.members[1].resume();
    cluster.members[2].resume();
    cluster.leader().await;
    cluster.clients(1).await.put("k", "w").await;
}

/// T31, T35: bytes, failures and round trips of each peer stand under its id.
#[tokio::test]
async fn t_35_traffic_is_counted_for_each_peer() {
    let mut cluster = Cluster::start().await;
    cluster.move_leader(0).await;
    let ids = [cluster.id(0).await, cluster.id(1).await, cluster.id(2).await];
    let clients = cluster.clients(0).await;
    fill(&clients, "k", 50).await;
    let metrics = Metrics::of(&cluster, 0).await;
    for peer in &ids[1..] {
        let sent = metrics.of_peer("etcd_network_peer_sent_bytes_total", "To", *peer);
        let received = metrics.of_peer("etcd_network_peer_received_bytes_total", "From", *peer);
        assert!(sent > 50.0 * 10.0 && received > 0.0, "{peer:x}: {sent} {received}");
        let trips = "etcd_network_peer_round_trip_time_seconds_count";
        let measured = || async {
            (Metrics::of(&cluster, 0).await.of_peer(trips, "To", *peer) >= 1.0).then_some(())
        };
        eventually("a round trip is measured", measured).await;
        assert_eq!(metrics.of_peer("etcd_network_peer_sent_failures_total", "To", *peer), 0.0);
    }
    cluster.members[2].kill();
    let failed = || async {
        let now = Metrics::of(&cluster, 0).await;
        let failures =
            [1, 2].map(|at| now.of_peer("etcd_network_peer_sent_failures_total", "To", ids[at]));
        assert_eq!(failures[0], 0.0, "the other peer is well");
        (failures[1] >= 1.0).then_some(())
    };
    eventually("messages to the dead are counted", failed).await;
    if cluster.members[0].flavour() == Flavour::Current {
        // etcd counts these by address.
        let from = format!("{:x}", ids[1]);
        let header = cluster.clients(0).await.status().await.header.unwrap();
        let cluster_id = format!("{:x}", header.cluster_id);
        let headers = [
            ("X-Etcd-Cluster-ID", &cluster_id[..]),
            ("X-Server-From", &from[..]),
            ("X-Server-Version", "3.7.1"),
            ("X-Min-Cluster-Version", "3.0.0"),
        ];
        let port = cluster.members[0].peer_port();
        let garbage = http::exchange(port, "POST", "/raft", &headers, &[0xff; 40]).await.unwrap();
        assert_eq!(garbage.status, 400);
        let now = Metrics::of(&cluster, 0).await;
        let failures = "etcd_network_peer_received_failures_total";
        assert_eq!(now.of_peer(failures, "From", ids[1]), 1.0);
    }
}
