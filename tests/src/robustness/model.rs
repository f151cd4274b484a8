//! What a request does to the store and answers: etcd's rules KR, RG, PD and TX as plain code.
//!
//! Requests that the server refuses before executing them are not modelled. Written for the
//! checker alone and sharing nothing with the server, so that a mistake in one shows in the other.

mod range;

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::history::{Answer, Request};
use super::store::Store;
use crate::mvccpb::event::EventType;
use crate::mvccpb::{Event, KeyValue};
use crate::pb;
use crate::request::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as OpRequest;
use pb::response_op::Response as OpResponse;

pub use range::same_range;

/// What a request did.
#[derive(Clone, Debug)]
pub struct Executed {
    /// The changes, at the revision after the one it ran at.
    pub events: Vec<Event>,
    /// The answer without headers.
    pub answer: Answer,
}

/// Runs a request on the state at `revision`. None if the server must refuse it there, or if it is
/// not about keys.
pub fn execute(store: &Store, revision: i64, request: &Request) -> Option<Executed> {
    let mut run = Run { store, revision, overlay: BTreeMap::new(), events: Vec::new() };
    let answer = match request {
        Request::Range(range) => Answer::Range(run.range(range)),
        Request::Put(put) => Answer::Put(run.put(put)?),
        Request::Delete(delete) => Answer::Delete(run.delete(delete)),
        Request::Txn(txn) => Answer::Txn(run.txn(txn)?),
        _ => return None,
    };
    Some(Executed { events: run.events, answer })
}

/// A request in the middle of its execution.
struct Run<'a> {
    store: &'a Store,
    revision: i64,
    /// What this request changed so far.
    overlay: BTreeMap<Bytes, Option<KeyValue>>,
    events: Vec<Event>,
}

impl Run<'_> {
    fn get(&self, key: &Bytes) -> Option<KeyValue> {
        match self.overlay.get(key) {
            Some(changed) => changed.clone(),
            None => self.store.get(key, self.revision).cloned(),
        }
    }

    fn select(&self, key: &[u8], range_end: &[u8]) -> Vec<KeyValue> {
        let old = self.store.range(key, range_end, self.revision).into_iter();
        if self.overlay.is_empty() {
            return old.cloned().collect();
        }
        let mut found: BTreeMap<Bytes, Option<KeyValue>> =
            old.map(|kv| (kv.key.clone(), Some(kv.clone()))).collect();
        let from_key = self.overlay.range::<[u8], _>((Bound::Included(key), Bound::Unbounded));
        for (changed, kv) in from_key.filter(|(k, _)| super::store::contains(key, range_end, k)) {
            found.insert(changed.clone(), kv.clone());
        }
        found.into_values().flatten().collect()
    }

    /// TX-10: an explicit revision does not see this request's own changes.
    fn range(&self, request: &pb::RangeRequest) -> pb::RangeResponse {
        let kvs = if request.revision > 0 {
            let found = self.store.range(&request.key, &request.range_end, request.revision);
            found.into_iter().cloned().collect()
        } else {
            self.select(&request.key, &request.range_end)
        };
        range::answer(request, kvs)
    }

    fn put(&mut self, request: &pb::PutRequest) -> Option<pb::PutResponse> {
        let old = self.get(&request.key);
        if old.is_none() && (request.ignore_value || request.ignore_lease) {
            return None;
        }
        let new_revision = self.revision + 1;
        let kept = old.clone().unwrap_or_default();
        let kv = KeyValue {
            key: request.key.clone(),
            value: if request.ignore_value { kept.value } else { request.value.clone() },
            lease: if request.ignore_lease { kept.lease } else { request.lease },
            create_revision: old.as_ref().map_or(new_revision, |old| old.create_revision),
            mod_revision: new_revision,
            version: kept.version + 1,
        };
        self.change(EventType::Put, kv.clone(), Some(kv));
        Some(pb::PutResponse { header: None, prev_kv: old.filter(|_| request.prev_kv) })
    }

    fn delete(&mut self, request: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
        let gone = self.select(&request.key, &request.range_end);
        for kv in &gone {
            let mod_revision = self.revision + 1;
            let tombstone = KeyValue { key: kv.key.clone(), mod_revision, ..Default::default() };
            self.change(EventType::Delete, tombstone, None);
        }
        pb::DeleteRangeResponse {
            header: None,
            deleted: gone.len() as i64,
            prev_kvs: if request.prev_kv { gone } else { Vec::new() },
        }
    }

    fn change(&mut self, kind: EventType, shown: KeyValue, kept: Option<KeyValue>) {
        self.overlay.insert(shown.key.clone(), kept);
        self.events.push(Event { r#type: kind as i32, kv: Some(shown), prev_kv: None });
    }

    fn txn(&mut self, request: &pb::TxnRequest) -> Option<pb::TxnResponse> {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { &request.success } else { &request.failure };
        let responses: Option<Vec<_>> = branch.iter().map(|op| self.op(op)).collect();
        Some(pb::TxnResponse { header: None, succeeded, responses: responses? })
    }

    fn op(&mut self, op: &pb::RequestOp) -> Option<pb::ResponseOp> {
        let response = match op.request.as_ref()? {
            OpRequest::RequestRange(range) => OpResponse::ResponseRange(self.range(range)),
            OpRequest::RequestPut(put) => OpResponse::ResponsePut(self.put(put)?),
            OpRequest::RequestDeleteRange(delete) => {
                OpResponse::ResponseDeleteRange(self.delete(delete))
            }
            OpRequest::RequestTxn(txn) => OpResponse::ResponseTxn(self.txn(txn)?),
        };
        Some(pb::ResponseOp { response: Some(response) })
    }

    /// TX-06: comparisons, nested ones too, see the state before the whole request.
    fn holds(&self, compare: &pb::Compare) -> bool {
        let found = self.store.range(&compare.key, &compare.range_end, self.revision);
        if found.is_empty() {
            // TX-07: an absent key has no value that could be compared, not even as unequal.
            let absent = KeyValue::default();
            return compare.target != CompareTarget::Value as i32 && matches(compare, &absent);
        }
        found.into_iter().all(|kv| matches(compare, kv))
    }
}

fn matches(compare: &pb::Compare, kv: &KeyValue) -> bool {
    use std::cmp::Ordering;
    let operand = compare.target_union.as_ref();
    // TX-09: an operand of another kind counts as 0 or empty.
    let number = |actual: i64, wanted: Option<i64>| actual.cmp(&wanted.unwrap_or(0));
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => number(
            kv.version,
            operand.and_then(|o| if let TargetUnion::Version(n) = o { Some(*n) } else { None }),
        ),
        Ok(CompareTarget::Create) => number(
            kv.create_revision,
            operand
                .and_then(|o| if let TargetUnion::CreateRevision(n) = o { Some(*n) } else { None }),
        ),
        Ok(CompareTarget::Mod) => number(
            kv.mod_revision,
            operand.and_then(|o| if let TargetUnion::ModRevision(n) = o { Some(*n) } else { None }),
        ),
        Ok(CompareTarget::Lease) => number(
            kv.lease,
            operand.and_then(|o| if let TargetUnion::Lease(n) = o { Some(*n) } else { None }),
        ),
        Ok(CompareTarget::Value) => match operand {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.as_ref().cmp(b"".as_slice()),
        },
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Err(_) => true,
    }
}

