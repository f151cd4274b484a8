//! Watchers that are told too little, too much, or in the wrong order: each must be found.

use super::world::{World, reject};
use super::{compact, delete, put, put_both};
use crate::mvccpb::Event;
use crate::pb::{self, WatchCreateRequest};
use crate::robustness::check::Rule;
use crate::robustness::history::{History, WatchEnd};
use crate::watch::{on, on_range};

/// A watcher of everything but the first keys, so that it does not tell the log, that got each
/// revision in an answer of its own.
fn watched(request: WatchCreateRequest) -> (History, usize) {
    let mut world = World::new();
    let watch = world.watch(1, request);
    for request in [put("a", "1"), put_both("a", "b", "2"), delete("a"), put("c", "3")] {
        world.call(0, request);
        let last = world.store.last();
        world.deliver(watch, last);
    }
    (world.finish(), watch)
}

fn plain() -> WatchCreateRequest {
    on_range("a", "z")
}

fn with_previous() -> WatchCreateRequest {
    WatchCreateRequest { prev_kv: true, ..plain() }
}

fn events(history: &mut History, watch: usize, answer: usize) -> &mut Vec<Event> {
    &mut history.watches[watch].responses[answer].response.events
}

#[test]
fn lost_event() {
    let (mut history, watch) = watched(plain());
    history.watches[watch].responses.remove(1);
    reject(&history, Rule::WatchGap);
}

#[test]
fn lost_last_event() {
    let (mut history, watch) = watched(plain());
    history.watches[watch].responses.pop();
    reject(&history, Rule::WatchGap);
    // Of a stream that broke nothing can be said.
    history.watches[watch].end = WatchEnd::Closed("reset".into());
    super::world::accept(&history);
}

#[test]
fn event_again() {
    let (mut history, watch) = watched(plain());
    let again = history.watches[watch].responses[2].clone();
    history.watches[watch].responses.insert(3, again);
    reject(&history, Rule::WatchDuplicate);
}

#[test]
fn revisions_out_of_order() {
    let (mut history, watch) = watched(plain());
    history.watches[watch].responses.swap(1, 3);
    reject(&history, Rule::WatchGap);
}

#[test]
fn old_revision_after_a_newer() {
    let (mut history, watch) = watched(plain());
    let old = history.watches[watch].responses[1].clone();
    history.watches[watch].responses.push(old);
    reject(&history, Rule::WatchDuplicate);
}

#[test]
fn transaction_in_two_answers() {
    let (mut history, watch) = watched(plain());
    let mut second = history.watches[watch].responses[2].clone();
    events(&mut history, watch, 2).truncate(1);
    second.response.events.remove(0);
    history.watches[watch].responses.insert(3, second);
    reject(&history, Rule::WatchSplit);
}

#[test]
fn half_a_transaction() {
    let (mut history, watch) = watched(plain());
    events(&mut history, watch, 2).truncate(1);
    reject(&history, Rule::WatchSplit);
}

#[test]
fn order_inside_a_transaction() {
    let (mut history, watch) = watched(plain());
    events(&mut history, watch, 2).swap(0, 1);
    reject(&history, Rule::WatchGap);
}

#[test]
fn wrong_version() {
    let (mut history, watch) = watched(plain());
    events(&mut history, watch, 2)[0].kv.as_mut().unwrap().version = 1;
    reject(&history, Rule::WatchWrongEvent);
}

#[test]
fn wrong_kind() {
    let (mut history, watch) = watched(plain());
    events(&mut history, watch, 3)[0].r#type = 0;
    reject(&history, Rule::WatchWrongEvent);
}

#[test]
fn wrong_previous_pair() {
    let (mut history, watch) = watched(with_previous());
    events(&mut history, watch, 3)[0].prev_kv.as_mut().unwrap().value = "1".into();
    reject(&history, Rule::WatchPrevKv);
}

#[test]
fn no_previous_pair() {
    let (mut history, watch) = watched(with_previous());
    events(&mut history, watch, 3)[0].prev_kv = None;
    reject(&history, Rule::WatchPrevKv);
}

