//! Encoded answers of the KV service.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use etcdrs_apply::{OpResult, TxnAnswer};
use etcdrs_mvcc::{RangeResult, Splice, StoredKv};

use crate::api::wire::{self, Header};
use crate::grpc::Payload;

/// Answers above this size go out in pieces, so that no buffer of their whole size is made.
const PIECES_FROM: usize = 256 * 1024;
/// Size of a piece made of small pairs.
const PIECE_BYTES: usize = 128 * 1024;
/// Pairs of at least this size become pieces of their own, shared with the store.
const OWN_PIECE_FROM: usize = 16 * 1024;

const KVS: u8 = 0x12;
const MORE: u8 = 0x18;
const COUNT: u8 = 0x20;
const PREV_KV: u8 = 0x12;
const DELETED: u8 = 0x10;
const PREV_KVS: u8 = 0x1a;
const SUCCEEDED: u8 = 0x10;
const RESPONSES: u8 = 0x1a;
const RESPONSE_RANGE: u8 = 0x0a;
const RESPONSE_PUT: u8 = 0x12;
const RESPONSE_DELETE: u8 = 0x1a;
const RESPONSE_TXN: u8 = 0x22;

/// A `RangeResponse`.
pub(crate) fn range(header: &Header, result: &RangeResult) -> Payload {
    let bytes = range_len(header, result);
    if bytes < PIECES_FROM {
        return Payload::write(bytes, |out| put_range(out, header, result));
    }
    let mut pieces = VecDeque::new();
    let mut piece = BytesMut::with_capacity(PIECE_BYTES + OWN_PIECE_FROM);
    header.put(&mut piece);
    for kv in &result.kvs {
        wire::put_prefix(&mut piece, KVS, kv.bytes().len());
        if kv.bytes().len() >= OWN_PIECE_FROM {
            pieces.push_back(piece.split().freeze());
            pieces.push_back(kv.to_bytes());
            continue;
        }
        piece.put_slice(kv.bytes());
        if piece.len() >= PIECE_BYTES {
            pieces.push_back(piece.split().freeze());
            piece.reserve(PIECE_BYTES + OWN_PIECE_FROM);
        }
    }
    wire::put_number(&mut piece, MORE, u64::from(result.more));
    wire::put_number(&mut piece, COUNT, result.count.cast_unsigned());
    pieces.push_back(piece.freeze());
    Payload::Pieces(pieces)
}

/// Room for the prefix and the header, which are known only after the pairs.
const HEAD_BYTES_MAX: usize = crate::grpc::PREFIX_BYTES + 2 + 4 * 11;

/// Builds a `RangeResponse` from pairs that are handed over one by one.
#[derive(Default)]
pub(crate) struct Splicer {
    frame: BytesMut,
}

impl Splice for Splicer {
    fn begin(&mut self, pairs: usize, bytes: usize) {
        // Tag and length take at most five bytes for a pair below 256 MiB.
        self.frame.reserve(HEAD_BYTES_MAX + bytes + 5 * pairs + 16);
        self.frame.put_bytes(0, HEAD_BYTES_MAX);
    }

    fn pair(&mut self, bytes: &[u8]) {
        wire::put_bytes(&mut self.frame, KVS, bytes);
    }
}

impl Splicer {
    /// Puts in front and behind what was not known before.
    pub(crate) fn finish(mut self, header: &Header, more: bool, count: i64) -> Payload {
        wire::put_number(&mut self.frame, MORE, u64::from(more));
        wire::put_number(&mut self.frame, COUNT, count.cast_unsigned());
        let message = self.frame.len() - HEAD_BYTES_MAX + header.field_len();
        let start = HEAD_BYTES_MAX - crate::grpc::PREFIX_BYTES - header.field_len();
        let mut head = &mut self.frame[start..HEAD_BYTES_MAX];
        head.put_slice(&crate::grpc::prefix(message));
        header.put(&mut head);
        Payload::Framed(self.frame.freeze().slice(start..))
    }
}

