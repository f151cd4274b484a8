//! Rows 78 (late compaction), 85-90: order, batches, fragments, progress, slow readers.

use std::collections::BTreeMap;

use etcdrs_tests::target::Flavour;

use crate::support::*;

/// Mod revisions of events, grouped by the answers they came in, until `last` was seen.
async fn revisions_until(w: &mut WatchSession, last: i64) -> Vec<Vec<i64>> {
    let mut groups: Vec<Vec<i64>> = Vec::new();
    while groups.last().and_then(|group| group.last()) != Some(&last) {
        let answer = w.next().await;
        assert!(!answer.canceled, "{answer:?}");
        let of = |event: &Event| event.kv.as_ref().unwrap().mod_revision;
        groups.push(answer.events.iter().map(of).collect());
    }
    groups
}

#[tokio::test]
async fn row_085_wa_19_order_without_gaps_and_atomic_revisions() {
    let (_s, mut c) = fresh().await;
    let mut live = c.watch();
    live.create(watching::on_all(0)).await;
    let writers = (0..4).map(|writer| {
        let mut c = c.clone();
        async move {
            for round in 0..100 {
                let key = |part| format!("{writer}/{}/{part}", round % 7);
                let ops = [put(key(2), "x").op(), put(key(1), "y").op(), delete(key(3)).op()];
                c.txn(then(ops.to_vec())).await;
            }
        }
    });
    futures_util::future::join_all(writers).await;
    let last = c.revision().await;
    assert_eq!(last, 401);
    let mut past = c.watch();
    past.create(watching::on_all(2)).await;
    for w in [&mut live, &mut past] {
        let groups = revisions_until(w, last).await;
        let mut expected = 2;
        for group in &groups {
            for pair in group.chunks(2) {
                assert_eq!(pair, [expected, expected], "two events a revision, none torn");
                expected += 1;
            }
        }
        assert_eq!(expected, last + 1);
    }
}

#[tokio::test]
async fn row_085_wa_19_sub_revision_order_live_and_past_agree() {
    let (_s, mut c) = fresh().await;
    let mut live = c.watch();
    live.create(watching::on_all(0)).await;
    let names = ["q", "b", "z", "a", "m"];
    c.txn(then(names.iter().map(|name| put(*name, "1").op()).collect())).await;
    c.delete(delete_range("a", "zz")).await;
    let mut past = c.watch();
    past.create(watching::on_all(2)).await;
    let live_events = live.events(10).await;
    assert_eq!(live_events, past.events(10).await);
    let order: Vec<_> = live_events.iter().map(|e| e.kv.clone().unwrap()).collect();
    assert_eq!(keys(&order[..5]), names, "puts in the order of the transaction");
    assert_eq!(keys(&order[5..]), ["a", "b", "m", "q", "z"], "deletes in key order");
}

#[tokio::test]
async fn row_086_wa_20_catch_up_has_at_most_1000_revisions_an_answer() {
    let (_s, c) = fresh().await;
    fill(&c, "k/", 2500, &Bytes::from_static(b"v")).await;
    let mut w = c.watch();
    w.create(watching::on_all(2)).await;
    let groups = revisions_until(&mut w, 2501).await;
    assert!(groups.len() >= 3, "{} answers", groups.len());
    assert!(groups.iter().all(|group| group.len() <= 1000));
    let all: Vec<i64> = groups.concat();
    assert_eq!(all, (2..=2501).collect::<Vec<_>>());
}

