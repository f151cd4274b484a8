//! Rows 74-84: what watchers are and what they deliver.

use crate::support::*;

fn event_facts(event: &Event) -> (bool, &[u8], i64) {
    let kv = event.kv.as_ref().unwrap();
    (event.r#type == EventType::Delete as i32, &kv.key, kv.mod_revision)
}

#[tokio::test]
async fn row_074_wa_01_wa_02_ids() {
    let (_s, mut c) = fresh().await;
    let mut w = c.watch();
    for expected in 0..3 {
        assert_eq!(w.create(watching::on("a")).await.watch_id, expected);
    }
    let explicit = |watch_id| pb::WatchCreateRequest { watch_id, ..watching::on("a") };
    assert_eq!(w.create(explicit(3)).await.watch_id, 3);
    assert_eq!(w.create(explicit(-9)).await.watch_id, -9);
    assert_eq!(w.create(watching::on("a")).await.watch_id, 4, "ids in use are skipped");
    c.put("a", "1").await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        let answer = w.next().await;
        assert_eq!(answer.events.len(), 1);
        ids.push(answer.watch_id);
    }
    ids.sort_unstable();
    assert_eq!(ids, [-9, 0, 1, 2, 3, 4]);
    let mut other = c.watch();
    assert_eq!(other.create(watching::on("a")).await.watch_id, 0, "ids belong to a stream");
}

#[tokio::test]
async fn row_075_wa_01_wa_03_created_comes_first() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    let mut w = c.watch();
    for id in 0..20 {
        let create = watching::on_all(2);
        w.request(pb::WatchCreateRequest { watch_id: 100 + id, ..create });
    }
    let (mut created, mut events) = (Vec::new(), 0);
    while events < 20 * 5 {
        let answer = w.next().await;
        if answer.created {
            assert!(!answer.canceled && answer.events.is_empty());
            assert_eq!((answer.revision(), answer.compact_revision), (6, 0));
            created.push(answer.watch_id);
        } else {
            assert!(created.contains(&answer.watch_id), "events before created");
            events += answer.events.len();
        }
    }
    assert_eq!(created, (100..120).collect::<Vec<_>>(), "control answers keep their order");
}

#[tokio::test]
async fn row_076_wa_04_start_now_past_future() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    let from =
        |start_revision| pb::WatchCreateRequest { start_revision, ..watching::on_range("a", "z") };
    let mut past = c.watch();
    past.create(from(5)).await;
    let events = past.events(2).await;
    assert_eq!(event_facts(&events[0]), (false, &b"b"[..], 5));
    assert_eq!(event_facts(&events[1]), (false, &b"a"[..], 6));
    let (mut now, mut next, mut future) = (c.watch(), c.watch(), c.watch());
    now.create(from(0)).await;
    next.create(from(7)).await;
    future.create(from(9)).await;
    for key in ["d", "e", "f"] {
        c.put(key, "").await;
    }
    assert_eq!(event_facts(&now.events(3).await[0]), (false, &b"d"[..], 7));
    assert_eq!(event_facts(&next.events(3).await[0]), (false, &b"d"[..], 7));
    assert_eq!(event_facts(&future.events(1).await[0]), (false, &b"f"[..], 9));
}

