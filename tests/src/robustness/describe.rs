//! One line for each thing in a record, for people.

use super::history::{Answer, Nanos, Operation, Outcome, Request, Watch, WatchEnd};
use crate::mvccpb::event::EventType;
use crate::mvccpb::{Event, KeyValue};
use crate::pb;
use pb::request_op::Request as OpRequest;
use pb::response_op::Response as OpResponse;

const SHOWN_BYTES_MAX: usize = 40;

/// Keys and values, shortened.
pub fn bytes(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).escape_debug().to_string();
    if text.chars().count() <= SHOWN_BYTES_MAX {
        return text;
    }
    let start: String = text.chars().take(SHOWN_BYTES_MAX).collect();
    format!("{start}.. ({} bytes)", bytes.len())
}

/// Milliseconds of the run.
pub fn time(at: Nanos) -> String {
    format!("{:.3} ms", at as f64 / 1e6)
}

/// A pair with all its numbers.
pub fn pair(kv: &KeyValue) -> String {
    let lease = if kv.lease == 0 { String::new() } else { format!(" lease {:x}", kv.lease) };
    format!(
        "{}={} (create {} mod {} version {}{lease})",
        bytes(&kv.key),
        bytes(&kv.value),
        kv.create_revision,
        kv.mod_revision,
        kv.version
    )
}

/// A change.
pub fn event(event: &Event) -> String {
    let kv = event.kv.clone().unwrap_or_default();
    if event.r#type == EventType::Delete as i32 {
        format!("delete {} at {}", bytes(&kv.key), kv.mod_revision)
    } else {
        format!("put {}", pair(&kv))
    }
}

/// Several changes.
pub fn events(events: &[Event]) -> String {
    let shown: Vec<String> = events.iter().map(event).collect();
    shown.join("; ")
}

fn range_of(key: &[u8], end: &[u8]) -> String {
    match end {
        [] => bytes(key),
        b"\0" => format!("[{}, ..)", bytes(key)),
        end => format!("[{}, {})", bytes(key), bytes(end)),
    }
}

fn range(request: &pb::RangeRequest) -> String {
    let mut text = format!("get {}", range_of(&request.key, &request.range_end));
    if request.revision > 0 {
        text += &format!(" at revision {}", request.revision);
    }
    if request.limit > 0 {
        text += &format!(" limit {}", request.limit);
    }
    for (set, name) in [
        (request.serializable, "serializable"),
        (request.count_only, "count_only"),
        (request.keys_only, "keys_only"),
    ] {
        if set {
            text += &format!(" {name}");
        }
    }
    text
}

fn put(request: &pb::PutRequest) -> String {
    let mut text = format!("put {}={}", bytes(&request.key), bytes(&request.value));
    if request.lease != 0 {
        text += &format!(" lease {:x}", request.lease);
    }
    text
}

fn txn(request: &pb::TxnRequest) -> String {
    let compares: Vec<String> = request
        .compare
        .iter()
        .map(|c| format!("{}:{:?}", bytes(&c.key), (c.target, c.result, &c.target_union)))
        .collect();
    let branch = |ops: &[pb::RequestOp]| {
        let shown: Vec<String> = ops
            .iter()
            .map(|op| match &op.request {
                Some(OpRequest::RequestRange(r)) => range(r),
                Some(OpRequest::RequestPut(r)) => put(r),
                Some(OpRequest::RequestDeleteRange(r)) => {
                    format!("delete {}", range_of(&r.key, &r.range_end))
                }
                Some(OpRequest::RequestTxn(r)) => txn(r),
                None => "nothing".into(),
            })
            .collect();
        shown.join("; ")
    };
    let (then, otherwise) = (branch(&request.success), branch(&request.failure));
    format!("txn if [{}] then [{then}] else [{otherwise}]", compares.join(", "))
}

/// What was asked.
pub fn request(request: &Request) -> String {
    match request {
        Request::Range(r) => range(r),
        Request::Put(r) => put(r),
        Request::Delete(r) => format!("delete {}", range_of(&r.key, &r.range_end)),
        Request::Txn(r) => txn(r),
        Request::Compact(r) => format!("compact {} physical {}", r.revision, r.physical),
        Request::Grant(r) => format!("grant lease {:x} ttl {} s", r.id, r.ttl),
        Request::Revoke(r) => format!("revoke lease {:x}", r.id),
        Request::KeepAlive(r) => format!("keep lease {:x} alive", r.id),
        Request::Defragment => "defragment".into(),
    }
}

fn op_answer(op: &pb::ResponseOp) -> String {
    match &op.response {
        Some(OpResponse::ResponseRange(r)) => range_answer(r),
        Some(OpResponse::ResponsePut(_)) => "put".into(),
        Some(OpResponse::ResponseDeleteRange(r)) => format!("deleted {}", r.deleted),
        Some(OpResponse::ResponseTxn(r)) => txn_answer(r),
        None => "nothing".into(),
    }
}

fn range_answer(answer: &pb::RangeResponse) -> String {
    let pairs: Vec<String> = answer.kvs.iter().map(pair).collect();
    format!("[{}] count {} more {}", pairs.join(", "), answer.count, answer.more)
}

fn txn_answer(answer: &pb::TxnResponse) -> String {
    let inner: Vec<String> = answer.responses.iter().map(op_answer).collect();
    format!("succeeded {} [{}]", answer.succeeded, inner.join("; "))
}

/// What was answered.
pub fn answer(answer: &Answer) -> String {
    let text = match answer {
        Answer::Range(a) => range_answer(a),
        Answer::Put(_) => "ok".into(),
        Answer::Delete(a) => format!("deleted {}", a.deleted),
        Answer::Txn(a) => txn_answer(a),
        Answer::Compact(_) | Answer::Revoke(_) => "ok".into(),
        Answer::Grant(a) => format!("lease {:x} ttl {}", a.id, a.ttl),
        Answer::KeepAlive(a) => format!("ttl {}", a.ttl),
        Answer::Defragment => return "ok".into(),
    };
    let header = answer.header().copied().unwrap_or_default();
    format!("revision {} term {}: {text}", header.revision, header.raft_term)
}

/// A call with its end.
pub fn operation(at: usize, operation: &Operation) -> String {
    let end = match &operation.outcome {
        Outcome::Answered(a) => answer(a),
        Outcome::Refused(f) => format!("refused, {:?}: {}", f.code, f.text),
        Outcome::Unknown(f) => format!("outcome unknown, {:?}: {}", f.code, f.text),
    };
    format!(
        "#{at} client {} member {} [{} .. {}] {} -> {end}",
        operation.client,
        operation.member,
        time(operation.called),
        time(operation.returned),
        request(&operation.request)
    )
}

/// A watcher without its events.
pub fn watch(at: usize, watch: &Watch) -> String {
    let request = &watch.request;
    let end = match &watch.end {
        WatchEnd::Closed(why) => format!("closed: {why}"),
        WatchEnd::Drained(revision) => format!("open until all of revision {revision} was due"),
    };
    format!(
        "watch {at} client {} member {} called at {}: {} from {} prev_kv {} filters {:?}, {} answers, {end}",
        watch.client,
        watch.member,
        time(watch.called),
        range_of(&request.key, &request.range_end),
        request.start_revision,
        request.prev_kv,
        request.filters,
        watch.responses.len()
    )
}
