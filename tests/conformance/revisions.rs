//! Rows 11-17: revisions, key metadata, response headers.

use crate::support::*;

/// V01, V02, V04.
#[tokio::test]
async fn row_011_rv_01_starts_at_1_and_writes_2() {
    let (_s, mut c) = fresh().await;
    let empty = c.range(get("a")).await;
    assert_eq!((empty.revision(), empty.kvs.len(), empty.count, empty.more), (1, 0, 0, false));
    let nothing = c.delete(delete("a")).await;
    assert_eq!((nothing.revision(), nothing.deleted), (1, 0));
    assert_eq!(c.put("a", "1").await.revision(), 2);
}

#[tokio::test]
async fn row_012_rv_02_rv_04_one_revision_per_change_none_otherwise() {
    let (_s, mut c) = fresh().await;
    assert_eq!(c.put("a", "1").await.revision(), 2);
    assert_eq!(c.put("a", "1").await.revision(), 3, "an equal value is a change");
    assert_eq!(c.delete(delete("absent")).await.revision(), 3);
    let reading = c.txn(then(vec![get("a").op()])).await;
    assert_eq!(reading.revision(), 3);
    let many = c.txn(then(vec![put("x", "").op(), put("y", "").op(), put("z", "").op()])).await;
    assert_eq!(many.revision(), 4);
    assert_eq!(c.delete(delete_range("x", "zz")).await.revision(), 5);
    c.grant(9, 60).await;
    assert_eq!(c.try_revoke(9).await.unwrap().revision(), 5);
    c.compact(4).await;
    assert_eq!(c.revision().await, 5);
}

/// V05.
#[tokio::test]
async fn row_013_rv_05_life_of_a_key() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    let all = c.range(range("a", "z")).await;
    let seen: Vec<_> = all.kvs.iter().map(facts).collect();
    assert_eq!(seen, [(&b"2"[..], 2, 6, 2), (b"3", 3, 5, 2), (b"1", 4, 4, 1)]);
    c.delete(delete("a")).await;
    assert!(c.get("a").await.is_none());
    c.put("a", "again").await;
    assert_eq!(facts(&c.get("a").await.unwrap()), (&b"again"[..], 8, 8, 1));
}

#[tokio::test]
async fn row_014_rv_08_header_fields_and_revisions() {
    let (_s, mut c) = fresh().await;
    let put_header = c.put("a", "1").await.header.unwrap();
    assert!(put_header.cluster_id != 0 && put_header.member_id != 0 && put_header.raft_term > 0);
    c.put("a", "2").await;
    let check = |name: &str, header: Option<pb::ResponseHeader>, revision: i64| {
        let header = header.unwrap_or_else(|| panic!("{name}: no header"));
        let expected = pb::ResponseHeader { revision, ..put_header };
        assert_eq!(header, expected, "{name}");
    };
    let old = c.range(pb::RangeRequest { revision: 2, ..get("a") }).await;
    assert_eq!(old.kvs[0].value, "1");
    check("range at 2", old.header, 3);
    check("delete of nothing", c.delete(delete("none")).await.header, 3);
    check("delete", c.delete(delete("a")).await.header, 4);
    check("txn", c.txn(then(vec![put("b", "").op()])).await.header, 5);
    check("compact", c.compact(3).await.header, 5);
    check("grant", c.grant(5, 60).await.header, 5);
    c.put_with_lease("l", 5).await;
    check("keep alive", c.keep_alive(5).await.header, 6);
    check("ttl", c.time_to_live(5).await.header, 6);
    let leases = limited(c.lease.lease_leases(pb::LeaseLeasesRequest {})).await.unwrap();
    check("leases", leases.header, 6);
    check("revoke", c.try_revoke(5).await.unwrap().header, 7);
    check("status", c.status().await.header, 7);
    check("hash kv", c.try_hash_kv(0).await.unwrap().header, 7);
    let alarms = limited(c.maintenance.alarm(pb::AlarmRequest::default())).await.unwrap();
    check("alarm", alarms.header, 7);
    let hash = limited(c.maintenance.hash(pb::HashRequest {})).await.unwrap();
    check("hash", hash.header, 7);
}

