//! Leases live at least as long as promised, end once, and take their keys along.
//!
//! Clocks: a renewal that was answered happened after its call, so the lease lives until then plus
//! its TTL at least; an end happened before anybody saw it. Both sides give the server the benefit
//! of the doubt, and all times are of one clock.

use std::collections::{BTreeMap, BTreeSet};

use super::refusals::puts;
use super::writes::{Cause, Explained};
use super::{Counts, Facts, Rule, Violation};
use crate::errors::LEASE_NOT_FOUND;
use crate::mvccpb::event::EventType;
use crate::robustness::describe;
use crate::robustness::history::{Answer, History, Nanos, Operation, Outcome, Request};

const NANOS: u64 = 1_000_000_000;

/// What happened to each lease.
pub(super) struct Lives(BTreeMap<i64, Life>);

#[derive(Default)]
struct Life {
    /// Grants that may have happened.
    grants: Vec<Renewal>,
    /// Keep-alives that were answered with a TTL.
    renewals: Vec<Renewal>,
    /// Revokes that may have happened.
    revokes: Vec<Revoke>,
    /// Answers that say that the lease is gone.
    missed: Vec<usize>,
}

struct Renewal {
    operation: usize,
    called: Nanos,
    /// When a grant was acknowledged.
    done: Option<Nanos>,
    ttl_seconds: u64,
}

struct Revoke {
    operation: usize,
    called: Nanos,
    /// When it was acknowledged, and at which revision.
    done: Option<(Nanos, i64)>,
}

/// A time at which a lease was certainly over.
struct End {
    at: Nanos,
    operation: Option<usize>,
    how: String,
}

impl Renewal {
    fn due(&self) -> Nanos {
        self.called.saturating_add(self.ttl_seconds.saturating_mul(NANOS))
    }
}

impl Lives {
    pub(super) fn collect(history: &History) -> Self {
        let mut lives: BTreeMap<i64, Life> = BTreeMap::new();
        for (at, op) in history.operations.iter().enumerate() {
            match &op.request {
                Request::Grant(grant) if op.may_have_happened() => {
                    let (id, ttl) = match op.answer() {
                        Some(Answer::Grant(answer)) => (answer.id, answer.ttl),
                        _ => (grant.id, grant.ttl),
                    };
                    lives.entry(id).or_default().grants.push(renewal(at, op, ttl));
                }
                Request::KeepAlive(request) => {
                    let life = lives.entry(request.id).or_default();
                    match op.answer() {
                        Some(Answer::KeepAlive(answer)) if answer.ttl > 0 => {
                            life.renewals.push(renewal(at, op, answer.ttl));
                        }
                        Some(_) => life.missed.push(at),
                        None => {}
                    }
                }
                Request::Revoke(request) if op.may_have_happened() => {
                    let done = op.revision().map(|revision| (op.returned, revision));
                    let revoke = Revoke { operation: at, called: op.called, done };
                    lives.entry(request.id).or_default().revokes.push(revoke);
                }
                _ => {}
            }
            if let Some(lease) = missing_lease(op) {
                lives.entry(lease).or_default().missed.push(at);
            }
        }
        Self(lives)
    }

    /// True if the lease may have ended by itself when that was first `seen`.
    pub(super) fn may_end(&self, lease: i64, seen: Option<Nanos>) -> bool {
        let (Some(life), Some(seen)) = (self.0.get(&lease), seen) else { return false };
        life.last_promise(seen).is_some_and(|promise| promise.due() <= seen)
    }

    /// Says why a lease cannot have ended by itself.
    pub(super) fn why_not_ended(&self, lease: i64, seen: Option<Nanos>, what: &str) -> Violation {
        let seen = seen.unwrap_or(Nanos::MAX);
        match self.0.get(&lease).and_then(|life| life.last_promise(seen)) {
            None => Violation::new(Rule::LeaseMisused, format!("{what}, which nobody granted")),
            Some(promise) if promise.due() > seen => early(what, seen, promise),
            Some(promise) => {
                let text = format!("{what} for the second time");
                Violation::of(Rule::LeaseMisused, promise.operation, text)
            }
        }
    }
}

fn early(what: &str, seen: Nanos, promise: &Renewal) -> Violation {
    let text = format!(
        "{what} by {}, but it was promised until {} at least",
        describe::time(seen),
        describe::time(promise.due())
    );
    Violation::of(Rule::LeaseEarly, promise.operation, text)
}

fn renewal(at: usize, op: &Operation, ttl: i64) -> Renewal {
    let done = op.answer().is_some().then_some(op.returned);
    let ttl_seconds = u64::try_from(ttl).unwrap_or(0);
    Renewal { operation: at, called: op.called, done, ttl_seconds }
}

