//! Rows 41-45, 50-52, 54-56: what transactions do.

use crate::support::*;

#[tokio::test]
async fn row_041_tx_01_five_targets_by_four_results() {
    let (_s, mut c) = fresh().await;
    c.grant(5, 600).await;
    for value in ["x", "y", "m"] {
        c.try_put(pb::PutRequest { lease: 5, ..put("k", value) }).await.unwrap();
    }
    // create 2, mod 4, version 3, value m, lease 5
    let number = |target: CompareTarget, n: i64| match target {
        CompareTarget::Version => TargetUnion::Version(n),
        CompareTarget::Create => TargetUnion::CreateRevision(n),
        CompareTarget::Mod => TargetUnion::ModRevision(n),
        CompareTarget::Lease => TargetUnion::Lease(n),
        CompareTarget::Value => {
            TargetUnion::Value(Bytes::from(vec![u8::try_from(n).unwrap() + b'a']))
        }
    };
    use CompareResult::{Equal, Greater, Less, NotEqual};
    for (target, actual) in [
        (CompareTarget::Version, 3),
        (CompareTarget::Create, 2),
        (CompareTarget::Mod, 4),
        (CompareTarget::Lease, 5),
        (CompareTarget::Value, i64::from(b'm' - b'a')),
    ] {
        for operand in [actual - 1, actual, actual + 1] {
            for (result, holds) in [
                (Equal, actual == operand),
                (Greater, actual > operand),
                (Less, actual < operand),
                (NotEqual, actual != operand),
            ] {
                let check = compare("k", target, result, number(target, operand));
                let answer = c.txn(txn(vec![check], vec![], vec![])).await;
                assert_eq!(answer.succeeded, holds, "{target:?} {result:?} {operand}");
            }
        }
    }
}

/// V25, V26.
#[tokio::test]
async fn row_042_tx_07_absent_key() {
    let (_s, mut c) = fresh().await;
    use CompareResult::{Equal, Greater, Less, NotEqual};
    let mut holds = async |target, result, operand| {
        let check = compare("absent", target, result, operand);
        c.txn(txn(vec![check], vec![], vec![])).await.succeeded
    };
    assert!(holds(CompareTarget::Version, Equal, TargetUnion::Version(0)).await);
    assert!(holds(CompareTarget::Version, Less, TargetUnion::Version(1)).await);
    assert!(!holds(CompareTarget::Version, Greater, TargetUnion::Version(0)).await);
    assert!(holds(CompareTarget::Version, Greater, TargetUnion::Version(-1)).await);
    assert!(holds(CompareTarget::Create, Equal, TargetUnion::CreateRevision(0)).await);
    assert!(holds(CompareTarget::Mod, NotEqual, TargetUnion::ModRevision(1)).await);
    assert!(holds(CompareTarget::Lease, Equal, TargetUnion::Lease(0)).await);
    for result in [Equal, Greater, Less, NotEqual] {
        for value in ["", "x"] {
            assert!(!holds(CompareTarget::Value, result, TargetUnion::Value(value.into())).await);
        }
    }
}

#[tokio::test]
async fn row_043_tx_08_range_compare() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    let mut holds = async |key: &'static str, end: &'static str, target, result, operand| {
        let check = pb::Compare { range_end: end.into(), ..compare(key, target, result, operand) };
        c.txn(txn(vec![check], vec![], vec![])).await.succeeded
    };
    use CompareResult::{Equal, Greater, Less, NotEqual};
    assert!(holds("a", "z", CompareTarget::Mod, Greater, TargetUnion::ModRevision(3)).await);
    assert!(!holds("a", "z", CompareTarget::Mod, Greater, TargetUnion::ModRevision(4)).await);
    assert!(holds("b", "\0", CompareTarget::Mod, Less, TargetUnion::ModRevision(6)).await);
    assert!(!holds("a", "z", CompareTarget::Value, Equal, TargetUnion::Value("1".into())).await);
    assert!(holds("c", "z", CompareTarget::Value, Equal, TargetUnion::Value("1".into())).await);
    assert!(holds("x", "z", CompareTarget::Version, Equal, TargetUnion::Version(0)).await);
    assert!(!holds("x", "z", CompareTarget::Value, NotEqual, TargetUnion::Value("".into())).await);
    assert!(holds("z", "a", CompareTarget::Version, Equal, TargetUnion::Version(0)).await);
}

#[tokio::test]
async fn row_044_tx_09_operand_of_another_kind() {
    let (_s, mut c) = fresh().await;
    c.put("k", "1").await;
    let mut holds = async |target: i32, result: i32, target_union| {
        let check =
            pb::Compare { key: "k".into(), target, result, target_union, ..Default::default() };
        c.txn(txn(vec![check], vec![], vec![])).await.succeeded
    };
    let (equal, greater) = (CompareResult::Equal as i32, CompareResult::Greater as i32);
    let (version, value) = (CompareTarget::Version as i32, CompareTarget::Value as i32);
    assert!(holds(version, greater, None).await, "1 > 0");
    assert!(!holds(version, equal, Some(TargetUnion::ModRevision(1))).await, "operand is 0");
    assert!(holds(value, greater, None).await, "`1` is greater than empty");
    assert!(!holds(value, equal, Some(TargetUnion::Version(1))).await);
    assert!(holds(version, 17, Some(TargetUnion::Version(9))).await, "unknown result holds");
    assert!(holds(17, equal, Some(TargetUnion::Version(9))).await, "unknown target is equal");
    assert!(!holds(17, greater, Some(TargetUnion::Version(0))).await);
}