#[tokio::test]
async fn row_087_wa_22_fragments() {
    let (_s, mut c) = fresh().await;
    let large = Bytes::from(vec![b'v'; 100_000]);
    let puts = || (0..14).map(|at| put(format!("f/{at:02}"), large.clone()).op()).collect();
    c.txn(then(puts())).await;
    let create = |fragment, start_revision| pb::WatchCreateRequest {
        fragment,
        prev_kv: true,
        start_revision,
        ..watching::on_range("f/", "f0")
    };
    let (mut whole, mut live) = (c.watch(), c.watch());
    whole.create(create(false, 0)).await;
    live.create(create(true, 0)).await;
    let mut noise = watching::on("noise");
    noise.watch_id = 9;
    live.create(noise).await;
    c.txn(then(puts())).await;
    c.put("noise", "1").await;
    let one = whole.next().await;
    assert_eq!((one.events.len(), one.fragment), (14, false));
    let mut past = c.watch();
    past.create(create(true, 3)).await;
    for w in [&mut live, &mut past] {
        let mut pieces = Vec::new();
        loop {
            let piece = w.next().await;
            if pieces.is_empty() && piece.watch_id == 9 {
                continue; // There is no order between watchers.
            }
            assert_eq!(piece.watch_id, 0, "pieces are contiguous");
            assert!(!piece.events.is_empty() && piece.revision() >= 3);
            let more = piece.fragment;
            pieces.push(piece);
            if !more {
                break;
            }
        }
        assert!(pieces.len() >= 2);
        let joined: Vec<Event> = pieces.into_iter().flat_map(|piece| piece.events).collect();
        assert_eq!(joined, one.events);
    }
}

/// 3.7 calls the flag without the prefix.
fn progress_every(interval: &str) -> Setup {
    let prefix = match etcdrs_tests::target::under_test().flavour {
        Flavour::Current => "",
        Flavour::Etcd35 => "experimental-",
    };
    Setup::new().flag(&format!("{prefix}watch-progress-notify-interval"), interval)
}

#[tokio::test]
async fn row_088_wa_23_wa_24_periodic_progress() {
    let (s, mut c) = with(progress_every("300ms")).await;
    put_vectors(&mut c).await;
    let create = |watch_id, progress_notify, start_revision| pb::WatchCreateRequest {
        watch_id,
        progress_notify,
        start_revision,
        ..watching::on("a")
    };
    let mut w = c.watch();
    w.create(create(1, true, 0)).await;
    w.create(create(2, false, 0)).await;
    if !Difference::ProgressForFutureStart.applies(s.flavour()) {
        w.create(create(3, true, 100)).await;
    }
    for revision in [6, 6, 7] {
        if revision == 7 {
            c.put("unseen", "1").await;
        }
        let progress = loop {
            let progress = w.next().await;
            if progress.revision() >= revision {
                break progress;
            }
        };
        assert_eq!((progress.watch_id, progress.revision()), (1, revision), "{progress:?}");
        assert!(!progress.created && !progress.canceled && progress.events.is_empty());
        assert_eq!(progress.compact_revision, 0);
    }
}

#[tokio::test]
async fn row_089_wa_25_to_27_manual_progress() {
    let (s, mut c) = fresh().await;
    put_vectors(&mut c).await;
    let mut w = c.watch();
    w.create(watching::on("a")).await;
    w.create(watching::on("b")).await;
    w.progress();
    let answer = w.next().await;
    assert_eq!((answer.watch_id, answer.revision(), answer.events.len()), (-1, 6, 0));
    assert!(!answer.created && !answer.canceled);
    for round in 0..20 {
        let revision = c.put("a", format!("{round}")).await.revision();
        w.progress();
        let event = w.next().await;
        assert_eq!((event.watch_id, event.events.len()), (0, 1), "events come before progress");
        let progress = w.next().await;
        assert_eq!((progress.watch_id, progress.revision()), (-1, revision));
    }
    if !Difference::ProgressWhileBehind.applies(s.flavour()) {
        w.create(pb::WatchCreateRequest { start_revision: 1000, ..watching::on("c") }).await;
        w.progress();
        w.cancel(1);
        let answer = w.next().await;
        assert!(answer.canceled, "a watcher of the future is not synced: {answer:?}");
        let mut none = c.watch();
        none.progress();
        assert!(none.create(watching::on("a")).await.created, "no watchers, no answer");
    }
}

/// V44: progress is asked for again and again while a backlog is read.
#[tokio::test]
async fn row_089_wa_26_progress_never_overtakes_events() {
    let (s, mut c) = fresh().await;
    if Difference::ProgressWhileBehind.applies(s.flavour()) {
        return;
    }
    fill(&c, "k/", 3000, &Bytes::from_static(b"v")).await;
    let last = c.revision().await;
    let mut w = c.watch();
    w.request(watching::on_all(2));
    let mut seen = 1;
    loop {
        w.progress();
        let answer = w.next().await;
        if answer.watch_id == -1 {
            assert_eq!((seen, answer.revision()), (last, last), "progress ran ahead");
            break;
        }
        seen = answer.events.last().map_or(seen, |e| e.kv.as_ref().unwrap().mod_revision);
    }
}

