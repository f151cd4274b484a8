//! etcdctl 3.5.1, unchanged, against three members.

use crate::support::*;

/// Issue 3, "must show": the operator's commands, one after the other.
#[tokio::test]
async fn etcdctl_lists_moves_adds_promotes_and_removes() {
    let mut cluster = Cluster::start().await;
    let all: Vec<String> = cluster.members.iter().map(|m| m.endpoint()).collect();
    let all = all.join(",");
    etcdctl(&all, "put a 1").await.unwrap();

    let list = etcdctl(&all, "member list").await.unwrap();
    assert_eq!(list.lines().count(), 3, "{list}");
    for place in &cluster.places {
        let line = list.lines().find(|line| line.contains(&format!(", {}, ", place.name)));
        let line = line.unwrap_or_else(|| panic!("{} in {list}", place.name));
        let expected = format!(
            "started, {}, {}, http://127.0.0.1:{}, false",
            place.name,
            place.peer_url(),
            place.client_port
        );
        assert!(line.ends_with(&expected), "{line}");
    }
    let table = etcdctl(&cluster.members[0].endpoint(), "endpoint status --cluster -w table").await;
    let table = table.unwrap();
    assert_eq!(table.matches("http://127.0.0.1:").count(), 3, "{table}");
    assert_eq!(table.matches(" true ").count(), 1, "one leader:\n{table}");

    move_the_leader(&cluster).await;
    add_and_promote_a_learner(&mut cluster, &all).await;
    hashes_are_equal(&cluster).await;

    let removed = cluster.id(3).await;
    eventually("all links are up for five seconds", || async {
        etcdctl(&all, &format!("member remove {removed:x}")).await.ok()
    })
    .await;
    let list = etcdctl(&all, "member list").await.unwrap();
    assert_eq!(list.lines().count(), 3, "{list}");
    let end = cluster.members[3].wait_exit().await;
    assert!(end.success(), "{end:?}");
}

async fn move_the_leader(cluster: &Cluster) {
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let target = cluster.id(follower).await;
    let command = format!("move-leader {target:x}");
    let wrong = etcdctl(&cluster.members[follower].endpoint(), &command).await.unwrap_err();
    assert!(wrong.contains("no leader endpoint given"), "{wrong}");
    let said = etcdctl(&cluster.members[leader].endpoint(), &command).await.unwrap();
    let from = cluster.id(leader).await;
    assert_eq!(said, format!("Leadership transferred from {from:x} to {target:x}\n"));
    assert_eq!(cluster.leader().await, follower);
}

async fn add_and_promote_a_learner(cluster: &mut Cluster, all: &str) {
    let at = cluster.new_place();
    let (name, url) = (cluster.places[at].name.clone(), cluster.places[at].peer_url());
    let add = format!("member add {name} --learner --peer-urls={url}");
    let added =
        eventually("a learner may be added", || async { etcdctl(all, &add).await.ok() }).await;
    assert!(added.starts_with("Member ") && added.contains("added to cluster"), "{added}");
    assert!(added.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""), "{added}");
    let list = etcdctl(all, "member list").await.unwrap();
    assert!(list.contains(&format!(", unstarted, , {url}, , true")), "{list}");
    cluster.start_joining(at).await;
    let id = cluster.id(at).await;
    assert!(added.contains(&format!("{id:x} added")), "{added}");
    let promoted = eventually("the learner is in step", || async {
        etcdctl(all, &format!("member promote {id:x}")).await.ok()
    });
    assert!(promoted.await.contains(&format!("{id:x} promoted in cluster")));
    let list = etcdctl(all, "member list").await.unwrap();
    assert_eq!(list.matches(", false").count(), 4, "{list}");
}

async fn hashes_are_equal(cluster: &Cluster) {
    let everyone: Vec<usize> = (0..cluster.members.len()).collect();
    cluster.wait_equal(&everyone).await;
    let hashes =
        etcdctl(&cluster.members[0].endpoint(), "endpoint hashkv --cluster").await.unwrap();
    let mut seen: Vec<&str> = hashes.lines().filter_map(|line| line.split(", ").nth(1)).collect();
    assert_eq!(seen.len(), everyone.len(), "{hashes}");
    seen.dedup();
    assert_eq!(seen.len(), 1, "{hashes}");
}
