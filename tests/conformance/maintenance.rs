//! Rows 107-109, 111 and the maintenance calls of one member.

use sha2::{Digest, Sha256};

use crate::support::*;

#[tokio::test]
async fn row_107_mt_01_status() {
    let (s, mut c) = fresh().await;
    c.put("a", "1").await;
    let status = c.status().await;
    let header = status.header.unwrap();
    assert_eq!((status.leader, status.raft_term), (header.member_id, header.raft_term));
    assert!(status.version.starts_with("3."), "{}", status.version);
    assert!(status.db_size > 0 && status.db_size_in_use > 0);
    assert!(status.raft_index > 0 && status.raft_applied_index <= status.raft_index);
    assert!(!status.is_learner && status.errors.is_empty(), "{status:?}");
    c.put("a", "2").await;
    let later = c.status().await;
    assert_eq!(later.raft_index, status.raft_index + 1);
    assert_eq!(later.raft_applied_index, later.raft_index);
    if Difference::StatusWithoutNewFields.applies(s.flavour()) {
        return;
    }
    assert!(status.storage_version.starts_with("3."), "{}", status.storage_version);
    assert_eq!(status.db_size_quota, 2_147_483_648);
    assert_eq!(status.downgrade_info, Some(pb::DowngradeInfo::default()));
}

#[tokio::test]
async fn row_108_mt_02_defragment_keeps_everything() {
    let (_s, mut c) = fresh().await;
    fill(&c, "k/", 500, &Bytes::from(vec![b'v'; 1000])).await;
    c.compact(501).await;
    let before = c.range(range("k/", "k0")).await;
    let answer = limited(c.maintenance.defragment(pb::DefragmentRequest {})).await.unwrap();
    assert_eq!(answer, pb::DefragmentResponse { header: None });
    assert_eq!(c.range(range("k/", "k0")).await, before);
    assert_eq!(c.put("a", "").await.revision(), 502);
}

#[tokio::test]
async fn row_109_mt_03_hash_kv_bounds() {
    let (s, mut c) = fresh().await;
    let fresh_hash = c.try_hash_kv(0).await.unwrap();
    assert_eq!((fresh_hash.compact_revision, fresh_hash.revision()), (-1, 1));
    put_vectors(&mut c).await;
    let now = c.try_hash_kv(0).await.unwrap();
    assert_ne!(now.hash, fresh_hash.hash);
    assert_eq!(c.try_hash_kv(6).await.unwrap().hash, now.hash);
    let old = c.try_hash_kv(4).await.unwrap();
    assert_ne!(old.hash, now.hash);
    const HASH_OF_THE_BUCKET_NAME: u32 = 1_084_519_789;
    let nothing = c.try_hash_kv(-10).await.unwrap();
    assert_eq!(nothing.hash, HASH_OF_THE_BUCKET_NAME, "no entry is that old");
    if !Difference::NoHashRevision.applies(s.flavour()) {
        assert_eq!((now.hash_revision, old.hash_revision), (6, 4));
    }
    expect_error(c.try_hash_kv(7).await, errors::FUTURE_REVISION);
    c.put("d", "").await;
    assert_eq!(c.try_hash_kv(6).await.unwrap().hash, now.hash, "later writes do not matter");
    c.compact(5).await;
    assert_eq!(c.try_hash_kv(6).await.unwrap().compact_revision, 5);
    expect_error(c.try_hash_kv(3).await, errors::COMPACTED);
    if !Difference::NoHashAtCompactedRevision.applies(s.flavour()) {
        assert_eq!(c.try_hash_kv(5).await.unwrap().compact_revision, 5);
    }
    limited(c.maintenance.hash(pb::HashRequest {})).await.unwrap();
}

/// MT-04: the same history gives the same hash on our server and on etcd. Behind a compaction etcd
/// keeps in the hash what a compaction at the *hashed* revision would keep.
#[tokio::test]
async fn row_109_mt_04_hash_equals_etcds() {
    let mut hashes = Vec::new();
    for target in [etcdrs_tests::target::under_test(), etcdrs_tests::target::etcd()] {
        let s = Setup::of(target).start().await;
        let mut c = s.clients().await;
        c.grant(5, 600).await;
        put_vectors(&mut c).await;
        c.delete(delete("a")).await;
        c.put_with_lease("l", 5).await;
        c.txn(then(vec![put("t1", "1").op(), delete("b").op(), put("t2", "").op()])).await;
        let before =
            [6, 7, 8, 9].map(async |revision| c.clone().try_hash_kv(revision).await.unwrap().hash);
        let mut of_server = futures_util::future::join_all(before).await;
        c.compact(6).await;
        of_server.push(c.try_hash_kv(0).await.unwrap().hash);
        hashes.push(of_server);
    }
    assert_eq!(hashes[0], hashes[1]);
}

#[tokio::test]
async fn row_111_mt_05_snapshot_stream() {
    const CHUNK: usize = 32 * 1024;
    let (s, mut c) = fresh().await;
    fill(&c, "k/", 300, &Bytes::from(vec![b'v'; 1000])).await;
    let call = c.maintenance.snapshot(pb::SnapshotRequest {});
    let mut stream = limited(call).await.unwrap();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        assert_eq!(message.header, None);
        if !Difference::NoSnapshotVersion.applies(s.flavour()) {
            assert!(message.version.starts_with("3."), "{:?}", message.version);
        }
        messages.push(message);
    }
    let digest = messages.pop().unwrap();
    let total: usize = messages.iter().map(|m| m.blob.len()).sum();
    assert!(total >= 300_000 && total.is_multiple_of(512), "{total}");
    let (mut hasher, mut sent) = (Sha256::new(), 0);
    for (at, message) in messages.iter().enumerate() {
        sent += message.blob.len();
        assert_eq!(message.remaining_bytes, (total - sent) as u64);
        assert!(message.blob.len() == CHUNK || at + 1 == messages.len());
        hasher.update(&message.blob);
    }
    assert_eq!((digest.blob.as_ref(), digest.remaining_bytes), (&hasher.finalize()[..], 0));
}

/// V54, and AL-07 on a member without alarms.
#[tokio::test]
async fn row_112_mt_06_move_leader_and_alarm_list_on_one_member() {
    let (_s, mut c) = fresh().await;
    let request = pb::MoveLeaderRequest { target_id: 5 };
    let moved = limited(c.maintenance.move_leader(request)).await;
    expect_error(moved, errors::BAD_LEADER_TRANSFEREE);
    for alarm in [0, 1, 2] {
        let request = pb::AlarmRequest { alarm, ..Default::default() };
        let alarms = limited(c.maintenance.alarm(request)).await.unwrap();
        assert!(alarms.alarms.is_empty());
    }
}
