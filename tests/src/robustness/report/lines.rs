//! A record as JSON lines. Messages are there twice: for people in words, and as protobuf in hex,
//! from which they are read back.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use prost::Message;
use serde_json::{Value, json};
use tonic::Code;

use crate::mvccpb::KeyValue;
use crate::pb;
use crate::robustness::describe;
use crate::robustness::history::{
    Answer, Failure, History, MemberEnd, Operation, Outcome, Received, Replacement, Request, Watch,
    WatchEnd,
};

/// All lines of a record.
pub(super) fn of(history: &History) -> impl Iterator<Item = Value> {
    let operations = history.operations.iter().enumerate().map(|(at, op)| operation(at, op));
    let replacements = history.replacements.iter().map(replacement);
    let ends = history.ends.iter().map(end);
    operations.chain(history.watches.iter().map(watch)).chain(replacements).chain(ends)
}

/// Adds a line to a record.
pub(super) fn read(line: &Value, history: &mut History) -> Result<()> {
    match text(line, "line")? {
        "call" => history.operations.push(read_operation(line)?),
        "watch" => history.watches.push(read_watch(line)?),
        "end" => history.ends.push(read_end(line)?),
        "replacement" => history.replacements.push(Replacement {
            member: usize::try_from(number(line, "member")?)?,
            at: number(line, "at")?,
        }),
        other => bail!("unknown line {other}"),
    }
    Ok(())
}

fn operation(at: usize, op: &Operation) -> Value {
    let (kind, bytes) = match &op.request {
        Request::Range(r) => ("range", hex(r)),
        Request::Put(r) => ("put", hex(r)),
        Request::Delete(r) => ("delete", hex(r)),
        Request::Txn(r) => ("txn", hex(r)),
        Request::Compact(r) => ("compact", hex(r)),
        Request::Grant(r) => ("grant", hex(r)),
        Request::Revoke(r) => ("revoke", hex(r)),
        Request::KeepAlive(r) => ("keep_alive", hex(r)),
        Request::Defragment => ("defragment", String::new()),
    };
    let (end, answer, code) = match &op.outcome {
        Outcome::Answered(answer) => ("answered", answer_hex(answer), 0),
        Outcome::Refused(failure) => ("refused", failure.text.clone(), failure.code as i32),
        Outcome::Unknown(failure) => ("unknown", failure.text.clone(), failure.code as i32),
    };
    json!({
        "line": "call", "words": describe::operation(at, op), "client": op.client,
        "member": op.member, "session": op.session, "called": op.called, "returned": op.returned,
        "kind": kind, "request": bytes, "end": end, "answer": answer, "code": code,
    })
}

fn answer_hex(answer: &Answer) -> String {
    match answer {
        Answer::Range(a) => hex(a),
        Answer::Put(a) => hex(a),
        Answer::Delete(a) => hex(a),
        Answer::Txn(a) => hex(a),
        Answer::Compact(a) => hex(a),
        Answer::Grant(a) => hex(a),
        Answer::Revoke(a) => hex(a),
        Answer::KeepAlive(a) => hex(a),
        Answer::Defragment => String::new(),
    }
}

fn read_operation(line: &Value) -> Result<Operation> {
    let (kind, request) = (text(line, "kind")?, text(line, "request")?);
    let request = match kind {
        "range" => Request::Range(message(request)?),
        "put" => Request::Put(message(request)?),
        "delete" => Request::Delete(message(request)?),
        "txn" => Request::Txn(message(request)?),
        "compact" => Request::Compact(message(request)?),
        "grant" => Request::Grant(message(request)?),
        "revoke" => Request::Revoke(message(request)?),
        "keep_alive" => Request::KeepAlive(message(request)?),
        "defragment" => Request::Defragment,
        other => bail!("unknown call {other}"),
    };
    let answer = text(line, "answer")?;
    let failure = || -> Result<Failure> {
        let code = i32::try_from(number(line, "code")?)?;
        Ok(Failure { code: Code::from_i32(code), text: answer.to_owned() })
    };
    let outcome = match text(line, "end")? {
        "answered" => Outcome::Answered(read_answer(kind, answer)?),
        "refused" => Outcome::Refused(failure()?),
        _ => Outcome::Unknown(failure()?),
    };
    Ok(Operation {
        client: u32::try_from(number(line, "client")?)?,
        member: usize::try_from(number(line, "member")?)?,
        session: number(line, "session")?,
        called: number(line, "called")?,
        returned: number(line, "returned")?,
        request,
        outcome,
    })
}

