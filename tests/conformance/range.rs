//! Rows 18-30: reads.

use crate::support::*;

#[tokio::test]
async fn row_018_kr_01_kr_02_kinds_of_ranges() {
    let (_s, mut c) = fresh().await;
    for key in ["a", "ab", "abc", "b", "c"] {
        c.put(key, key).await;
    }
    c.put(Bytes::from_static(b"\xff\xff"), "high").await;
    let mut read = async |key: &'static [u8], end: &'static [u8]| {
        let answer = c.range(range(key, end)).await;
        assert_eq!(answer.count as usize, answer.kvs.len());
        answer.kvs.iter().map(|kv| kv.value.clone()).collect::<Vec<_>>()
    };
    assert_eq!(read(b"a", b"").await, ["a"]);
    assert_eq!(read(b"a", b"b").await, ["a", "ab", "abc"]);
    assert_eq!(read(b"ab", b"ac").await, ["ab", "abc"], "prefix");
    assert_eq!(read(b"b", b"\0").await, ["b", "c", "high"], "from key");
    assert_eq!(read(b"\0", b"\0").await, ["a", "ab", "abc", "b", "c", "high"]);
    assert_eq!(read(b"\xff", b"\0").await, ["high"], "prefix of only 0xff");
    assert_eq!(read(b"aa", b"aaa").await, [""; 0]);
}

/// V08.
#[tokio::test]
async fn row_019_kr_03_reversed_range_is_empty() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    for end in ["a", "b"] {
        let answer = c.range(range("b", end)).await;
        assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 0, false));
    }
    assert_eq!(c.delete(delete_range("z", "a")).await.deleted, 0);
}

#[tokio::test]
async fn row_020_kr_04_empty_key_is_refused() {
    let (_s, mut c) = fresh().await;
    expect_error(c.try_range(get("")).await, errors::EMPTY_KEY);
    expect_error(c.try_range(range("", "z")).await, errors::EMPTY_KEY);
    expect_error(c.try_put(put("", "v")).await, errors::EMPTY_KEY);
    expect_error(c.try_delete(delete("")).await, errors::EMPTY_KEY);
    expect_error(c.try_txn(then(vec![get("").op()])).await, errors::EMPTY_KEY);
    let compare = pb::Compare { key: Bytes::new(), ..never() };
    expect_error(c.try_txn(txn(vec![compare], vec![], vec![])).await, errors::EMPTY_KEY);
}

/// V12.
#[tokio::test]
async fn row_020_rg_01_unknown_sort_numbers() {
    let (s, mut c) = fresh().await;
    if Difference::NoSortOptionCheck.applies(s.flavour()) {
        return;
    }
    for (target, order) in [(9, 0), (0, 3), (-1, 1), (5, 2), (0, -1)] {
        let request =
            pb::RangeRequest { sort_target: target, sort_order: order, ..range("a", "z") };
        expect_error(c.try_range(request.clone()).await, errors::INVALID_SORT_OPTION);
        let inside = then(vec![request.op()]);
        expect_error(c.try_txn(inside).await, errors::INVALID_SORT_OPTION);
    }
    let both = pb::RangeRequest { sort_target: 9, ..get("") };
    expect_error(c.try_range(both).await, errors::EMPTY_KEY);
}

#[tokio::test]
async fn row_021_rg_02_linearizable_read_sees_every_finished_write() {
    let (s, mut writer) = fresh().await;
    let mut reader = s.clients().await;
    for round in 0..100 {
        let written = writer.put("k", format!("{round}")).await.revision();
        let answer = reader.range(get("k")).await;
        assert_eq!(answer.kvs[0].value, format!("{round}"));
        assert!(answer.revision() >= written);
    }
}

#[tokio::test]
async fn row_022_rg_02_serializable_read() {
    let (_s, mut c) = fresh().await;
    c.put("k", "1").await;
    let answer = c.range(pb::RangeRequest { serializable: true, ..get("k") }).await;
    assert_eq!((answer.kvs[0].value.as_ref(), answer.count), (&b"1"[..], 1));
}

/// V09.
#[tokio::test]
async fn row_023_rg_03_reads_at_a_revision() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    let at = |revision| pb::RangeRequest { revision, ..range("a", "z") };
    let old = c.range(at(4)).await;
    let seen: Vec<_> = old.kvs.iter().map(facts).collect();
    assert_eq!(seen, [(&b"1"[..], 2, 2, 1), (b"1", 3, 3, 1), (b"1", 4, 4, 1)]);
    assert_eq!((old.revision(), old.count), (6, 3));
    assert_eq!(c.range(at(2)).await.count, 1);
    assert_eq!(c.range(at(1)).await.count, 0);
    expect_error(c.try_range(at(7)).await, errors::FUTURE_REVISION);
    expect_error(c.try_range(at(100)).await, errors::FUTURE_REVISION);
    assert_eq!(c.range(at(-2)).await.kvs, c.range(at(0)).await.kvs, "negative is newest");
    c.compact(5).await;
    expect_error(c.try_range(at(4)).await, errors::COMPACTED);
    assert_eq!(c.range(at(5)).await.kvs[0].value, "1", "the compacted revision is readable");
    assert_eq!(c.range(at(6)).await.kvs[0].value, "2");
    assert_eq!(c.range(at(-1)).await.count, 3);
}

