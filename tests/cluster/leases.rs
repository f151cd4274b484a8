//! Leases across leaders that record what is left of them (LE-11). Without records, as etcd does it by
//! default, a new leader gives a lease its whole time again: `le_10_row_071_...`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::*;

/// Long against an interval of records, short against patience.
const TTL: i64 = 20;
/// A new leader may add this to what was left before, seconds: a record is an interval and a scan
/// old, or more on a busy machine, and an election is added. Below what is over by then.
const SLACK: i64 = 5;

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

/// LE-11, row 72: the new leader goes on from the newest record, also after all members were
/// killed; and a renewal is not cut short by a record from before it.
#[tokio::test]
async fn le_11_row_072_with_records_a_leader_change_does_not_reset_a_lease() {
    let Some(mut cluster) = recording().await else { return };
    cluster.clients(0).await.grant(5, TTL).await;
    let low = || async {
        let left = left(&cluster, 0).await;
        (left <= TTL - 8).then_some(left)
    };
    let before = eventually("a part of the lease is over", low).await;
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

/// One lease after the other, each renewed late in its life; fails when one has less time than its
/// client was told.
async fn live(mut clients: Clients, first: i64, renewed: Arc<AtomicU64>) {
    const TTL: i64 = 8;
    for id in first.. {
        let mut promised = Instant::now();
        while clients.try_grant(id, TTL).await.is_err_and(|status| is_passing(&status)) {
            promised = Instant::now();
        }
        loop {
            sleep(Duration::from_millis(200)).await;
            let request = pb::LeaseTimeToLiveRequest { id, keys: false };
            let Ok(live) = limited(clients.lease.lease_time_to_live(request)).await else {
                continue;
            };
            // What is left is rounded down, and -1 is nothing.
            let (left, since) = (live.ttl.max(0), promised.elapsed());
            let enough = (left + 1) as f64 + since.as_secs_f64() >= TTL as f64;
            assert!(enough, "lease {id} has {left} s, {since:?} after it was promised {TTL}");
            if live.ttl < 0 {
                break;
            }
            if left <= 3 {
                let begun = Instant::now();
                let request = futures_util::stream::iter([pb::LeaseKeepAliveRequest { id }]);
                let Ok(mut answers) = limited(clients.lease.lease_keep_alive(request)).await else {
                    continue;
                };
                if let Ok(Some(pb::LeaseKeepAliveResponse { ttl: TTL, .. })) =
                    answers.message().await
                {
                    renewed.fetch_add(1, Ordering::Relaxed);
                    promised = begun;
                }
            }
        }
    }
}

/// LE-04, LE-11: whoever was told that a lease is renewed has it for its whole time, though leaders
/// record what is left and are killed.
#[tokio::test]
#[ignore = "takes a minute; the lessor's own tests show the rule"]
async fn le_11_records_cut_no_renewal_short() {
    let Some(mut cluster) = recording().await else { return };
    let (mut clients, renewed) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
    for client in 0..48 {
        clients.spawn(live(cluster.clients(0).await, 1 + client * 1000, renewed.clone()));
    }
    for round in 0..10 {
        // Long enough for leases to come near their end between two extensions.
        sleep(Duration::from_millis(5000 + round * 77)).await;
        // The clients' member stays.
        let (old, new) = if round % 2 == 0 { (2, 1) } else { (1, 2) };
        cluster.move_leader(new).await;
        if round % 3 == 2 {
            sleep(Duration::from_millis(1500)).await;
            cluster.members[new].kill();
            cluster.leader_among(&[0, old]).await;
            cluster.members[new].restart().await;
        }
        if let Some(ended) = clients.try_join_next() {
            ended.unwrap();
        }
    }
    clients.abort_all();
    println!("{} renewals", renewed.load(Ordering::Relaxed));
    assert!(renewed.load(Ordering::Relaxed) > 48, "too few renewals");
}
