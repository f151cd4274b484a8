//! Rows that need a member to stumble: our server with failpoints compiled in.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use etcdrs_tests::robustness::failpoints::{Control, build, has_failpoints};
use etcdrs_tests::server::free_port;
use etcdrs_tests::target::Target;

use crate::support::*;

/// A script that starts `binary` after a line of shell.
fn script(folder: &Path, first: &str, binary: &Path) -> Target {
    let path = folder.join("etcd-rs");
    let text = format!("#!/bin/sh\n{first}\nexec {} \"$@\"\n", binary.display());
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    Target { binary: path, flavour: Flavour::Current }
}

/// The binary with failpoints, unless another server is under test.
async fn with_failpoints() -> Option<PathBuf> {
    if target::under_test().flavour != Flavour::Current {
        return None;
    }
    Some(tokio::task::spawn_blocking(|| build(false).unwrap()).await.unwrap())
}

/// Three members, and the failpoints of member 0, which leads.
async fn controlled(folder: &Path, binary: &Path) -> (Cluster, Control) {
    let control = Control { address: format!("127.0.0.1:{}", free_port()) };
    let only_one = format!(
        "for word; do case $word in --name=m0) export ETCD_RS_FAILPOINTS_HTTP={};; esac; done",
        control.address
    );
    let cluster = Shape::of(script(folder, &only_one, binary)).start().await;
    cluster.move_leader(0).await;
    (cluster, control)
}

/// W02, CO-05: a member that has more than 5,000 committed entries still to apply takes nothing
/// more to be replicated, serves what is local, and recovers. Here it is a leader whose disk hangs:
/// the others commit without it.
#[tokio::test]
async fn w_02_a_member_that_lags_far_says_too_many_requests() {
    let Some(binary) = with_failpoints().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let (cluster, control) = controlled(folder.path(), &binary).await;
    let mut slow = cluster.clients(0).await;
    let near = cluster.clients(1).await;
    slow.put("far", "v").await;
    // While it is armed, each sync takes as long, of whatever has come until then.
    control.arm("wal-before-sync", "sleep(8000)").await.unwrap();
    fill(&near, "k", 5200).await;
    let lags = || {
        let mut slow = slow.clone();
        async move {
            let status = slow.status().await;
            (status.raft_index > status.raft_applied_index + 5000).then_some(())
        }
    };
    eventually("it lags", lags).await;
    let too_many = (Code::Unknown, "etcdserver: too many requests");
    expect_error(slow.try_put(put("far", "w")).await, too_many);
    expect_error(slow.try_delete(delete("far")).await, too_many);
    expect_error(slow.try_grant(7, 60).await, too_many);
    expect_error(slow.try_compact(1).await, too_many);
    let local = pb::RangeRequest { serializable: true, ..get("far") };
    assert_eq!(slow.range(local).await.kvs[0].value, "v");
    near.clone().put("near", "others go on").await;
    control.disarm("wal-before-sync").await.unwrap();
    let recovered = || {
        let mut slow = slow.clone();
        async move { slow.try_put(put("far", "w")).await.ok() }
    };
    eventually("it takes requests again", recovered).await;
    cluster.wait_equal(&[0, 1, 2]).await;
}

/// R49: the points where a test may make a member stumble are there in test builds only.
#[tokio::test]
async fn r_49_failpoints_are_in_test_builds_only() {
    let Some(binary) = with_failpoints().await else { return };
    assert!(has_failpoints(&binary));
    let ordinary = target::under_test().binary;
    assert!(!has_failpoints(&ordinary));
    let folder = tempfile::tempdir().unwrap();
    let all = "export ETCD_RS_FAILPOINTS='wal-before-sync=exit;raft-before-apply=exit'";
    let cluster = Shape::of(script(folder.path(), all, &ordinary)).size(1).start().await;
    cluster.clients(0).await.put("k", "v").await;
    // The other one ends by them.
    let mut setup = Shape::of(script(folder.path(), all, &binary)).size(1).spawn();
    let _ = setup.members[0].wait_exit().await;
    assert!(setup.members[0].log().text().contains("failpoint exit: wal-before-sync"));
}

/// R49: heartbeats can be dropped; nobody who hears none for so long goes on waiting.
#[tokio::test]
async fn r_49_a_leader_without_heartbeats_is_replaced() {
    let Some(binary) = with_failpoints().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let (cluster, control) = controlled(folder.path(), &binary).await;
    let term = cluster.clients(1).await.status().await.raft_term;
    control.arm("raft-drop-heartbeat", "return").await.unwrap();
    let replaced = || async {
        let leader = cluster.leader_among(&[1, 2]).await;
        let now = cluster.clients(leader).await.status().await.raft_term;
        (now > term).then_some(())
    };
    eventually("another one leads", replaced).await;
    cluster.clients(1).await.put("k", "v").await;
    assert!(control.disarm("raft-drop-heartbeat").await.unwrap().is_some_and(|struck| struck > 0));
    cluster.wait_equal(&[0, 1, 2]).await;
}
