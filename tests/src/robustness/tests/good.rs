//! Records of correct clusters: none may be rejected.

use super::world::{SCRIBE, SECOND, World, accept, lost};
use super::{
    compact, delete, get, get_at, grant, put, put_both, put_with, renew, revoke, stale_get,
};
use crate::pb;
use crate::robustness::history::{Outcome, WatchEnd};
use crate::watch::{on, on_range};

#[test]
fn nothing_at_all() {
    accept(&World::new().finish());
}

#[test]
fn every_kind_of_call() {
    let mut world = World::new();
    for request in [
        put("a", "1"),
        put("b", "2"),
        get("a"),
        put_both("a", "c", "3"),
        delete("a"),
        delete("a"),
        get_at("a", 2),
        get_at("a", 99),
        grant(5, 2),
        put_with("l", "4", 5),
        put_with("l", "4", 6),
        renew(5),
        revoke(5),
        revoke(5),
        renew(5),
        compact(3),
        compact(3),
        get_at("a", 2),
        get_at("a", 3),
    ] {
        world.call(0, request);
    }
    let history = world.finish();
    let verdict = accept(&history);
    assert_eq!(verdict.counts.revision, 7, "{}", verdict.counts);
    assert_eq!(verdict.counts.linearizable_reads, 4, "{}", verdict.counts);
}

#[test]
fn lost_answers_both_ways() {
    let mut world = World::new();
    world.lose(0, put("a", "1"), true);
    world.lose(1, put("a", "2"), false);
    world.call(2, get("a"));
    world.lose(0, delete("a"), true);
    world.lose(1, delete("a"), false);
    world.lose(1, put_both("a", "b", "3"), true);
    let verdict = accept(&world.finish());
    assert_eq!(verdict.counts.by_unknown, 3);
}

/// A write without an answer may take effect much later, after the client went on.
#[test]
fn lost_write_that_comes_late() {
    let mut world = World::new();
    world.lose(0, put("a", "1"), false);
    world.call(0, put("a", "2"));
    world.call(0, get("a"));
    world.execute(0, &put("a", "1"));
    world.call(1, get("a"));
    accept(&world.finish());
}

/// Two lost deletes of one key and one delete in the log: it does not matter which it was.
#[test]
fn lost_deletes_that_look_alike() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.lose(1, delete("a"), true);
    world.call(0, put("a", "2"));
    world.lose(2, delete("a"), true);
    world.lose(1, delete("a"), false);
    accept(&world.finish());
}

/// The later of two lost calls alone can have made the later revision, the earlier one either.
#[test]
fn lost_calls_are_matched_together() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let early = world.lose(1, delete("a"), true);
    world.call(0, put("a", "2"));
    let late = world.lose(2, delete("a"), true);
    let mut history = world.finish();
    history.operations.swap(early, late);
    accept(&history);
}

#[test]
fn concurrent_reads_see_either() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let (asked, before) = (world.tick(), world.execute(1, &get("a")));
    let write_asked = world.tick();
    let written = world.execute(0, &put("a", "2"));
    let after = world.execute(2, &get("a"));
    let after_returned = world.tick();
    let write_returned = world.tick();
    let before_returned = world.tick();
    world.record((1, 1), (asked, before_returned), get("a"), before);
    world.record((2, 2), (asked, after_returned), get("a"), after);
    world.record((0, 0), (write_asked, write_returned), put("a", "2"), written);
    accept(&world.finish());
}

#[test]
fn serializable_reads_may_be_old() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.call(0, put("a", "2"));
    world.applied[1] = 2;
    let old = world.call(1, stale_get("a"));
    assert_eq!(world.history.operations[old].revision(), Some(2));
    world.call(1, get("a"));
    let verdict = accept(&world.finish());
    assert_eq!(verdict.counts.serializable_reads, 1);
}

