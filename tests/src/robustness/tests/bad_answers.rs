//! Answers that are stale, wrong or impossible: each must be found.

use super::world::{World, failure, reject};
use super::{compact, delete, get, get_at, put, stale_get};
use crate::errors::{COMPACTED, FUTURE_REVISION, KEY_NOT_FOUND, LEASE_EXISTS};
use crate::pb;
use crate::request::{self, CompareResult, CompareTarget, IntoOp, TargetUnion};
use crate::robustness::check::Rule;
use crate::robustness::history::{Answer, Operation, Outcome, Request};

fn header(op: &mut Operation) -> &mut pb::ResponseHeader {
    let Outcome::Answered(answer) = &mut op.outcome else { panic!("not answered") };
    let header = match answer {
        Answer::Range(a) => &mut a.header,
        Answer::Put(a) => &mut a.header,
        Answer::Txn(a) => &mut a.header,
        other => panic!("{other:?}"),
    };
    header.as_mut().unwrap()
}

fn read(op: &mut Operation) -> &mut pb::RangeResponse {
    match &mut op.outcome {
        Outcome::Answered(Answer::Range(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

/// A cut-off leader that still answers: what it says was true once.
#[test]
fn stale_linearizable_read() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.call(0, put("a", "2"));
    world.applied[1] = 2;
    let stale = world.call(1, stale_get("a"));
    world.history.operations[stale].request = get("a");
    reject(&world.finish(), Rule::Stale);
}

/// The revision is new, the pairs are old.
#[test]
fn stale_read_under_a_new_revision() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.call(0, put("a", "2"));
    world.applied[1] = 2;
    let stale = world.call(1, stale_get("a"));
    header(&mut world.history.operations[stale]).revision = 3;
    reject(&world.finish(), Rule::WrongAnswer);
}

/// What a watcher was shown is committed; a read that begins later must have it.
#[test]
fn read_older_than_a_watcher() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.lose(0, put("a", "2"), true);
    world.deliver(super::world::SCRIBE, 3);
    world.applied[1] = 2;
    let stale = world.call(1, stale_get("a"));
    world.history.operations[stale].request = get("a");
    reject(&world.finish(), Rule::Stale);
}

#[test]
fn dirty_read() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let dirty = world.call(1, get("a"));
    header(&mut world.history.operations[dirty]).revision = 3;
    reject(&world.finish(), Rule::UnknownRevision);
}

#[test]
fn value_that_was_never_written() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let dirty = world.call(1, get("a"));
    read(&mut world.history.operations[dirty]).kvs[0].value = "2".into();
    reject(&world.finish(), Rule::WrongAnswer);
}

#[test]
fn wrong_count() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let wrong = world.call(1, get("a"));
    read(&mut world.history.operations[wrong]).count = 2;
    reject(&world.finish(), Rule::WrongAnswer);
}

#[test]
fn serializable_read_that_is_no_prefix() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.call(0, put("b", "2"));
    world.applied[1] = 2;
    let torn = world.call(
        1,
        Request::Range(pb::RangeRequest { serializable: true, ..request::range("a", "z") }),
    );
    header(&mut world.history.operations[torn]).revision = 3;
    reject(&world.finish(), Rule::WrongAnswer);
}

#[test]
fn wrong_branch_of_a_transaction() {
    let condition = request::compare(
        "a",
        CompareTarget::Version,
        CompareResult::Equal,
        TargetUnion::Version(1),
    );
    let request =
        request::txn(vec![condition], vec![request::get("a").op()], vec![request::get("a").op()]);
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let wrong = world.call(1, Request::Txn(request));
    let Outcome::Answered(Answer::Txn(answer)) = &mut world.history.operations[wrong].outcome
    else {
        panic!("not answered")
    };
    answer.succeeded = false;
    reject(&world.finish(), Rule::WrongAnswer);
}

#[test]
fn wrong_previous_pair_of_a_put() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let wrong =
        world.call(1, Request::Put(pb::PutRequest { prev_kv: true, ..request::put("a", "2") }));
    let Outcome::Answered(Answer::Put(answer)) = &mut world.history.operations[wrong].outcome
    else {
        panic!("not answered")
    };
    answer.prev_kv = None;
    reject(&world.finish(), Rule::WrongAnswer);
}

#[test]
fn delete_that_found_nothing_where_something_was() {
    let mut world = World::new();
    let nothing = world.call(1, delete("a"));
    world.call(0, put("a", "1"));
    let (called, returned) = (world.tick(), world.tick());
    let op = &mut world.history.operations[nothing];
    (op.called, op.returned) = (called, returned);
    let Outcome::Answered(Answer::Delete(answer)) = &mut op.outcome else { panic!("no delete") };
    answer.header.as_mut().unwrap().revision = 2;
    reject(&world.finish(), Rule::WrongAnswer);
}

#[test]
fn member_that_went_back() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.call(0, put("a", "2"));
    world.call(1, get("a"));
    world.applied[1] = 2;
    world.call(1, stale_get("a"));
    reject(&world.finish(), Rule::SessionWentBack);
}

#[test]
fn term_that_went_back() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let back = world.call(0, get("a"));
    header(&mut world.history.operations[back]).raft_term = 1;
    reject(&world.finish(), Rule::SessionWentBack);
}

#[test]
fn answers_under_another_name() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let other = world.call(0, get("a"));
    header(&mut world.history.operations[other]).member_id = 101;
    reject(&world.finish(), Rule::Identity);
}

/// A member that came new has an id of its own.
#[test]
fn replaced_member_answers_under_the_old_name() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.replace(0, 100);
    world.call(0, get("a"));
    reject(&world.finish(), Rule::Identity);
}

/// Nobody answers under the new name before there is a new member.
#[test]
fn replaced_member_answers_too_early() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let early = world.call(0, get("a"));
    header(&mut world.history.operations[early]).member_id = 110;
    world.replace(0, 110);
    world.call(0, get("a"));
    reject(&world.finish(), Rule::Identity);
}

#[test]
fn old_revision_read_wrongly() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.call(0, put("a", "2"));
    let wrong = world.call(1, get_at("a", 2));
    world.history.operations[wrong].request = get_at("a", 3);
    reject(&world.finish(), Rule::WrongAnswer);
}

#[test]
fn answered_below_a_compaction() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.call(0, put("a", "2"));
    world.call(0, compact(3));
    world.compacted = 0;
    world.call(1, get_at("a", 2));
    reject(&world.finish(), Rule::CompactedAnswered);
}

fn refused(request: Request, expected: crate::errors::Expected) -> World {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    world.call(0, put("a", "2"));
    let times = (world.tick(), world.tick());
    world.record((1, 1), times, request, Outcome::Refused(failure(expected)));
    world
}

#[test]
fn compacted_without_a_compaction() {
    reject(&refused(get_at("a", 2), COMPACTED).finish(), Rule::WrongRefusal);
    reject(&refused(compact(2), COMPACTED).finish(), Rule::WrongRefusal);
}

#[test]
fn future_that_is_known() {
    reject(&refused(get_at("a", 3), FUTURE_REVISION).finish(), Rule::WrongRefusal);
}

#[test]
fn lease_that_exists_for_nobody() {
    reject(&refused(super::grant(5, 2), LEASE_EXISTS).finish(), Rule::WrongRefusal);
}

#[test]
fn key_that_was_there_is_not_found() {
    let keep = pb::PutRequest { ignore_value: true, ..request::put("a", "") };
    reject(&refused(Request::Put(keep), KEY_NOT_FOUND).finish(), Rule::WrongRefusal);
}
