//! Leases across leaders: what is left of them, with and without records in the log.

use crate::support::*;

/// Long against an interval of records, short against patience.
const TTL: i64 = 30;
/// A new leader may add this to what was left before, seconds: a record is an interval and a scan
/// old, or more on a busy machine, and an election is added. Far below what is over by then.
const SLACK: i64 = 8;

/// Members that record each second what is left of leases. Nothing of etcd 3.5.1 makes its
/// five minutes shorter.
async fn recording() -> Option<Cluster> {
    if target::under_test().flavour == Flavour::Etcd35 {
        println!("skipped: etcd 3.5.1 records every five minutes");
        return None;
    }
    let shape = Shape::new()
        .flag("feature-gates", "LeaseCheckpoint=true,LeaseCheckpointPersist=true")
        .flag("lease-checkpoint-interval", "1s");
    Some(shape.start().await)
}

async fn left(cluster: &Cluster, at: usize) -> i64 {
    cluster.clients(at).await.time_to_live(5).await.ttl
}

/// Waits until half of the lease is over; what is left then.
async fn half(cluster: &Cluster, at: usize) -> i64 {
    let low = || async {
        let left = left(cluster, at).await;
        (left <= TTL / 2).then_some(left)
    };
    eventually("half of the lease is over", low).await
}

/// LE-10, LE-11, row 72: without the gate, as etcd 3.5.1 does it, a new leader gives a lease its
/// whole time again.
#[tokio::test]
async fn le_10_row_072_without_records_a_leader_change_resets_a_lease() {
    let cluster = Cluster::start().await;
    cluster.clients(0).await.grant(5, TTL).await;
    let before = half(&cluster, 0).await;
    cluster.move_leader(cluster.follower().await).await;
    let after = left(&cluster, 0).await;
    assert!(after > before + SLACK, "{before} s, then {after} s");
}

/// LE-11, row 72: with it, the new leader goes on from the newest record, also after all members
/// were killed; and a renewal is not cut short by a record from before it.
#[tokio::test]
async fn le_11_row_072_with_records_a_leader_change_does_not_reset_a_lease() {
    let Some(mut cluster) = recording().await else { return };
    cluster.clients(0).await.grant(5, TTL).await;
    let before = half(&cluster, 0).await;
    cluster.move_leader(cluster.follower().await).await;
    let after = left(&cluster, 0).await;
    assert!(after <= before + SLACK, "{before} s, then {after} s");

    for member in &mut cluster.members {
        member.kill();
    }
    for member in &mut cluster.members {
        member.begin_restart().unwrap();
    }
    cluster.wait_ready().await;
    let restarted = left(&cluster, 0).await;
    assert!(restarted <= before + SLACK, "{before} s, then {restarted} s after a restart");

    let follower = cluster.follower().await;
    assert_eq!(cluster.clients(follower).await.keep_alive(5).await.ttl, TTL);
    cluster.move_leader(follower).await;
    let renewed = left(&cluster, 0).await;
    assert!(renewed > before + SLACK, "renewed, then {renewed} s under the next leader");
}
