//! A correct cluster without processes, and the records of its clients: right by construction, so
//! that the checker must accept them, and must not once they are tampered with.

use std::collections::{BTreeMap, BTreeSet};

use tonic::Code;

use crate::errors::{COMPACTED, Expected, FUTURE_REVISION, KEY_NOT_FOUND, LEASE_NOT_FOUND};
use crate::mvccpb::event::EventType;
use crate::mvccpb::{Event, KeyValue};
use crate::pb;
use crate::robustness::check::{Rule, Verdict, check};
use crate::robustness::history::{
    Answer, Failure, History, MemberEnd, Nanos, Operation, Outcome, Received, Replacement, Request,
    Watch, WatchEnd,
};
use crate::robustness::model::execute;
use crate::robustness::store::{Store, contains};
use crate::watch::on_all;

/// The watcher that tells the log.
pub(super) const SCRIBE: usize = 0;
pub(super) const MILLISECOND: Nanos = 1_000_000;
pub(super) const SECOND: Nanos = 1_000 * MILLISECOND;
const MEMBERS: usize = 3;

/// See the module.
pub(super) struct World {
    pub(super) history: History,
    pub(super) store: Store,
    pub(super) now: Nanos,
    /// Lease -> (TTL in seconds, earliest end).
    pub(super) leases: BTreeMap<i64, (i64, Nanos)>,
    pub(super) compacted: i64,
    /// How far each member has applied.
    pub(super) applied: [i64; MEMBERS],
    /// The members' ids.
    ids: [u64; MEMBERS],
    /// Per watcher: the next revision to look at.
    cursors: Vec<i64>,
    /// Watchers that get no more.
    pub(super) closed: BTreeSet<usize>,
}

pub(super) fn failure(expected: Expected) -> Failure {
    Failure { code: expected.0, text: expected.1.into() }
}

