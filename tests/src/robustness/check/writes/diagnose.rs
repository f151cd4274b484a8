//! Why a revision has no cause, in the words that help most.

use super::causes::{Causes, Index, makes};
use super::{Cause, Explained, add_source};
use crate::robustness::check::leases::Lives;
use crate::robustness::check::{Facts, Rule, Violation};
use crate::robustness::describe;
use crate::robustness::history::Outcome;

/// Looks among all calls for the one that comes closest.
pub(super) fn unexplained(
    facts: &Facts<'_>,
    lives: &Lives,
    causes: &Causes<'_>,
    revision: i64,
    matched: &Explained,
) -> Violation {
    let group = facts.store.group(revision).cloned().unwrap_or_default();
    let what = format!("revision {revision} [{}]", describe::events(&group.events));
    // Every candidate is taken by another revision.
    for cause in causes.of(revision) {
        if let Cause::Operation(at) = cause {
            let other = matched.iter().find(|(_, taken)| **taken == cause);
            let other = other.map_or(0, |(other, _)| *other);
            let text = format!("{what} is its effect, and so is revision {other}");
            return Violation::of(Rule::AppliedTwice, at, text);
        }
    }
    if let Some(violation) = closest_call(facts, revision, &what) {
        return violation;
    }
    if group.ended_lease != 0 {
        let text = format!("{what} ends lease {:x}", group.ended_lease);
        let seen = facts.sights.first_seen(revision);
        return lives.why_not_ended(group.ended_lease, seen, &text);
    }
    Violation::new(Rule::Unexplained, format!("{what}: nobody asked for it"))
}

fn closest_call(facts: &Facts<'_>, revision: i64, what: &str) -> Option<Violation> {
    let group = facts.store.group(revision)?;
    let mut index = Index::default();
    for (at, op) in facts.operations() {
        index.add(at, &op.request);
    }
    let fitting: Vec<usize> = index
        .candidates(group)
        .into_iter()
        .filter(|at| makes(facts, *at, revision, group))
        .collect();
    let find = |wanted: &dyn Fn(&Outcome) -> bool| {
        fitting.iter().copied().find(|at| wanted(&facts.history.operations[*at].outcome))
    };
    if let Some(at) = find(&|outcome| matches!(outcome, Outcome::Unknown(_))) {
        let called = facts.history.operations[at].called;
        let (known, source) = facts.sights.newest_before(called);
        let text = format!("{what} is its effect, but {known} was known before its call");
        return Some(add_source(Violation::of(Rule::BeforeCall, at, text), source));
    }
    if let Some(at) = find(&|outcome| matches!(outcome, Outcome::Refused(_))) {
        return Some(Violation::of(Rule::RefusedTookEffect, at, format!("{what} is its effect")));
    }
    let at = find(&|outcome| matches!(outcome, Outcome::Answered(_)))?;
    let answered = facts.history.operations[at].revision().unwrap_or_default();
    let text = format!("{what} is its effect, but it was answered with revision {answered}");
    Some(Violation::of(Rule::AppliedTwice, at, text))
}
