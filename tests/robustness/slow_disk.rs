//! A leader whose disk is slower than those of the others: they commit what it cannot apply yet.

use etcdrs_tests::client::limited;
use etcdrs_tests::pb;
use etcdrs_tests::robustness::cluster::Cluster;
use etcdrs_tests::robustness::failpoints::has_failpoints;
use etcdrs_tests::robustness::faults::Means;
use etcdrs_tests::robustness::net::Layer;

use super::server;

/// A lease that one member granted is known to the leader, whose own log waits for its disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn le_06_a_leader_with_a_slow_disk_knows_what_others_granted() {
    let target = server();
    if !has_failpoints(&target.binary) {
        println!("NOT RUN, this server has no failpoints");
        return;
    }
    let means = Means {
        members: 3,
        flavour: target.flavour,
        layer: Layer::Proxy,
        failpoints: true,
        peer_tls: false,
    };
    let mut cluster = Cluster::start(&target, means, 1).await.unwrap();
    let leader = cluster.leader().await.unwrap();
    let mut other = cluster.direct((leader + 1) % 3).await.unwrap();
    cluster.arm(leader, "wal-before-sync", "sleep(300)").await.unwrap();
    for lease in 1..3 {
        other.grant(lease, 100).await;
        assert_eq!(other.keep_alive(lease).await.ttl, 100, "lease {lease} is not renewed");
        let grant = other.grant(lease + 10, 100).await;
        let request = pb::LeaseTimeToLiveRequest { id: grant.id, keys: false };
        let live = limited(other.lease.lease_time_to_live(request)).await.unwrap();
        assert!(live.ttl > 0, "lease {} is not known: {live:?}", grant.id);
    }
    cluster.heal().await.unwrap();
}