/// The lease that a call was refused for, when it named only one.
fn missing_lease(op: &Operation) -> Option<i64> {
    match &op.outcome {
        Outcome::Refused(failure) if failure.text == LEASE_NOT_FOUND.1 => {}
        _ => return None,
    }
    match &op.request {
        Request::Put(put) => Some(put.lease),
        Request::Revoke(revoke) => Some(revoke.id),
        Request::Txn(txn) => {
            let named: BTreeSet<i64> =
                puts(txn).iter().map(|put| put.lease).filter(|lease| *lease != 0).collect();
            named.first().copied().filter(|_| named.len() == 1)
        }
        _ => None,
    }
}

impl Life {
    /// The grant or renewal before `time` that promises the longest life.
    fn last_promise(&self, time: Nanos) -> Option<&Renewal> {
        // An unacknowledged grant counts only if no other can have made the lease.
        let grant = self.grants.iter().find(|grant| grant.done.is_some());
        let grant = grant.or(self.grants.iter().min_by_key(|grant| grant.called))?;
        let renewals = self.renewals.iter().filter(|renewal| renewal.called < time);
        renewals.chain([grant]).max_by_key(|renewal| renewal.due())
    }
}

/// Checks all leases.
pub(super) fn check(
    facts: &Facts<'_>,
    explained: &Explained,
    counts: &mut Counts,
    violations: &mut Vec<Violation>,
) {
    let lives = Lives::collect(facts.history);
    let attached = attached_revisions(facts);
    check_granted(facts, &lives, &attached, violations);
    let mut expiries: BTreeMap<i64, i64> = BTreeMap::new();
    for (revision, cause) in explained {
        if let Cause::Expiry(lease) = cause {
            expiries.insert(*lease, *revision);
        }
    }
    let floor = LaterRevisions::collect(facts);
    for (lease, life) in &lives.0 {
        counts.renewals += life.renewals.len();
        let expiry = expiries.get(lease).copied();
        violations.extend(check_uses(*lease, life, expiry));
        // With one id for several lives it cannot be told which of them ended.
        if life.grants.len() == 1 {
            let attached = attached.get(lease).map_or(&[][..], Vec::as_slice);
            let check = OneLife { facts, lease: *lease, life, expiry, attached, floor: &floor };
            check.run(violations);
        }
    }
}

/// The revisions that put keys with each lease.
fn attached_revisions(facts: &Facts<'_>) -> BTreeMap<i64, Vec<i64>> {
    let mut attached: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (revision, group) in facts.store.groups_from(2) {
        for event in group.events.iter().filter(|event| event.r#type == EventType::Put as i32) {
            let lease = event.kv.as_ref().map_or(0, |kv| kv.lease);
            if lease != 0 {
                attached.entry(lease).or_default().push(revision);
            }
        }
    }
    attached
}

fn check_granted(
    facts: &Facts<'_>,
    lives: &Lives,
    attached: &BTreeMap<i64, Vec<i64>>,
    violations: &mut Vec<Violation>,
) {
    for (lease, revisions) in attached {
        let first = revisions.first().copied().unwrap_or_default();
        let seen = facts.sights.first_seen(first).unwrap_or(Nanos::MAX);
        let granted =
            lives.0.get(lease).is_some_and(|life| life.grants.iter().any(|g| g.called < seen));
        if !granted {
            let text = format!("revision {first} uses lease {lease:x}, which nobody had granted");
            violations.push(Violation::new(Rule::LeaseMisused, text));
        }
    }
}

/// Granted once, ended once.
fn check_uses(lease: i64, life: &Life, expiry: Option<i64>) -> Option<Violation> {
    let granted: Vec<usize> =
        life.grants.iter().filter(|g| g.done.is_some()).map(|g| g.operation).collect();
    if granted.len() > 1 && life.revokes.is_empty() && expiry.is_none() {
        let text = format!("lease {lease:x} was granted twice and never ended");
        return Some(Violation::new(Rule::LeaseMisused, text).with(granted));
    }
    let revoked: Vec<usize> =
        life.revokes.iter().filter(|r| r.done.is_some()).map(|r| r.operation).collect();
    if revoked.len() > life.grants.len() {
        let text = format!("lease {lease:x} was revoked more often than granted");
        return Some(Violation::new(Rule::LeaseMisused, text).with(revoked));
    }
    None
}

/// The lowest revision that linearizable calls made after a time were answered with.
struct LaterRevisions(Vec<(Nanos, i64)>);

