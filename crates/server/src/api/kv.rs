//! The KV service.

use bytes::Bytes;
use etcdrs_apply::{Answer, range_query, read_only_txn};
use etcdrs_mvcc::{RangeQuery, RangeResult, SortOrder, SortTarget};
use etcdrs_platform::failpoint::strikes;
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_types::KeyRange;
use tonic::{Code, Status};

use crate::api::dispatch::decode;
use crate::api::{Api, Request, check, encode, long_range, status, txn_check};
use crate::grpc::Payload;

/// Ranges of more keys than this are read on the pool: they would hold up everything else here.
pub(crate) const INLINE_KEYS_MAX: i64 = 1000;

pub(crate) async fn range(api: &Api, request: &pb::RangeRequest) -> Result<Payload, Status> {
    check::range(request)?;
    if !request.serializable {
        api.barrier().await?;
    }
    let query = range_query(request);
    if is_long(api, &query) {
        if is_page(&query) {
            return long_range::answer(api, query).await;
        }
        let api = api.clone();
        let long = move || {
            let result = read(&api, &query)?;
            Ok(encode::range(&api.header(result.revision), &result))
        };
        return tokio::task::spawn_blocking(long).await.map_err(status::task_ended)?;
    }
    let mut list = encode::Splicer::default();
    if let Some(found) = api.state.reader.splice(&query, INLINE_KEYS_MAX as usize, &mut list) {
        return Ok(list.finish(&api.header(found.revision), found.more, found.count));
    }
    let result = read(api, &query)?;
    Ok(encode::range(&api.header(result.revision), &result))
}

fn read(api: &Api, query: &RangeQuery) -> Result<RangeResult, Status> {
    api.state.reader.range(query).map_err(|error| status::range_error(&error))
}

/// Whether answering takes long: by the keys that have to be looked at, not by those returned.
fn is_long(api: &Api, query: &RangeQuery) -> bool {
    if query.range.is_single() {
        return false;
    }
    let reader = &api.state.reader;
    let current = query.revision <= 0 || query.revision == reader.current_revision();
    if current && query.count_only {
        return false;
    }
    let cut = query.limit > 0 && i64::try_from(query.limit).is_ok_and(|n| n <= INLINE_KEYS_MAX);
    if cut && is_page(query) {
        return false;
    }
    reader.count(&query.range) > INLINE_KEYS_MAX
}

/// Whether the first keys in order are the answer, so that the rest is never looked at.
fn is_page(query: &RangeQuery) -> bool {
    query.target == SortTarget::Key
        && query.order != SortOrder::Descend
        && query.min_mod_revision == 0
        && query.max_mod_revision == 0
        && query.min_create_revision == 0
        && query.max_create_revision == 0
}

pub(crate) async fn put(api: &Api, raw: Bytes) -> Result<Payload, Status> {
    check::put(&decode(&raw)?)?;
    let mut done = api.propose(Request::Put, &raw).await;
    if strikes("planted-acked-refusal", 0) && done.is_err() {
        let revision = api.state.reader.current_revision();
        done = Ok((revision, Answer::Put { prev: None }));
    }
    match done? {
        (revision, Answer::Put { prev }) => Ok(encode::put(&api.header(revision), prev.as_ref())),
        (_, other) => Err(mismatch(&other)),
    }
}

pub(crate) async fn delete_range(api: &Api, raw: Bytes) -> Result<Payload, Status> {
    check::delete(&decode(&raw)?)?;
    match api.propose(Request::DeleteRange, &raw).await? {
        (revision, Answer::Delete { deleted, prev }) => {
            Ok(encode::delete(&api.header(revision), deleted, &prev))
        }
        (_, other) => Err(mismatch(&other)),
    }
}

pub(crate) async fn txn(api: &Api, raw: Bytes) -> Result<Payload, Status> {
    let request: pb::TxnRequest = decode(&raw)?;
    txn_check::txn(&request, api.settings.txn_ops_max)?;
    if txn_check::is_read_only(&request) {
        if !txn_check::is_serializable(&request) {
            api.barrier().await?;
        }
        if !reads_much(api, &request) {
            return read_txn(api, &request);
        }
        let api = api.clone();
        let long = tokio::task::spawn_blocking(move || read_txn(&api, &request));
        return long.await.map_err(status::task_ended)?;
    }
    match api.propose(Request::Txn, &raw).await? {
        (revision, Answer::Txn(answer)) => Ok(encode::txn(&api.header(revision), &answer)),
        (_, other) => Err(mismatch(&other)),
    }
}

fn read_txn(api: &Api, request: &pb::TxnRequest) -> Result<Payload, Status> {
    let (revision, answer) =
        read_only_txn(&api.state.reader, request).map_err(|error| status::range_error(&error))?;
    Ok(encode::txn(&api.header(revision), &answer))
}

/// Whether an operation or a compare of a read-only transaction looks at many keys.
fn reads_much(api: &Api, request: &pb::TxnRequest) -> bool {
    let compares = request.compare.iter().any(|compare| {
        let range = KeyRange::from_wire(compare.key.clone(), compare.range_end.clone());
        is_long(api, &RangeQuery::new(range))
    });
    compares
        || request.success.iter().chain(&request.failure).any(|op| match &op.request {
            Some(pb::request_op::Request::RequestRange(range)) => is_long(api, &range_query(range)),
            _ => false,
        })
}

pub(crate) async fn compact(api: &Api, raw: Bytes) -> Result<Payload, Status> {
    let request: pb::CompactionRequest = decode(&raw)?;
    let result = api.propose(Request::Compaction, &raw).await;
    // With `physical` even a refusal first waits for what is under way (CP-03).
    let refused = matches!(&result, Err(status) if status.code() == Code::OutOfRange);
    if result.is_ok() || refused {
        api.compactor.wake();
        if request.physical {
            api.compactor.finished().await;
        }
    }
    let (revision, _) = result?;
    Ok(encode::header_only(&api.header(revision)))
}

/// An answer of another kind than the request: a bug, told rather than hidden.
pub(crate) fn mismatch(answer: &Answer) -> Status {
    tracing::error!(?answer, "the state machine answered another request");
    Status::internal("etcdserver: answer of another kind")
}
