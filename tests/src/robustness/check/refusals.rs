//! A refusal that gives a reason must have had it at some time of the call.

use super::answers::explicit_revisions;
use super::{Facts, Rule, Violation};
use crate::errors::{COMPACTED, FUTURE_REVISION, KEY_NOT_FOUND, LEASE_EXISTS};
use crate::pb::{self, request_op::Request as OpRequest};
use crate::robustness::history::{Operation, Outcome, Request};

/// Checks the refusals whose reason the record can tell. Leases that are not found are looked at
/// with the leases; refused formats and overload are other tests' business.
pub(super) fn check(facts: &Facts<'_>, violations: &mut Vec<Violation>) {
    for (at, op) in facts.operations() {
        let Outcome::Refused(failure) = &op.outcome else { continue };
        let is = |expected: crate::errors::Expected| failure.text == expected.1;
        let problem = if is(COMPACTED) {
            not_compacted(facts, at, op)
        } else if is(FUTURE_REVISION) {
            not_in_future(facts, op)
        } else if is(LEASE_EXISTS) {
            not_granted(facts, at, op)
        } else if is(KEY_NOT_FOUND) {
            not_absent(facts, op)
        } else {
            None
        };
        if let Some(problem) = problem {
            violations.push(Violation::of(Rule::WrongRefusal, at, problem));
        }
    }
}

fn not_compacted(facts: &Facts<'_>, at: usize, op: &Operation) -> Option<String> {
    if let Request::Compact(request) = &op.request {
        let other = facts.compactions.possible(request.revision, op.returned, Some(at));
        return (!other).then(|| "no other compaction can have been there".into());
    }
    let lowest = explicit_revisions(&op.request).into_iter().min();
    let Some(lowest) = lowest else { return Some("it asks for no revision".into()) };
    let possible = facts.compactions.possible(lowest + 1, op.returned, None);
    (!possible).then(|| format!("no compaction above {lowest} was asked for by then"))
}

fn not_in_future(facts: &Facts<'_>, op: &Operation) -> Option<String> {
    // A member that lags may call anything the future when asked to read what it has.
    if !op.request.is_linearizable() {
        return None;
    }
    let highest = match &op.request {
        Request::Compact(request) => Some(request.revision),
        request => explicit_revisions(request).into_iter().max(),
    };
    let Some(highest) = highest else { return Some("it asks for no revision".into()) };
    let known = facts.sights.newest_before(op.called).0;
    (highest <= known).then(|| format!("revision {known} was known before the call"))
}

fn not_granted(facts: &Facts<'_>, at: usize, op: &Operation) -> Option<String> {
    let Request::Grant(request) = &op.request else { return Some("it is no grant".into()) };
    let other = facts.operations().any(|(other, earlier)| {
        other != at
            && earlier.may_have_happened()
            && earlier.called < op.returned
            && matches!(&earlier.request, Request::Grant(grant) if grant.id == request.id)
    });
    (!other).then(|| format!("nobody else asked for lease {:x}", request.id))
}

/// A key that `ignore_value` or `ignore_lease` needs was there from before the call to the end.
fn not_absent(facts: &Facts<'_>, op: &Operation) -> Option<String> {
    let needed = match &op.request {
        Request::Put(put) => vec![put],
        Request::Txn(txn) => puts(txn),
        _ => Vec::new(),
    };
    let needed: Vec<_> = needed.into_iter().filter(|p| p.ignore_value || p.ignore_lease).collect();
    let first = facts.sights.newest_before(op.called).0.min(facts.store.last());
    let always = needed
        .iter()
        .all(|put| (first..=facts.store.last()).all(|at| facts.store.get(&put.key, at).is_some()));
    always.then(|| "every key it needs existed all the time".into())
}

/// All puts of a transaction, of both branches and nested ones.
pub(super) fn puts(txn: &pb::TxnRequest) -> Vec<&pb::PutRequest> {
    let ops = txn.success.iter().chain(&txn.failure);
    ops.flat_map(|op| match &op.request {
        Some(OpRequest::RequestPut(put)) => vec![put],
        Some(OpRequest::RequestTxn(txn)) => puts(txn),
        _ => Vec::new(),
    })
    .collect()
}
