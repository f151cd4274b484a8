//! Writes that are lost, doubled, torn or early: each must be found.

use super::world::{World, failure, lost, reject};
use super::{delete, get, put, put_both};
use crate::errors::LEASE_NOT_FOUND;
use crate::pb;
use crate::request::{self, CompareResult, CompareTarget, IntoOp, TargetUnion};
use crate::robustness::check::Rule;
use crate::robustness::history::{Answer, Outcome, Request};

#[test]
fn acknowledged_and_gone() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let gone = world.lose(1, put("b", "2"), false);
    let header = pb::ResponseHeader { revision: 3, ..Default::default() };
    let answer = pb::PutResponse { header: Some(header), prev_kv: None };
    world.history.operations[gone].outcome = Outcome::Answered(Answer::Put(answer));
    reject(&world.finish(), Rule::Lost);
}

/// As after a member that forgot it led: another write stands at the acknowledged revision.
#[test]
fn acknowledged_and_overwritten() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let kept = world.call(0, put("b", "2"));
    let outcome = world.history.operations[kept].outcome.clone();
    world.history.operations[kept].outcome = lost();
    let times = (world.tick(), world.tick());
    world.record((1, 1), times, put("b", "3"), outcome);
    reject(&world.finish(), Rule::Lost);
}

#[test]
fn lost_call_twice_in_the_log() {
    let mut world = World::new();
    world.lose(0, put("a", "1"), true);
    world.execute(0, &put("a", "1"));
    reject(&world.finish(), Rule::AppliedTwice);
}

/// As after a restart that replays an entry that had its effect already.
#[test]
fn acknowledged_twice_in_the_log() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.call(0, put("b", "2"));
    world.execute(0, &put("a", "1"));
    reject(&world.finish(), Rule::AppliedTwice);
}

#[test]
fn refused_and_done() {
    let mut world = World::new();
    let done = world.call(0, put("a", "1"));
    world.history.operations[done].outcome = Outcome::Refused(failure(LEASE_NOT_FOUND));
    reject(&world.finish(), Rule::RefusedTookEffect);
}

/// A failed compare promises that the other branch did nothing.
#[test]
fn failed_txn_left_its_writes() {
    let condition = request::compare(
        "a",
        CompareTarget::Version,
        CompareResult::Equal,
        TargetUnion::Version(7),
    );
    let request = request::txn(vec![condition], vec![request::put("a", "1").op()], Vec::new());
    let mut world = World::new();
    world.call(0, Request::Txn(request));
    world.execute(0, &put("a", "1"));
    world.call(1, get("a"));
    reject(&world.finish(), Rule::Unexplained);
}

#[test]
fn nobody_asked() {
    let mut world = World::new();
    world.execute(0, &put("a", "1"));
    world.call(1, get("a"));
    reject(&world.finish(), Rule::Unexplained);
}

#[test]
fn visible_before_the_call() {
    let mut world = World::new();
    let outcome = world.execute(0, &put("a", "1"));
    world.call(1, get("a"));
    let times = (world.tick(), world.tick());
    world.record((0, 0), times, put("a", "1"), outcome);
    reject(&world.finish(), Rule::BeforeCall);
}

#[test]
fn lost_call_visible_before_it() {
    let mut world = World::new();
    world.execute(0, &put("a", "1"));
    world.call(1, get("a"));
    world.lose(0, put("a", "1"), false);
    reject(&world.finish(), Rule::BeforeCall);
}

/// A revision that was over when the call was made, as from a leader that was deposed.
#[test]
fn revision_in_the_past() {
    let mut world = World::new();
    let late = world.call(0, put("a", "1"));
    world.call(0, put("b", "2"));
    let (called, returned) = (world.tick(), world.tick());
    world.history.operations[late].called = called;
    world.history.operations[late].returned = returned;
    reject(&world.finish(), Rule::BeforeCall);
}

#[test]
fn two_writes_at_one_revision() {
    let mut world = World::new();
    let first = world.call(0, put("a", "1"));
    let outcome = world.history.operations[first].outcome.clone();
    let op = world.history.operations[first].clone();
    world.record((1, 1), (op.called, op.returned), put("a", "1"), outcome);
    reject(&world.finish(), Rule::TwoWritesOneRevision);
}

#[test]
fn half_a_transaction() {
    let mut world = World::new();
    let whole = world.call(0, put_both("a", "b", "1"));
    world.history.operations[whole].request = put_both("a", "c", "1");
    reject(&world.finish(), Rule::WrongEffect);
}

#[test]
fn lost_transaction_applied_in_halves() {
    let mut world = World::new();
    world.lose(0, put_both("a", "b", "1"), false);
    world.execute(0, &put("a", "1"));
    world.execute(0, &put("b", "1"));
    reject(&world.finish(), Rule::Unexplained);
}

/// Two revisions, and only one call that fits: a second lost call does not help if it is too late.
#[test]
fn lost_call_too_late_to_explain() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.lose(0, delete("a"), true);
    world.call(0, put("a", "2"));
    world.execute(0, &delete("a"));
    world.call(0, get("a"));
    world.lose(1, delete("a"), false);
    reject(&world.finish(), Rule::AppliedTwice);
}

#[test]
fn wrong_version_in_the_log() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.call(0, put("a", "2"));
    let mut history = world.finish();
    let events = &mut history.watches[0].responses[1].response.events;
    events[1].kv.as_mut().unwrap().version = 1;
    reject(&history, Rule::LogImpossible);
}

#[test]
fn gap_in_the_log() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.call(0, put("a", "2"));
    let mut history = world.finish();
    history.watches[0].responses[1].response.events.remove(0);
    reject(&history, Rule::LogIncomplete);
}

#[test]
fn two_logs() {
    let mut world = World::new();
    let other = world.watch(1, crate::watch::on_all(1));
    world.call(0, put("a", "1"));
    let mut history = world.finish();
    let events = &mut history.watches[other].responses[1].response.events;
    events[0].kv.as_mut().unwrap().value = "2".into();
    reject(&history, Rule::LogDisagrees);
}