pub(super) fn lost() -> Outcome {
    Outcome::Unknown(Failure { code: Code::Unavailable, text: "the connection broke".into() })
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            history: History::default(),
            store: Store::default(),
            now: SECOND,
            leases: BTreeMap::new(),
            compacted: 0,
            applied: [1; MEMBERS],
            ids: [100, 101, 102],
            cursors: Vec::new(),
            closed: BTreeSet::new(),
        };
        world.watch(0, on_all(1));
        world
    }

    pub(super) fn tick(&mut self) -> Nanos {
        self.now += MILLISECOND;
        self.now
    }

    fn header(&self, member: usize, revision: i64) -> Option<pb::ResponseHeader> {
        let member_id = self.ids[member];
        Some(pb::ResponseHeader { cluster_id: 7, member_id, revision, raft_term: 2 })
    }

    /// Another member takes the place of one.
    pub(super) fn replace(&mut self, member: usize, id: u64) {
        let at = self.tick();
        self.history.replacements.push(Replacement { member, at });
        self.ids[member] = id;
    }

    /// Executes a request now.
    pub(super) fn execute(&mut self, member: usize, request: &Request) -> Outcome {
        match self.try_execute(member, request) {
            Ok(answer) => Outcome::Answered(answer),
            Err(expected) => Outcome::Refused(failure(expected)),
        }
    }

    fn try_execute(&mut self, member: usize, request: &Request) -> Result<Answer, Expected> {
        if request.is_linearizable() {
            // The member had to catch up before it could answer.
            self.applied[member] = self.store.last();
        }
        match request {
            Request::Compact(compact) => self.compact(member, compact.revision),
            Request::Grant(grant) => Ok(self.grant(member, grant)),
            Request::Revoke(revoke) => self.revoke(member, revoke.id),
            Request::KeepAlive(renew) => Ok(self.renew(member, renew.id)),
            Request::Defragment => Ok(Answer::Defragment),
            _ => self.on_keys(member, request),
        }
    }

    fn on_keys(&mut self, member: usize, request: &Request) -> Result<Answer, Expected> {
        let at = self.applied[member];
        if let Request::Range(range) = request
            && range.revision > 0
        {
            if range.revision > at {
                return Err(FUTURE_REVISION);
            }
            if range.revision < self.compacted {
                return Err(COMPACTED);
            }
        }
        if let Request::Put(put) = request
            && put.lease != 0
            && !self.leases.contains_key(&put.lease)
        {
            return Err(LEASE_NOT_FOUND);
        }
        let done = execute(&self.store, at, request).ok_or(KEY_NOT_FOUND)?;
        let changes = !done.events.is_empty();
        if changes {
            self.store.push(done.events).unwrap();
            self.applied[member] = self.store.last();
        }
        Ok(self.with_header(member, done.answer))
    }

    fn with_header(&self, member: usize, mut answer: Answer) -> Answer {
        let header = self.header(member, self.applied[member]);
        match &mut answer {
            Answer::Range(a) => a.header = header,
            Answer::Put(a) => a.header = header,
            Answer::Delete(a) => a.header = header,
            Answer::Txn(a) => a.header = header,
            Answer::Compact(a) => a.header = header,
            Answer::Grant(a) => a.header = header,
            Answer::Revoke(a) => a.header = header,
            Answer::KeepAlive(a) => a.header = header,
            Answer::Defragment => {}
        }
        answer
    }

    fn compact(&mut self, member: usize, revision: i64) -> Result<Answer, Expected> {
        if revision <= self.compacted {
            return Err(COMPACTED);
        }
        if revision > self.store.last() {
            return Err(FUTURE_REVISION);
        }
        self.compacted = revision;
        Ok(self.with_header(member, Answer::Compact(pb::CompactionResponse::default())))
    }

    fn grant(&mut self, member: usize, grant: &pb::LeaseGrantRequest) -> Answer {
        self.leases.insert(grant.id, (grant.ttl, self.now + grant.ttl as u64 * SECOND));
        let answer = pb::LeaseGrantResponse { id: grant.id, ttl: grant.ttl, ..Default::default() };
        self.with_header(member, Answer::Grant(answer))
    }

    fn renew(&mut self, member: usize, id: i64) -> Answer {
        let mut ttl = 0;
        if let Some(lease) = self.leases.get_mut(&id) {
            ttl = lease.0;
            lease.1 = self.now + ttl as u64 * SECOND;
        }
        let answer = pb::LeaseKeepAliveResponse { header: None, id, ttl };
        self.with_header(member, Answer::KeepAlive(answer))
    }

    fn revoke(&mut self, member: usize, id: i64) -> Result<Answer, Expected> {
        if !self.leases.contains_key(&id) {
            return Err(LEASE_NOT_FOUND);
        }
        self.end_lease(id);
        self.applied[member] = self.store.last();
        Ok(self.with_header(member, Answer::Revoke(pb::LeaseRevokeResponse::default())))
    }

    /// Ends a lease, due or not.
    pub(super) fn end_lease(&mut self, id: i64) {
        self.leases.remove(&id);
        let mod_revision = self.store.last() + 1;
        let keys = self.store.keys_of_lease(id, mod_revision);
        let events: Vec<Event> = keys
            .into_iter()
            .map(|kv| Event {
                r#type: EventType::Delete as i32,
                kv: Some(KeyValue { key: kv.key.clone(), mod_revision, ..Default::default() }),
                prev_kv: None,
            })
            .collect();
        if !events.is_empty() {
            self.store.push(events).unwrap();
        }
    }

    /// Ends the leases that are due.
    pub(super) fn expire(&mut self) {
        let now = self.now;
        let due: Vec<i64> =
            self.leases.iter().filter(|(_, lease)| lease.1 <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.end_lease(id);
        }
    }

    /// Enters a call that ended.
    pub(super) fn record(
        &mut self,
        (client, member): (u32, usize),
        (called, returned): (Nanos, Nanos),
        request: Request,
        outcome: Outcome,
    ) -> usize {
        let session = member as u64 + 1;
        self.history.operations.push(Operation {
            client,
            member,
            session,
            called,
            returned,
            request,
            outcome,
        });
        self.history.operations.len() - 1
    }

    /// A whole call: asked, executed, answered, a millisecond each.
    pub(super) fn call(&mut self, client: u32, request: Request) -> usize {
        let member = client as usize % MEMBERS;
        let called = self.tick();
        self.tick();
        let outcome = self.execute(member, &request);
        let returned = self.tick();
        self.record((client, member), (called, returned), request, outcome)
    }

    /// A call whose answer is lost, before or after it took effect.
    pub(super) fn lose(&mut self, client: u32, request: Request, takes_effect: bool) -> usize {
        let called = self.tick();
        self.tick();
        if takes_effect {
            self.execute(client as usize % MEMBERS, &request);
        }
        let returned = self.tick();
        let member = client as usize % MEMBERS;
        self.record((client, member), (called, returned), request, lost())
    }

    /// Creates a watcher.
    pub(super) fn watch(&mut self, member: usize, request: pb::WatchCreateRequest) -> usize {
        let called = self.tick();
        let at = self.tick();
        let revision = self.applied[member];
        let start = if request.start_revision > 0 { request.start_revision } else { revision + 1 };
        let response = pb::WatchResponse {
            header: self.header(member, revision),
            created: true,
            ..Default::default()
        };
        let responses = vec![Received { at, response }];
        let end = WatchEnd::Closed("by the client".into());
        let watch = Watch { client: 99, member, called, request, responses, end };
        self.history.watches.push(watch);
        self.cursors.push(start.max(2));
        self.history.watches.len() - 1
    }

    /// The revision a watcher needs next.
    pub(super) fn cursor(&self, watch: usize) -> i64 {
        self.cursors[watch]
    }

    /// Delivers what a watcher has not had yet, up to a revision, in one answer.
    pub(super) fn deliver(&mut self, watch: usize, up_to: i64) {
        let request = self.history.watches[watch].request.clone();
        let mut events = Vec::new();
        for (revision, group) in self.store.groups_from(self.cursors[watch]) {
            if revision > up_to {
                break;
            }
            let wanted = group.events.iter().filter(|event| wants(&request, event));
            events.extend(wanted.map(|event| with_previous(&self.store, &request, event)));
        }
        self.cursors[watch] = self.cursors[watch].max(up_to + 1);
        if !events.is_empty() {
            self.send(
                watch,
                pb::WatchResponse {
                    events,
                    header: self.header(self.history.watches[watch].member, up_to),
                    ..Default::default()
                },
            );
        }
    }

    /// Reports progress of a watcher that has everything.
    pub(super) fn bookmark(&mut self, watch: usize) {
        let header = self.header(self.history.watches[watch].member, self.cursors[watch] - 1);
        self.send(watch, pb::WatchResponse { header, ..Default::default() });
    }

    pub(super) fn send(&mut self, watch: usize, response: pb::WatchResponse) {
        let at = self.tick();
        self.history.watches[watch].responses.push(Received { at, response });
    }

    /// Brings everything to rest and returns the record.
    pub(super) fn finish(mut self) -> History {
        let last = self.store.last();
        for watch in 0..self.history.watches.len() {
            let responses = &self.history.watches[watch].responses;
            let canceled = responses.last().is_some_and(|last| last.response.canceled);
            if !canceled && !self.closed.contains(&watch) {
                self.deliver(watch, last);
                self.history.watches[watch].end = WatchEnd::Drained(last);
            }
        }
        let kvs: Vec<KeyValue> =
            self.store.range(b"\0", b"\0", last).into_iter().cloned().collect();
        for member in 0..MEMBERS {
            self.history.ends.push(MemberEnd {
                member,
                revision: last,
                hash: 17,
                compact_revision: self.compacted,
                kvs: kvs.clone(),
                leases: self.leases.keys().copied().collect(),
                members: vec![100, 101, 102],
            });
        }
        self.history
    }
}

fn wants(request: &pb::WatchCreateRequest, event: &Event) -> bool {
    let filtered = i32::from(event.r#type == EventType::Delete as i32);
    let key = &event.kv.as_ref().unwrap().key;
    contains(&request.key, &request.range_end, key) && !request.filters.contains(&filtered)
}

fn with_previous(store: &Store, request: &pb::WatchCreateRequest, event: &Event) -> Event {
    let kv = event.kv.as_ref().unwrap();
    let prev_kv = store.get(&kv.key, kv.mod_revision - 1).filter(|_| request.prev_kv).cloned();
    Event { prev_kv, ..event.clone() }
}

/// Fails unless the record is accepted.
#[track_caller]
pub(super) fn accept(history: &History) -> Verdict {
    let verdict = check(history);
    assert!(verdict.is_clean(), "{}", verdict.explain(history, 5));
    verdict
}

/// Fails unless the record breaks this rule.
#[track_caller]
pub(super) fn reject(history: &History, rule: Rule) {
    let verdict = check(history);
    let found = verdict.violations.iter().any(|violation| violation.rule == rule);
    assert!(found, "{rule:?} was not found, but\n{}", verdict.explain(history, 5));
}
