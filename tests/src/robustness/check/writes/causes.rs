//! Which calls without an acknowledgement made which revisions.
//!
//! A matching between revisions and calls: a call can have made a revision if its effect on the
//! state before is that revision, and if the revision was not known before the call. Each revision
//! needs a call, each call made at most one. Augmenting paths find such an assignment if there is
//! one; with unique values nearly every revision has a single candidate.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use super::{Cause, Explained};
use crate::mvccpb::event::EventType;
use crate::pb::{self, request_op::Request as OpRequest};
use crate::robustness::check::Facts;
use crate::robustness::check::leases::Lives;
use crate::robustness::history::{Outcome, Request};
use crate::robustness::model::execute;
use crate::robustness::store::Group;

/// Calls by what they may change.
#[derive(Default)]
pub(super) struct Index {
    /// Puts of a value.
    values: HashMap<(Bytes, Bytes), Vec<usize>>,
    /// Deletes of a key, and puts that keep its value.
    keys: HashMap<Bytes, Vec<usize>>,
    /// Deletes of ranges.
    ranges: Vec<usize>,
    /// Revokes by lease.
    leases: HashMap<i64, Vec<usize>>,
}

impl Index {
    /// Adds a call.
    pub(super) fn add(&mut self, at: usize, request: &Request) {
        match request {
            Request::Put(put) => self.add_put(at, put),
            Request::Delete(delete) => self.add_delete(at, delete),
            Request::Txn(txn) => self.add_txn(at, txn),
            Request::Revoke(revoke) => self.leases.entry(revoke.id).or_default().push(at),
            _ => {}
        }
    }

    fn add_put(&mut self, at: usize, put: &pb::PutRequest) {
        if put.ignore_value {
            self.keys.entry(put.key.clone()).or_default().push(at);
        } else {
            let change = (put.key.clone(), put.value.clone());
            self.values.entry(change).or_default().push(at);
        }
    }

    fn add_delete(&mut self, at: usize, delete: &pb::DeleteRangeRequest) {
        if delete.range_end.is_empty() {
            self.keys.entry(delete.key.clone()).or_default().push(at);
        } else {
            self.ranges.push(at);
        }
    }

    fn add_txn(&mut self, at: usize, txn: &pb::TxnRequest) {
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(OpRequest::RequestPut(put)) => self.add_put(at, put),
                Some(OpRequest::RequestDeleteRange(delete)) => self.add_delete(at, delete),
                Some(OpRequest::RequestTxn(txn)) => self.add_txn(at, txn),
                Some(OpRequest::RequestRange(_)) | None => {}
            }
        }
    }

    /// Every call that may have made this change, and some that have not.
    pub(super) fn candidates(&self, group: &Group) -> Vec<usize> {
        let Some(event) = group.events.first() else { return Vec::new() };
        let kv = event.kv.clone().unwrap_or_default();
        let mut found: Vec<usize> = self.keys.get(&kv.key).into_iter().flatten().copied().collect();
        if event.r#type == EventType::Put as i32 {
            found.extend(self.values.get(&(kv.key, kv.value)).into_iter().flatten());
        } else {
            found.extend(&self.ranges);
            found.extend(self.leases.get(&group.ended_lease).into_iter().flatten());
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// True if the call's effect on the state before `revision` is what `revision` changed.
pub(super) fn makes(facts: &Facts<'_>, at: usize, revision: i64, group: &Group) -> bool {
    match &facts.history.operations[at].request {
        Request::Revoke(revoke) => group.ended_lease == revoke.id && revoke.id != 0,
        request => execute(facts.store, revision - 1, request)
            .is_some_and(|executed| executed.events == group.events),
    }
}

/// The calls and leases that may have made revisions without an acknowledgement.
pub(super) struct Causes<'a> {
    facts: &'a Facts<'a>,
    lives: &'a Lives,
    index: Index,
}

impl<'a> Causes<'a> {
    pub(super) fn collect(facts: &'a Facts<'a>, lives: &'a Lives) -> Self {
        let mut index = Index::default();
        for (at, op) in facts.operations() {
            // An answered revoke does not say whether there were keys.
            let is_revoke = matches!(op.request, Request::Revoke(_));
            if op.may_have_happened() && (op.answer().is_none() || is_revoke) {
                index.add(at, &op.request);
            }
        }
        Self { facts, lives, index }
    }

    /// Who may have made this revision.
    pub(super) fn of(&self, revision: i64) -> Vec<Cause> {
        let Some(group) = self.facts.store.group(revision) else { return Vec::new() };
        let mut found: Vec<Cause> = self
            .index
            .candidates(group)
            .into_iter()
            .filter(|at| self.in_time(*at, revision) && makes(self.facts, *at, revision, group))
            .map(Cause::Operation)
            .collect();
        let lease = group.ended_lease;
        if lease != 0 && self.lives.may_end(lease, self.facts.sights.first_seen(revision)) {
            found.push(Cause::Expiry(lease));
        }
        found
    }

    fn in_time(&self, at: usize, revision: i64) -> bool {
        let op = &self.facts.history.operations[at];
        let after_call = self.facts.sights.newest_before(op.called).0 < revision;
        let before_answer = match op.outcome {
            Outcome::Answered(_) => op.revision().is_some_and(|answered| revision <= answered),
            _ => true,
        };
        after_call && before_answer
    }

    /// Gives as many of the revisions a cause as can have one.
    pub(super) fn assign(&self, revisions: &[i64]) -> Explained {
        let candidates: BTreeMap<i64, Vec<Node>> = revisions
            .iter()
            .map(|revision| (*revision, self.of(*revision).into_iter().map(Node::from).collect()))
            .collect();
        let mut matching = Matching { candidates, made: HashMap::new() };
        for revision in revisions {
            matching.augment(*revision, &mut HashSet::new());
        }
        matching.made.into_iter().map(|(node, revision)| (revision, node.into())).collect()
    }
}

/// A cause as something that can be used once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Node {
    Operation(usize),
    Expiry(i64),
}

impl From<Cause> for Node {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Operation(at) => Self::Operation(at),
            Cause::Expiry(lease) => Self::Expiry(lease),
        }
    }
}

impl From<Node> for Cause {
    fn from(node: Node) -> Self {
        match node {
            Node::Operation(at) => Self::Operation(at),
            Node::Expiry(lease) => Self::Expiry(lease),
        }
    }
}

struct Matching {
    candidates: BTreeMap<i64, Vec<Node>>,
    made: HashMap<Node, i64>,
}

impl Matching {
    fn augment(&mut self, revision: i64, tried: &mut HashSet<Node>) -> bool {
        let nodes = self.candidates.get(&revision).cloned().unwrap_or_default();
        if let Some(free) = nodes.iter().find(|node| !self.made.contains_key(node)) {
            self.made.insert(*free, revision);
            return true;
        }
        for node in nodes {
            let other = self.made[&node];
            if tried.insert(node) && self.augment(other, tried) {
                self.made.insert(node, revision);
                return true;
            }
        }
        false
    }
}
