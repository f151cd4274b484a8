//! Rows 46-49, 53: which transactions are refused.

use crate::support::*;

fn gets(count: usize) -> Vec<pb::RequestOp> {
    vec![get("a").op(); count]
}

fn nest(ops: Vec<pb::RequestOp>) -> pb::RequestOp {
    then(ops).op()
}

/// V13.
#[tokio::test]
async fn row_046_tx_02_max_txn_ops() {
    let (_s, mut c) = fresh().await;
    assert_eq!(c.txn(then(gets(128))).await.responses.len(), 128);
    expect_error(c.try_txn(then(gets(129))).await, errors::TOO_MANY_OPS);
    expect_error(c.try_txn(txn(vec![], vec![], gets(129))).await, errors::TOO_MANY_OPS);
    let compares = |count| txn(vec![never(); count], vec![], vec![]);
    c.txn(compares(128)).await;
    expect_error(c.try_txn(compares(129)).await, errors::TOO_MANY_OPS);
    let all_lists = txn(vec![never(); 128], gets(128), gets(128));
    assert_eq!(c.txn(all_lists).await.responses.len(), 128);
    let keyless = then(vec![get("").op(); 129]);
    expect_error(c.try_txn(keyless).await, errors::TOO_MANY_OPS);
}

/// V14.
#[tokio::test]
async fn row_046_tx_03_nested_budget() {
    let (_s, mut c) = with(Setup::new().flag("max-txn-ops", 3)).await;
    expect_error(c.try_txn(then(gets(4))).await, errors::TOO_MANY_OPS);
    expect_error(c.try_txn(then(vec![nest(gets(3))])).await, errors::TOO_MANY_OPS);
    c.txn(then(vec![nest(gets(2))])).await;
    c.txn(then(vec![nest(gets(1)), nest(gets(1))])).await;
    c.txn(then(vec![nest(vec![nest(gets(1))])])).await;
    let deep = then(vec![nest(vec![nest(gets(2))])]);
    expect_error(c.try_txn(deep).await, errors::TOO_MANY_OPS);
    let untaken = txn(vec![], vec![], vec![nest(gets(3))]);
    expect_error(c.try_txn(untaken).await, errors::TOO_MANY_OPS);
}

/// V27.
#[tokio::test]
async fn row_047_tx_02_both_branches_are_checked() {
    let (_s, mut c) = fresh().await;
    let with_value = pb::PutRequest { ignore_value: true, ..put("a", "v") };
    let with_lease = pb::PutRequest { ignore_lease: true, lease: 1, ..put("a", "v") };
    for (op, expected) in [
        (get("").op(), errors::EMPTY_KEY),
        (put("", "").op(), errors::EMPTY_KEY),
        (delete("").op(), errors::EMPTY_KEY),
        (with_value.op(), errors::VALUE_PROVIDED),
        (with_lease.op(), errors::LEASE_PROVIDED),
        (pb::RequestOp { request: None }, errors::KEY_NOT_FOUND),
    ] {
        expect_error(c.try_txn(then(vec![op.clone()])).await, expected);
        expect_error(c.try_txn(txn(vec![], vec![], vec![op.clone()])).await, expected);
        expect_error(c.try_txn(then(vec![nest(vec![op])])).await, expected);
    }
    // Overlaps are looked for when every operation of every level has passed.
    let twice = nest(vec![put("p", "").op(), put("p", "").op()]);
    let late = pb::PutRequest { ignore_value: true, ..put("a", "v") };
    expect_error(c.try_txn(then(vec![twice.clone(), late.op()])).await, errors::VALUE_PROVIDED);
    let other_branch = txn(vec![], vec![twice], vec![get("").op()]);
    expect_error(c.try_txn(other_branch).await, errors::EMPTY_KEY);
    assert_eq!(c.revision().await, 1);
}

