//! Rows 35-40: single writes.

use crate::support::*;

#[tokio::test]
async fn row_035_pd_05_put_and_prev_kv() {
    let (_s, mut c) = fresh().await;
    let with_previous = |value| pb::PutRequest { prev_kv: true, ..put("a", value) };
    assert_eq!(c.try_put(with_previous("1")).await.unwrap().prev_kv, None);
    let previous = c.try_put(with_previous("2")).await.unwrap().prev_kv.unwrap();
    assert_eq!((previous.key.as_ref(), facts(&previous)), (&b"a"[..], (&b"1"[..], 2, 2, 1)));
    assert_eq!(c.put("a", "3").await.prev_kv, None, "not asked for");
    c.delete(delete("a")).await;
    assert_eq!(c.try_put(with_previous("4")).await.unwrap().prev_kv, None);
}

#[tokio::test]
async fn row_035_empty_values_and_binary_keys() {
    let (_s, mut c) = fresh().await;
    let key = Bytes::from_static(&[0, 0xff, b'\n', 0x80]);
    c.put(key.clone(), "").await;
    let kv = c.get(key.clone()).await.unwrap();
    assert_eq!((kv.key, kv.value.len()), (key, 0));
}

/// V29.
#[tokio::test]
async fn row_036_pd_01_to_03_ignore_value_and_lease() {
    let (_s, mut c) = fresh().await;
    c.grant(5, 600).await;
    let ignore_value = |key| pb::PutRequest { ignore_value: true, ..put(key, "") };
    let ignore_lease = |key| pb::PutRequest { ignore_lease: true, ..put(key, "new") };
    expect_error(
        c.try_put(pb::PutRequest { ignore_value: true, ..put("a", "v") }).await,
        errors::VALUE_PROVIDED,
    );
    expect_error(
        c.try_put(pb::PutRequest { lease: 5, ..ignore_lease("a") }).await,
        errors::LEASE_PROVIDED,
    );
    expect_error(c.try_put(ignore_value("absent")).await, errors::KEY_NOT_FOUND);
    expect_error(c.try_put(ignore_lease("absent")).await, errors::KEY_NOT_FOUND);
    assert_eq!(c.revision().await, 1);

    c.try_put(pb::PutRequest { lease: 5, ..put("a", "v") }).await.unwrap();
    c.try_put(ignore_lease("a")).await.unwrap();
    let kv = c.get("a").await.unwrap();
    assert_eq!((facts(&kv), kv.lease), ((&b"new"[..], 2, 3, 2), 5));
    c.try_put(ignore_value("a")).await.unwrap();
    let kv = c.get("a").await.unwrap();
    assert_eq!((facts(&kv), kv.lease), ((&b"new"[..], 2, 4, 3), 0));
    c.try_put(pb::PutRequest { lease: 5, ..ignore_value("a") }).await.unwrap();
    let both = pb::PutRequest { ignore_lease: true, ..ignore_value("a") };
    c.try_put(both).await.unwrap();
    let kv = c.get("a").await.unwrap();
    assert_eq!((facts(&kv), kv.lease), ((&b"new"[..], 2, 6, 5), 5));
}

#[tokio::test]
async fn row_037_pd_04_le_12_attach_move_detach() {
    let (_s, mut c) = fresh().await;
    c.grant(5, 600).await;
    c.grant(6, 600).await;
    c.put_with_lease("a", 5).await;
    c.put_with_lease("b", 5).await;
    assert_eq!(c.time_to_live(5).await.keys, ["a", "b"]);
    c.put_with_lease("a", 6).await;
    assert_eq!(c.time_to_live(5).await.keys, ["b"]);
    assert_eq!(c.time_to_live(6).await.keys, ["a"]);
    c.put("a", "free").await;
    assert_eq!(c.time_to_live(6).await.keys, [""; 0]);
    c.delete(delete("b")).await;
    assert_eq!(c.time_to_live(5).await.keys, [""; 0]);
    c.try_revoke(5).await.unwrap();
    c.try_revoke(6).await.unwrap();
    assert_eq!(c.get("a").await.unwrap().value, "free");
}

/// V30.
#[tokio::test]
async fn row_038_pd_02_unknown_lease_is_refused_atomically() {
    let (_s, mut c) = fresh().await;
    let bad = pb::PutRequest { lease: 404, ..put("a", "1") };
    expect_error(c.try_put(bad.clone()).await, errors::LEASE_NOT_FOUND);
    let also_absent = pb::PutRequest { lease: 404, ignore_value: true, ..put("a", "") };
    expect_error(c.try_put(also_absent.clone()).await, errors::LEASE_NOT_FOUND);
    // A transaction looks at the key first.
    expect_error(c.try_txn(then(vec![also_absent.op()])).await, errors::KEY_NOT_FOUND);
    let inside = then(vec![put("b", "1").op(), bad.op()]);
    expect_error(c.try_txn(inside).await, errors::LEASE_NOT_FOUND);
    let all = c.range(range("\0", "\0")).await;
    assert_eq!((all.count, all.revision()), (0, 1));
}

#[tokio::test]
async fn row_039_pd_06_delete_range() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    let nothing = c.delete(delete_range("x", "z")).await;
    assert_eq!((nothing.deleted, nothing.prev_kvs.len(), nothing.revision()), (0, 0, 6));
    let request = pb::DeleteRangeRequest { prev_kv: true, ..delete_range("a", "c") };
    let answer = c.delete(request).await;
    assert_eq!((answer.deleted, answer.revision()), (2, 7));
    let seen: Vec<_> = answer.prev_kvs.iter().map(facts).collect();
    assert_eq!(seen, [(&b"2"[..], 2, 6, 2), (b"3", 3, 5, 2)]);
    let rest = c.delete(delete_range("a", FROM_KEY)).await;
    assert_eq!((rest.deleted, rest.prev_kvs.len()), (1, 0), "previous values were not asked for");
    assert_eq!(c.delete(delete("c")).await.deleted, 0);
}

#[tokio::test]
async fn row_040_co_06_large_requests() {
    let (_s, mut c) = fresh().await;
    let value = |size| Bytes::from(vec![b'v'; size]);
    c.put("fits", value(1_572_864 - 100)).await;
    assert_eq!(c.get("fits").await.unwrap().value.len(), 1_572_864 - 100);
    for size in [1_572_864, 2_000_000] {
        expect_error(c.try_put(put("large", value(size))).await, errors::REQUEST_TOO_LARGE);
    }
    // A put is: tag, length, one byte of key; tag, three bytes of length, value.
    let size = 2_097_152 - 3 - 4 + 1;
    let text = "grpc: received message larger than max (2097153 vs. 2097152)";
    expect_error(c.try_put(put("l", value(size))).await, (Code::ResourceExhausted, text));
    expect_error(c.try_put(put("l", value(size - 1))).await, errors::REQUEST_TOO_LARGE);
    assert_eq!(c.put("after", "1").await.revision(), 3, "the connection still works");
}

#[tokio::test]
async fn row_040_co_06_max_request_bytes_flag() {
    let (_s, mut c) = with(Setup::new().flag("max-request-bytes", 1000)).await;
    c.put("a", Bytes::from(vec![b'v'; 900])).await;
    let large = put("a", Bytes::from(vec![b'v'; 1001]));
    expect_error(c.try_put(large.clone()).await, errors::REQUEST_TOO_LARGE);
    let inside = then(vec![large.op()]);
    expect_error(c.try_txn(inside).await, errors::REQUEST_TOO_LARGE);
}