/// V45.
#[tokio::test]
async fn row_077_wa_05_negative_start() {
    let (s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    let mut w = c.watch();
    let answer = w.create(watching::on_all(-1)).await;
    if Difference::NegativeWatchStartIsHistory.applies(s.flavour()) {
        assert!(!answer.canceled);
        return;
    }
    assert!(answer.canceled);
    assert_eq!((answer.watch_id, answer.compact_revision), (-1, 0));
    assert_eq!(answer.cancel_reason, errors::COMPACTED.1);
    assert_eq!(w.create(watching::on("a")).await.watch_id, 0, "the stream lives on");
}

/// V39, V40.
#[tokio::test]
async fn row_078_wa_06_compacted_start() {
    let (_s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    c.compact(5).await;
    let mut w = c.watch();
    let created = w.create(watching::on_all(2)).await;
    assert!(!created.canceled);
    let canceled = w.next().await;
    assert!(canceled.canceled && !canceled.created && canceled.events.is_empty());
    assert_eq!((canceled.compact_revision, canceled.cancel_reason.as_str()), (5, ""));
    assert_eq!((canceled.watch_id, canceled.revision()), (0, 0));
    let mut w = c.watch();
    assert!(!w.create(watching::on_all(5)).await.canceled);
    let events = w.events(2).await;
    assert_eq!(event_facts(&events[0]), (false, &b"b"[..], 5));
}

/// V41, V42.
#[tokio::test]
async fn row_079_wa_08_wa_09_refusals() {
    let (s, c) = fresh().await;
    let mut w = c.watch();
    let seven = || pb::WatchCreateRequest { watch_id: 7, ..watching::on("a") };
    let refused_id = |asked| {
        if Difference::RefusedWatchKeepsId.applies(s.flavour()) { asked } else { -1 }
    };
    assert_eq!(w.create(seven()).await.watch_id, 7);
    let twice = w.create(seven()).await;
    assert!(twice.canceled);
    assert_eq!(twice.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    assert!([-1, refused_id(7)].contains(&twice.watch_id), "{twice:?}");
    for (key, end) in [("k1", "a"), ("a", "a")] {
        let empty = w.create(watching::on_range(key, end)).await;
        assert!(empty.canceled);
        assert_eq!(empty.cancel_reason, "mvcc: watcher range is empty");
        assert_eq!((empty.watch_id, empty.compact_revision), (-1, 0));
        assert_eq!(empty.revision(), 1);
    }
    assert!(!w.create(watching::on("b")).await.canceled, "the stream stays usable");
}

/// V43.
#[tokio::test]
async fn row_080_wa_13_cancel() {
    let (_s, mut c) = fresh().await;
    let mut w = c.watch();
    w.create(pb::WatchCreateRequest { watch_id: 7, ..watching::on("a") }).await;
    w.cancel(77);
    w.cancel(7);
    let answer = w.next().await;
    assert!(answer.canceled && !answer.created && answer.events.is_empty());
    assert_eq!((answer.watch_id, answer.cancel_reason.as_str()), (7, ""));
    assert_eq!(answer.compact_revision, 0);
    c.put("a", "1").await;
    w.cancel(7);
    let again = w.create(pb::WatchCreateRequest { watch_id: 7, ..watching::on("a") }).await;
    assert_eq!(again.watch_id, 7, "an id may be used again, and 77 got no answer");
    c.put("a", "2").await;
    let events = w.events(1).await;
    assert_eq!(event_facts(&events[0]), (false, &b"a"[..], 3));
}

#[tokio::test]
async fn row_080_wa_12_unknown_variant_is_ignored() {
    let (_s, c) = fresh().await;
    let mut w = c.watch();
    w.send_raw(pb::WatchRequest { request_union: None });
    assert_eq!(w.create(watching::on("a")).await.watch_id, 0);
}

#[tokio::test]
async fn row_081_wa_15_half_close() {
    let (_s, mut c) = fresh().await;
    let mut w = c.watch();
    w.create(watching::on("a")).await;
    w.half_close();
    for round in 0..3 {
        c.put("a", format!("{round}")).await;
        assert_eq!(w.events(1).await[0].kv.as_ref().unwrap().value, format!("{round}"));
    }
}

#[tokio::test]
async fn row_082_wa_16_contents_of_events() {
    let (_s, mut c) = fresh().await;
    c.grant(5, 600).await;
    let mut w = c.watch();
    w.create(watching::on("a")).await;
    c.try_put(pb::PutRequest { lease: 5, ..put("a", "1") }).await.unwrap();
    c.put("a", "2").await;
    c.delete(delete("a")).await;
    c.put("a", "3").await;
    let events = w.events(4).await;
    let kv = |at: usize| events[at].kv.clone().unwrap();
    assert_eq!((facts(&kv(0)), kv(0).lease), ((&b"1"[..], 2, 2, 1), 5));
    assert_eq!((facts(&kv(1)), kv(1).lease), ((&b"2"[..], 2, 3, 2), 0));
    assert_eq!(events[2].r#type, EventType::Delete as i32);
    let gone = KeyValue { key: "a".into(), mod_revision: 4, ..Default::default() };
    assert_eq!(kv(2), gone);
    assert_eq!(facts(&kv(3)), (&b"3"[..], 5, 5, 1));
    assert!(events.iter().all(|event| event.prev_kv.is_none()));
}

#[tokio::test]
async fn row_083_wa_17_prev_kv() {
    let (_s, mut c) = fresh().await;
    let with_previous = |start_revision| pb::WatchCreateRequest {
        prev_kv: true,
        ..watching::on_all(start_revision)
    };
    let mut w = c.watch();
    w.create(with_previous(0)).await;
    c.put("a", "1").await;
    c.put("a", "2").await;
    c.delete(delete("a")).await;
    c.put("a", "3").await;
    c.put("a", "4").await;
    let previous = |events: &[Event]| -> Vec<Option<Bytes>> {
        events.iter().map(|e| e.prev_kv.as_ref().map(|kv| kv.value.clone())).collect()
    };
    let value = |text: &'static str| Some(Bytes::from(text));
    let expected = [None, value("1"), value("2"), None, value("3")];
    let live = w.events(5).await;
    assert_eq!(previous(&live), expected);
    assert_eq!(facts(live[2].prev_kv.as_ref().unwrap()), (&b"2"[..], 2, 3, 2));
    let mut w = c.watch();
    w.create(with_previous(2)).await;
    assert_eq!(w.events(5).await, live, "history is the same");
    c.compact(6).await;
    let mut w = c.watch();
    w.create(with_previous(6)).await;
    assert_eq!(previous(&w.events(1).await), [None], "the previous version is compacted");
}

/// The previous value is that of the revision before, whatever happened inside the revision.
#[tokio::test]
async fn row_083_wa_17_prev_kv_of_a_key_changed_twice_in_a_revision() {
    let (_s, mut c) = fresh().await;
    c.put("k", "before").await;
    let mut live = c.watch();
    let create = |start_revision| pb::WatchCreateRequest {
        prev_kv: true,
        ..watching::on_all(start_revision)
    };
    live.create(create(0)).await;
    let put_both = then(vec![put("k", "within").op(), put("new", "within").op()]);
    let delete_both = then(vec![delete("k").op(), delete("new").op()]);
    c.txn(then(vec![put_both.op(), delete_both.op()])).await;
    let mut past = c.watch();
    past.create(create(3)).await;
    let before = || Some(Bytes::from_static(b"before"));
    for w in [&mut live, &mut past] {
        let events = w.events(4).await;
        let previous: Vec<_> =
            events.iter().map(|e| e.prev_kv.as_ref().map(|kv| kv.value.clone())).collect();
        assert_eq!(previous, [before(), None, before(), None]);
    }
}

/// V46.
#[tokio::test]
async fn row_084_wa_18_filters() {
    let (_s, mut c) = fresh().await;
    let filtered = |filters: &[i32], start_revision| pb::WatchCreateRequest {
        filters: filters.to_vec(),
        ..watching::on_all(start_revision)
    };
    let (mut no_put, mut no_delete, mut neither) = (c.watch(), c.watch(), c.watch());
    no_put.create(filtered(&[0], 0)).await;
    no_delete.create(filtered(&[1], 0)).await;
    neither.create(filtered(&[0, 1], 0)).await;
    c.put("a", "1").await;
    c.delete(delete("a")).await;
    c.txn(then(vec![put("b", "1").op(), delete("c").op(), put("d", "1").op()])).await;
    c.delete(delete_range("b", "z")).await;
    let seen = |events: Vec<Event>| -> Vec<(bool, Bytes, i64)> {
        let kv = |e: &Event| e.kv.clone().unwrap();
        events.iter().map(|e| (e.r#type == 1, kv(e).key, kv(e).mod_revision)).collect()
    };
    let key = |text: &'static str| Bytes::from(text);
    let deletes = [(true, key("a"), 3), (true, key("b"), 5), (true, key("d"), 5)];
    let puts = [(false, key("a"), 2), (false, key("b"), 4), (false, key("d"), 4)];
    assert_eq!(seen(no_put.events(3).await), deletes);
    assert_eq!(seen(no_delete.events(3).await), puts);
    neither.cancel(0);
    assert!(neither.next().await.canceled, "nothing else ever came");
    let mut history = c.watch();
    history.create(filtered(&[0], 2)).await;
    assert_eq!(seen(history.events(3).await), deletes);
}