#[test]
fn previous_pair_nobody_asked_for() {
    let (mut history, watch) = watched(with_previous());
    history.watches[watch].request.prev_kv = false;
    reject(&history, Rule::WatchPrevKv);
}

#[test]
fn filtered_event() {
    let (mut history, watch) = watched(plain());
    history.watches[watch].request.filters = vec![1];
    reject(&history, Rule::WatchWrongEvent);
}

#[test]
fn event_of_another_key() {
    let (mut history, watch) = watched(plain());
    history.watches[watch].request = on("a");
    reject(&history, Rule::WatchWrongEvent);
}

#[test]
fn event_from_before_the_start() {
    let (mut history, watch) = watched(plain());
    history.watches[watch].request.start_revision = 3;
    reject(&history, Rule::WatchDuplicate);
}

#[test]
fn event_of_no_revision() {
    let (mut history, watch) = watched(plain());
    events(&mut history, watch, 4)[0].kv.as_mut().unwrap().mod_revision = 9;
    reject(&history, Rule::UnknownRevision);
}

/// A watcher of key a, and progress after its two first events.
fn bookmarked(revision: i64) -> History {
    let mut world = World::new();
    let watch = world.watch(1, on("a"));
    for request in [put("a", "1"), put("a", "2"), put("b", "3"), put("a", "4")] {
        world.call(0, request);
    }
    world.deliver(watch, 3);
    let header = Some(pb::ResponseHeader { revision, ..Default::default() });
    world.send(watch, pb::WatchResponse { header, ..Default::default() });
    world.finish()
}

#[test]
fn progress_ahead_of_events() {
    super::world::accept(&bookmarked(4));
    reject(&bookmarked(5), Rule::WatchBookmark);
}

#[test]
fn progress_backwards() {
    let mut history = bookmarked(4);
    let mut back = history.watches[1].responses[2].clone();
    back.response.header.as_mut().unwrap().revision = 3;
    history.watches[1].responses.insert(3, back);
    reject(&history, Rule::WatchBookmark);
}

#[test]
fn progress_before_the_start() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let future = WatchCreateRequest { start_revision: 5, ..on("a") };
    let watch = world.watch(1, future);
    let header = Some(pb::ResponseHeader { revision: 2, ..Default::default() });
    world.send(watch, pb::WatchResponse { header, ..Default::default() });
    reject(&world.finish(), Rule::WatchBookmark);
}

/// A watcher from `start` on that got events up to `seen` and was canceled by a compaction at 4.
fn canceled(start: i64, seen: i64, with_compaction: bool) -> History {
    let mut world = World::new();
    for value in ["1", "2", "3", "4"] {
        world.call(0, put("a", value));
    }
    let watch = world.watch(1, WatchCreateRequest { start_revision: start, ..on("a") });
    world.deliver(watch, seen);
    if with_compaction {
        world.call(0, compact(4));
    }
    let canceled = pb::WatchResponse { canceled: true, compact_revision: 4, ..Default::default() };
    world.send(watch, canceled);
    world.finish()
}

#[test]
fn canceled_without_need() {
    super::world::accept(&canceled(2, 2, true));
    reject(&canceled(2, 2, false), Rule::WatchCancel);
    reject(&canceled(4, 0, true), Rule::WatchCancel);
    reject(&canceled(2, 3, true), Rule::WatchCancel);
}

#[test]
fn something_after_canceled() {
    let mut history = canceled(2, 2, true);
    let again = history.watches[1].responses[1].clone();
    history.watches[1].responses.push(again);
    reject(&history, Rule::WatchProtocol);
}

#[test]
fn created_twice_or_never() {
    let (mut history, watch) = watched(plain());
    let created = history.watches[watch].responses[0].clone();
    history.watches[watch].responses.push(created);
    reject(&history, Rule::WatchProtocol);
    history.watches[watch].responses.pop();
    history.watches[watch].responses.remove(0);
    reject(&history, Rule::WatchProtocol);
}