#[test]
fn watchers_resume_fragments_join_streams_break() {
    let mut world = World::new();
    let first = world.watch(1, on_range("a", "z"));
    world.call(0, put("a", "1"));
    world.call(0, put_both("a", "b", "2"));
    world.deliver(first, 2);
    // The second revision comes as a fragment whose rest never arrives.
    world.deliver(first, 3);
    let torn = world.history.watches[first].responses.last_mut().unwrap();
    torn.response.fragment = true;
    torn.response.events.truncate(1);
    let resumed =
        world.watch(2, pb::WatchCreateRequest { start_revision: 3, ..on_range("a", "z") });
    world.deliver(resumed, 3);
    let whole = world.history.watches[resumed].responses.last().unwrap().clone();
    let mut pieces = vec![whole.clone(), whole];
    pieces[0].response.fragment = true;
    pieces[0].response.events.truncate(1);
    pieces[1].response.events.remove(0);
    world.history.watches[resumed].responses.splice(1.., pieces);
    world.bookmark(resumed);
    let mut history = world.finish();
    history.watches[first].end = WatchEnd::Closed("reset".into());
    accept(&history);
}

#[test]
fn watchers_with_filters_and_previous_pairs() {
    let mut world = World::new();
    let puts = pb::WatchCreateRequest { filters: vec![1], prev_kv: true, ..on("a") };
    let deletes = pb::WatchCreateRequest { filters: vec![0], prev_kv: true, ..on("a") };
    let (puts, deletes) = (world.watch(0, puts), world.watch(1, deletes));
    for request in [put("a", "1"), put("a", "2"), delete("a"), put("b", "1")] {
        world.call(0, request);
        let last = world.store.last();
        world.deliver(puts, last);
        world.deliver(deletes, last);
    }
    world.bookmark(deletes);
    let history = world.finish();
    let events = |watch: usize| {
        history.watches[watch].responses.iter().map(|r| r.response.events.len()).sum::<usize>()
    };
    assert_eq!((events(puts), events(deletes)), (2, 1));
    accept(&history);
}

#[test]
fn compaction_cancels_who_is_behind_and_takes_previous_pairs() {
    let mut world = World::new();
    for value in ["1", "2", "3"] {
        world.call(0, put("a", value));
    }
    let behind = world.watch(1, pb::WatchCreateRequest { start_revision: 2, ..on("a") });
    let at = pb::WatchCreateRequest { start_revision: 4, prev_kv: true, ..on("a") };
    let at = world.watch(1, at);
    world.call(0, compact(4));
    let response = pb::WatchResponse { canceled: true, compact_revision: 4, ..Default::default() };
    world.send(behind, response);
    world.deliver(at, 4);
    let delivered = world.history.watches[at].responses.last_mut().unwrap();
    delivered.response.events[0].prev_kv = None;
    accept(&world.finish());
}

#[test]
fn leases_end_in_time() {
    let mut world = World::new();
    world.call(0, grant(5, 2));
    world.call(0, put_with("a", "1", 5));
    world.call(0, put_with("b", "1", 5));
    world.now += SECOND;
    world.call(0, renew(5));
    world.now += 2 * SECOND;
    world.expire();
    let last = world.store.last();
    world.deliver(SCRIBE, last);
    world.call(0, renew(5));
    world.call(0, put_with("a", "1", 5));
    let verdict = accept(&world.finish());
    assert_eq!((verdict.counts.by_expiry, verdict.counts.renewals), (1, 1));
}

/// A lost revoke, or a lost delete, explains an end that would be too early otherwise.
#[test]
fn leases_end_by_lost_calls() {
    let mut world = World::new();
    world.call(0, grant(5, 100));
    world.call(0, put_with("a", "1", 5));
    world.lose(1, revoke(5), true);
    world.call(0, renew(5));
    world.call(0, grant(6, 100));
    world.call(0, put_with("b", "1", 6));
    world.lose(1, delete("b"), true);
    world.call(0, renew(6));
    let last = world.store.last();
    world.deliver(SCRIBE, last);
    accept(&world.finish());
}

#[test]
fn a_member_is_replaced_by_another_one() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    // Nobody knows whom a call spoke to that was under way.
    let during = world.call(0, get("a"));
    world.replace(0, 110);
    world.history.operations[during].returned = world.tick();
    world.call(0, get("a"));
    world.call(1, get("a"));
    accept(&world.finish());
}

/// To forget an answer takes away what can be proven, never adds to it.
#[test]
fn any_answer_may_be_lost() {
    let mut world = World::new();
    for request in [put("a", "1"), delete("a"), put("a", "2"), get("a"), put_both("a", "b", "3")] {
        world.call(0, request);
    }
    let whole = world.finish();
    for at in 0..whole.operations.len() {
        let mut history = whole.clone();
        history.operations[at].outcome = lost();
        accept(&history);
        assert!(matches!(history.operations[at].outcome, Outcome::Unknown(_)));
    }
}
