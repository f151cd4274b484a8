//! Members that were away, and members that lost their disk.

use crate::support::*;

/// More than a member keeps behind its snapshot: etcd 3.5.1 keeps 5,000 entries, ours was told 50.
fn many(cluster: &Cluster) -> usize {
    match cluster.members[0].flavour() {
        Flavour::Current => 5_000,
        Flavour::Etcd35 => 6_500,
    }
}

/// Lets so much happen without member 2 that the leader, member 0, does not keep it. What it has
/// sent, and awaits an answer to, it keeps for a while.
async fn go_on_without(cluster: &Cluster, near: &Clients) -> i64 {
    const LATER: usize = 500;
    let count = many(cluster);
    fill(near, "while", count).await;
    let log = cluster.members[0].log();
    assert!(log.wait_for(&["prober detected unhealthy status"], LIMIT).await);
    fill(near, "later", LATER).await;
    i64::try_from(count + LATER).unwrap()
}

/// What a member logs that was brought up to date by a snapshot.
const INSTALLED: [&str; 2] = ["applied snapshot", "installed database snapshot"];

pub(crate) fn installed(cluster: &Cluster, at: usize) -> bool {
    let log = cluster.members[at].log().text();
    INSTALLED.iter().any(|line| log.contains(line))
}

/// WA-31, row 91, T15: a paused member comes back by a snapshot; its watchers lose nothing and see
/// nothing twice.
#[tokio::test]
async fn wa_31_row_091_a_paused_member_gets_a_snapshot_under_its_watchers() {
    let cluster = Shape::new().small_log().start().await;
    cluster.move_leader(0).await;
    let away = cluster.clients(2).await;
    let mut session = away.watch();
    session.create(watching::on_all(1)).await;
    let near = cluster.clients(0).await;
    fill(&near, "before", 20).await;
    assert_eq!(session.events(20).await.len(), 20);
    cluster.members[2].pause();
    let last = 21 + go_on_without(&cluster, &near).await;
    cluster.members[2].resume();
    let mut revisions = Vec::new();
    while revisions.last() != Some(&last) {
        let events = session.next().await.events;
        revisions.extend(events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision));
    }
    if cluster.members[2].flavour() == Flavour::Etcd35 {
        // 3.5.1 sends some events again after an installation.
        revisions.sort_unstable();
        revisions.dedup();
    }
    assert_eq!(revisions, (22..=last).collect::<Vec<_>>());
    cluster.wait_equal(&[0, 1, 2]).await;
    assert!(installed(&cluster, 2), "no snapshot was installed");
    fill(&near, "after", 20).await;
    assert_eq!(session.events(20).await.len(), 20);
}

/// Issue 3: a stopped member that missed more than the log holds comes back by a snapshot, while
/// compactions and leases went on.
#[tokio::test]
async fn a_stopped_member_catches_up_by_snapshot() {
    let mut cluster = Shape::new().small_log().start().await;
    cluster.move_leader(0).await;
    let mut near = cluster.clients(0).await;
    near.grant(7, 600).await;
    near.put_with_lease("leased", 7).await;
    cluster.members[2].terminate().await;
    go_on_without(&cluster, &near).await;
    near.grant(8, 600).await;
    near.delete(delete_range("while0", "while3")).await;
    let revision = near.revision().await;
    near.compact(revision).await;
    cluster.members[2].restart().await;
    cluster.wait_equal(&[0, 1, 2]).await;
    assert!(installed(&cluster, 2), "no snapshot was installed");
    let mut back = cluster.clients(2).await;
    assert_eq!(back.leases().await, [7, 8]);
    assert_eq!(back.time_to_live(7).await.keys, ["leased"]);
    let old = back.try_range(pb::RangeRequest { revision: 2, ..get("leased") }).await;
    expect_error(old, errors::COMPACTED);
    // What came by snapshot survives a restart, and the member takes part again.
    cluster.members[2].kill();
    near.put("more", "v").await;
    cluster.members[2].restart().await;
    cluster.move_leader(2).await;
    cluster.wait_equal(&[0, 1, 2]).await;
}

/// Issue 3: one that missed little gets the entries.
#[tokio::test]
async fn a_member_that_was_away_shortly_catches_up_by_log() {
    let mut cluster = Cluster::start().await;
    cluster.move_leader(0).await;
    let near = cluster.clients(0).await;
    cluster.members[2].kill();
    fill(&near, "k", 500).await;
    cluster.members[2].restart().await;
    cluster.wait_equal(&[0, 1, 2]).await;
    assert!(!installed(&cluster, 2), "a snapshot was installed");
}

/// U16, U35: a joiner whose first entries are gone from every log begins with a snapshot.
#[tokio::test]
async fn u_35_a_new_member_begins_with_a_snapshot() {
    let mut cluster = Shape::new().small_log().start().await;
    let near = cluster.clients(0).await;
    fill(&near, "k", many(&cluster)).await;
    let at = cluster.join(false).await;
    cluster.wait_equal(&[0, 1, 2, 3]).await;
    assert!(installed(&cluster, at), "no snapshot was installed");
    cluster.move_leader(at).await;
    cluster.clients(1).await.put("a", "1").await;
    cluster.wait_equal(&[0, 1, 2, 3]).await;
}

/// Issue 3, U15: a member without its disk cannot come back under its old id; removed and added
/// again it can.
#[tokio::test]
async fn u_15_a_member_that_lost_its_disk_is_replaced_by_remove_and_add() {
    let mut cluster = Cluster::start().await;
    let mut clients = cluster.clients(0).await;
    fill(&clients, "k", 100).await;
    let old = cluster.id(2).await;
    cluster.members[2].kill();
    std::fs::remove_dir_all(cluster.members[2].data_dir()).unwrap();
    cluster.leader_among(&[0, 1]).await;

    let end = cluster.members[2].try_restart().await;
    let told = end.expect_err("must not start").to_string();
    let expected = format!("member {old:x} has already been bootstrapped");
    assert!(told.contains(&expected), "{expected} in {told}");
    assert!(!cluster.members[2].wait_exit().await.success());

    clients.try_member_remove(old).await.unwrap();
    let new = cluster.add(1, 2, false).await;
    assert_ne!(new, old);
    let _ = std::fs::remove_dir_all(cluster.members[2].data_dir());
    cluster.members[2].remove_flag("initial-cluster-state");
    cluster.members[2].add_flag("initial-cluster-state", "existing");
    cluster.members[2].restart().await;
    assert_eq!(cluster.id(2).await, new);
    cluster.wait_equal(&[0, 1, 2]).await;
    cluster.move_leader(2).await;
    clients.put("a", "1").await;
}
