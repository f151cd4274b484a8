//! Rows 57-61: compaction.

use etcdrs_tests::http;

use crate::support::*;

/// V03.
#[tokio::test]
async fn row_057_cp_01_bounds() {
    let (_s, mut c) = fresh().await;
    assert_eq!(c.try_compact(0).await.unwrap().revision(), 1);
    expect_error(c.try_compact(0).await, errors::COMPACTED);
    expect_error(c.try_compact(-1).await, errors::COMPACTED);
    expect_error(c.try_compact(2).await, errors::FUTURE_REVISION);
    put_vectors(&mut c).await;
    assert_eq!(c.try_compact(4).await.unwrap().revision(), 6);
    for old in [4, 3, 0, -1] {
        expect_error(c.try_compact(old).await, errors::COMPACTED);
        expect_error(c.try_compaction(old, true).await, errors::COMPACTED);
    }
    expect_error(c.try_compact(7).await, errors::FUTURE_REVISION);
    c.compact(6).await;
    expect_error(c.try_compact(6).await, errors::COMPACTED);
    assert_eq!(c.range(range("a", "z")).await.count, 3);
}

#[tokio::test]
async fn row_058_cp_02_kept_versions() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await; // a 2,6  b 3,5  c 4
    c.delete(delete("c")).await; // 7
    c.put("d", "1").await; // 8
    let before = c.range(pb::RangeRequest { revision: 5, ..range("a", "z") }).await;
    c.compact(5).await;
    let at = |revision| pb::RangeRequest { revision, ..range("a", "z") };
    for old in [1, 2, 4] {
        expect_error(c.try_range(at(old)).await, errors::COMPACTED);
    }
    assert_eq!(c.range(at(5)).await.kvs, before.kvs);
    assert_eq!(keys(&c.range(at(6)).await.kvs), ["a", "b", "c"]);
    assert_eq!(keys(&c.range(at(7)).await.kvs), ["a", "b"]);
    c.compact(8).await;
    assert_eq!(keys(&c.range(at(8)).await.kvs), ["a", "b", "d"]);
    assert!(c.get("c").await.is_none());
    c.put("c", "again").await;
    assert_eq!(facts(&c.get("c").await.unwrap()), (&b"again"[..], 9, 9, 1));
}

#[tokio::test]
async fn row_059_cp_02_tombstone_at_the_compacted_revision_stays() {
    let (s, mut c) = fresh().await;
    c.put("a", "1").await;
    c.delete(delete("a")).await; // 3
    c.put("b", "1").await; // 4
    c.compact(3).await;
    let mut w = c.watch();
    w.create(watching::on_all(3)).await;
    let dropped = Difference::TombstoneAtCompactionDropped.applies(s.flavour());
    let events = w.events(if dropped { 1 } else { 2 }).await;
    if !dropped {
        assert_eq!(events[0].r#type, EventType::Delete as i32);
        assert_eq!(events[0].kv.as_ref().unwrap().mod_revision, 3);
    }
    assert_eq!(events.last().unwrap().kv.as_ref().unwrap().key, "b");
    assert!(c.get("a").await.is_none());
    c.compact(4).await;
    assert!(c.get("a").await.is_none());
}

/// Enough keys that the removal takes several slices with pauses between them: an answer that did
/// not wait would come long before the last.
#[tokio::test]
async fn row_060_cp_03_physical_waits() {
    const KEYS: usize = 5000;
    let (s, mut c) = fresh().await;
    for _ in 0..2 {
        fill(&c, "k/", KEYS, &Bytes::from_static(b"v")).await;
    }
    assert_eq!(removed_by_compactions(&s).await, 0);
    let revision = c.revision().await;
    assert_eq!(c.try_compaction(revision, true).await.unwrap().revision(), revision);
    assert_eq!(removed_by_compactions(&s).await, KEYS);
    let hash = c.try_hash_kv(0).await.unwrap();
    assert_eq!(hash.compact_revision, revision);

    // A refused one waits as well for the removal that is under way.
    fill(&c, "k/", KEYS, &Bytes::from_static(b"w")).await;
    let revision = c.revision().await;
    assert_eq!(c.try_compact(revision).await.unwrap().revision(), revision);
    expect_error(c.try_compaction(revision, true).await, errors::COMPACTED);
    assert_eq!(removed_by_compactions(&s).await, 2 * KEYS);
    assert_eq!(c.range(range("k/", "k0")).await.count, KEYS as i64);
}

/// Revisions removed since the start.
async fn removed_by_compactions(s: &Server) -> usize {
    let metrics = http::get(s.client_port(), "/metrics").await.unwrap().body;
    let mut lines = metrics.lines();
    let value =
        lines.find_map(|line| line.strip_prefix("etcd_debugging_mvcc_db_compaction_keys_total "));
    value.expect("the metric").parse().unwrap()
}

#[tokio::test]
async fn row_061_cp_04_resumes_after_a_crash() {
    let (mut s, mut c) = fresh().await;
    for _ in 0..6 {
        fill(&c, "k/", 500, &Bytes::from_static(b"v")).await;
    }
    c.delete(delete_range("k/00000100", "k/00000200")).await;
    let revision = c.revision().await;
    c.try_compact(revision - 10).await.unwrap();
    s.kill();
    s.restart().await;
    let mut c = s.clients().await;
    assert_eq!(c.revision().await, revision);
    let old = pb::RangeRequest { revision: revision - 11, ..range("k/", "k0") };
    expect_error(c.try_range(old).await, errors::COMPACTED);
    let kept = pb::RangeRequest { revision: revision - 10, ..range("k/", "k0") };
    assert_eq!(c.range(kept).await.count, 500);
    assert_eq!(c.range(range("k/", "k0")).await.count, 400);
    c.compact(revision).await;
    let after = c.try_hash_kv(0).await.unwrap();
    assert_eq!(after.compact_revision, revision);
    s.bounce().await;
    let mut c = s.clients().await;
    assert_eq!(c.try_hash_kv(0).await.unwrap().hash, after.hash);
}