/// The prefix and the header of a `RangeResponse` of `bytes` bytes whose pairs follow.
pub(crate) fn range_head(header: &Header, bytes: usize) -> Bytes {
    let mut head = BytesMut::with_capacity(crate::grpc::PREFIX_BYTES + header.field_len());
    head.put_slice(&crate::grpc::prefix(bytes));
    header.put(&mut head);
    head.freeze()
}

/// Pairs of a `RangeResponse`.
pub(crate) fn range_pairs(kvs: &[StoredKv]) -> Bytes {
    let mut pairs = BytesMut::with_capacity(kvs_len(kvs));
    for kv in kvs {
        wire::put_bytes(&mut pairs, KVS, kv.bytes());
    }
    pairs.freeze()
}

/// What stands behind the pairs of a `RangeResponse`.
pub(crate) fn range_tail(more: bool, count: i64) -> Bytes {
    let mut tail = BytesMut::with_capacity(16);
    wire::put_number(&mut tail, MORE, u64::from(more));
    wire::put_number(&mut tail, COUNT, count.cast_unsigned());
    tail.freeze()
}

/// A `RangeStreamResponse` with a chunk of pairs; the last one carries header, more and count.
pub(crate) fn range_chunk(kvs: &[StoredKv], last: Option<(&Header, bool, i64)>) -> Bytes {
    let mut inner = BytesMut::with_capacity(64 + kvs_len(kvs));
    if let Some((header, _, _)) = last {
        header.put(&mut inner);
    }
    for kv in kvs {
        wire::put_bytes(&mut inner, KVS, kv.bytes());
    }
    if let Some((_, more, count)) = last {
        wire::put_number(&mut inner, MORE, u64::from(more));
        wire::put_number(&mut inner, COUNT, count.cast_unsigned());
    }
    let bytes = wire::bytes_len(inner.len());
    let mut frame = BytesMut::with_capacity(crate::grpc::PREFIX_BYTES + bytes);
    frame.put_slice(&crate::grpc::prefix(bytes));
    wire::put_bytes(&mut frame, 0x0a, &inner);
    frame.freeze()
}

/// A `PutResponse`.
pub(crate) fn put(header: &Header, prev: Option<&StoredKv>) -> Payload {
    Payload::write(put_len(header, prev), |out| put_put(out, header, prev))
}

/// A `DeleteRangeResponse`.
pub(crate) fn delete(header: &Header, deleted: i64, prev: &[StoredKv]) -> Payload {
    Payload::write(delete_len(header, deleted, prev), |out| put_delete(out, header, deleted, prev))
}

/// A `TxnResponse`.
pub(crate) fn txn(header: &Header, answer: &TxnAnswer) -> Payload {
    Payload::write(txn_len(header, answer), |out| put_txn(out, header, answer))
}

/// A message that consists of a header.
pub(crate) fn header_only(header: &Header) -> Payload {
    Payload::write(header.field_len(), |out| header.put(out))
}

fn kvs_len(kvs: &[StoredKv]) -> usize {
    kvs.iter().map(|kv| wire::bytes_len(kv.bytes().len())).sum()
}

fn range_len(header: &Header, result: &RangeResult) -> usize {
    header.field_len()
        + kvs_len(&result.kvs)
        + wire::number_len(u64::from(result.more))
        + wire::number_len(result.count.cast_unsigned())
}

fn put_range(out: &mut impl BufMut, header: &Header, result: &RangeResult) {
    header.put(out);
    for kv in &result.kvs {
        wire::put_bytes(out, KVS, kv.bytes());
    }
    wire::put_number(out, MORE, u64::from(result.more));
    wire::put_number(out, COUNT, result.count.cast_unsigned());
}

fn put_len(header: &Header, prev: Option<&StoredKv>) -> usize {
    header.field_len() + prev.map_or(0, |kv| wire::bytes_len(kv.bytes().len()))
}

fn put_put(out: &mut impl BufMut, header: &Header, prev: Option<&StoredKv>) {
    header.put(out);
    if let Some(kv) = prev {
        wire::put_bytes(out, PREV_KV, kv.bytes());
    }
}

fn delete_len(header: &Header, deleted: i64, prev: &[StoredKv]) -> usize {
    header.field_len() + wire::number_len(deleted.cast_unsigned()) + kvs_len(prev)
}