fn read_answer(kind: &str, bytes: &str) -> Result<Answer> {
    Ok(match kind {
        "range" => Answer::Range(message(bytes)?),
        "put" => Answer::Put(message(bytes)?),
        "delete" => Answer::Delete(message(bytes)?),
        "txn" => Answer::Txn(message(bytes)?),
        "compact" => Answer::Compact(message(bytes)?),
        "grant" => Answer::Grant(message(bytes)?),
        "revoke" => Answer::Revoke(message(bytes)?),
        "keep_alive" => Answer::KeepAlive(message(bytes)?),
        _ => Answer::Defragment,
    })
}

fn watch(watch: &Watch) -> Value {
    let responses: Vec<Value> = watch
        .responses
        .iter()
        .map(|received| {
            let events = describe::events(&received.response.events);
            json!({ "at": received.at, "events": events, "response": hex(&received.response) })
        })
        .collect();
    let (closed, drained) = match &watch.end {
        WatchEnd::Closed(why) => (Some(why), None),
        WatchEnd::Drained(revision) => (None, Some(revision)),
    };
    json!({
        "line": "watch", "client": watch.client, "member": watch.member, "called": watch.called,
        "request": hex(&watch.request), "responses": responses, "closed": closed,
        "drained": drained,
    })
}

fn read_watch(line: &Value) -> Result<Watch> {
    let responses = line["responses"].as_array().context("responses")?.iter();
    let responses: Result<Vec<Received>> = responses
        .map(|one| {
            let response: pb::WatchResponse = message(text(one, "response")?)?;
            Ok(Received { at: number(one, "at")?, response })
        })
        .collect();
    let end = match line["drained"].as_i64() {
        Some(revision) => WatchEnd::Drained(revision),
        None => WatchEnd::Closed(text(line, "closed")?.to_owned()),
    };
    Ok(Watch {
        client: u32::try_from(number(line, "client")?)?,
        member: usize::try_from(number(line, "member")?)?,
        called: number(line, "called")?,
        request: message(text(line, "request")?)?,
        responses: responses?,
        end,
    })
}

fn replacement(replacement: &Replacement) -> Value {
    json!({ "line": "replacement", "member": replacement.member, "at": replacement.at })
}

fn end(end: &MemberEnd) -> Value {
    let kvs: Vec<String> = end.kvs.iter().map(hex).collect();
    json!({
        "line": "end", "member": end.member, "revision": end.revision, "hash": end.hash,
        "compact_revision": end.compact_revision, "kvs": kvs, "leases": end.leases,
        "members": end.members,
    })
}

fn read_end(line: &Value) -> Result<MemberEnd> {
    let kvs = line["kvs"].as_array().context("kvs")?.iter();
    let kvs: Result<Vec<KeyValue>> =
        kvs.map(|kv| message(kv.as_str().context("a pair")?)).collect();
    let list = |name: &str| line[name].as_array().cloned().unwrap_or_default();
    Ok(MemberEnd {
        member: usize::try_from(number(line, "member")?)?,
        revision: line["revision"].as_i64().context("revision")?,
        hash: u32::try_from(number(line, "hash")?)?,
        compact_revision: line["compact_revision"].as_i64().context("compact_revision")?,
        kvs: kvs?,
        leases: list("leases").iter().filter_map(Value::as_i64).collect(),
        members: list("members").iter().filter_map(Value::as_u64).collect(),
    })
}

fn text<'a>(line: &'a Value, name: &str) -> Result<&'a str> {
    line[name].as_str().with_context(|| format!("no text {name}"))
}

fn number(line: &Value, name: &str) -> Result<u64> {
    line[name].as_u64().with_context(|| format!("no number {name}"))
}

fn hex(message: &impl Message) -> String {
    let mut text = String::new();
    for byte in message.encode_to_vec() {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

fn message<M: Message + Default>(hex: &str) -> Result<M> {
    let bytes: Result<Vec<u8>, _> = (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(hex.get(at * 2..at * 2 + 2).unwrap_or("?"), 16))
        .collect();
    Ok(M::decode(bytes?.as_slice())?)
}