/// Compares an answer with the one that the state demands. The error says in words what is wrong.
pub fn same_answer(request: &Request, expected: &Answer, actual: &Answer) -> Result<(), String> {
    match (request, expected, actual) {
        (Request::Range(request), Answer::Range(expected), Answer::Range(actual)) => {
            same_range(request, expected, actual)
        }
        (Request::Txn(request), Answer::Txn(expected), Answer::Txn(actual)) => {
            same_txn(request, expected, actual)
        }
        (_, Answer::Put(expected), Answer::Put(actual)) => same_put(expected, actual),
        (_, Answer::Delete(expected), Answer::Delete(actual)) => same_delete(expected, actual),
        _ => Err("the answer is of another kind than the request".into()),
    }
}

fn same_put(expected: &pb::PutResponse, actual: &pb::PutResponse) -> Result<(), String> {
    if expected.prev_kv == actual.prev_kv {
        return Ok(());
    }
    Err(format!("the previous pair is {:?}, not {:?}", expected.prev_kv, actual.prev_kv))
}

fn same_delete(
    expected: &pb::DeleteRangeResponse,
    actual: &pb::DeleteRangeResponse,
) -> Result<(), String> {
    if expected.deleted != actual.deleted {
        return Err(format!("{} keys are deleted, not {}", expected.deleted, actual.deleted));
    }
    if expected.prev_kvs != actual.prev_kvs {
        let (wanted, found) = (&expected.prev_kvs, &actual.prev_kvs);
        return Err(format!("the previous pairs are {wanted:?}, not {found:?}"));
    }
    Ok(())
}

fn same_txn(
    request: &pb::TxnRequest,
    expected: &pb::TxnResponse,
    actual: &pb::TxnResponse,
) -> Result<(), String> {
    if expected.succeeded != actual.succeeded {
        let (wanted, found) = (expected.succeeded, actual.succeeded);
        return Err(format!("the comparisons give {wanted}, not {found}"));
    }
    if expected.responses.len() != actual.responses.len() {
        return Err(format!("{} inner answers instead of {}", actual.responses.len(), {
            expected.responses.len()
        }));
    }
    let branch = if expected.succeeded { &request.success } else { &request.failure };
    for (at, op) in branch.iter().enumerate() {
        same_op(op, &expected.responses[at], &actual.responses[at])
            .map_err(|problem| format!("inner answer {at}: {problem}"))?;
    }
    Ok(())
}

fn same_op(
    request: &pb::RequestOp,
    expected: &pb::ResponseOp,
    actual: &pb::ResponseOp,
) -> Result<(), String> {
    match (&request.request, &expected.response, &actual.response) {
        (
            Some(OpRequest::RequestRange(request)),
            Some(OpResponse::ResponseRange(expected)),
            Some(OpResponse::ResponseRange(actual)),
        ) => same_range(request, expected, actual),
        (
            Some(OpRequest::RequestTxn(request)),
            Some(OpResponse::ResponseTxn(expected)),
            Some(OpResponse::ResponseTxn(actual)),
        ) => same_txn(request, expected, actual),
        (_, Some(OpResponse::ResponsePut(expected)), Some(OpResponse::ResponsePut(actual))) => {
            same_put(expected, actual)
        }
        (
            _,
            Some(OpResponse::ResponseDeleteRange(expected)),
            Some(OpResponse::ResponseDeleteRange(actual)),
        ) => same_delete(expected, actual),
        _ => Err("it is of another kind than the request".into()),
    }
}
