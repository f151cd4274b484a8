//! After healing all members are equal, and have what the log has.

use super::{Facts, Rule, Violation};
use crate::mvccpb::KeyValue;
use crate::robustness::describe;
use crate::robustness::history::MemberEnd;

/// Compares the members with each other and with the log.
pub(super) fn check(facts: &Facts<'_>, violations: &mut Vec<Violation>) {
    let ends = &facts.history.ends;
    for pair in ends.windows(2) {
        if let Some(text) = difference(&pair[0], &pair[1]) {
            violations.push(Violation::new(Rule::EndsDiffer, text));
        }
    }
    for end in ends {
        check_against_log(facts, end, violations);
    }
}

fn difference(a: &MemberEnd, b: &MemberEnd) -> Option<String> {
    let between = format!("members {} and {}", a.member, b.member);
    if a.revision != b.revision {
        return Some(format!("{between} end at revisions {} and {}", a.revision, b.revision));
    }
    if let Some(text) = first_difference(&a.kvs, &b.kvs) {
        return Some(format!("{between} hold other keys: {text}"));
    }
    if (a.hash, a.compact_revision) != (b.hash, b.compact_revision) {
        return Some(format!(
            "{between} hash to {:08x} (compacted at {}) and {:08x} (compacted at {})",
            a.hash, a.compact_revision, b.hash, b.compact_revision
        ));
    }
    if a.leases != b.leases {
        return Some(format!("{between} hold leases {:x?} and {:x?}", a.leases, b.leases));
    }
    (a.members != b.members)
        .then(|| format!("{between} know members {:x?} and {:x?}", a.members, b.members))
}

fn first_difference(a: &[KeyValue], b: &[KeyValue]) -> Option<String> {
    let at = a.iter().zip(b).position(|(a, b)| a != b);
    let at = at.or((a.len() != b.len()).then_some(a.len().min(b.len())))?;
    let show = |kv: Option<&KeyValue>| kv.map_or("nothing".into(), describe::pair);
    Some(format!("{} and {}", show(a.get(at)), show(b.get(at))))
}

fn check_against_log(facts: &Facts<'_>, end: &MemberEnd, violations: &mut Vec<Violation>) {
    let member = end.member;
    let last = facts.store.last();
    if end.revision != last {
        let text = format!("member {member} ends at revision {}, the log at {last}", end.revision);
        violations.push(Violation::new(Rule::EndBehind, text));
        return;
    }
    let known: Vec<KeyValue> = facts.store.range(b"\0", b"\0", last).into_iter().cloned().collect();
    if let Some(text) = first_difference(&known, &end.kvs) {
        let text = format!("the log and member {member} end with other keys: {text}");
        violations.push(Violation::new(Rule::EndBehind, text));
    }
}