impl LaterRevisions {
    fn collect(facts: &Facts<'_>) -> Self {
        let linearizable = facts.answered().filter(|(_, op, _)| op.request.is_linearizable());
        let mut all: Vec<(Nanos, i64)> =
            linearizable.map(|(_, op, revision)| (op.called, revision)).collect();
        all.sort_unstable();
        let mut lowest = i64::MAX;
        for (_, revision) in all.iter_mut().rev() {
            lowest = lowest.min(*revision);
            *revision = lowest;
        }
        Self(all)
    }

    fn after(&self, time: Nanos) -> Option<i64> {
        let at = self.0.partition_point(|(called, _)| *called <= time);
        self.0.get(at).map(|(_, revision)| *revision)
    }
}

/// A lease that was granted once.
struct OneLife<'a> {
    facts: &'a Facts<'a>,
    lease: i64,
    life: &'a Life,
    expiry: Option<i64>,
    attached: &'a [i64],
    floor: &'a LaterRevisions,
}

impl OneLife<'_> {
    fn run(&self, violations: &mut Vec<Violation>) {
        let ends = self.ends();
        for end in &ends {
            violations.extend(self.check_early(end));
        }
        if let Some(first) = ends.iter().min_by_key(|end| end.at) {
            violations.extend(self.check_after(first));
            if let Some(revision) = self.floor.after(first.at) {
                violations.extend(self.check_keys(revision, first));
            }
        }
        if let Some(expiry) = self.expiry {
            let end = End { at: 0, operation: None, how: format!("it ended at revision {expiry}") };
            violations.extend(self.check_keys(expiry, &end));
        }
        for revoke in &self.life.revokes {
            if let Some((at, revision)) = revoke.done {
                let how = format!("it was revoked by revision {revision}");
                let end = End { at, operation: Some(revoke.operation), how };
                violations.extend(self.check_keys(revision, &end));
            }
        }
    }

    /// Everything that shows that the lease is over.
    fn ends(&self) -> Vec<End> {
        let mut ends = Vec::new();
        if let Some(revision) = self.expiry
            && let Some(at) = self.facts.sights.first_seen(revision)
        {
            ends.push(End { at, operation: None, how: format!("it ended at revision {revision}") });
        }
        for revoke in &self.life.revokes {
            if let Some((at, _)) = revoke.done {
                let how = "its revoke was acknowledged".into();
                ends.push(End { at, operation: Some(revoke.operation), how });
            }
        }
        let granted = self.life.grants.iter().find_map(|grant| grant.done);
        for missed in &self.life.missed {
            let op = &self.facts.history.operations[*missed];
            // Before its grant is acknowledged a lease may well be missing.
            if granted.is_some_and(|granted| granted < op.called) {
                let how = "it was answered to be gone".into();
                ends.push(End { at: op.returned, operation: Some(*missed), how });
            }
        }
        ends
    }

    fn check_early(&self, end: &End) -> Option<Violation> {
        if self.life.revokes.iter().any(|revoke| revoke.called < end.at) {
            return None;
        }
        let promise = self.life.last_promise(end.at)?;
        (promise.due() > end.at).then(|| {
            let what = format!("lease {:x}: {}", self.lease, end.how);
            early(&what, end.at, promise).with(end.operation)
        })
    }

    /// No success after the end.
    fn check_after(&self, end: &End) -> Option<Violation> {
        let renewed = self.life.renewals.iter().find(|renewal| renewal.called > end.at);
        let renewed = renewed.map(|renewal| (renewal.operation, "renewed"));
        let revoked = self.life.revokes.iter().find(|revoke| {
            revoke.done.is_some()
                && revoke.called > end.at
                && Some(revoke.operation) != end.operation
        });
        let revoked = revoked.map(|revoke| (revoke.operation, "revoked"));
        let (operation, what) = renewed.or(revoked)?;
        let text = format!(
            "lease {:x} was {what} after {}: {}",
            self.lease,
            describe::time(end.at),
            end.how
        );
        Some(Violation::of(Rule::LeaseAfterEnd, operation, text).with(end.operation))
    }

    /// From `revision` on no key belongs to the lease.
    fn check_keys(&self, revision: i64, end: &End) -> Option<Violation> {
        let put = self.attached.iter().find(|put| **put > revision).map(|put| {
            format!("revision {put} puts a key with lease {:x}: {}", self.lease, end.how)
        });
        // Most leases never had keys, and looking for them walks over all there are.
        let left = self.attached.first().and_then(|_| {
            let left = self.facts.store.keys_of_lease(self.lease, revision);
            let kv = left.first()?;
            Some(format!("at revision {revision} there still is {}: {}", describe::pair(kv), {
                &end.how
            }))
        });
        let violation = Violation::new(Rule::LeaseAfterEnd, left.or(put)?);
        Some(violation.with(end.operation))
    }
}