#[tokio::test]
async fn row_024_rg_04_limit_and_more() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    let limited = |limit| pb::RangeRequest { limit, ..range("a", "z") };
    for (limit, expected, more) in [
        (1, vec!["a"], true),
        (2, vec!["a", "b"], true),
        (3, vec!["a", "b", "c"], false),
        (4, vec!["a", "b", "c"], false),
        (0, vec!["a", "b", "c"], false),
        (-1, vec!["a", "b", "c"], false),
        (i64::MAX, vec!["a", "b", "c"], false),
        (i64::MIN, vec!["a", "b", "c"], false),
    ] {
        let answer = c.range(limited(limit)).await;
        assert_eq!((keys(&answer.kvs), answer.more), (expected, more), "limit {limit}");
        assert_eq!(answer.count, 3);
    }
}

/// V10.
#[tokio::test]
async fn row_025_rg_05_count_ignores_limit_and_filters() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    let filtered = pb::RangeRequest { min_mod_revision: 1000, ..range("a", "z") };
    let answer = c.range(filtered).await;
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 3, false));
    let both = pb::RangeRequest { limit: 1, max_mod_revision: 5, ..range("a", "z") };
    let answer = c.range(both).await;
    assert_eq!((keys(&answer.kvs), answer.count, answer.more), (vec!["b"], 3, true));
}

/// V11.
#[tokio::test]
async fn row_026_rg_06_count_only() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    let count = pb::RangeRequest { count_only: true, limit: 1, ..range("a", "z") };
    for request in [
        count.clone(),
        pb::RangeRequest { keys_only: true, ..count.clone() },
        pb::RangeRequest { min_mod_revision: 1000, ..count.clone() },
        pb::RangeRequest { sort_order: SortOrder::Descend as i32, ..count.clone() },
    ] {
        let answer = c.range(request).await;
        assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 3, false));
    }
    assert_eq!(c.range(pb::RangeRequest { revision: 3, ..count.clone() }).await.count, 2);
    assert_eq!(c.range(pb::RangeRequest { revision: 1, ..count }).await.count, 0);
}

#[tokio::test]
async fn row_027_rg_07_keys_only() {
    let (s, mut c) = fresh().await;
    c.grant(5, 600).await;
    c.try_put(pb::PutRequest { lease: 5, ..put("a", "z") }).await.unwrap();
    c.put("b", "y").await;
    let request = pb::RangeRequest { keys_only: true, ..range("a", "z") };
    let kept = if Difference::KeysOnlyKeepsLease.applies(s.flavour()) { 5 } else { 0 };
    for request in [request.clone(), pb::RangeRequest { revision: 2, ..request.clone() }] {
        let kv = c.range(request).await.kvs.swap_remove(0);
        assert_eq!((facts(&kv), kv.lease), ((&b""[..], 2, 2, 1), kept));
    }
    let by_value = pb::RangeRequest {
        sort_target: SortTarget::Value as i32,
        sort_order: SortOrder::Ascend as i32,
        ..request
    };
    let answer = c.range(by_value).await;
    assert_eq!(keys(&answer.kvs), ["b", "a"], "sorted by the real values");
    assert!(answer.kvs.iter().all(|kv| kv.value.is_empty()));
    assert_eq!(answer.kvs[1].lease, 5, "reading values brings the lease");
}

#[tokio::test]
async fn row_028_rg_08_revision_filters() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await; // mod: a 6, b 5, c 4; create: a 2, b 3, c 4
    let base = || range("a", "z");
    for (request, expected) in [
        (pb::RangeRequest { min_mod_revision: 5, ..base() }, vec!["a", "b"]),
        (pb::RangeRequest { max_mod_revision: 5, ..base() }, vec!["b", "c"]),
        (pb::RangeRequest { min_mod_revision: 5, max_mod_revision: 5, ..base() }, vec!["b"]),
        (pb::RangeRequest { min_create_revision: 3, ..base() }, vec!["b", "c"]),
        (pb::RangeRequest { max_create_revision: 3, ..base() }, vec!["a", "b"]),
        (pb::RangeRequest { min_create_revision: 3, min_mod_revision: 5, ..base() }, vec!["b"]),
        (pb::RangeRequest { min_mod_revision: 6, max_mod_revision: 4, ..base() }, vec![]),
        (pb::RangeRequest { max_mod_revision: -1, ..base() }, vec![]),
        (pb::RangeRequest { min_mod_revision: -1, ..base() }, vec!["a", "b", "c"]),
    ] {
        let answer = c.range(request.clone()).await;
        assert_eq!(keys(&answer.kvs), expected, "{request:?}");
        assert!(!answer.more && answer.count == 3, "{request:?}");
    }
    let cut = pb::RangeRequest { max_mod_revision: 5, limit: 1, ..base() };
    assert_eq!(keys(&c.range(cut).await.kvs), ["b"], "filters come before the limit");
}