/// V15-V19.
#[tokio::test]
async fn row_048_tx_04_duplicate_keys() {
    let (_s, mut c) = fresh().await;
    let put_p = || put("p", "1").op();
    let delete_p = || delete("p").op();
    let around = || delete_range("a", "z").op();
    for ops in [
        vec![put_p(), put_p()],
        vec![put_p(), delete_p()],
        vec![delete_p(), put_p()],
        vec![put_p(), around()],
        vec![nest(vec![put_p()]), put_p()],
        vec![nest(vec![put_p()]), nest(vec![put_p()])],
        vec![nest(vec![delete_p()]), nest(vec![put_p()])],
        vec![delete_p(), nest(vec![put_p()])],
        vec![nest(vec![nest(vec![put_p()])]), put_p()],
        vec![nest(vec![put_p(), put_p()])],
    ] {
        expect_error(c.try_txn(then(ops.clone())).await, errors::DUPLICATE_KEY);
        expect_error(c.try_txn(txn(vec![], vec![], ops)).await, errors::DUPLICATE_KEY);
    }
    assert_eq!(c.revision().await, 1);

    let either = txn(vec![], vec![put_p()], vec![put_p()]);
    for ops in [
        vec![either.op()],
        vec![delete_p(), delete_p(), around()],
        vec![put_p(), delete_range("q", "z").op()],
        vec![put_p(), delete_range("a", "p").op()],
        vec![put_p(), put("p\0", "").op()],
    ] {
        c.try_txn(then(ops.clone())).await.unwrap_or_else(|e| panic!("{ops:?}: {e}"));
    }
    c.txn(txn(vec![], vec![put_p()], vec![put_p()])).await;

    c.put("p", "before").await;
    let revision = c.revision().await;
    let answer = c.txn(then(vec![nest(vec![put_p()]), nest(vec![delete_p()])])).await;
    assert_eq!(answer.revision(), revision + 1);
    assert_eq!(answer.responses[1].as_txn().responses[0].as_delete().deleted, 1);
    assert!(c.get("p").await.is_none());
}

/// V20.
#[tokio::test]
async fn row_049_tx_05_from_key_delete_is_not_seen_as_overlap() {
    let (_s, mut c) = fresh().await;
    c.put("c", "1").await;
    let ops = vec![put("b", "1").op(), delete_range("a", FROM_KEY).op()];
    let answer = c.txn(then(ops)).await;
    assert_eq!(answer.revision(), 3);
    assert_eq!(answer.responses[1].as_delete().deleted, 2);
    assert_eq!(c.range(range("\0", "\0")).await.count, 0);
    let ops = vec![delete_range("a", FROM_KEY).op(), put("b", "2").op()];
    assert_eq!(c.txn(then(ops)).await.revision(), 4);
    assert_eq!(facts(&c.get("b").await.unwrap()), (&b"2"[..], 4, 4, 1));
}

/// V22, V28.
#[tokio::test]
async fn row_053_tx_11_failures_write_nothing() {
    let (_s, mut c) = fresh().await;
    let at = |revision| pb::RangeRequest { revision, ..get("q") }.op();
    let negative = then(vec![at(-2)]);
    expect_error(c.try_txn(negative).await, errors::COMPACTED);
    c.txn(then(vec![put("w", "").op(), at(-1)])).await;
    put_vectors(&mut c).await;
    let revision = c.revision().await;
    let absent = |request: pb::PutRequest| pb::PutRequest { key: "absent".into(), ..request }.op();
    let unlucky = pb::PutRequest { lease: 404, ..put("l", "") };
    let keep_value = absent(pb::PutRequest { ignore_value: true, ..Default::default() });
    let keep_lease = absent(pb::PutRequest { ignore_lease: true, ..Default::default() });
    for (op, expected) in [
        (at(9999), errors::FUTURE_REVISION),
        (at(revision + 1), errors::FUTURE_REVISION),
        (unlucky.op(), errors::LEASE_NOT_FOUND),
        (keep_value, errors::KEY_NOT_FOUND),
        (keep_lease, errors::KEY_NOT_FOUND),
    ] {
        let ops = vec![put("q", "1").op(), op.clone()];
        expect_error(c.try_txn(then(ops)).await, expected);
        let ops = vec![put("q", "1").op(), nest(vec![op.clone()])];
        expect_error(c.try_txn(then(ops)).await, expected);
        let answer = c.txn(txn(vec![], vec![], vec![op])).await;
        assert!(answer.succeeded, "an untaken branch is not looked at");
    }
    assert!(c.get("q").await.is_none());
    assert_eq!(c.revision().await, revision);

    c.compact(4).await;
    for old in [3, 1, -1, -2] {
        let ops = vec![put("q", "1").op(), at(old)];
        expect_error(c.try_txn(then(ops)).await, errors::COMPACTED);
        expect_error(c.try_txn(then(vec![at(old)])).await, errors::COMPACTED);
    }
    assert!(c.get("q").await.is_none());
    c.txn(then(vec![put("q", "1").op(), at(4)])).await;
}
