//! Answers that change nothing are what the state at their revision says, and are new enough.

use super::writes::add_source;
use super::{Counts, Facts, Rule, Violation};
use crate::pb::{self, request_op::Request as OpRequest, response_op::Response as OpResponse};
use crate::robustness::history::{Answer, Operation, Request};
use crate::robustness::model::{execute, same_answer};

/// Checks all answers that claim no change.
pub(super) fn check(facts: &Facts<'_>, counts: &mut Counts, violations: &mut Vec<Violation>) {
    for (at, op, revision) in facts.answered() {
        if op.request.is_linearizable() {
            violations.extend(check_compaction(facts, at, op));
        }
        if op.answer().is_some_and(Answer::claims_change) {
            continue;
        }
        if revision > facts.store.last() {
            let last = facts.store.last();
            let text = format!("it shows revision {revision}, but the log ends at {last}");
            violations.push(Violation::of(Rule::UnknownRevision, at, text));
            continue;
        }
        if op.request.is_linearizable() {
            violations.extend(check_freshness(facts, at, op, revision));
        }
        if matches!(op.request, Request::Range(_) | Request::Delete(_) | Request::Txn(_)) {
            match op.request.is_linearizable() {
                true => counts.linearizable_reads += 1,
                false => counts.serializable_reads += 1,
            }
            violations.extend(check_content(facts, at, op, revision));
        }
    }
}

fn check_freshness(
    facts: &Facts<'_>,
    at: usize,
    op: &Operation,
    revision: i64,
) -> Option<Violation> {
    let (known, source) = facts.sights.newest_before(op.called);
    (revision < known).then(|| {
        let text = format!("it was answered from revision {revision}, {known} was known before");
        add_source(Violation::of(Rule::Stale, at, text), source)
    })
}

/// RG-03: after a compaction is acknowledged, a linearizable read below it is refused.
fn check_compaction(facts: &Facts<'_>, at: usize, op: &Operation) -> Option<Violation> {
    let lowest = answered_revisions(op).into_iter().min()?;
    let compaction = facts.compactions.certain_above(lowest, op.called)?;
    let text = format!("revision {lowest} was read after a compaction above it was acknowledged");
    Some(Violation::of(Rule::CompactedAnswered, at, text).with([compaction]))
}

fn check_content(facts: &Facts<'_>, at: usize, op: &Operation, revision: i64) -> Option<Violation> {
    let newest = answered_revisions(op).into_iter().max().unwrap_or(0);
    if newest > revision {
        let text = format!("revision {newest} was answered by a store at {revision}");
        return Some(Violation::of(Rule::WrongAnswer, at, text));
    }
    let Some(right) = execute(facts.store, revision, &op.request) else {
        let text = format!("it must be refused in the state of revision {revision}");
        return Some(Violation::of(Rule::WrongAnswer, at, text));
    };
    let problem = if right.events.is_empty() {
        same_answer(&op.request, &right.answer, op.answer()?).err()?
    } else {
        format!("{} changes were due and none was made", right.events.len())
    };
    Some(Violation::of(Rule::WrongAnswer, at, format!("at revision {revision} {problem}")))
}

/// The revisions that a request names, both branches of a transaction included.
pub(super) fn explicit_revisions(request: &Request) -> Vec<i64> {
    let mut found = Vec::new();
    match request {
        Request::Range(range) => found.push(range.revision),
        Request::Txn(txn) => collect(txn, &mut found),
        _ => {}
    }
    found.retain(|revision| *revision > 0);
    found
}

fn collect(txn: &pb::TxnRequest, found: &mut Vec<i64>) {
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(OpRequest::RequestRange(range)) => found.push(range.revision),
            Some(OpRequest::RequestTxn(txn)) => collect(txn, found),
            _ => {}
        }
    }
}

/// The revisions that were read for an answer: those of the branches that were taken.
fn answered_revisions(op: &Operation) -> Vec<i64> {
    let mut found = Vec::new();
    match (&op.request, op.answer()) {
        (Request::Range(range), _) => found.push(range.revision),
        (Request::Txn(txn), Some(Answer::Txn(answer))) => collect_taken(txn, answer, &mut found),
        _ => {}
    }
    found.retain(|revision| *revision > 0);
    found
}

fn collect_taken(txn: &pb::TxnRequest, answer: &pb::TxnResponse, found: &mut Vec<i64>) {
    let branch = if answer.succeeded { &txn.success } else { &txn.failure };
    for (op, answer) in branch.iter().zip(&answer.responses) {
        match (&op.request, &answer.response) {
            (Some(OpRequest::RequestRange(range)), _) => found.push(range.revision),
            (Some(OpRequest::RequestTxn(txn)), Some(OpResponse::ResponseTxn(answer))) => {
                collect_taken(txn, answer, found);
            }
            _ => {}
        }
    }
}
