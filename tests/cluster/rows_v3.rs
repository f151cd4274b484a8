//! Rows of v3-api.md §7 that need several members and had no test elsewhere.

use std::process::{Child, Command, Stdio};

use etcdrs_tests::http;
use etcdrs_tests::log::Log;

use crate::support::*;

/// Row 6, MB-11: of streams a learner serves its snapshot only; of calls nothing but its status
/// and local reads.
#[tokio::test]
async fn row_006_mb_11_a_learner_serves_its_snapshot() {
    let mut cluster = Shape::new().size(1).start().await;
    let near = cluster.clients(0).await;
    fill(&near, "k", 20).await;
    let at = cluster.join(true).await;
    let mut c = cluster.clients(at).await;
    let mut bytes = 0;
    let mut pieces = limited(c.maintenance.snapshot(pb::SnapshotRequest {})).await.unwrap();
    while let Some(piece) = pieces.message().await.unwrap() {
        bytes += piece.blob.len();
    }
    assert_eq!(bytes % 512, 32, "pages and a digest: {bytes}");
    let code = match cluster.members[at].flavour() {
        Flavour::Current => Code::FailedPrecondition,
        Flavour::Etcd35 => Code::Unavailable,
    };
    let refused = (code, "etcdserver: rpc not supported for learner");
    expect_error(limited(c.maintenance.defragment(pb::DefragmentRequest {})).await, refused);
    expect_error(limited(c.maintenance.hash(pb::HashRequest {})).await, refused);
    expect_error(limited(c.maintenance.alarm(pb::AlarmRequest::default())).await, refused);
    expect_error(limited(c.lease.lease_leases(pb::LeaseLeasesRequest {})).await, refused);
    expect_error(c.try_delete(delete("k0")).await, refused);
    let requests = futures_util::stream::iter([pb::LeaseKeepAliveRequest { id: 1 }]);
    let renewed = match limited(c.lease.lease_keep_alive(requests)).await {
        Ok(mut answers) => answers.message().await.map(drop),
        Err(status) => Err(status),
    };
    expect_error(renewed, refused);
}

/// A client of Go's library that watches.
struct Watching {
    child: Child,
    log: Log,
}

impl Watching {
    fn start(cluster: &Cluster, args: &str) -> Self {
        let endpoints: Vec<String> = cluster.members.iter().map(|m| m.endpoint()).collect();
        let mut command = Command::new(target::etcdctl());
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", endpoints.join(",")));
        command.args(args.split_whitespace());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        Self { child, log }
    }

    /// The values that came, in their order.
    fn values(&self) -> Vec<u64> {
        let log = self.log.text();
        log.lines().filter_map(|line| line.strip_prefix("value ")?.parse().ok()).collect()
    }

    async fn wait_for(&self, value: u64) {
        let came = self.log.wait_for(&[&format!("value {value}")], LIMIT).await;
        assert!(came, "no value {value} in:\n{}", self.log.tail(20));
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Row 92, CL-05, CL-06, CL-12: Go's client goes on at another member when its own is gone, and
/// gets every event once, whether it began in the past or now.
#[tokio::test]
async fn row_092_cl_06_etcdctl_watches_on_when_its_member_is_gone() {
    let mut cluster = Cluster::start().await;
    let mut next = 1_000_000_u64;
    let past = Watching::start(&cluster, "watch --prefix w/ --rev=1");
    let now = Watching::start(&cluster, "watch --prefix w/");
    // Its first event shows that it is there.
    let mut clients = cluster.clients(0).await;
    while now.values().is_empty() {
        clients.put("w/first", format!("value {next}")).await;
        next += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for at in 0..3 {
        let through = (at + 1) % 3;
        let mut clients = cluster.clients(through).await;
        if at == 1 && cluster.members[at].flavour() == Flavour::Current {
            // Streams end in order, with a code after which the client goes on (CL-12). Those of
            // etcd 3.5.1 end in other ways now and then.
            cluster.members[at].terminate().await;
        } else {
            cluster.members[at].kill();
        }
        for _ in 0..20 {
            let value = format!("value {next}");
            let request = || put("w/k", value.clone());
            while let Err(status) = clients.try_put(request()).await {
                assert!(is_passing(&status), "{status:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            next += 1;
        }
        past.wait_for(next - 1).await;
        now.wait_for(next - 1).await;
        cluster.members[at].restart().await;
    }
    for watcher in [&past, &now] {
        // A put that was tried again may have come twice, and then has two revisions.
        let mut values = watcher.values();
        values.dedup();
        let first = values[0];
        assert_eq!(values, (first..next).collect::<Vec<_>>());
    }
    assert_eq!(past.values()[0], 1_000_000);
}

/// Row 110, MT-04: at each revision all members have the same hash, also behind a compaction that
/// some of them may not have finished.
#[tokio::test]
async fn row_110_mt_04_hashes_are_equal_at_every_revision() {
    let cluster = Cluster::start().await;
    let mut near = cluster.clients(0).await;
    fill(&near, "k", 300).await;
    for at in 0..30 {
        near.delete(delete(format!("k{at}"))).await;
    }
    fill(&near, "k", 100).await;
    let newest = near.revision().await;
    let all_at = |revision: i64| {
        let cluster = &cluster;
        async move {
            let mut hashes = Vec::new();
            for at in 0..3 {
                let mut c = cluster.clients(at).await;
                // What a linearizable read has seen is applied here.
                c.revision().await;
                let hash = c.try_hash_kv(revision).await.unwrap();
                hashes.push((hash.hash, hash.compact_revision));
            }
            assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{revision}: {hashes:?}");
            hashes[0]
        }
    };
    let mut seen = std::collections::BTreeSet::new();
    for revision in [2, 150, 301, 320, newest] {
        seen.insert(all_at(revision).await.0);
    }
    assert_eq!(seen.len(), 5, "they differ from revision to revision");
    let now = all_at(newest).await.0;
    near.try_compaction(320, false).await.unwrap();
    for revision in [320, 330, newest] {
        let too_old = Flavour::Etcd35 == cluster.members[0].flavour() && revision == 320;
        if !too_old {
            assert_eq!(all_at(revision).await.1, 320);
        }
    }
    near.compact(330).await;
    let (hash, compacted) = all_at(newest).await;
    assert_eq!(compacted, 330);
    assert_ne!(hash, now, "what was compacted away is not in it");
}

/// Row 114, MT-09: all members tell the same version of the cluster, that of the oldest server, to
/// those who join as well.
#[tokio::test]
async fn row_114_mt_09_the_cluster_version_is_that_of_its_servers() {
    let mut cluster = Cluster::start().await;
    let told = |port: u16| async move {
        let answer = http::get(port, "/version").await.unwrap();
        let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let text = |name: &str| json[name].as_str().unwrap().to_owned();
        (text("etcdserver"), text("etcdcluster"))
    };
    let joined = cluster.join(true).await;
    for at in [0, 1, 2, joined] {
        let ports = [cluster.members[at].client_port(), cluster.members[at].peer_port()];
        for port in ports {
            let decided = || async {
                let (server, decided) = told(port).await;
                let (minor, _) = server.rsplit_once('.').unwrap();
                (decided == format!("{minor}.0")).then_some(())
            };
            eventually("the version is decided", decided).await;
        }
    }
    // Decided once, by the leader: nobody proposes it again.
    let mut clients = cluster.clients(0).await;
    let index = clients.status().await.raft_index;
    cluster.move_leader(cluster.follower().await).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let entries = clients.status().await.raft_index - index;
    assert!(entries <= 2, "{entries} entries without a request");
    drop(cluster.members.pop());
}
