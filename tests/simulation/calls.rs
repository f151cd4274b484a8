//! Clients: requests as the server would make them, and what they were told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcdrs_apply::{self as apply, OpResult, Refusal};
use etcdrs_mvcc::{RangeError, RangeResult, StoredKv};
use etcdrs_raft_glue::Handle;
use etcdrs_tests::errors::{self, Expected};
use etcdrs_tests::mvccpb::KeyValue;
use etcdrs_tests::pb;
use etcdrs_tests::random::Random;
use etcdrs_tests::robustness::history::{Answer, Failure, Operation, Outcome, Request};
use etcdrs_tests::robustness::requests::{Mix, Requests};
use prost::Message as _;
use tokio::sync::watch;
use tonic::Code;

use crate::member::{CLUSTER, Life};
use crate::world::World;

/// A client gives up then.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between two calls, at most.
const PAUSE_MS: u64 = 60;

/// A member as a client sees it.
#[derive(Clone)]
struct Seen {
    session: u64,
    member: u64,
    handle: Handle,
    shared: apply::Shared,
    over: watch::Receiver<bool>,
}

impl Seen {
    fn of(seat: usize, life: &Life) -> Self {
        Self {
            session: life.number,
            // Whoever has the seat: a member that was replaced goes on under the same name.
            member: seat as u64 + 1,
            handle: life.handle.clone(),
            shared: life.shared.clone(),
            over: life.over.subscribe(),
        }
    }
}

fn unknown(text: &str) -> Outcome {
    Outcome::Unknown(Failure { code: Code::Unavailable, text: text.into() })
}

fn refused((code, text): Expected) -> Outcome {
    Outcome::Refused(Failure { code, text: text.into() })
}

/// Calls until the load ends, and returns the record.
pub(crate) async fn client(world: Arc<World>, number: u32) -> Vec<Operation> {
    let mut random = Random::new(world.seed ^ u64::from(number) << 32);
    let mix = Mix { ttl_seconds: 0, ..Mix::default() };
    let mut requests = Requests::new(world.seed, number, mix);
    let mut operations = Vec::new();
    let mut seat = usize::try_from(number).unwrap() % world.seats();
    while !world.load_is_over() {
        let request = requests.draw();
        if let Some(operation) = call(&world, number, seat, request).await {
            let lost = matches!(operation.outcome, Outcome::Unknown(_));
            requests.learn(&operation.request, &operation.outcome);
            operations.push(operation);
            if lost || random.one_in(20) {
                seat = usize::try_from(random.below(world.seats() as u64)).unwrap();
            }
        } else {
            seat = (seat + 1) % world.seats();
        }
        tokio::time::sleep(Duration::from_micros(random.below(PAUSE_MS * 1000))).await;
    }
    operations
}