#[tokio::test]
async fn row_014_rv_08_watch_headers() {
    let (_s, mut c) = fresh().await;
    c.put("a", "1").await;
    let mut w = c.watch();
    assert_eq!(w.create(watching::on("a")).await.revision(), 2);
    c.put("b", "1").await;
    c.put("a", "2").await;
    let live = w.next().await;
    assert_eq!((live.revision(), live.events.len()), (4, 1));
    w.cancel(0);
    assert_eq!(w.next().await.revision(), 4);
}

/// V24.
#[tokio::test]
async fn row_015_rv_08_inner_headers_of_a_txn() {
    let (_s, mut c) = fresh().await;
    c.put("k", "1").await;
    let answer = c
        .txn(then(vec![
            get("k").op(),
            then(vec![put("inner", "1").op()]).op(),
            put("new", "1").op(),
            get("new").op(),
            delete("nope").op(),
        ]))
        .await;
    assert_eq!(answer.revision(), 3);
    let only = |revision| Some(pb::ResponseHeader { revision, ..Default::default() });
    let inner = &answer.responses;
    assert_eq!(inner[0].as_range().header, only(2));
    assert_eq!(inner[1].as_txn().header, only(0));
    assert_eq!(inner[1].as_txn().responses[0].as_put().header, only(3));
    assert_eq!(inner[2].as_put().header, only(3));
    assert_eq!(inner[3].as_range().header, only(3));
    assert_eq!(inner[4].as_delete().header, only(3));
}

#[tokio::test]
async fn row_016_rv_08_member_list_has_no_revision_and_defragment_no_header() {
    let (_s, mut c) = fresh().await;
    let written = c.put("a", "1").await.header.unwrap();
    let members = c.cluster.member_list(pb::MemberListRequest { linearizable: true }).await;
    let members = members.unwrap().into_inner();
    assert_eq!(members.header, Some(pb::ResponseHeader { revision: 0, ..written }));
    assert_eq!(members.members.len(), 1);
    assert_eq!(members.members[0].id, written.member_id);
    assert_eq!(members.members[0].name, "default");
    let defragment = limited(c.maintenance.defragment(pb::DefragmentRequest {})).await.unwrap();
    assert_eq!(defragment.header, None);
    let target_id = written.member_id;
    let moved = limited(c.maintenance.move_leader(pb::MoveLeaderRequest { target_id })).await;
    assert_eq!(moved.unwrap().header, None, "the target already leads");
}

#[tokio::test]
async fn row_017_rv_07_revision_survives_restart() {
    let (mut s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    let before = c.range(range("a", "z")).await.kvs;
    s.bounce().await;
    let mut c = s.clients().await;
    let after = c.range(range("a", "z")).await;
    assert_eq!((after.revision(), &after.kvs), (6, &before));
    s.kill();
    s.restart().await;
    let mut c = s.clients().await;
    let after = c.range(range("a", "z")).await;
    assert_eq!((after.revision(), &after.kvs), (6, &before));
    assert_eq!(c.put("d", "").await.revision(), 7);
}

#[tokio::test]
async fn row_017_rv_07_compaction_of_the_newest_tombstone() {
    let (mut s, mut c) = fresh().await;
    c.put("a", "1").await;
    c.delete(delete("a")).await;
    c.compact(3).await;
    for stop_cleanly in [true, false] {
        if stop_cleanly {
            s.terminate().await;
        } else {
            s.kill();
        }
        s.restart().await;
        let mut c = s.clients().await;
        assert_eq!(c.revision().await, 3);
        expect_error(c.try_compact(3).await, errors::COMPACTED);
    }
}