#[tokio::test]
async fn row_029_rg_09_sorting() {
    let (_s, mut c) = fresh().await;
    for (key, value) in [("a", "3"), ("b", "2"), ("c", "1"), ("b", "2"), ("a", "3"), ("a", "3")] {
        c.put(key, value).await; // versions a 3, b 2, c 1; mods a 7, b 5, c 4
    }
    use SortOrder::{Ascend, Descend, None};
    use SortTarget::{Create, Key, Mod, Value, Version};
    let (up, down) = (["a", "b", "c"], ["c", "b", "a"]);
    for (target, order, expected) in [
        (Key, None, up),
        (Key, Ascend, up),
        (Key, Descend, down),
        (Create, None, up),
        (Create, Ascend, up),
        (Create, Descend, down),
        (Version, None, down),
        (Version, Ascend, down),
        (Version, Descend, up),
        (Mod, None, down),
        (Mod, Ascend, down),
        (Mod, Descend, up),
        (Value, None, down),
        (Value, Ascend, down),
        (Value, Descend, up),
    ] {
        let answer = c.range(sorted("a", "z", target, order)).await;
        assert_eq!(keys(&answer.kvs), expected, "{target:?} {order:?}");
    }
    let cut = pb::RangeRequest { limit: 2, ..sorted("a", "z", Key, Descend) };
    let answer = c.range(cut).await;
    assert_eq!((keys(&answer.kvs), answer.more, answer.count), (vec!["c", "b"], true, 3));
}

/// V06, V07.
#[tokio::test]
async fn row_030_rg_10_order_none_cuts_before_it_sorts() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    let limit = 1;
    let none = sorted("a", "z", SortTarget::Mod, SortOrder::None);
    let answer = c.range(pb::RangeRequest { limit, ..none.clone() }).await;
    assert_eq!((keys(&answer.kvs), answer.more, answer.count), (vec!["b"], true, 3));
    let ascend = sorted("a", "z", SortTarget::Mod, SortOrder::Ascend);
    let answer = c.range(pb::RangeRequest { limit, ..ascend }).await;
    assert_eq!((keys(&answer.kvs), answer.more, answer.count), (vec!["c"], true, 3));
    let filtered = pb::RangeRequest { limit, min_mod_revision: 1, ..none };
    let answer = c.range(filtered).await;
    assert_eq!((keys(&answer.kvs), answer.more, answer.count), (vec!["c"], true, 3));
}

#[tokio::test]
async fn row_030_limits_and_revisions_of_a_page_walk() {
    let (_s, mut c) = fresh().await;
    fill(&c, "p/", 300, &Bytes::from_static(b"v")).await;
    let (mut from, mut seen, revision) = (Bytes::from_static(b"p/"), Vec::new(), 301);
    loop {
        c.put("p/00000000", "changed").await;
        let page = pb::RangeRequest { limit: 70, revision, ..range(from.clone(), "p0") };
        let answer = c.range(page).await;
        assert_eq!(answer.count as usize, 300 - seen.len(), "count is of the rest");
        seen.extend(answer.kvs.iter().map(|kv| (kv.key.clone(), kv.value.clone())));
        if !answer.more {
            break;
        }
        from = [&seen.last().unwrap().0[..], b"\0"].concat().into();
    }
    assert_eq!(seen.len(), 300);
    assert!(seen.iter().all(|(_, value)| value == "v"), "the pinned revision does not change");
}

/// Long answers are made while they are sent: nothing may be missing, doubled or out of place.
#[tokio::test]
async fn row_018_rg_04_long_lists_are_whole() {
    let (_s, mut c) = fresh().await;
    let value = Bytes::from(vec![b'v'; 3000]);
    fill(&c, "l/", 2500, &value).await;
    let whole = c.range(range("l/", "l0")).await;
    assert_eq!((whole.kvs.len(), whole.count, whole.more), (2500, 2500, false));
    assert!(whole.kvs.is_sorted_by(|a, b| a.key < b.key));
    assert!(whole.kvs.iter().all(|kv| kv.value == value && kv.version == 1));
    let cut = c.range(pb::RangeRequest { limit: 2200, ..range("l/", "l0") }).await;
    assert_eq!((cut.kvs.len(), cut.count, cut.more), (2200, 2500, true));
    assert_eq!(cut.kvs[..], whole.kvs[..2200]);
    c.delete(delete_range("l/", "l/00000100")).await;
    let old = pb::RangeRequest { revision: whole.revision(), ..range("l/", "l0") };
    let old = c.range(old).await;
    assert_eq!((old.kvs.len(), old.count), (2500, 2500));
    assert_eq!(old.kvs, whole.kvs);
}
