//! Every write in the log has one cause, and every acknowledged one stands where it was promised.

mod causes;
mod diagnose;

use std::collections::BTreeMap;

use super::leases::Lives;
use super::sights::Source;
use super::{Counts, Facts, Rule, Violation};
use crate::robustness::describe;
use crate::robustness::history::{Answer, Operation};
use crate::robustness::model::{execute, same_answer};
use causes::Causes;

/// What made a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A call.
    Operation(usize),
    /// The end of a lease by itself.
    Expiry(i64),
}

/// The cause of each revision that has one.
pub(super) type Explained = BTreeMap<i64, Cause>;

/// Checks all writes and finds the causes.
pub(super) fn check(
    facts: &Facts<'_>,
    counts: &mut Counts,
    violations: &mut Vec<Violation>,
) -> Explained {
    let mut explained = Explained::new();
    for (at, op, revision) in facts.answered() {
        if op.answer().is_some_and(Answer::claims_change) {
            check_claim(facts, at, op, revision, &mut explained, violations);
        }
    }
    let lives = Lives::collect(facts.history);
    let causes = Causes::collect(facts, &lives);
    let open: Vec<i64> = facts
        .store
        .groups_from(2)
        .map(|(revision, _)| revision)
        .filter(|revision| !explained.contains_key(revision))
        .collect();
    let matched = causes.assign(&open);
    for revision in open {
        match matched.get(&revision) {
            Some(Cause::Operation(_)) => counts.by_unknown += 1,
            Some(Cause::Expiry(_)) => counts.by_expiry += 1,
            None => {
                violations.push(diagnose::unexplained(facts, &lives, &causes, revision, &matched));
            }
        }
    }
    explained.extend(matched);
    explained
}

/// An answer that claims a change stands at its revision, whole, and after the call.
fn check_claim(
    facts: &Facts<'_>,
    at: usize,
    op: &Operation,
    revision: i64,
    explained: &mut Explained,
    violations: &mut Vec<Violation>,
) {
    let Some(group) = facts.store.group(revision) else {
        let last = facts.store.last();
        let text = format!("acknowledged at revision {revision}, but the log ends at {last}");
        violations.push(Violation::of(Rule::Lost, at, text));
        return;
    };
    if let Some(Cause::Operation(other)) = explained.insert(revision, Cause::Operation(at)) {
        let text = format!("both were answered with the new revision {revision}");
        violations.push(Violation::of(Rule::TwoWritesOneRevision, other, text).with([at]));
    }
    if let Some(violation) = check_order(facts, at, op, revision) {
        violations.push(violation);
    }
    let Some(right) = execute(facts.store, revision - 1, &op.request) else {
        let text = format!("it must be refused in the state before revision {revision}");
        violations.push(Violation::of(Rule::WrongEffect, at, text));
        return;
    };
    if right.events != group.events {
        let (wanted, found) = (describe::events(&right.events), describe::events(&group.events));
        let text = format!("revision {revision} must be [{wanted}] and is [{found}]");
        // A write that left no trace at all is lost; one that left another trace is wrong.
        let shares = right.events.iter().any(|event| group.events.contains(event));
        let rule = if shares { Rule::WrongEffect } else { Rule::Lost };
        violations.push(Violation::of(rule, at, text));
    } else if let Some(answer) = op.answer()
        && let Err(problem) = same_answer(&op.request, &right.answer, answer)
    {
        violations.push(Violation::of(Rule::WrongAnswer, at, problem));
    }
}

/// A new revision is above all that was known before the call.
fn check_order(facts: &Facts<'_>, at: usize, op: &Operation, revision: i64) -> Option<Violation> {
    let (known, source) = facts.sights.newest_before(op.called);
    (revision <= known).then(|| {
        let text = format!("it made revision {revision}, but {known} was known before its call");
        add_source(Violation::of(Rule::BeforeCall, at, text), source)
    })
}

/// Names who knew.
pub(super) fn add_source(mut violation: Violation, source: Option<Source>) -> Violation {
    match source {
        Some(Source::Operation(at)) => violation.operations.push(at),
        Some(Source::Watch(at)) => violation.watches.push(at),
        None => {}
    }
    violation
}
