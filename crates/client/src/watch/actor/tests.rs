//! The actor by itself: answers in, what the reader gets out.

use std::sync::Weak;

use super::*;

/// An actor with one watcher on server id 3, and the reader's end.
fn actor(queue: usize) -> (Actor, mpsc::Receiver<pb::WatchResponse>, Arc<OnceLock<Error>>) {
    let (out, answers) = mpsc::channel(queue);
    let (created, _) = oneshot::channel();
    let end = Arc::new(OnceLock::new());
    let request = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
    let stalled = Arc::new(AtomicBool::new(false));
    let watcher = Subscription::new(request, out, created, stalled, Arc::clone(&end));
    let mut actor = Actor {
        opener: Opener::new(Weak::new()),
        watchers: BTreeMap::from([(7, watcher)]),
        creating: VecDeque::from([7]),
        by_server_id: HashMap::new(),
        connection: None,
        reopen_after: Duration::ZERO,
    };
    actor.answer(pb::WatchResponse { created: true, ..answer(10, &[]) });
    (actor, answers, end)
}

fn answer(revision: i64, events: &[i64]) -> pb::WatchResponse {
    let header = Some(pb::ResponseHeader { revision, ..Default::default() });
    let event = |&mod_revision: &i64| {
        let kv = Some(mvccpb::KeyValue { key: "k".into(), mod_revision, ..Default::default() });
        mvccpb::Event { kv, ..Default::default() }
    };
    let events = events.iter().map(event).collect();
    pb::WatchResponse { header, watch_id: 3, events, ..Default::default() }
}

#[test]
fn cl_06_the_place_to_go_on_from() {
    let (mut actor, _answers, _) = actor(8);
    assert_eq!(actor.watchers[&7].next_revision, 10, "the created answer's own revision");
    actor.answer(answer(12, &[]));
    assert_eq!(actor.watchers[&7].next_revision, 13, "after news of progress");
    actor.answer(answer(20, &[14, 15]));
    assert_eq!(actor.watchers[&7].next_revision, 16, "after the last event");
}

#[test]
fn cl_13_fragments_become_one_answer_and_no_half_of_it_counts() {
    let (mut actor, mut answers, _) = actor(8);
    actor.answer(pb::WatchResponse { fragment: true, ..answer(20, &[11, 12]) });
    actor.answer(pb::WatchResponse { fragment: true, ..answer(20, &[13]) });
    assert!(answers.try_recv().is_err());
    assert_eq!(actor.watchers[&7].next_revision, 10, "a connection that breaks now loses nothing");
    actor.answer(answer(20, &[14]));
    assert_eq!(answers.try_recv().unwrap().events.len(), 4);
    assert_eq!(actor.watchers[&7].next_revision, 15);
}

#[test]
fn a_full_queue_stalls_the_watcher_where_it_is() {
    let (mut actor, mut answers, _) = actor(1);
    actor.answer(answer(11, &[11]));
    actor.answer(answer(12, &[12]));
    assert!(actor.watchers[&7].stalled.load(Ordering::Acquire));
    assert_eq!(actor.watchers[&7].next_revision, 12, "the event that found no place comes again");
    actor.answer(answer(13, &[13]));
    assert_eq!(answers.try_recv().unwrap().events.len(), 1);
    assert!(answers.try_recv().is_err(), "nothing skips the one that found no place");
}

#[test]
fn wa_06_a_compaction_ends_the_watcher_with_its_revision() {
    let (mut actor, mut answers, end) = actor(8);
    actor.answer(pb::WatchResponse { canceled: true, compact_revision: 40, ..answer(0, &[]) });
    assert!(actor.watchers.is_empty());
    assert!(matches!(answers.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
    assert_eq!(end.get().and_then(Error::compact_revision), Some(40));
}

#[test]
fn cl_12_only_some_ends_of_the_stream_are_final() {
    for (status, survives) in [
        (Status::unavailable("etcdserver: server stopped"), true),
        (Status::internal("stream broke"), true),
        (Status::unavailable(NO_LEADER_TEXT), false),
        (Status::permission_denied("etcdserver: permission denied"), false),
    ] {
        let (mut actor, _answers, end) = actor(8);
        let text = status.message().to_owned();
        actor.broken(Some(status));
        assert_eq!(
            (actor.watchers.len() == 1, end.get().is_none()),
            (survives, survives),
            "{text}"
        );
    }
}
