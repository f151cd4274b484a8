//! Tests of the hub against a history in memory, one per rule of v3-api.md §3.10.

mod model;
mod scale;
mod store;

use std::sync::atomic::{AtomicUsize, Ordering};

use etcdrs_proto::mvccpb;
use etcdrs_types::{RangeEnd, Revision};
use prost::Message;

use super::*;
use crate::event::{Event, PrevKv, deleted_kv};

/// A history that lies in a list.
#[derive(Default)]
struct Past {
    inner: Mutex<PastInner>,
}

#[derive(Default)]
struct PastInner {
    /// Block of revision `n` at place `n - 2`: a store begins at revision 1.
    blocks: Vec<Arc<EventBlock>>,
    compacted: i64,
    reads: usize,
    /// Runs after the next read: what happens in the world meanwhile.
    after_read: Option<Box<dyn FnOnce() + Send>>,
    failing: bool,
}

impl History for Past {
    fn current_revision(&self) -> i64 {
        self.inner.lock().blocks.len() as i64 + 1
    }

    fn compact_revision(&self) -> i64 {
        self.inner.lock().compacted
    }

    fn history(
        &self,
        from: i64,
        to: i64,
        revisions_max: usize,
    ) -> Result<Vec<Arc<EventBlock>>, RangeError> {
        let mut inner = self.inner.lock();
        inner.reads += 1;
        if inner.failing || from < inner.compacted {
            return Err(RangeError::Compacted);
        }
        let blocks = inner.blocks.iter().filter(|block| (from..=to).contains(&block.revision));
        let result = blocks.take(revisions_max).cloned().collect();
        let after = inner.after_read.take();
        drop(inner);
        if let Some(after) = after {
            after();
        }
        Ok(result)
    }

