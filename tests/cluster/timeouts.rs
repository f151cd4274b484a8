//! Why a request was not answered in time, in etcd's words (CO-02, rows W07, W08, 67 and 112).
//!
//! Between members every direction has a proxy, so that a member hears the leader and is not heard.

use etcdrs_tests::robustness::cluster::Cluster as Proxied;
use etcdrs_tests::robustness::faults::Means;
use etcdrs_tests::robustness::net::Layer;

use crate::support::*;

const PLAIN: &str = "etcdserver: request timed out";
const LEADER_FAILED: &str =
    "etcdserver: request timed out, possibly due to previous leader failure";
const CONNECTION_LOST: &str = "etcdserver: request timed out, possibly due to connection lost";
/// Five seconds and two election time-outs of a second (W07).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

/// Three members that member 0 leads.
async fn proxied() -> Proxied {
    let target = target::under_test();
    let means = Means {
        members: 3,
        flavour: target.flavour,
        layer: Layer::Proxy,
        failpoints: false,
        peer_tls: false,
    };
    let cluster = Proxied::start(&target, means, 1).await.unwrap();
    leads(&cluster, 0).await;
    cluster
}

async fn leads(cluster: &Proxied, at: usize) {
    let look = || async {
        if cluster.leader().await == Some(at) {
            return Some(());
        }
        if let Err(error) = cluster.move_leader(at).await {
            println!("not moved yet: {error:#}");
        }
        None
    };
    eventually("the lead moves", look).await;
}

/// Lets nothing that a member sends reach the other members.
fn mute(cluster: &Proxied, at: usize, mute: bool) {
    for other in (0..3).filter(|other| *other != at) {
        cluster.network.change(at, other, |path| path.cut = mute);
    }
}

fn timed_out(answer: Result<impl std::fmt::Debug, Status>, text: &str) {
    let status = answer.expect_err("nobody can have done it");
    assert_eq!((status.code(), status.message()), (Code::Unavailable, text));
}

/// W07, W08, row 67: the leader is heard, and cannot be asked: the connection is to blame, and a
/// renewal just takes too long.
#[tokio::test]
async fn w_08_a_leader_that_cannot_be_reached_is_a_lost_connection() {
    let cluster = proxied().await;
    let mut clients = cluster.direct(2).await.unwrap();
    clients.grant(7, 600).await;
    mute(&cluster, 2, true);
    let begun = tokio::time::Instant::now();
    let (mut writer, mut renewer) = (clients.clone(), clients.clone());
    let renewal = async {
        let requests = futures_util::stream::iter([pb::LeaseKeepAliveRequest { id: 7 }]);
        let mut answers = limited(renewer.lease.lease_keep_alive(requests)).await?;
        answers.message().await
    };
    let (written, renewed) = tokio::join!(writer.try_put(put("k", "v")), renewal);
    assert!(begun.elapsed() >= REQUEST_TIMEOUT, "{:?}", begun.elapsed());
    if target::under_test().flavour == Flavour::Current {
        timed_out(written, CONNECTION_LOST);
    } else {
        // Its side of the connection works, so etcd knows of nothing.
        timed_out(written, PLAIN);
    }
    timed_out(renewed, PLAIN);
    mute(&cluster, 2, false);
    eventually("the member is heard again", || {
        let mut clients = clients.clone();
        async move { clients.try_put(put("k", "w")).await.ok() }
    })
    .await;
}

/// W08: the leader changed while the request waited, and the new one could not be asked either.
#[tokio::test]
async fn w_08_a_leader_that_was_lost_is_to_blame() {
    let cluster = proxied().await;
    let mut clients = cluster.direct(2).await.unwrap();
    clients.put("k", "v").await;
    mute(&cluster, 2, true);
    let mut writer = clients.clone();
    let write = tokio::spawn(async move { writer.try_put(put("k", "w")).await });
    let port = cluster.members[2].client_url().rsplit(':').next().unwrap().parse().unwrap();
    let pending = || async {
        let metrics = etcdrs_tests::http::get(port, "/metrics").await.ok()?.body;
        metrics.contains("\netcd_server_proposals_pending 1\n").then_some(())
    };
    eventually("the request is on its way", pending).await;
    cluster.move_leader(1).await.unwrap();
    if target::under_test().flavour == Flavour::Current {
        timed_out(write.await.unwrap(), LEADER_FAILED);
    } else {
        // A member of etcd remembers its own elections only.
        timed_out(write.await.unwrap(), PLAIN);
    }
    mute(&cluster, 2, false);
}

/// W08: without a reason that could be told, it is just late: a leader that lost its majority while
/// it had the request.
#[tokio::test]
async fn w_08_a_majority_that_hangs_is_just_late() {
    let cluster = Cluster::start().await;
    cluster.move_leader(0).await;
    let mut clients = cluster.clients(0).await;
    clients.put("k", "v").await;
    // The election must be longer ago than two of them take.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    cluster.members[1].pause();
    cluster.members[2].pause();
    timed_out(clients.try_put(put("k", "w")).await, PLAIN);
    cluster.members[1].resume();
    cluster.members[2].resume();
}

/// LE-05, row 67: a renewal through a member that knows no leader waits for one, and is told so.
#[tokio::test]
async fn row_067_le_05_a_renewal_without_a_leader_is_told_so() {
    let shape = Shape::new().flag("heartbeat-interval", 50).flag("election-timeout", 500);
    let mut cluster = shape.start().await;
    let mut clients = cluster.clients(0).await;
    clients.grant(7, 600).await;
    cluster.wait_equal(&[0, 1, 2]).await;
    cluster.members[1].kill();
    cluster.members[2].kill();
    let lost = || {
        let mut clients = clients.clone();
        async move { (clients.status().await.leader == 0).then_some(()) }
    };
    eventually("the loss of the leader is noticed", lost).await;
    let renew = || {
        let mut clients = clients.clone();
        async move {
            let requests = futures_util::stream::iter([pb::LeaseKeepAliveRequest { id: 7 }]);
            let mut answers = limited(clients.lease.lease_keep_alive(requests)).await?;
            answers.message().await
        }
    };
    expect_error(renew().await, errors::NO_LEADER);
    // One that waits is served when there is a leader again.
    let waiting = tokio::spawn(renew());
    cluster.members[1].restart().await;
    assert_eq!(waiting.await.unwrap().unwrap().unwrap().ttl, 600);
}

/// MT-06, row 112: a transfer to a member that hangs is given up, and the cluster goes on.
#[tokio::test]
async fn row_112_mt_06_a_transfer_that_takes_too_long() {
    let shape = Shape::new().flag("heartbeat-interval", 50).flag("election-timeout", 500);
    let cluster = shape.start().await;
    cluster.move_leader(0).await;
    let target_id = cluster.id(2).await;
    let mut clients = cluster.clients(0).await;
    cluster.members[2].pause();
    if cluster.members[0].flavour() == Flavour::Current {
        // etcd waits for as long as its client does.
        let moved = limited(clients.maintenance.move_leader(pb::MoveLeaderRequest { target_id }));
        let status = moved.await.unwrap_err();
        let told = "etcdserver: request timed out, leader transfer took too long";
        assert_eq!((status.code(), status.message()), (Code::Unknown, told));
    }
    clients.put("k", "v").await;
    cluster.leader_among(&[0, 1]).await;
    cluster.members[2].resume();
    cluster.wait_equal(&[0, 1, 2]).await;
}
