//! R15: what an operator learns of a disk that hangs. That no heartbeat waits for it is shown in
//! raft-glue.

use std::os::unix::fs::PermissionsExt as _;

use etcdrs_tests::cluster::eventually;
use etcdrs_tests::http;
use etcdrs_tests::robustness::failpoints::{self, Control};
use etcdrs_tests::server::{Server, Setup, free_port};
use etcdrs_tests::target::{Flavour, Target};

/// How many syncs took more than a second.
async fn slow_syncs(s: &Server) -> u64 {
    let text = http::get(s.client_port(), "/metrics").await.unwrap().body;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}")).parse::<u64>().unwrap()
    };
    value("etcd_disk_wal_fsync_duration_seconds_count")
        - value("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"1.024\"}")
}

/// A sync that takes longer than a second is told once and counted; others are not.
#[tokio::test]
async fn r_15_a_disk_that_hangs_is_told_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (binary, port) = (folder.path().join("server.sh"), free_port());
    let server = failpoints::build(false).unwrap();
    let control = Control { address: format!("127.0.0.1:{port}") };
    let environment = format!("ETCD_RS_FAILPOINTS_HTTP={}", control.address);
    let script = format!("#!/bin/sh\n{environment} exec '{}' \"$@\"\n", server.display());
    std::fs::write(&binary, script).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    let s = Setup::of(Target { binary, flavour: Flavour::Current }).start().await;
    let mut c = s.clients().await;
    for at in 0..50 {
        c.put("k", format!("{at}")).await;
    }
    let told = || {
        let lines = s.log().text();
        lines.matches("\"msg\":\"slow fdatasync\"").count() as u64
    };
    assert_eq!((told(), slow_syncs(&s).await), (0, 0));
    control.arm("wal-before-sync", "sleep(1200)").await.unwrap();
    c.put("k", "late").await;
    let hung = control.disarm("wal-before-sync").await.unwrap();
    c.put("k", "on time").await;
    assert!(hung.is_some_and(|times| times > 0), "{hung:?}");
    let same = || async {
        let counted = slow_syncs(&s).await;
        (counted > 0 && told() == counted).then_some(())
    };
    eventually("as many lines as slow syncs", same).await;
}
