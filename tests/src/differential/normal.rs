//! Evens out what may differ between two correct servers.
//!
//! | what | why |
//! |---|---|
//! | cluster id, member id, raft term | they are of one server |
//! | lease of an answer to keys_only | 3.7 answers from its index, which has none (RG-07) |
//! | order of equal sort values, and which of them a limit keeps | unspecified (RG-09) |
//! | remaining TTL, order of attached keys and of leases | time, unspecified (LE-07, LE-08) |
//! | hash_revision | 3.5.1 has no such field |
//!
//! Not generated at all: sort enums out of range and RangeStream (3.5.1 dies, or has none), lease
//! HashKV at the compacted revision (3.5.1 refuses it, 3.6 answers), lease
//! ids chosen by the server, TTLs that could run out during a run, requests close to a size limit
//! (the overhead of a log entry differs), and in one transaction both deletes and puts with
//! ignore_value or ignore_lease (3.5.1 stops when the first takes the key from the second).

use std::cmp::Ordering;

use super::execute::Answer;
use super::generate::Wanted;
use crate::mvccpb::KeyValue;
use crate::pb;
use crate::pb::request_op::Request;
use crate::pb::response_op::Response;

/// Changes `answer` so that equal behaviour gives equal values.
pub fn even_out(wanted: &Wanted, answer: &mut Answer) {
    match (wanted, answer) {
        (Wanted::Range(request), Answer::Range(a)) => {
            header(&mut a.header);
            range(request, a);
        }
        (Wanted::Txn(request), Answer::Txn(a)) => {
            header(&mut a.header);
            txn(request, a);
        }
        (_, Answer::Put(a)) => header(&mut a.header),
        (_, Answer::Delete(a)) => header(&mut a.header),
        (_, Answer::Compact(a)) => header(&mut a.header),
        (_, Answer::Grant(a)) => header(&mut a.header),
        (_, Answer::Revoke(a)) => header(&mut a.header),
        (_, Answer::KeepAlive(a)) => header(&mut a.header),
        (_, Answer::TimeToLive(a)) => {
            header(&mut a.header);
            a.ttl = a.ttl.signum();
            a.keys.sort();
        }
        (_, Answer::Leases(a)) => {
            header(&mut a.header);
            a.leases.sort_by_key(|lease| lease.id);
        }
        (_, Answer::HashKv(a)) => {
            header(&mut a.header);
            a.hash_revision = 0;
        }
        _ => {}
    }
}

fn header(header: &mut Option<pb::ResponseHeader>) {
    if let Some(header) = header {
        header.cluster_id = 0;
        header.member_id = 0;
        header.raft_term = 0;
    }
}

fn txn(request: &pb::TxnRequest, answer: &mut pb::TxnResponse) {
    let branch = if answer.succeeded { &request.success } else { &request.failure };
    for (op, response) in branch.iter().zip(&mut answer.responses) {
        match (&op.request, &mut response.response) {
            (Some(Request::RequestRange(request)), Some(Response::ResponseRange(a))) => {
                range(request, a);
            }
            (Some(Request::RequestTxn(request)), Some(Response::ResponseTxn(a))) => txn(request, a),
            _ => {}
        }
    }
}

fn range(request: &pb::RangeRequest, answer: &mut pb::RangeResponse) {
    const KEY: i32 = pb::range_request::SortTarget::Key as i32;
    const VALUE: i32 = pb::range_request::SortTarget::Value as i32;
    if request.keys_only {
        answer.kvs.iter_mut().for_each(|kv| kv.lease = 0);
    }
    if request.sort_target == KEY {
        return;
    }
    let hidden = request.keys_only && request.sort_target == VALUE;
    if answer.more {
        // Which of several equal ones the cut keeps is open; the others are fixed.
        let kept = answer.kvs.len();
        if let Some(last) = answer.kvs.last().cloned() {
            let equal = |kv: &KeyValue| hidden || by(request, kv, &last) == Ordering::Equal;
            answer.kvs.retain(|kv| !equal(kv));
        }
        answer.kvs.resize(kept, KeyValue::default());
    }
    if hidden {
        answer.kvs.sort_by(|a, b| a.key.cmp(&b.key));
    } else {
        sort_within_equal(request, &mut answer.kvs);
    }
}

/// Puts runs of equal sort values into key order; the order of the runs is what the server gave.
fn sort_within_equal(request: &pb::RangeRequest, kvs: &mut [KeyValue]) {
    for run in kvs.chunk_by_mut(|a, b| by(request, a, b) == Ordering::Equal) {
        run.sort_by(|a, b| a.key.cmp(&b.key));
    }
}

fn by(request: &pb::RangeRequest, a: &KeyValue, b: &KeyValue) -> Ordering {
    match request.sort_target {
        1 => a.version.cmp(&b.version),
        2 => a.create_revision.cmp(&b.create_revision),
        3 => a.mod_revision.cmp(&b.mod_revision),
        4 => a.value.cmp(&b.value),
        _ => a.key.cmp(&b.key),
    }
}