    fn get_at(&self, key: &Bytes, revision: i64) -> Option<StoredKv> {
        let inner = self.inner.lock();
        if revision < inner.compacted {
            return None;
        }
        let events = inner.blocks.iter().rev().filter(|block| block.revision <= revision);
        let found = events.flat_map(|block| &block.events).find(|event| event.key == *key)?;
        (found.kind == crate::event::EventKind::Put).then(|| found.kv.clone())
    }
}

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    fn rang(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// What a test does in one transaction.
#[derive(Clone, Debug)]
enum Op {
    Put(String, String),
    Delete(String),
}

fn put(key: &str, value: &str) -> Op {
    Op::Put(key.to_owned(), value.to_owned())
}

fn delete(key: &str) -> Op {
    Op::Delete(key.to_owned())
}

/// A store and its hub.
struct World {
    past: Arc<Past>,
    hub: Hub,
}

impl World {
    fn new() -> Self {
        Self::with(HubOptions::default())
    }

    fn with(options: HubOptions) -> Self {
        let past = Arc::new(Past::default());
        let history: Arc<dyn History> = past.clone();
        Self { hub: Hub::with_history(history, options), past }
    }

    /// Commits one revision without telling the hub.
    fn commit(&self, ops: &[Op]) -> Arc<EventBlock> {
        let revision = self.past.current_revision() + 1;
        let events =
            (0..).zip(ops).map(|(sub, op)| self.event(Revision { main: revision, sub }, op));
        let block = EventBlock::new(revision, events.collect());
        self.past.inner.lock().blocks.push(Arc::clone(&block));
        block
    }

    fn event(&self, revision: Revision, op: &Op) -> Event {
        let key = |key: &String| Bytes::from(key.clone().into_bytes());
        let before = |key: &Bytes| self.past.get_at(key, i64::MAX);
        match op {
            Op::Put(name, value) => {
                let key = key(name);
                let before = before(&key).map(|kv| kv.decode().unwrap());
                let kv = mvccpb::KeyValue {
                    key: key.clone(),
                    value: value.clone().into(),
                    create_revision: before.as_ref().map_or(revision.main, |kv| kv.create_revision),
                    mod_revision: revision.main,
                    version: before.as_ref().map_or(1, |kv| kv.version + 1),
                    lease: 0,
                };
                let created = before.is_none();
                let prev = if created { PrevKv::None } else { PrevKv::Lookup };
                let kv = StoredKv::from_encoded(kv.encode_to_vec().into());
                Event::put(key, revision, created, kv, prev)
            }
            Op::Delete(name) => {
                let key = key(name);
                let kv = deleted_kv(&key, revision.main);
                Event::delete(key, revision, kv, PrevKv::Lookup)
            }
        }
    }

    /// Commits one revision and publishes it.
    fn write(&self, ops: &[Op]) -> i64 {
        let block = self.commit(ops);
        self.hub.publish(std::slice::from_ref(&block));
        block.revision
    }

    fn compact(&self, revision: i64) {
        self.past.inner.lock().compacted = revision;
        self.hub.compacted(revision);
    }

    fn catch_up(&self) {
        while self.hub.catch_up(512) {}
    }
}

struct Client {
    stream: WatchStream,
    bell: Arc<Bell>,
}

impl Client {
    fn new(world: &World) -> Self {
        let bell = Arc::new(Bell::default());
        Self { stream: world.hub.stream(bell.clone()), bell }
    }

    fn watch(&self, spec: WatchSpec) -> i64 {
        self.stream.create(spec).unwrap().watch_id
    }

    fn poll(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.stream.poll(usize::MAX, &mut out);
        out.iter().map(show).collect()
    }
}

/// `watcher @header: +key=value@revision -key@revision`.
fn show(response: &Response) -> String {
    match response {
        Response::Progress { watch_id, revision } => format!("{watch_id} progress {revision}"),
        Response::Compacted { watch_id, compact_revision } => {
            format!("{watch_id} compacted {compact_revision}")
        }
        Response::Events { watch_id, revision, prev_kv, events, .. } => {
            let mut text = format!("{watch_id} @{revision}:");
            for event in events.iter() {
                let kv = event.kv.decode().unwrap();
                let key = String::from_utf8_lossy(&kv.key).into_owned();
                let value = String::from_utf8_lossy(&kv.value).into_owned();
                text += &match event.kind {
                    crate::event::EventKind::Put => format!(" +{key}={value}@{}", kv.mod_revision),
                    crate::event::EventKind::Delete => format!(" -{key}@{}", kv.mod_revision),
                };
                if let (true, Some(prev)) = (*prev_kv, event.prev_kv()) {
                    text += &format!(
                        "(was {})",
                        String::from_utf8_lossy(&prev.decode().unwrap().value)
                    );
                }
            }
            text
        }
    }
}

fn key(name: &str) -> WatchSpec {
    WatchSpec::new(KeyRange::single(name.to_owned()))
}

fn prefix(name: &str) -> WatchSpec {
    WatchSpec::new(KeyRange::prefix(name.as_bytes()))
}

fn from(start_revision: i64, spec: WatchSpec) -> WatchSpec {
    WatchSpec { start_revision, ..spec }
}

/// A world with revisions 2..=`last`, each a put of `k` with its number, of which the hub keeps no
/// recent blocks: what comes before must be read from history.
fn old_world(last: i64) -> World {
    old_world_with(last, HubOptions::default())
}

fn old_world_with(last: i64, options: HubOptions) -> World {
    let world = World::new();
    for revision in 2..=last {
        world.commit(&[put("k", &revision.to_string())]);
    }
    let history: Arc<dyn History> = world.past.clone();
    World { hub: Hub::with_history(history, options), past: world.past }
}

#[test]
fn wa_02_ids_count_up_and_skip_those_in_use() {
    let world = World::new();
    let client = Client::new(&world);
    assert_eq!(client.watch(key("a")), 0);
    assert_eq!(client.watch(WatchSpec { watch_id: 1, ..key("a") }), 1);
    assert_eq!(client.watch(WatchSpec { watch_id: 3, ..key("a") }), 3);
    assert_eq!(client.watch(key("a")), 2);
    assert_eq!(client.watch(key("a")), 4);
    assert_eq!(client.stream.cancel(0), Some(1));
    assert_eq!(client.watch(key("a")), 5);
}

#[test]
fn wa_04_start_zero_sees_what_comes_after_the_creation() {
    let world = World::new();
    world.write(&[put("k", "before")]);
    // The store may be ahead of the hub: what the hub publishes after the creation is delivered.
    let early = world.commit(&[put("k", "early")]);
    let client = Client::new(&world);
    assert_eq!(client.stream.create(key("k")), Ok(Created { watch_id: 0, revision: 2 }));
    world.hub.publish(&[early]);
    assert_eq!(client.bell.rang(), 1);
    assert_eq!(client.poll(), ["0 @3: +k=early@3"]);
}

#[test]
fn wa_04_start_in_the_past_replays_inclusively() {
    let world = old_world(5);
    let client = Client::new(&world);
    client.watch(from(4, key("k")));
    assert!(world.hub.has_lagging());
    assert_eq!(world.hub.stats().slow_watchers, 1);
    world.catch_up();
    assert_eq!(client.poll(), ["0 @5: +k=4@4 +k=5@5"]);
    world.write(&[put("k", "6")]);
    assert_eq!(client.poll(), ["0 @6: +k=6@6"]);
    assert_eq!(world.hub.stats().slow_watchers, 0);
}

#[test]
fn wa_04_a_start_a_little_back_needs_no_history() {
    let world = World::new();
    for value in ["1", "2", "3"] {
        world.write(&[put("k", value), put("other", value)]);
    }
    let client = Client::new(&world);
    client.watch(from(3, key("k")));
    assert_eq!(client.poll(), ["0 @3: +k=2@3", "0 @4: +k=3@4"]);
    assert_eq!(world.past.inner.lock().reads, 0);
}

#[test]
fn wa_04_start_in_the_future_is_silent_until_then() {
    let world = World::new();
    let client = Client::new(&world);
    client.watch(from(4, key("k")));
    world.write(&[put("k", "2")]);
    world.write(&[put("k", "3")]);
    assert!(client.poll().is_empty());
    world.write(&[put("k", "4")]);
    assert_eq!(client.poll(), ["0 @4: +k=4@4"]);
}

#[test]
fn wa_05_wa_08_wa_09_refusals_and_their_texts() {
    let world = World::new();
    let client = Client::new(&world);
    let refuse = |spec| client.stream.create(spec).unwrap_err().to_string();
    let text = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(refuse(from(-1, key("k"))), text);
    let empty = KeyRange { start: "b".into(), end: RangeEnd::Before("b".into()) };
    assert_eq!(refuse(WatchSpec::new(empty)), "mvcc: watcher range is empty");
    client.watch(WatchSpec { watch_id: 7, ..key("k") });
    let twice = WatchSpec { watch_id: 7, ..key("k") };
    assert_eq!(refuse(twice), "mvcc: duplicate watch ID provided on the WatchStream");
    world.write(&[put("k", "v")]);
    assert_eq!(client.poll(), ["7 @2: +k=v@2"]);
}

#[test]
fn wa_06_compacted_start_is_cancelled_after_its_creation() {
    let world = old_world(9);
    world.compact(5);
    let client = Client::new(&world);
    client.watch(from(4, key("k")));
    client.watch(from(5, key("k")));
    world.catch_up();
    assert_eq!(client.poll()[..2], ["0 compacted 5", "1 @9: +k=5@5 +k=6@6 +k=7@7 +k=8@8 +k=9@9"]);
}

#[test]
fn wa_07_compaction_cancels_who_lags() {
    let world = old_world(9);
    let client = Client::new(&world);
    client.watch(from(4, key("k")));
    world.compact(6);
    world.catch_up();
    assert_eq!(client.poll(), ["0 compacted 6"]);
}

#[test]
fn wa_07_compaction_during_the_read_voids_it() {
    let world = old_world(9);
    let client = Client::new(&world);
    client.watch(from(4, key("k")));
    let past = Arc::clone(&world.past);
    world.past.inner.lock().after_read = Some(Box::new(move || past.inner.lock().compacted = 8));
    world.catch_up();
    assert_eq!(client.poll(), ["0 compacted 8"]);
}

#[test]
fn wa_13_cancel_drops_what_is_queued_and_frees_the_id() {
    let world = World::new();
    let client = Client::new(&world);
    client.watch(WatchSpec { watch_id: 5, ..key("k") });
    client.watch(WatchSpec { watch_id: 6, ..key("k") });
    world.write(&[put("k", "old")]);
    assert_eq!(client.stream.cancel(5), Some(2));
    assert_eq!(client.stream.cancel(5), None);
    assert_eq!(client.stream.cancel(99), None);
    client.watch(WatchSpec { watch_id: 5, ..key("k") });
    world.write(&[put("k", "new")]);
    let mut seen = client.poll();
    seen[1..].sort();
    assert_eq!(seen, ["6 @2: +k=old@2", "5 @3: +k=new@3", "6 @3: +k=new@3"]);
}

#[test]
fn wa_13_cancel_while_a_round_reads() {
    let world = old_world(9);
    let client = Arc::new(Client::new(&world));
    client.watch(from(4, key("k")));
    let other = Arc::clone(&client);
    world.past.inner.lock().after_read = Some(Box::new(move || {
        assert!(other.stream.cancel(0).is_some());
        // The place in the slab is taken again at once, by another watcher.
        other.watch(key("z"));
    }));
    world.catch_up();
    assert!(client.poll().is_empty());
    assert_eq!(world.hub.stats().slow_watchers, 0);
    world.write(&[put("z", "1")]);
    assert_eq!(client.poll(), ["1 @10: +z=1@10"]);
}

#[test]
fn wa_14_a_compacted_watcher_keeps_its_id_until_cancelled() {
    let world = old_world(9);
    world.compact(5);
    let client = Client::new(&world);
    client.watch(WatchSpec { watch_id: 3, start_revision: 2, ..key("k") });
    assert_eq!(client.poll(), ["3 compacted 5"]);
    let again = WatchSpec { watch_id: 3, ..key("k") };
    assert_eq!(client.stream.create(again.clone()), Err(CreateError::DuplicateId));
    client.stream.request_progress();
    assert!(client.poll().is_empty());
    assert_eq!(client.stream.cancel(3), Some(9));
    client.watch(again);
    client.stream.request_progress();
    assert_eq!(client.poll(), ["-1 progress 9"]);
}

#[test]
fn wa_17_previous_pairs() {
    let world = World::new();
    let client = Client::new(&world);
    client.watch(WatchSpec { prev_kv: true, ..key("k") });
    world.write(&[put("k", "1")]);
    world.write(&[put("k", "2")]);
    world.write(&[delete("k")]);
    let live = ["0 @2: +k=1@2", "0 @3: +k=2@3(was 1)", "0 @4: -k@4(was 2)"];
    assert_eq!(client.poll(), live);

    // From history, where the state before revision 3 is compacted.
    let world =
        World { hub: Hub::with_history(world.past.clone(), HubOptions::default()), ..world };
    for block in &mut world.past.inner.lock().blocks {
        let events = block.events.iter().map(|event| match event.kind {
            crate::event::EventKind::Put => Event::put(
                event.key.clone(),
                event.revision,
                event.created,
                event.kv.clone(),
                event.prev.clone(),
            ),
            crate::event::EventKind::Delete => Event::delete(
                event.key.clone(),
                event.revision,
                event.kv.clone(),
                event.prev.clone(),
            ),
        });
        *block = EventBlock::new(block.revision, events.collect());
    }
    world.compact(3);
    let client = Client::new(&world);
    client.watch(WatchSpec { prev_kv: true, start_revision: 3, ..key("k") });
    world.catch_up();
    assert_eq!(client.poll(), ["0 @4: +k=2@3 -k@4(was 2)"]);
}

#[test]
fn wa_18_filters_drop_events_and_empty_answers() {
    let world = World::new();
    let client = Client::new(&world);
    client.watch(WatchSpec { no_put: true, ..prefix("k") });
    client.watch(WatchSpec { no_delete: true, ..prefix("k") });
    client.watch(WatchSpec { no_put: true, no_delete: true, ..prefix("k") });
    world.write(&[put("k1", "a"), put("k2", "a")]);
    world.write(&[delete("k1"), put("k3", "b"), put("k4", "b")]);
    let mut seen = client.poll();
    seen.sort();
    let wanted = ["0 @3: -k1@3", "1 @2: +k1=a@2 +k2=a@2", "1 @3: +k3=b@3 +k4=b@3"];
    assert_eq!(seen, wanted);
    client.stream.request_progress();
    assert_eq!(client.poll(), ["-1 progress 3"]);
}

#[test]
fn wa_19_one_answer_holds_all_events_of_a_revision_in_order() {
    let world = World::new();
    let client = Client::new(&world);
    client.watch(prefix("k"));
    client.watch(key("k2"));
    world.write(&[put("k3", "x"), put("z", "x"), put("k1", "x"), put("k2", "x")]);
    assert_eq!(client.poll(), ["0 @2: +k3=x@2 +k1=x@2 +k2=x@2", "1 @2: +k2=x@2"]);
}

#[test]
fn wa_20_live_is_one_answer_per_revision_and_the_past_at_most_1000() {
    let world = old_world(2501);
    let client = Client::new(&world);
    client.watch(from(1, key("k")));
    world.catch_up();
    let mut out = Vec::new();
    client.stream.poll(usize::MAX, &mut out);
    let sizes: Vec<usize> = out
        .iter()
        .map(|response| match response {
            Response::Events { events, revision, .. } => {
                assert_eq!(*revision, 2501, "WA-30: the revision at the scan");
                events.len()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sizes, [1000, 1000, 500]);
    world.hub.publish(&[world.commit(&[put("k", "a")]), world.commit(&[put("k", "b")])]);
    assert_eq!(client.poll(), ["0 @2502: +k=a@2502", "0 @2503: +k=b@2503"]);
}

#[test]
fn wa_23_quiet_watchers_get_progress_by_timer() {
    let world = World::new();
    let client = Client::new(&world);
    let late = world.hub.stream_with_jitter(Arc::new(Bell::default()), 500);
    let flagged = |name: &str| WatchSpec { progress_notify: true, ..key(name) };
    client.watch(flagged("a"));
    client.watch(flagged("b"));
    client.watch(key("c"));
    late.create(flagged("a")).unwrap();
    world.hub.tick(1000);
    world.write(&[put("a", "1")]);
    assert_eq!(client.poll(), ["0 @2: +a=1@2"]);
    world.hub.tick(600_999);
    assert!(client.poll().is_empty());
    world.hub.tick(601_000);
    assert_eq!(client.poll(), ["1 progress 2"]);
    world.hub.tick(601_499);
    assert!(client.poll().is_empty());
    world.hub.tick(1_201_000);
    assert_eq!(client.poll(), ["0 progress 2", "1 progress 2"]);
}

#[test]
fn wa_24_no_timed_progress_while_behind_or_waiting_for_the_future() {
    let world = old_world(5);
    let client = Client::new(&world);
    client.watch(WatchSpec { progress_notify: true, ..from(2, key("k")) });
    client.watch(WatchSpec { progress_notify: true, ..from(7, key("k")) });
    world.hub.tick(0);
    world.hub.tick(600_000);
    assert!(client.poll().is_empty());
    world.catch_up();
    client.poll();
    world.hub.tick(1_200_000);
    assert!(client.poll().is_empty(), "it had events since the last tick");
    world.hub.tick(1_800_000);
    assert_eq!(client.poll(), ["0 progress 5"]);
    world.write(&[put("x", "")]);
    world.write(&[put("x", "")]);
    world.hub.tick(2_400_000);
    assert_eq!(client.poll(), ["0 progress 7", "1 progress 7"]);
}

#[test]
fn wa_25_wa_27_progress_on_request_follows_all_events() {
    let world = World::new();
    let client = Client::new(&world);
    client.watch(key("a"));
    client.watch(key("b"));
    world.write(&[put("b", "1")]);
    client.stream.request_progress();
    world.write(&[put("a", "1")]);
    assert_eq!(client.poll(), ["1 @2: +b=1@2", "-1 progress 2", "0 @3: +a=1@3"]);
}

#[test]
fn wa_26_progress_is_dropped_while_anyone_is_behind_or_nobody_watches() {
    let world = old_world(5);
    let client = Client::new(&world);
    client.stream.request_progress();
    client.watch(key("k"));
    client.watch(from(2, key("k")));
    client.stream.request_progress();
    assert!(client.poll().is_empty());
    world.catch_up();
    client.stream.request_progress();
    assert_eq!(client.poll(), ["1 @5: +k=2@2 +k=3@3 +k=4@4 +k=5@5", "-1 progress 5"]);
    client.watch(from(6, key("k")));
    client.stream.request_progress();
    assert!(client.poll().is_empty(), "one waits for the future");
    world.write(&[put("x", "")]);
    client.stream.request_progress();
    client.stream.request_progress();
    assert_eq!(client.poll(), ["-1 progress 6"], "two requests in a row need one answer");
}

#[test]
fn wa_27_progress_does_not_outrun_a_watcher_that_joined_after_the_request() {
    let world = old_world(5);
    let client = Client::new(&world);
    client.watch(key("k"));
    client.stream.request_progress();
    client.watch(from(5, key("k")));
    world.catch_up();
    client.stream.request_progress();
    assert_eq!(client.poll(), ["1 @5: +k=5@5", "-1 progress 5"]);
}

#[test]
fn wa_29_a_slow_stream_lags_and_loses_nothing() {
    let world = World::with(HubOptions { queue_bytes_max: 300, ..HubOptions::default() });
    let slow = Client::new(&world);
    let fast = Client::new(&world);
    slow.watch(key("k"));
    fast.watch(key("k"));
    let mut seen = Vec::new();
    for value in 2..=2000 {
        world.write(&[put("k", &value.to_string())]);
        assert_eq!(fast.poll(), [format!("0 @{value}: +k={value}@{value}")]);
    }
    assert_eq!(world.hub.stats().slow_watchers, 1);
    assert!(!world.hub.has_lagging(), "nothing can be done for who does not read");
    assert!(world.hub.stats().pending_events < 10);
    for _ in 0..10 {
        let mut out = Vec::new();
        slow.stream.poll(usize::MAX, &mut out);
        for response in out {
            let Response::Events { events, .. } = response else { panic!() };
            seen.extend(events.iter().map(|event| event.revision.main));
        }
        world.catch_up();
    }
    assert_eq!(seen, (2..=2000).collect::<Vec<_>>());
    assert_eq!(world.hub.stats().slow_watchers, 0);
}

#[test]
fn wa_31_a_replaced_history_loses_nothing() {
    let world = World::new();
    let client = Client::new(&world);
    client.watch(key("k"));
    client.watch(from(8, key("k")));
    world.write(&[put("k", "2")]);
    for revision in 3..=6 {
        world.commit(&[put("k", &revision.to_string())]);
    }
    world.hub.restore_history(world.past.clone());
    world.catch_up();
    assert_eq!(client.poll(), ["0 @2: +k=2@2", "0 @6: +k=3@3 +k=4@4 +k=5@5 +k=6@6"]);
    world.write(&[put("k", "7")]);
    assert_eq!(client.poll(), ["0 @7: +k=7@7"]);
}

#[test]
fn wa_31_a_round_that_read_the_old_history_is_void() {
    let world = old_world(5);
    let client = Client::new(&world);
    client.watch(from(2, key("k")));
    let (hub, past) = (world.hub.clone(), Arc::clone(&world.past));
    world.past.inner.lock().after_read = Some(Box::new(move || hub.restore_history(past)));
    world.catch_up();
    assert_eq!(client.poll(), ["0 @5: +k=2@2 +k=3@3 +k=4@4 +k=5@5"]);
}

#[test]
fn a_stream_is_woken_once_until_it_polls_and_again_if_it_left_something() {
    let world = World::new();
    let client = Client::new(&world);
    client.watch(key("k"));
    world.write(&[put("k", "1")]);
    world.write(&[put("k", "2")]);
    assert_eq!(client.bell.rang(), 1);
    let mut out = Vec::new();
    assert!(client.stream.poll(1, &mut out));
    assert_eq!((out.len(), client.bell.rang()), (1, 1));
    assert!(!client.stream.poll(1, &mut out));
    assert_eq!((out.len(), client.bell.rang()), (2, 0));
    world.write(&[put("k", "3")]);
    assert_eq!(client.bell.rang(), 1);
}

#[test]
fn whoever_catches_up_is_woken() {
    let world = old_world(5);
    let bell = Arc::new(Bell::default());
    world.hub.on_lagging(bell.clone());
    let client = Client::new(&world);
    client.watch(from(2, key("k")));
    assert_eq!(bell.rang(), 1);
    world.catch_up();
    assert!(!world.hub.has_lagging());
}

#[test]
fn a_dropped_stream_takes_its_watchers_along() {
    let world = old_world(5);
    let client = Client::new(&world);
    client.watch(key("k"));
    client.watch(from(2, key("k")));
    client.watch(WatchSpec { progress_notify: true, ..prefix("k") });
    world.write(&[put("k", "6")]);
    drop(client);
    world.catch_up();
    let stats = world.hub.stats();
    assert_eq!((stats.streams, stats.watchers, stats.slow_watchers), (0, 0, 0));
    assert_eq!((stats.pending_events, stats.events_total), (0, 2));
}

#[test]
fn a_failed_read_is_tried_again_without_doubling() {
    let world = old_world(50);
    let client = Client::new(&world);
    client.watch(from(2, key("k")));
    let past = Arc::clone(&world.past);
    // The second of the sweep's reads fails.
    world.past.inner.lock().after_read = Some(Box::new(move || past.inner.lock().failing = true));
    world.hub.catch_up(1);
    world.past.inner.lock().failing = false;
    world.catch_up();
    let mut out = Vec::new();
    client.stream.poll(usize::MAX, &mut out);
    let mut revisions = Vec::new();
    for response in &out {
        let Response::Events { events, .. } = response else { panic!() };
        revisions.extend(events.iter().map(|event| event.revision.main));
    }
    assert_eq!(revisions, (2..=50).collect::<Vec<_>>());
}