/// A stream nobody reads: the answers stay with the server once the connection is full.
struct SlowStream {
    _requests: tokio::sync::mpsc::UnboundedSender<pb::WatchRequest>,
    answers: tonic::Streaming<pb::WatchResponse>,
}

impl SlowStream {
    async fn open(s: &Server, create: pb::WatchCreateRequest) -> Self {
        let mut c = s.clients().await;
        let (requests, mut queue) = tokio::sync::mpsc::unbounded_channel();
        let request_union = Some(pb::watch_request::RequestUnion::CreateRequest(create));
        requests.send(pb::WatchRequest { request_union }).unwrap();
        let outgoing = futures_util::stream::poll_fn(move |context| queue.poll_recv(context));
        let mut answers = c.watch.watch(outgoing).await.unwrap().into_inner();
        assert!(answers.message().await.unwrap().unwrap().created);
        Self { _requests: requests, answers }
    }

    async fn next(&mut self) -> pb::WatchResponse {
        let answer = tokio::time::timeout(Duration::from_secs(20), self.answers.message()).await;
        answer.expect("an answer in time").unwrap().expect("the stream lives")
    }
}

#[tokio::test]
async fn row_090_wa_29_slow_reader_loses_nothing_and_blocks_nobody() {
    let (s, mut c) = fresh().await;
    let mut slow = SlowStream::open(&s, watching::on_range("k/", "k0")).await;
    let value = Bytes::from(vec![b'v'; 100_000]);
    fill(&c, "k/", 500, &value).await;
    let last = c.revision().await;
    let mut quick = c.watch();
    quick.create(watching::on("other")).await;
    c.put("other", "1").await;
    quick.events(1).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        let answer = slow.next().await;
        seen.extend(answer.events.iter().map(|e| e.kv.as_ref().unwrap().mod_revision));
    }
    assert_eq!(seen, (2..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn row_078_wa_07_late_compaction_cancels_who_fell_behind() {
    let (s, mut c) = fresh().await;
    let mut slow = SlowStream::open(&s, watching::on_range("k/", "k0")).await;
    let value = Bytes::from(vec![b'v'; 100_000]);
    fill(&c, "k/", 500, &value).await;
    let compacted = c.revision().await;
    c.compact(compacted).await;
    let mut expected = 2;
    let end = loop {
        let answer = slow.next().await;
        if answer.canceled {
            break answer;
        }
        for event in answer.events {
            assert_eq!(event.kv.unwrap().mod_revision, expected, "no gap before the cancel");
            expected += 1;
        }
        assert!(expected <= compacted, "it never fell behind");
    };
    assert_eq!((end.compact_revision, end.cancel_reason.as_str()), (compacted, ""));
    assert_eq!(end.revision(), 0);
}

#[tokio::test]
async fn row_090_wa_29_ten_thousand_watchers_on_a_stream() {
    const WATCHERS: i64 = 10_000;
    let (_s, mut c) = fresh().await;
    let mut w = c.watch();
    for at in 0..WATCHERS {
        w.request(watching::on(format!("w/{:03}", at % 500)));
    }
    for _ in 0..WATCHERS {
        assert!(w.next().await.created);
    }
    for at in 0..50 {
        c.put(format!("w/{at:03}"), "v").await;
    }
    let mut deliveries: BTreeMap<i64, usize> = BTreeMap::new();
    for _ in 0..50 * (WATCHERS / 500) {
        let answer = w.next().await;
        assert_eq!(answer.events.len(), 1);
        *deliveries.entry(answer.watch_id).or_default() += 1;
    }
    assert!(deliveries.iter().all(|(id, count)| id % 500 < 50 && *count == 1));
    assert_eq!(deliveries.len() as i64, 50 * (WATCHERS / 500));
}
