//! What becomes of calls that are under way when a member is told to stop.

use etcdrs_tests::http;
use tokio::task::JoinSet;

use crate::support::*;

/// Calls that wait.
const CALLS: usize = 4;

/// A follower needs its peers to answer what it has taken, so it keeps them until it has. etcd 3.5.1
/// cuts the connection instead, so this is for ours.
#[tokio::test]
async fn calls_under_way_are_answered_before_a_member_stops() {
    if target::under_test().flavour == Flavour::Etcd35 {
        println!("NOT RUN, etcd 3.5.1 does not wait for calls");
        return;
    }
    let mut cluster = Cluster::start().await;
    let at = cluster.follower().await;
    let others = cluster.others(at);
    let clients = cluster.clients(at).await;
    others.iter().for_each(|&other| cluster.members[other].pause());
    let mut calls = JoinSet::new();
    for call in 0..CALLS {
        let mut clients = clients.clone();
        calls.spawn(async move { clients.try_put(put(format!("k{call}"), "v")).await });
    }
    let port = cluster.members[at].client_port();
    let taken = format!("etcd_server_proposals_pending {CALLS}");
    eventually("the member has taken all calls", || async {
        let metrics = http::get(port, "/metrics").await.ok()?.body;
        metrics.contains(&taken).then_some(())
    })
    .await;
    cluster.members[at].begin_terminate();
    assert!(
        cluster.members[at].log().wait_for(&["received signal"], Duration::from_secs(10)).await
    );
    others.iter().for_each(|&other| cluster.members[other].resume());
    while let Some(answer) = calls.join_next().await {
        answer.unwrap().expect("a call that was taken is answered");
    }
    cluster.members[at].wait_exit().await;
}