fn put_delete(out: &mut impl BufMut, header: &Header, deleted: i64, prev: &[StoredKv]) {
    header.put(out);
    wire::put_number(out, DELETED, deleted.cast_unsigned());
    for kv in prev {
        wire::put_bytes(out, PREV_KVS, kv.bytes());
    }
}

fn txn_len(header: &Header, answer: &TxnAnswer) -> usize {
    let responses: usize = answer.results.iter().map(|op| wire::bytes_len(op_len(op))).sum();
    header.field_len() + wire::number_len(u64::from(answer.succeeded)) + responses
}

fn put_txn(out: &mut impl BufMut, header: &Header, answer: &TxnAnswer) {
    header.put(out);
    wire::put_number(out, SUCCEEDED, u64::from(answer.succeeded));
    for op in &answer.results {
        wire::put_prefix(out, RESPONSES, op_len(op));
        put_op(out, op);
    }
}

/// Bytes of the response inside a `ResponseOp`.
fn inner_len(op: &OpResult) -> usize {
    match op {
        OpResult::Range(result) => range_len(&Header::revision_only(result.revision), result),
        OpResult::Put { revision, prev } => {
            put_len(&Header::revision_only(*revision), prev.as_ref())
        }
        OpResult::Delete { revision, deleted, prev } => {
            delete_len(&Header::revision_only(*revision), *deleted, prev)
        }
        OpResult::Txn(answer) => txn_len(&Header::default(), answer),
    }
}

fn op_len(op: &OpResult) -> usize {
    wire::bytes_len(inner_len(op))
}

fn put_op(out: &mut impl BufMut, op: &OpResult) {
    let bytes = inner_len(op);
    match op {
        OpResult::Range(result) => {
            wire::put_prefix(out, RESPONSE_RANGE, bytes);
            put_range(out, &Header::revision_only(result.revision), result);
        }
        OpResult::Put { revision, prev } => {
            wire::put_prefix(out, RESPONSE_PUT, bytes);
            put_put(out, &Header::revision_only(*revision), prev.as_ref());
        }
        OpResult::Delete { revision, deleted, prev } => {
            wire::put_prefix(out, RESPONSE_DELETE, bytes);
            put_delete(out, &Header::revision_only(*revision), *deleted, prev);
        }
        OpResult::Txn(answer) => {
            wire::put_prefix(out, RESPONSE_TXN, bytes);
            put_txn(out, &Header::default(), answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use etcdrs_proto::etcdserverpb as pb;
    use prost::Message as _;

    use super::*;

    fn bytes(payload: Payload) -> Vec<u8> {
        match payload {
            Payload::Framed(frame) => frame.to_vec(),
            _ => panic!("short answers are one frame"),
        }
    }

    #[test]
    fn a_spliced_answer_is_the_built_one() {
        let headers = [
            Header::default(),
            Header { cluster_id: u64::MAX, member_id: u64::MAX, revision: -1, raft_term: u64::MAX },
            Header { cluster_id: 7, member_id: 1 << 50, revision: 300, raft_term: 2 },
        ];
        let pair = |key: &'static str| {
            let kv = etcdrs_proto::mvccpb::KeyValue { key: key.into(), ..Default::default() };
            StoredKv::from_encoded(kv.encode_to_vec().into())
        };
        for header in headers {
            for kvs in [vec![], vec![pair("a")], vec![pair("a"), pair("bc")]] {
                let mut splicer = Splicer::default();
                splicer.begin(kvs.len(), kvs.iter().map(|kv| kv.bytes().len()).sum());
                kvs.iter().for_each(|kv| splicer.pair(kv.bytes()));
                let got = bytes(splicer.finish(&header, true, 9));
                let result = RangeResult { revision: 1, kvs, more: true, count: 9 };
                assert_eq!(got, bytes(range(&header, &result)));
                let decoded = pb::RangeResponse::decode(&got[5..]).expect("decodes");
                assert_eq!((decoded.count, decoded.kvs.len()), (9, result.kvs.len()));
                assert_eq!(decoded.header, Some(header.message()));
            }
        }
    }
}
