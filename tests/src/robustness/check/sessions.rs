//! What one life of a member answers never goes back, and it answers under its own name.

use std::collections::BTreeMap;

use super::{Facts, Rule, Violation};
use crate::robustness::history::Operation;

/// Checks every session, and the ids in all headers.
pub(super) fn check(facts: &Facts<'_>, violations: &mut Vec<Violation>) {
    let mut sessions: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (at, op, _) in facts.answered() {
        if op.session != 0 {
            sessions.entry(op.session).or_default().push(at);
        }
    }
    for operations in sessions.into_values() {
        check_session(facts, operations, violations);
    }
    check_identity(facts, violations);
}

/// A number that never decreases, with the call that showed it.
#[derive(Clone, Copy, Default)]
struct Floor {
    value: u64,
    operation: usize,
}

impl Floor {
    fn raise(&mut self, value: u64, operation: usize) {
        if value > self.value {
            *self = Self { value, operation };
        }
    }
}

fn check_session(facts: &Facts<'_>, by_call: Vec<usize>, violations: &mut Vec<Violation>) {
    let all = &facts.history.operations;
    let numbers = |op: &Operation| {
        let header = op.answer().and_then(|answer| answer.header()).copied().unwrap_or_default();
        (u64::try_from(header.revision).unwrap_or(0), header.raft_term)
    };
    let (mut by_call, mut by_return) = (by_call.clone(), by_call);
    by_call.sort_by_key(|at| all[*at].called);
    by_return.sort_by_key(|at| all[*at].returned);
    let mut returned = by_return.into_iter().peekable();
    let (mut revision, mut term) = (Floor::default(), Floor::default());
    for at in by_call {
        while let Some(earlier) = returned.next_if(|o| all[*o].returned < all[at].called) {
            let (known_revision, known_term) = numbers(&all[earlier]);
            revision.raise(known_revision, earlier);
            term.raise(known_term, earlier);
        }
        let (now, now_term) = numbers(&all[at]);
        for (what, now, floor) in [("revision", now, revision), ("term", now_term, term)] {
            if now < floor.value {
                let text = format!("{what} {now} after {} from the same member", floor.value);
                let violation = Violation::of(Rule::SessionWentBack, at, text);
                violations.push(violation.with([floor.operation]));
            }
        }
    }
}

/// How many members were in a call's place before the one it spoke to; `None` if that changed
/// during the call.
fn predecessors(facts: &Facts<'_>, op: &Operation) -> Option<usize> {
    let here = || facts.history.replacements.iter().filter(|one| one.member == op.member);
    if here().any(|one| (op.called..op.returned).contains(&one.at)) {
        return None;
    }
    Some(here().filter(|one| one.at < op.called).count())
}

fn check_identity(facts: &Facts<'_>, violations: &mut Vec<Violation>) {
    let mut members: BTreeMap<(usize, usize), (u64, usize)> = BTreeMap::new();
    let mut cluster: Option<(u64, usize)> = None;
    for (at, op, _) in facts.answered() {
        let Some(header) = op.answer().and_then(|answer| answer.header()) else { continue };
        let (id, first) = *cluster.get_or_insert((header.cluster_id, at));
        let Some(predecessors) = predecessors(facts, op) else { continue };
        let (member, first_of_member) =
            *members.entry((op.member, predecessors)).or_insert((header.member_id, at));
        for (what, known, found, other) in [
            ("cluster", id, header.cluster_id, first),
            ("member", member, header.member_id, first_of_member),
        ] {
            if known != found {
                let text = format!("{what} id {found:x} after {known:x}");
                violations.push(Violation::of(Rule::Identity, at, text).with([other]));
            }
        }
    }
    let mut owners: BTreeMap<u64, usize> = BTreeMap::new();
    for ((member, _), (id, at)) in members {
        if id != 0
            && let Some(other) = owners.insert(id, member)
        {
            let text = format!("members {other} and {member} both answer as {id:x}");
            violations.push(Violation::of(Rule::Identity, at, text));
        }
    }
}