/// The server answers those without the log.
fn is_read_only(txn: &pb::TxnRequest) -> bool {
    use pb::request_op::Request;
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// One call; `None` if the member does not run.
pub(crate) async fn call(
    world: &World,
    client: u32,
    seat: usize,
    request: Request,
) -> Option<Operation> {
    let seen =
        world.with_member(seat, |member| member.life.as_ref().map(|life| Seen::of(seat, life)))?;
    let called = world.trace.now();
    let mut over = seen.over.clone();
    let (session, member) = (seen.session, seat);
    let outcome = tokio::select! {
        biased;
        _ = over.wait_for(|over| *over) => unknown("the member ended"),
        outcome = carry_out(&seen, &request) => outcome,
        () = tokio::time::sleep(PATIENCE) => unknown("time is up"),
    };
    let returned = world.trace.now();
    let how = match &outcome {
        Outcome::Answered(answer) => answer.header().map_or(0, |header| header.revision),
        Outcome::Refused(_) => -1,
        Outcome::Unknown(_) => -2,
    };
    world.trace.note(format_args!("client {client} at {seat}: {how}"));
    Some(Operation { client, member, session, called, returned, request, outcome })
}

async fn carry_out(seen: &Seen, request: &Request) -> Outcome {
    let read = match request {
        Request::Range(range) => Read::Range(range),
        Request::Txn(txn) if is_read_only(txn) => Read::Txn(txn),
        _ => return write(seen, request).await,
    };
    if request.is_linearizable() && seen.handle.read_barrier().await.is_err() {
        return unknown("leader changed");
    }
    let answer = match read {
        Read::Range(range) => seen.shared.reader.range(&apply::range_query(range)).map(|result| {
            let header = Some(header(seen, result.revision));
            Answer::Range(pb::RangeResponse { header, ..range_answer(result) })
        }),
        Read::Txn(txn) => apply::read_only_txn(&seen.shared.reader, txn).map(|(revision, txn)| {
            let header = Some(header(seen, revision));
            Answer::Txn(pb::TxnResponse { header, ..txn_answer(txn) })
        }),
    };
    match answer {
        Ok(answer) => Outcome::Answered(answer),
        Err(RangeError::Compacted) => refused(errors::COMPACTED),
        Err(RangeError::Future) => refused(errors::FUTURE_REVISION),
        Err(error) => panic!("{error}"),
    }
}

enum Read<'a> {
    Range(&'a pb::RangeRequest),
    Txn(&'a pb::TxnRequest),
}

async fn write(seen: &Seen, request: &Request) -> Outcome {
    let encoded = encode(request);
    match seen.handle.propose(encoded).await {
        Ok(committed) => answer(seen, request, committed.outcome),
        Err(error) => unknown(&error.to_string()),
    }
}

fn encode(request: &Request) -> Bytes {
    let mut raft = pb::InternalRaftRequest::default();
    match request.clone() {
        Request::Put(put) => raft.put = Some(put),
        Request::Delete(delete) => raft.delete_range = Some(delete),
        Request::Txn(txn) => raft.txn = Some(txn),
        Request::Compact(compact) => raft.compaction = Some(compact),
        other => panic!("not asked for here: {other:?}"),
    }
    raft.encode_to_vec().into()
}

fn header(seen: &Seen, revision: i64) -> pb::ResponseHeader {
    let raft_term = seen.handle.status().term.0;
    pb::ResponseHeader { cluster_id: CLUSTER.0, member_id: seen.member, revision, raft_term }
}

fn kvs(pairs: Vec<StoredKv>) -> Vec<KeyValue> {
    pairs.iter().map(|pair| pair.decode().expect("it decodes")).collect()
}

fn kv(pair: Option<StoredKv>) -> Option<KeyValue> {
    pair.map(|pair| pair.decode().expect("it decodes"))
}

fn range_answer(result: RangeResult) -> pb::RangeResponse {
    let RangeResult { kvs: pairs, more, count, .. } = result;
    pb::RangeResponse { header: None, kvs: kvs(pairs), more, count }
}

fn answer(seen: &Seen, request: &Request, outcome: apply::Outcome) -> Outcome {
    let header = Some(header(seen, outcome.revision));
    let answer = match (outcome.result, request) {
        (Err(refusal), _) => return refusal_of(&refusal),
        (Ok(apply::Answer::Put { prev }), _) => {
            Answer::Put(pb::PutResponse { header, prev_kv: kv(prev) })
        }
        (Ok(apply::Answer::Delete { deleted, prev }), _) => {
            Answer::Delete(pb::DeleteRangeResponse { header, deleted, prev_kvs: kvs(prev) })
        }
        (Ok(apply::Answer::Txn(txn)), _) => {
            Answer::Txn(pb::TxnResponse { header, ..txn_answer(txn) })
        }
        (Ok(apply::Answer::Empty), Request::Compact(_)) => {
            Answer::Compact(pb::CompactionResponse { header })
        }
        (Ok(other), request) => panic!("{other:?} answers {request:?}"),
    };
    Outcome::Answered(answer)
}

fn refusal_of(refusal: &Refusal) -> Outcome {
    refused(match refusal {
        Refusal::Compacted => errors::COMPACTED,
        Refusal::FutureRevision => errors::FUTURE_REVISION,
        Refusal::KeyNotFound => errors::KEY_NOT_FOUND,
        Refusal::LeaseNotFound => errors::LEASE_NOT_FOUND,
        other => panic!("{other}"),
    })
}

fn txn_answer(txn: apply::TxnAnswer) -> pb::TxnResponse {
    use pb::response_op::Response;
    let at = |revision| Some(pb::ResponseHeader { revision, ..Default::default() });
    let responses = txn.results.into_iter().map(|result| {
        let response = match result {
            OpResult::Range(result) => {
                let header = at(result.revision);
                Response::ResponseRange(pb::RangeResponse { header, ..range_answer(result) })
            }
            OpResult::Put { revision, prev } => {
                Response::ResponsePut(pb::PutResponse { header: at(revision), prev_kv: kv(prev) })
            }
            OpResult::Delete { revision, deleted, prev } => {
                let (header, prev_kvs) = (at(revision), kvs(prev));
                Response::ResponseDeleteRange(pb::DeleteRangeResponse { header, deleted, prev_kvs })
            }
            OpResult::Txn(txn) => {
                let header = Some(pb::ResponseHeader::default());
                Response::ResponseTxn(pb::TxnResponse { header, ..txn_answer(txn) })
            }
        };
        pb::ResponseOp { response: Some(response) }
    });
    pb::TxnResponse { header: None, succeeded: txn.succeeded, responses: responses.collect() }
}

/// Compacts what everybody has been told, now and then.
pub(crate) async fn keeper(world: Arc<World>) -> Vec<Operation> {
    let mut random = Random::new(world.seed ^ 0xc0);
    let mut operations = Vec::new();
    while !world.load_is_over() {
        tokio::time::sleep(Duration::from_millis(200 + random.below(1500))).await;
        let behind = if random.one_in(3) { 0 } else { random.below(60) };
        let revision = world.told_by_all() - i64::try_from(behind).unwrap();
        let seat = usize::try_from(random.below(world.seats() as u64)).unwrap();
        if revision > 0 {
            let request = pb::CompactionRequest { revision, physical: false };
            operations.extend(call(&world, 900, seat, Request::Compact(request)).await);
        }
    }
    operations
}