/// V21.
#[tokio::test]
async fn row_045_tx_01_branches_and_alignment() {
    let (_s, mut c) = fresh().await;
    let empty = c.txn(pb::TxnRequest::default()).await;
    assert!(empty.succeeded && empty.responses.is_empty());
    assert_eq!(empty.revision(), 1);

    let answer = c
        .txn(txn(
            vec![never()],
            vec![put("wrong", "").op()],
            vec![get("a").op(), put("a", "1").op(), delete("b").op(), then(vec![]).op()],
        ))
        .await;
    assert!(!answer.succeeded);
    assert_eq!(answer.responses.len(), 4);
    assert_eq!(answer.responses[0].as_range().count, 0);
    assert_eq!(answer.responses[1].as_put().prev_kv, None);
    assert_eq!(answer.responses[2].as_delete().deleted, 0);
    assert!(answer.responses[3].as_txn().succeeded);
    assert!(c.get("wrong").await.is_none());

    let failure = pb::RangeRequest { revision: 9999, ..get("a") };
    let answer = c.txn(txn(vec![], vec![], vec![failure.op()])).await;
    assert!(answer.succeeded && answer.responses.is_empty());
}

#[tokio::test]
async fn row_050_tx_10_reads_see_earlier_writes() {
    let (_s, mut c) = fresh().await;
    c.put("k", "0").await;
    let answer = c
        .txn(then(vec![
            pb::PutRequest { prev_kv: true, ..put("k", "1") }.op(),
            get("k").op(),
            put("m", "1").op(),
            range("k", "z").op(),
            pb::DeleteRangeRequest { prev_kv: true, ..delete("l") }.op(),
        ]))
        .await;
    assert_eq!(answer.responses[0].as_put().prev_kv.as_ref().unwrap().value, "0");
    let kv = &answer.responses[1].as_range().kvs[0];
    assert_eq!(facts(kv), (&b"1"[..], 2, 3, 2));
    let both = answer.responses[3].as_range();
    assert_eq!((keys(&both.kvs), both.count), (vec!["k", "m"], 2));
    assert_eq!(facts(&both.kvs[1]), (&b"1"[..], 3, 3, 1));
}

/// V23.
#[tokio::test]
async fn row_051_tx_10_explicit_revision_reads_the_past() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    c.put("x", "").await;
    c.put("y", "").await;
    let old = pb::RangeRequest { revision: 8, ..get("n") };
    let answer = c.txn(then(vec![put("n", "1").op(), old.op(), get("n").op()])).await;
    assert_eq!(answer.revision(), 9);
    let second = answer.responses[1].as_range();
    assert_eq!((second.kvs.len(), second.count, second.revision()), (0, 0, 9));
    assert_eq!(facts(&answer.responses[2].as_range().kvs[0]), (&b"1"[..], 9, 9, 1));
}

#[tokio::test]
async fn row_052_tx_06_nested_compares_use_the_state_before() {
    let (_s, mut c) = fresh().await;
    c.put("k", "old").await;
    let is = |value: &'static str| {
        let operand = TargetUnion::Value(value.into());
        compare("k", CompareTarget::Value, CompareResult::Equal, operand)
    };
    let inner = txn(vec![is("old")], vec![put("saw", "old").op()], vec![put("saw", "new").op()]);
    let answer = c.txn(then(vec![put("k", "new").op(), inner.op()])).await;
    assert!(answer.responses[1].as_txn().succeeded);
    assert_eq!(c.get("saw").await.unwrap().value, "old");
}

#[tokio::test]
async fn row_054_tx_12_read_only_txn_leaves_no_entry() {
    let (_s, mut c) = fresh().await;
    c.put("a", "1").await;
    let before = c.status().await.raft_index;
    for serializable in [false, true] {
        let read = pb::RangeRequest { serializable, ..get("a") };
        let answer = c.txn(then(vec![read.op()])).await;
        assert_eq!(answer.responses[0].as_range().kvs[0].value, "1");
        assert_eq!(answer.revision(), 2);
    }
    assert_eq!(c.status().await.raft_index, before);
    c.txn(then(vec![then(vec![get("a").op()]).op()])).await;
    assert_eq!(c.status().await.raft_index, before + 1, "a nested one goes through the log");
}

#[tokio::test]
async fn row_055_tx_13_write_txn_without_a_change() {
    let (_s, mut c) = fresh().await;
    c.put("a", "1").await;
    let answer = c.txn(then(vec![delete("none").op(), get("a").op()])).await;
    assert_eq!(answer.revision(), 2);
    let untaken = txn(vec![never()], vec![put("b", "").op()], vec![]);
    assert_eq!(c.txn(untaken).await.revision(), 2);
}

#[tokio::test]
async fn row_056_tx_14_one_mod_revision_and_one_group_of_events() {
    let (_s, mut c) = fresh().await;
    c.put("d", "1").await;
    let mut w = c.watch();
    w.create(watching::on_all(0)).await;
    let nested = then(vec![put("c", "1").op()]);
    let ops = vec![put("b", "1").op(), nested.op(), delete("d").op(), put("a", "1").op()];
    assert_eq!(c.txn(then(ops)).await.revision(), 3);
    let group = w.next().await;
    let order: Vec<_> = group.events.iter().map(|e| e.kv.as_ref().unwrap()).collect();
    assert_eq!(order.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [b"b", b"c", b"d", b"a"]);
    assert!(order.iter().all(|kv| kv.mod_revision == 3));
}
