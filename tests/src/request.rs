//! Short constructors of requests, so that a test reads like the rule it shows.

use bytes::Bytes;
use etcdrs_proto::etcdserverpb as pb;

pub use pb::compare::{CompareResult, CompareTarget, TargetUnion};
pub use pb::range_request::{SortOrder, SortTarget};

/// The end of a range that has none: all keys from the start on (KR-01).
pub const FROM_KEY: &str = "\0";

/// A read of one key.
pub fn get(key: impl Into<Bytes>) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), ..Default::default() }
}

/// A read of `[key, end)`.
pub fn range(key: impl Into<Bytes>, end: impl Into<Bytes>) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), range_end: end.into(), ..Default::default() }
}

/// A sorted read of `[key, end)`.
pub fn sorted(
    key: &'static str,
    end: &'static str,
    target: SortTarget,
    order: SortOrder,
) -> pb::RangeRequest {
    pb::RangeRequest { sort_target: target as i32, sort_order: order as i32, ..range(key, end) }
}

/// A write of one key.
pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

/// A delete of one key.
pub fn delete(key: impl Into<Bytes>) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.into(), ..Default::default() }
}

/// A delete of `[key, end)`.
pub fn delete_range(key: impl Into<Bytes>, end: impl Into<Bytes>) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key.into(), range_end: end.into(), ..Default::default() }
}

/// `if compare then success else failure`.
pub fn txn(
    compare: Vec<pb::Compare>,
    success: Vec<pb::RequestOp>,
    failure: Vec<pb::RequestOp>,
) -> pb::TxnRequest {
    pb::TxnRequest { compare, success, failure }
}

/// A transaction whose comparisons hold, for there are none.
pub fn then(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    txn(Vec::new(), success, Vec::new())
}

/// One comparison.
pub fn compare(
    key: impl Into<Bytes>,
    target: CompareTarget,
    result: CompareResult,
    operand: TargetUnion,
) -> pb::Compare {
    pb::Compare {
        key: key.into(),
        target: target as i32,
        result: result as i32,
        target_union: Some(operand),
        range_end: Bytes::new(),
    }
}

/// Something that can stand in a branch of a transaction.
pub trait IntoOp {
    /// Wraps it.
    fn op(self) -> pb::RequestOp;
}

macro_rules! into_op {
    ($($message:ident => $variant:ident),*) => {$(
        impl IntoOp for pb::$message {
            fn op(self) -> pb::RequestOp {
                pb::RequestOp { request: Some(pb::request_op::Request::$variant(self)) }
            }
        }
    )*};
}

into_op!(
    RangeRequest => RequestRange,
    PutRequest => RequestPut,
    DeleteRangeRequest => RequestDeleteRange,
    TxnRequest => RequestTxn
);

/// The inner answers of a transaction.
pub trait OpAnswer {
    /// The answer of a range.
    fn as_range(&self) -> &pb::RangeResponse;
    /// The answer of a put.
    fn as_put(&self) -> &pb::PutResponse;
    /// The answer of a delete.
    fn as_delete(&self) -> &pb::DeleteRangeResponse;
    /// The answer of a nested transaction.
    fn as_txn(&self) -> &pb::TxnResponse;
}

impl OpAnswer for pb::ResponseOp {
    fn as_range(&self) -> &pb::RangeResponse {
        match &self.response {
            Some(pb::response_op::Response::ResponseRange(answer)) => answer,
            other => panic!("no range: {other:?}"),
        }
    }

    fn as_put(&self) -> &pb::PutResponse {
        match &self.response {
            Some(pb::response_op::Response::ResponsePut(answer)) => answer,
            other => panic!("no put: {other:?}"),
        }
    }

    fn as_delete(&self) -> &pb::DeleteRangeResponse {
        match &self.response {
            Some(pb::response_op::Response::ResponseDeleteRange(answer)) => answer,
            other => panic!("no delete: {other:?}"),
        }
    }

    fn as_txn(&self) -> &pb::TxnResponse {
        match &self.response {
            Some(pb::response_op::Response::ResponseTxn(answer)) => answer,
            other => panic!("no txn: {other:?}"),
        }
    }
}

/// The revision in a header, which must be there.
pub trait HeaderRevision {
    /// See the trait.
    fn revision(&self) -> i64;
}

macro_rules! header_revision {
    ($($message:ident),*) => {$(
        impl HeaderRevision for pb::$message {
            fn revision(&self) -> i64 {
                self.header.as_ref().expect("a header").revision
            }
        }
    )*};
}

header_revision!(
    RangeResponse,
    PutResponse,
    DeleteRangeResponse,
    TxnResponse,
    CompactionResponse,
    LeaseGrantResponse,
    LeaseRevokeResponse,
    LeaseKeepAliveResponse,
    LeaseTimeToLiveResponse,
    LeaseLeasesResponse,
    WatchResponse,
    MemberListResponse,
    AlarmResponse,
    StatusResponse,
    HashResponse,
    HashKvResponse
);
